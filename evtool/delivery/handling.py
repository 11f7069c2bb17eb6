"""How events are handled by a command: the choices that there are, and putting together what carries them out."""

from __future__ import annotations

from evtool.delivery.command import CommandRunner
from evtool.delivery.dispatcher import Dispatcher
from evtool.delivery.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from evtool.delivery.deadletters import DeadLetters
    from evtool.delivery.dispatcher import Runner, Supply
    from evtool.delivery.process import Program
    from evtool.delivery.retries import Retries
    from evtool.delivery.stop import Stop
    from evtool.delivery.task import Outcome, Task

    class Reports(Protocol):
        """Who is told what goes on."""

        def failed(self, task: Task, outcome: Outcome, delay: float | None) -> None:
            """An attempt has failed; the next is in so many seconds, or the event was set aside."""

        def said(self, stream: int, data: bytes) -> None:
            """A handler has said something on its standard output (1) or error (2)."""

        def complain(self, text: str) -> None:
            """Something is wrong with a handler."""


class Handling:
    """How to handle events.

    is_worker: whether the command stays and answers events by their offsets. jobs: how many run at a time.
    batch: events for one run, which waits for `linger` seconds to have so many. timeout: seconds for one event or run.
    """

    def __init__(
        self,
        retries: Retries,
        *,
        is_worker: bool = False,
        jobs: int = 1,
        batch: int = 1,
        linger: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        self.retries = retries
        self.is_worker = is_worker
        self.jobs = jobs
        self.batch = batch
        self.linger = linger
        self.timeout = timeout


class Ending:
    """When to end: when there is no more (`drain`), after `count` events, or after `timeout` seconds without one."""

    def __init__(self, *, drain: bool = False, count: int | None = None, timeout: float | None = None) -> None:
        self.drain = drain
        self.count = count
        self.timeout = timeout


def handle(
    supply: Supply,
    program: Program,
    handling: Handling,
    ending: Ending,
    dead_letters: DeadLetters,
    stop: Stop,
    reports: Reports,
    *,
    several_topics: bool = False,
) -> int:
    """Have all events of a supply handled by a command, to the end; return how many were set aside. Raises Stopped."""
    loop = Loop()
    dispatcher = dispatcher_of(loop, supply, handling, ending, dead_letters, stop, reports)
    dispatcher.run(runner_of(loop, dispatcher, program, handling, stop, reports, several_topics=several_topics))
    return dispatcher.set_aside_count


def dispatcher_of(
    loop: Loop,
    supply: Supply,
    handling: Handling,
    ending: Ending,
    dead_letters: DeadLetters,
    stop: Stop,
    reports: Reports,
) -> Dispatcher:
    """The dispatcher that works as these choices say."""
    return Dispatcher(
        loop,
        supply,
        handling.retries,
        stop,
        set_aside=dead_letters.set_aside,
        tell=reports.failed,
        drain=ending.drain,
        count=ending.count,
        linger=handling.linger,
        timeout=ending.timeout,
    )


def runner_of(
    loop: Loop,
    dispatcher: Dispatcher,
    program: Program,
    handling: Handling,
    stop: Stop,
    reports: Reports,
    *,
    several_topics: bool = False,
) -> Runner:
    """The runner for a command, as a worker or run by run."""
    if not handling.is_worker:
        return CommandRunner(
            loop,
            dispatcher.settle,
            program,
            stop,
            reports.said,
            jobs=handling.jobs,
            batch=handling.batch,
            timeout=handling.timeout,
            several_topics=several_topics,
        )
    from evtool.delivery.worker import WorkerRunner

    return WorkerRunner(
        loop,
        dispatcher,
        program,
        stop,
        reports.said,
        reports.complain,
        handling.retries,
        jobs=handling.jobs,
        timeout=handling.timeout,
        several_topics=several_topics,
    )

"""Running a command for each event, or for each batch of events: exit 0 says that it is handled."""

from __future__ import annotations

import os

from evtool.delivery.process import Child, Tail, as_file
from evtool.delivery.task import FAILED, HANDLED, LATER, Outcome, outcome_of
from evtool.log import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.dispatcher import Settle
    from evtool.delivery.loop import Loop
    from evtool.delivery.process import Program
    from evtool.delivery.stop import Stop
    from evtool.delivery.task import Task

    Say = Callable[[int, bytes], None]  # a descriptor of a child, and what came out of it

_ATTRIBUTES = ("key", "type", "id")


class CommandRunner:
    """Runs a command with the stored lines on its standard input and what is known of them in EVTOOL_* variables.

    settle: told how it came out. jobs: how many runs there may be at a time. batch: events for each run.
    timeout: seconds that a run may take. say: given what the command says on its standard error and, if several run
    at a time, on its standard output; each line of it with the event's offset before it then.
    """

    def __init__(
        self,
        loop: Loop,
        settle: Settle,
        program: Program,
        stop: Stop,
        say: Say,
        *,
        jobs: int = 1,
        batch: int = 1,
        timeout: float | None = None,
        several_topics: bool = False,
    ) -> None:
        self.batch = batch
        self._loop = loop
        self._settle = settle
        self._program = program
        self._stop = stop
        self._say = say
        self._jobs = jobs
        self._running = 0
        self._timeout = timeout
        self._several_topics = several_topics

    def room(self) -> int:
        """How many more runs there may be now."""
        return self._jobs - self._running

    def start(self, tasks: list[Task]) -> None:
        """Begin a run for each of these, or one for all if they are a batch."""
        if self.batch > 1:
            self._run(tasks)
        else:
            for task in tasks:
                self._run([task])

    def finish(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def _run(self, tasks: list[Task]) -> None:
        streams = {0: as_file(b"".join([task.text for task in tasks]))}
        taps = {2: Tail(self._loop, self._speaker(2, tasks))}
        if self._jobs > 1:
            taps[1] = Tail(self._loop, self._speaker(1, tasks))
        streams |= {theirs: tap.child_end for theirs, tap in taps.items()}
        try:
            pid = self._program.spawn(streams, variables(tasks, is_batch=self.batch > 1))
        except BlockingIOError as error:
            outcome = Outcome(LATER, f"cannot be started: {error.strerror}")
            self._loop.after(0, lambda: self._settle(tasks, outcome))
            self._close(taps)
            return
        except BaseException:
            self._close(taps)
            raise
        finally:
            os.close(streams[0])
            for tap in taps.values():
                tap.close_child_end()
        self._running += 1
        child = Child(
            self._loop,
            pid,
            lambda status: self._end(tasks, taps, child, status),
            stop=self._stop,
            timeout=self._timeout,
        )

    def _end(self, tasks: list[Task], taps: dict[int, Tail], child: Child, status: int) -> None:
        self._running -= 1
        self._close(taps)
        if status == 0 and not child.timed_out:
            self._settle(tasks, HANDLED)
            return
        outcome = outcome_of(status or 1, self._program.name, taps[2].end)
        if child.timed_out:
            outcome.kind = FAILED
            outcome.why = f"{self._program.name} took longer than {self._timeout:g} s"
        self._settle(tasks, outcome)

    def _close(self, taps: dict[int, Tail]) -> None:
        for tap in taps.values():
            tap.close()

    def _speaker(self, stream: int, tasks: list[Task]) -> Callable[[bytes], None]:
        if self._jobs == 1:
            return lambda data: self._say(stream, data)
        first = tasks[0]
        label = f"{first.topic} {first.offset}: " if self._several_topics else f"{first.offset}: "
        return Labelled(label.encode(), lambda data: self._say(stream, data))


class Labelled:
    """Puts a label before each line of what it is given, and keeps a line together, up to a limit."""

    _LONGEST = 1 << 16

    def __init__(self, label: bytes, say: Callable[[bytes], None]) -> None:
        self._label = label
        self._say = say
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Pass on the lines that are whole; an empty end of all makes the last one so."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._LONGEST or (not data and self._rest):
            lines.append(self._rest)
            self._rest = b""
        if lines:
            self._say(b"".join(self._label + one + b"\n" for one in lines))


def variables(tasks: list[Task], *, is_batch: bool) -> dict[str, str]:
    """What a command is told of the events in its environment: those of the first of a batch, and which is the last."""
    task = tasks[0]
    known = {
        "EVTOOL_TOPIC": task.topic,
        "EVTOOL_OFFSET": str(task.offset),
        "EVTOOL_TIME": line.time_of(task.text).decode(),
        "EVTOOL_ATTEMPT": str(task.attempts + 1),
    }
    head = {} if line.has_no_attributes(task.text) else line.attributes(task.text)
    for name in _ATTRIBUTES:
        known[f"EVTOOL_{name.upper()}"] = head.get(name, "").replace("\0", "")
    if is_batch:
        known |= {"EVTOOL_LAST": str(tasks[-1].offset), "EVTOOL_COUNT": str(len(tasks))}
    return known

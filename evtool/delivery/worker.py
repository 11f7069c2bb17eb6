"""Workers: a command that is started once, gets events on its standard input and answers each with a line.

    81920                       it is handled
    81921 error no such user    it is not, try again
    81922 later                 not now: try again, and do not count it
    81923 never bad address     give it up

The offset of an event of several topics is said with the topic: ``orders:81920``.
"""

from __future__ import annotations

import os
import time

from evtool.delivery.loop import WRITABLE
from evtool.delivery.process import Child, Tail
from evtool.delivery.retries import jitter
from evtool.delivery.task import FAILED, HANDLED, LATER, NEVER, Outcome, describe, outcome_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.command import Say
    from evtool.delivery.dispatcher import Dispatcher
    from evtool.delivery.loop import Loop, Timer
    from evtool.delivery.process import Program
    from evtool.delivery.retries import Retries
    from evtool.delivery.stop import Stop
    from evtool.delivery.task import Task

_FIRST_DEPTH, _LEAST_DEPTH, _MOST_DEPTH = 8, 2, 2048  # events that a worker has at a time
_AHEAD_SECONDS = 0.05  # that it should be busy with them: what it has must be waited for when we are told to stop
_MEASURE_SECONDS = 0.005
_BLOCK = 1 << 16
_LONGEST_ANSWER = 1 << 16
_FAREWELL_SECONDS = 5.0  # from the end of its input to TERM
_VERDICTS = {b"error": FAILED, b"later": LATER, b"never": NEVER}


class WorkerRunner:
    """Keeps so many workers going and gives each of them events, as many as it can take.

    A worker that dies is started again, at once if it had handled anything, else after a while. What it had not
    answered is tried again, in ever less company, until the event that it dies of is alone.

    complain: told what is wrong with a worker, in words. timeout: seconds for one event.
    """

    batch = 1

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        program: Program,
        stop: Stop,
        say: Say,
        complain: Callable[[str], None],
        retries: Retries,
        *,
        jobs: int = 1,
        timeout: float | None = None,
        several_topics: bool = False,
    ) -> None:
        self.loop = loop
        self.dispatcher = dispatcher
        self.program = program
        self.stop = stop
        self.say = say
        self.complain = complain
        self.retries = retries
        self.timeout = timeout
        self.several_topics = several_topics
        self._workers = [Worker(self) for _ in range(jobs)]

    def room(self) -> int:
        """How many more events the workers take now."""
        return sum(worker.room() for worker in self._workers)

    def start(self, tasks: list[Task]) -> None:
        """Give these to the workers that have least to do."""
        if len(self._workers) == 1:
            self._workers[0].give(tasks)
            return
        share = -(-len(tasks) // len(self._workers))
        for worker in sorted(self._workers, key=Worker.room, reverse=True):
            if tasks:
                size = min(worker.room(), share)
                worker.give(tasks[:size])
                tasks = tasks[size:]
        if tasks:
            max(self._workers, key=Worker.room).give(tasks)

    def finish(self) -> bool:
        """Let the workers come to their end, as nothing more comes; say whether all have."""
        running = [worker for worker in self._workers if not worker.finish()]
        return not running


class Worker:
    """One worker, as one process after another."""

    def __init__(self, runner: WorkerRunner) -> None:
        self._runner = runner
        self._loop = runner.loop
        self._child: Child | None = None
        self._in = self._out = -1
        self._err: Tail | None = None
        self._unsent = memoryview(b"")
        self._writes = False
        self._answers = b""
        self._pending: dict[bytes, Task] = {}  # in the order in which they were given
        self._depth = _FIRST_DEPTH
        self._since_start = 0  # answers
        self._measured = (0.0, 0)  # since when it is busy, and how many answers it had given then
        self._deaths = 0  # one after the other without an answer
        self._rests: Timer | None = None  # until it may be started again
        self._clock: Timer | None = None
        self._oldest: Task | None = None  # what the clock runs for

    def room(self) -> int:
        """How many more events it takes now."""
        return 0 if self._rests is not None else max(0, self._depth - len(self._pending))

    def give(self, tasks: list[Task]) -> None:
        """Send it these."""
        if not tasks:
            return
        if self._child is None:
            self._begin()
        if not self._pending:
            self._measured = (time.monotonic(), self._since_start)
        if self._runner.several_topics:
            self._pending.update((b"%b:%d" % (task.topic.encode(), task.offset), task) for task in tasks)
        else:
            self._pending.update((b"%d" % task.offset, task) for task in tasks)
        self._unsent = memoryview(b"".join([self._unsent, *(task.text for task in tasks)]))
        self._send()
        self._wind()

    def finish(self) -> bool:
        """Close its input, as nothing more comes; say whether it has ended."""
        if self._child is None:
            return True
        if self._in >= 0 and not self._pending:
            self._close_in()
            self._see_off()
        return False

    def _see_off(self) -> None:
        """Give it some time to end by itself, and then end it."""
        child = self._child
        if child is not None:
            self._loop.after(_FAREWELL_SECONDS, lambda: child.terminate() if self._child is child else None)

    # Its process

    def _begin(self) -> None:
        runner = self._runner
        their_in, self._in = os.pipe()
        self._out, their_out = os.pipe()
        for fd in (self._in, self._out):
            os.set_blocking(fd, False)
        _enlarge(self._in)
        self._err = err = Tail(self._loop, lambda data: runner.say(2, data))
        self._answers, self._since_start = b"", 0
        try:
            pid = runner.program.spawn({0: their_in, 1: their_out, 2: err.child_end}, {})
        finally:
            os.close(their_in)
            os.close(their_out)
            err.close_child_end()
        self._loop.watch(self._out, self._read)
        self._child = Child(self._loop, pid, self._end, stop=runner.stop)

    def _end(self, status: int) -> None:
        """It has ended, or died: what it has answered counts, the rest is tried again."""
        while self._out >= 0 and self._read():
            pass
        self._close_in()
        if self._out >= 0:
            self._loop.forget(self._out)
            os.close(self._out)
            self._out = -1
        assert self._err is not None
        self._err.close()
        child, self._child = self._child, None
        assert child is not None
        self._unwind()
        lost = list(self._pending.values())
        self._pending.clear()
        self._unsent = memoryview(b"")
        if lost:
            self._rest()
            self._give_back(lost, status, timed_out=child.timed_out)

    def _give_back(self, lost: list[Task], status: int, *, timed_out: bool) -> None:
        runner = self._runner
        name = runner.program.name
        culprit = self._oldest if timed_out else lost[0] if len(lost) == 1 else None
        self._oldest = None
        if culprit is not None and culprit in lost:
            why = f"{name} took longer than {runner.timeout:g} s" if timed_out else f"{name} {describe(status)}"
            assert self._err is not None
            outcome = outcome_of(status or 1, name, self._err.end)
            outcome.why = why if timed_out else f"{why} before it answered"
            if timed_out or status == 0:
                outcome.kind = FAILED
            runner.dispatcher.settle([culprit], outcome)
            lost.remove(culprit)
            if lost:
                runner.dispatcher.put_back(lost, _MOST_DEPTH)
        else:
            if not runner.stop.is_set:
                runner.complain(
                    f"{name} {describe(status)}; {len(lost)} events that it had not answered are tried again"
                )
            runner.dispatcher.put_back(lost, len(lost) // 2)

    def _rest(self) -> None:
        """Before it is started again, let some time pass if it dies again and again."""
        if self._since_start:
            self._deaths = 0
            return
        self._deaths += 1
        retries = self._runner.retries
        bound = min(retries.longest, retries.shortest * 2.0 ** min(self._deaths - 1, 60))
        self._rests = self._loop.after(jitter(bound), self._wake)

    def _wake(self) -> None:
        self._rests = None

    # What it gets

    def _send(self) -> None:
        while self._unsent and self._in >= 0:
            try:
                self._unsent = self._unsent[os.write(self._in, self._unsent[:_BLOCK]) :]
            except BlockingIOError:
                if not self._writes:
                    self._loop.watch(self._in, self._send, WRITABLE)
                    self._writes = True
                return
            except BrokenPipeError:  # it reads no more: its end will tell
                self._unsent = memoryview(b"")
                self._close_in()
                return
        if self._writes:
            self._loop.forget(self._in)
            self._writes = False

    def _close_in(self) -> None:
        if self._in >= 0:
            if self._writes:
                self._loop.forget(self._in)
                self._writes = False
            os.close(self._in)
            self._in = -1

    # What it answers

    def _read(self) -> bool:
        """Take some answers; say whether there may be more at once."""
        try:
            data = os.read(self._out, _BLOCK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.forget(self._out)
            os.close(self._out)
            self._out = -1
            self._close_in()  # who answers no more gets no more
            self._see_off()
            return False
        *answers, self._answers = (self._answers + data).split(b"\n")
        if len(self._answers) > _LONGEST_ANSWER:
            self._answers = b""
        self._take(answers)
        return True

    def _take(self, answers: list[bytes]) -> None:
        pending = self._pending
        handled = []
        others = []
        for answer in answers:
            task = pending.pop(answer, None)
            if task is not None:
                handled.append(task)
            else:
                others.append(answer)
        self._since_start += len(handled)
        if handled:
            self._deaths = 0
            self._runner.dispatcher.settle_each(handled)
        for answer in others:
            self._take_unusual(answer.strip())
        self._wind()
        self._measure()

    def _measure(self) -> None:
        """Let it have as many events at a time as it answers in a moment."""
        since, count = self._measured
        now = time.monotonic()
        if now - since < _MEASURE_SECONDS and self._pending:
            return
        rate = (self._since_start - count) / max(now - since, 1e-6)
        self._depth = max(_LEAST_DEPTH, min(int(rate * _AHEAD_SECONDS), self._depth * 4, _MOST_DEPTH))
        self._measured = (now, self._since_start)

    def _take_unusual(self, answer: bytes) -> None:
        what, _, rest = answer.partition(b" ")
        verdict, _, text = rest.partition(b" ")
        if what in self._pending and (not verdict or verdict in _VERDICTS):
            task = self._pending.pop(what)
            self._since_start += 1
            if not verdict:
                self._runner.dispatcher.settle([task], HANDLED)
                return
            said = text.decode("utf-8", "replace") or verdict.decode()
            why = f"{self._runner.program.name} answered: {said}"
            self._runner.dispatcher.settle([task], Outcome(_VERDICTS[verdict], why, stderr=text[-4096:]))
        elif answer:
            shown = answer[:80].decode("utf-8", "replace")
            self._runner.complain(
                f"{self._runner.program.name} answered {shown!r}, which is about no event that it has"
            )

    # How long it takes

    def _wind(self) -> None:
        """Let the clock run for the oldest event that it has."""
        timeout = self._runner.timeout
        if timeout is None:
            return
        oldest = next(iter(self._pending.values()), None)
        if oldest is not self._oldest:
            self._unwind()
            self._oldest = oldest
            if oldest is not None:
                self._clock = self._loop.after(timeout, self._time_out)

    def _unwind(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _time_out(self) -> None:
        if self._child is not None:
            self._child.timed_out = True
            self._child.terminate()


def _enlarge(pipe: int) -> None:
    """Let the pipe hold more than the usual 64 KiB, where the system can: fewer turns between us and the worker."""
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 18)
    except (AttributeError, OSError):
        pass

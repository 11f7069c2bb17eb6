"""Means of fault: processes forked from this one, without a start to wait for, killed or stopped at any moment.

What one has to report goes into memory that it shares with us: that never makes it wait, and survives its death.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
import traceback
from typing import TYPE_CHECKING

import orjson  # noqa: F401  # what evtool imports when it needs it, which each process would do anew

from evtool.log import check, damaged, retention, sealing, seals  # noqa: F401
from tests.faults import numbered
from tests.faults.senders import Sender, Told

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from evtool.log.topic import TopicLog

    Report = Callable[..., None]

_RECORD = struct.Struct("<qqqq")
_PR_SET_PDEATHSIG = 1
_HANGS_AFTER = 120  # seconds
_libc = ctypes.CDLL(None)
_LITTLE = 1 << 14  # bytes of a write that is too short to be torn by a signal
_SPEED = 1e9  # bytes a second of one that is not, or less
_A_WINK = 1e-6


class Forked:
    """A process that does `work`, which gets a function by which it can report up to four numbers at a time."""

    def __init__(self, work: Callable[[Report], None]) -> None:
        self._memory = os.memfd_create("reports")
        self._last_words = os.memfd_create("last words")
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._do(work)

    def _do(self, work: Callable[[Report], None]) -> None:
        code = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # not to outlive who would have ended it
            signal.signal(signal.SIGALRM, _give_up)
            signal.alarm(_HANGS_AFTER)
            work(self._report)
            code = 0
        except BaseException:
            os.write(self._last_words, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def _report(self, *numbers: int) -> None:
        os.write(self._memory, _RECORD.pack(*numbers, *[0] * (4 - len(numbers))))

    def reports(self) -> Iterator[tuple[int, int, int, int]]:
        """What it has reported so far."""
        size = os.fstat(self._memory).st_size
        return _RECORD.iter_unpack(os.pread(self._memory, size - size % _RECORD.size, 0))

    def has_reported(self) -> bool:
        """Whether it has reported anything."""
        return os.fstat(self._memory).st_size > 0

    def signal(self, number: int) -> None:
        """Send it a signal; to one that has ended, nothing."""
        if self._code is None:
            os.kill(self.pid, number)

    @property
    def last_words(self) -> str:
        """The traceback with which it failed, if it did."""
        return os.pread(self._last_words, 1 << 16, 0).decode()

    def has_ended(self) -> bool:
        """Whether it has come to its end by itself, be it a good one or not."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def kill(self) -> int:
        """Kill it and wait for that; return how it ended, which it may have done before."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return the exit code, or minus the signal that ended it."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def close(self) -> None:
        """Be done with it."""
        os.close(self._memory)
        os.close(self._last_words)


class Producing(Forked):
    """A process that appends numbered events to a log, batch by batch, and reports what was acknowledged.

    by: its number. large: see `numbered`. most: events of a batch. limit: after so many events it ends by itself.
    pause: the mean of the seconds between two batches. doomed: it dies amid a large write, if it comes to one.
    whole: the share of the batches that are stored as a whole.
    """

    def __init__(
        self,
        log: Callable[[], TopicLog],
        by: int,
        random: random.Random,
        *,
        large: int,
        most: int,
        limit: int = 1 << 62,
        pause: float = 0,
        doomed: bool = False,
        whole: float = 0,
    ) -> None:
        self.by = by
        self.limit = limit
        self._large = large
        random = type(random)(random.getrandbits(64))

        def work(report: Report) -> None:
            if doomed:
                _die_amid_a_write(random)
            mine = log()
            n = 0
            while n < limit:
                count = min(random.randint(1, most) if random.random() < 0.5 else 1, limit - n)
                bodies = [numbered.event(by, one, large) for one in range(n, n + count)]
                if random.random() < whole:
                    offsets: Sequence[int] = mine.append_whole([bodies], b'"data":')
                else:
                    offsets = mine.append(bodies, b'"data":')
                    mine.sync()
                report(n, count, offsets[0])
                n += count
                if pause:
                    time.sleep(random.expovariate(1 / pause))

        super().__init__(work)

    def sender(self) -> Sender:
        """What it was told so far."""
        return Sender(self.by, [Told(n, count, offset) for n, count, offset, _ in self.reports()], self._large)


def _give_up(*_: object) -> None:
    raise TimeoutError(f"this has taken {_HANGS_AFTER} s")


def _die_amid_a_write(random: random.Random) -> None:
    """Let an alarm that nobody handles, which is as deadly as SIGKILL, come a moment after a large write has begun."""
    write = os.write
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def write_and_die(fd: int, data: bytes) -> int:
        if len(data) > _LITTLE:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(_A_WINK, len(data) / _SPEED))
        return write(fd, data)

    os.write = write_and_die  # type: ignore[assignment]

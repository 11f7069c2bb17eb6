"""Waiting for several things at once in one thread: descriptors and moments."""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], object]

READABLE = select.POLLIN
WRITABLE = select.POLLOUT


class Timer:
    """Something to be called at a moment, unless it is cancelled before."""

    __slots__ = ("_call", "due")

    def __init__(self, due: float, call: Call) -> None:
        self.due = due
        self._call: Call | None = call

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due

    @property
    def is_live(self) -> bool:
        """Whether it is still to be called."""
        return self._call is not None

    def cancel(self) -> None:
        """Do not call it."""
        self._call = None

    def fire(self) -> None:
        """Call it, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Loop:
    """Calls back when a descriptor is ready or a moment has come."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, Call] = {}
        self._timers: list[Timer] = []

    def watch(self, fd: int, call: Call, ready: int = READABLE) -> None:
        """Call whenever `fd` is ready, until `forget`."""
        self._calls[fd] = call
        self._poll.register(fd, ready)

    def forget(self, fd: int) -> None:
        """Watch `fd` no more; to be said before it is closed."""
        if self._calls.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, call: Call) -> Timer:
        """Call in so many seconds."""
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    def turn(self, *, wait: bool = True) -> None:
        """Wait until something is ready or due, if `wait` says so, and call for all that is."""
        for fd, _ in self._poll.poll(self._wait_for() if wait else 0):
            call = self._calls.get(fd)  # one call may have forgotten what is ready for another
            if call is not None:
                call()
        if self._timers:
            now = time.monotonic()
            while self._timers and self._timers[0].due <= now:
                heapq.heappop(self._timers).fire()

    def _wait_for(self) -> float | None:
        """Milliseconds until the next moment; None if there is none."""
        while self._timers and not self._timers[0].is_live:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0].due - time.monotonic()) * 1000 + 0.5

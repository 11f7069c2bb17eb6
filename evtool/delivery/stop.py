"""Being told to stop: by a signal, at any moment, without losing what is half done."""

from __future__ import annotations

import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


_ENDING = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """Raised out of a wait that a stop has ended."""


class Stop:
    """A request to stop that any thread can see. `signal_number` is the signal that asked for it, or None.

    fd: a descriptor that can be read once there is the request.
    on_signal: what is called, under any name, with the number of each signal: children are in process groups of their
        own, where a terminal's Ctrl-C does not reach them.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.is_set = False
        self.on_signal: dict[int, Callable[[int, bool], None]] = {}
        self.fd = self._far_end = -1
        self.fd, self._far_end = os.pipe()

    def __del__(self) -> None:
        for fd in (self.fd, self._far_end):
            if fd >= 0:
                os.close(fd)

    def listen(self) -> None:
        """Take SIGINT and SIGTERM as the request; a second one takes effect at once, as if nobody listened."""
        os.set_blocking(self._far_end, False)
        # Without this a signal that comes just before a wait would be heard only when that is over.
        signal.set_wakeup_fd(self._far_end, warn_on_full_buffer=False)
        for number in _ENDING:
            signal.signal(number, self._on_signal)

    def set(self) -> None:
        """Ask all to stop."""
        if not self.is_set:
            self.is_set = True
            os.write(self._far_end, b"!")  # nobody reads it, so the near end is readable for everybody and for good

    def wait(self, seconds: float) -> bool:
        """Wait for the request at most so many seconds; say whether there is one."""
        select.select([self.fd], [], [], seconds)
        return self.is_set

    def check(self) -> None:
        """Raise Stopped if there is the request."""
        if self.is_set:
            raise Stopped

    def wait_to_write(self, fd: int, seconds: float) -> bool:
        """Wait until `fd` takes something, at most so many seconds; say whether it does. Raises Stopped."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(fd, select.POLLOUT)
        is_ready = bool(poll.poll(seconds * 1000))
        self.check()
        return is_ready

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        is_first = not self.is_set
        for call in list(self.on_signal.values()):
            call(number, is_first)
        if is_first:
            self.signal_number = number
            self.set()
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

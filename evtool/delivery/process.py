"""A child process: a command that is watched until it ends, and ended if it takes too long."""

from __future__ import annotations

import os
import signal

from evtool.errors import EvtoolError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.loop import Loop, Timer
    from evtool.delivery.stop import Stop

TAIL = 4096  # bytes of standard error that are kept for a dead letter
_BLOCK = 1 << 16
_PATIENCE = 5.0  # seconds from TERM to KILL
_LOOK_SECONDS = 0.005  # where the system cannot tell of a child's end


class Program:
    """A command that can be started: its name was looked up, and its environment prepared."""

    def __init__(self, command: list[str], name: str | None = None) -> None:
        """Raises UsageError if there is no such command. name: what to call it when it fails."""
        from shutil import which

        if not command:
            raise UsageError("subscribe", "there is no command after --")
        path = which(command[0])
        if path is None:
            raise UsageError(command[0], "command not found, or not executable")
        self.path = path
        self.command = command
        self.name = name or command[0]
        self.environment = dict(os.environ)
        _open_standard_streams()

    def spawn(self, streams: dict[int, int], environment: dict[str, str]) -> int:
        """Start it in a process group of its own and return its process. Raises EvtoolError, BlockingIOError.

        streams: for its descriptors 0, 1 and 2 those of ours; for others it gets what we have.
        """
        try:
            return os.posix_spawn(
                self.path,
                self.command,
                self.environment | environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in streams.items()],
                setpgroup=0,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except BlockingIOError:  # too many processes just now
            raise
        except OSError as error:
            raise EvtoolError(self.command[0], error.strerror or str(error)) from error


class Tail:
    """What comes out of a child's pipe: handed on at once, and nothing at its end; the last of it is kept."""

    def __init__(self, loop: Loop, hand_on: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._hand_on = hand_on
        self.end = b""
        self._fd, self.child_end = os.pipe()
        os.set_blocking(self._fd, False)
        loop.watch(self._fd, self._read)

    def close_child_end(self) -> None:
        """The child has it now."""
        os.close(self.child_end)
        self.child_end = -1

    def close(self) -> None:
        """Take what is there and no more: whoever the child has left behind may hold it open for ever."""
        for _ in range(16):
            if self._fd < 0 or not self._read():
                break
        self._close()
        self._hand_on(b"")

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        self.end = (self.end + data)[-TAIL:]
        self._hand_on(data)
        return True

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1


class Child:
    """A running process.

    on_end: called with its exit status, minus N for a signal N. timeout: seconds after which it is told to end.
    `timed_out`: whether that has come.
    """

    def __init__(
        self,
        loop: Loop,
        pid: int,
        on_end: Callable[[int], None],
        *,
        stop: Stop | None = None,
        timeout: float | None = None,
    ) -> None:
        self.pid = pid
        self.timed_out = False
        self._loop = loop
        self._on_end = on_end
        self._stop = stop
        self._has_ended = False
        self._fd = _pidfd(pid)
        if self._fd >= 0:
            loop.watch(self._fd, self._look)
        else:
            loop.after(_LOOK_SECONDS, self._look_again)
        if stop is not None:
            stop.on_signal[pid] = self._hear
            if stop.signal_number is not None:  # it came while the child was being started
                self._hear(stop.signal_number, True)
        self._timer: Timer | None = None if timeout is None else loop.after(timeout, self._time_out)

    def terminate(self) -> None:
        """Ask it, and all that it has started, to end; some time later make them."""
        self._signal(signal.SIGTERM)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(_PATIENCE, lambda: self._signal(signal.SIGKILL))

    def _hear(self, number: int, is_first: bool) -> None:
        """We were told to stop: Ctrl-C is for the child too; else it has its time, unless that is insisted on."""
        if number == signal.SIGINT:
            self._signal(signal.SIGINT)
        elif not is_first:
            self._signal(signal.SIGTERM)

    def _time_out(self) -> None:
        self.timed_out = True
        self.terminate()

    def _signal(self, number: int) -> None:
        if not self._has_ended:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def _look(self) -> None:
        if self.timed_out:
            self._signal(signal.SIGKILL)  # what it has left behind, while its number is still its own
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return
        self._has_ended = True
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
        if self._timer is not None:
            self._timer.cancel()
        if self._stop is not None:
            self._stop.on_signal.pop(self.pid, None)
        self._on_end(os.waitstatus_to_exitcode(status))

    def _look_again(self) -> None:
        self._look()
        if not self._has_ended:
            self._loop.after(_LOOK_SECONDS, self._look_again)


def as_file(data: bytes) -> int:
    """An open file with this content, which unlike a pipe takes any amount and cannot block or break."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("event", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _open_standard_streams() -> None:
    """See to it that no pipe of ours gets a number from 0 to 2, where a child has its streams."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)

"""The lock of a topic: flock(2) on a file that is never unlinked. It dies with its holder and is never stolen."""

from __future__ import annotations

import fcntl
import os

from evtool.errors import BusyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS = 0.002


def lock(fd: int, what: str, *, timeout: float | None = None, on_wait: Callable[[], None] | None = None) -> None:
    """Take the exclusive lock on the open file `fd`, waiting for whoever has it.

    With no `timeout` the kernel queues the waiters, first come first served; with one (in seconds) the lock is tried
    for again and again until then, and `BusyError` names the holder. `on_wait` is called once if there is a wait.
    `what` names the thing locked in the error.
    """
    if timeout is None and on_wait is None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return
    if try_lock(fd):
        return
    if on_wait is not None:
        on_wait()
    if timeout is None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return
    _lock_before(fd, what, timeout)


def try_lock(fd: int) -> bool:
    """Take the exclusive lock on `fd` if that needs no waiting; say whether it was taken."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give the lock on `fd` back."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def is_locked(fd: int) -> bool:
    """Whether another open file holds the lock of the file `fd`, alone or not. Who polls for it may be delayed."""
    if try_lock(fd):
        unlock(fd)
        return False
    return True


def holder(fd: int) -> int | None:
    """The process that holds the lock of the file `fd`, or None where the system does not tell."""
    status = os.fstat(fd)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks") as table:
            for row in table:
                fields = row.split()
                if fields[1:2] == ["FLOCK"] and fields[3] == "WRITE" and fields[5] == wanted:
                    return int(fields[4])
    except OSError:  # not Linux
        pass
    return None


def _lock_before(fd: int, what: str, timeout: float) -> None:
    import time

    deadline = time.monotonic() + timeout
    while not try_lock(fd):
        if time.monotonic() >= deadline:
            pid = holder(fd)
            who = f"process {pid}" if pid else "another process"
            hint = f"see what it does: ps -fp {pid}" if pid else None
            raise BusyError(what, f"{who} holds the lock; gave up after {timeout:g} s", pid=pid, hint=hint)
        time.sleep(_POLL_SECONDS)

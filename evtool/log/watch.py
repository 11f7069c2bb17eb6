"""Waiting until something changes in a directory: by inotify, at no cost while nothing does, or by looking again."""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_IN_MODIFY = 0x002
_IN_MOVED_FROM = 0x040
_IN_MOVED_TO = 0x080
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_EVENTS = _IN_MODIFY | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
_IN_CLOEXEC = 0o2000000
_IN_NONBLOCK = 0o4000
_POLL_SECONDS = 0.05


class Watch:
    """Tells of changes in directories since the last `wait`. A change during the reading in between is not lost.

    paths: the directories.
    wake: a descriptor that ends a wait when it can be read, such as the far end of a pipe.
    """

    def __init__(self, paths: Iterable[str] = (), wake: int | None = None) -> None:
        self._fd = -1
        self._is_noted = False
        self._poll = select.poll()
        if wake is not None:
            self._poll.register(wake, select.POLLIN)
        self._fd = _inotify()
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)
        for path in paths:
            self.add(path)

    def __del__(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._fd >= 0:
            self._poll.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1

    @property
    def fd(self) -> int | None:
        """A descriptor that can be read when there was a change; None where the system tells of none."""
        return self._fd if self._fd >= 0 else None

    def add(self, path: str) -> None:
        """Watch one more directory."""
        if self._fd >= 0 and not _add_watch(self._fd, path):  # no watches left: look at all of them instead
            self._stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a change, at most `timeout` seconds; say whether there may have been one.

        The system's notes of a change are taken away only at the next call, which then returns at once: whoever waits
        for an event has it sooner by that, and looks once more after all notes of what it has seen are gone.
        """
        if self._fd < 0:
            return self._wait_a_little(timeout)
        if self._is_noted:
            os.read(self._fd, 65536)
            self._is_noted = False
            return True
        ready = self._poll.poll(None if timeout is None else max(0, timeout) * 1000)
        self._is_noted = (self._fd, select.POLLIN) in ready
        return bool(ready)

    def _wait_a_little(self, timeout: float | None) -> bool:
        if timeout is not None and timeout < _POLL_SECONDS:
            return bool(self._poll.poll(max(0, timeout) * 1000))
        self._poll.poll(_POLL_SECONDS * 1000)
        return True


def _inotify() -> int:
    try:
        return int(_libc().inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK))
    except (AttributeError, OSError):  # not Linux
        return -1


def _add_watch(fd: int, path: str) -> bool:
    return bool(_libc().inotify_add_watch(fd, os.fsencode(path), _EVENTS) >= 0)


def _libc() -> Any:  # ctypes makes up its functions as they are asked for
    import ctypes

    return ctypes.CDLL(None)

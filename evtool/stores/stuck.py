"""Locks that stay with one and the same process while others wait: who that is, and since when it may be so."""

from __future__ import annotations

import os
import shlex
import time

from evtool.errors import EvtoolError
from evtool.log import line
from evtool.log.lock import holder, is_locked
from evtool.stores.finding import PROBLEM, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from evtool.log.files import Directory

_PATIENCE = 1.0  # seconds for which a lock must stay with a process before that is found wrong
_EACH_SECONDS = 0.005  # a producer that takes its lock again and again is found without it sooner or later
_LOOKS = 20
_LONGEST_COMMAND = 100


class Lock:
    """A lock that is held for a moment only.

    name: of its file in `directory`. what: the topic, or the group, that it belongs to.
    written: of which file the time tells when the last one who held it did something.
    """

    __slots__ = ("_directory", "_name", "path", "what", "written")

    def __init__(self, directory: Directory, name: str, what: str, written: str) -> None:
        self._directory = directory
        self._name = name
        self.path = f"{directory.path}/{name}"
        self.what = what
        self.written = written

    def holder(self) -> int | None:
        """The process that has it, 0 if that cannot be told; None if nobody has. Raises StorageError."""
        try:
            fd = self._directory.open(self._name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return (holder(fd) or 0) if is_locked(fd) else None
        finally:
            os.close(fd)

    def settled(self, look: Callable[[], tuple[int, ...] | None]) -> tuple[int, ...] | None:
        """What `look` finds, if that is the same before and after a moment in which nobody held the lock, else None.

        Whoever holds it may be at work on what is looked at; what is there while nobody does was left behind.
        """
        for _ in range(_LOOKS):
            found = look()
            if found is None:
                return None
            if self.holder() is None and look() == found:
                return found
            time.sleep(_EACH_SECONDS)
        return None


def findings(locks: Iterable[Lock]) -> Iterator[Finding]:
    """Those of these locks that stay with a process. They are looked at once, and for a second only if one is held."""
    held = {lock: pid for lock in locks if (pid := _holder(lock)) is not None}
    deadline = time.monotonic() + _PATIENCE
    while held and time.monotonic() < deadline:
        time.sleep(_EACH_SECONDS)
        held = {lock: pid for lock, pid in held.items() if _holder(lock) == pid}
    for lock, pid in held.items():
        yield _finding(lock, pid)


def _holder(lock: Lock) -> int | None:
    try:
        return lock.holder()
    except EvtoolError:  # who may not open it, or finds a link there, is told so elsewhere
        return None


def _finding(lock: Lock, pid: int) -> Finding:
    since = f"; the last write was at {_last_write(lock.written)}"
    if not pid:
        why = f"a process that cannot be seen from here holds the lock{since}"
        return Finding(PROBLEM, lock.what, why, f"fuser -v {shlex.quote(lock.path)}")
    process = Process(pid)
    why = f"{process} holds the lock{' and is stopped' if process.is_stopped else ''}{since}"
    return Finding(PROBLEM, lock.what, why, process.mend)


def _last_write(path: str) -> str:
    try:
        return _words(os.stat(path).st_mtime)
    except OSError:
        return "an unknown time"


class Process:
    """What the system tells of a process. started: when, in words; empty if it does not tell, or there is none."""

    __slots__ = ("command", "is_stopped", "pid", "started")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.command = self.started = ""
        self.is_stopped = False
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().replace(b"\0", b" ").decode("utf-8", "replace").split()
            with open("/proc/stat", "rb") as file:
                booted = next(int(row.split()[1]) for row in file if row.startswith(b"btime "))
        except OSError:  # it has ended, or this is not Linux
            return
        self.command = "".join(one if one.isprintable() else " " for one in " ".join(words))[:_LONGEST_COMMAND]
        self.is_stopped = fields[0] == b"T"
        self.started = _words(booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"))

    def __str__(self) -> str:
        known = f" ({self.command}), which was started at {self.started}," if self.started else ""
        return f"process {self.pid}{known}"

    @property
    def mend(self) -> str:
        """The command that lets it go on or, if it is not stopped, shows what it does."""
        return f"kill -CONT {self.pid}" if self.is_stopped else f"ps -fp {self.pid}"


def is_gone(pid: int) -> bool:
    """Whether there is no such process on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _words(seconds: float) -> str:
    return line.stamp(int(seconds * 1e9))[:19].decode() + "Z"

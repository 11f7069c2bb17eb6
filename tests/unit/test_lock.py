"""evtool.log.lock: who has the lock has it alone, whichever way it was taken, and it dies with its holder."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest
from filelock import FileLock, Timeout

from evtool.errors import BusyError
from evtool.log import lock

BY_FLOCK = """
import os, sys
from evtool.log import lock
assert lock.try_lock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600))
print(end=".", flush=True)
sys.stdin.read()
"""
BY_FILELOCK = """
import sys
from filelock import FileLock
held = FileLock(sys.argv[1], timeout=0)
held.acquire()
print(end=".", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that takes the lock and holds it until it is let go."""

    def __init__(self, code: str, path: str) -> None:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", code, path], **streams)
        out: IO[bytes] | None = self.process.stdout
        assert out is not None
        assert out.read(1) == b"."

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def fd(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


@pytest.mark.parametrize("code", [BY_FLOCK, BY_FILELOCK], ids=["flock", "filelock"])
def test_one_process_excludes_another_whichever_way_each_takes_it(code: str, path: str, fd: int) -> None:
    with Holder(code, path):
        assert not lock.try_lock(fd)
        assert lock.is_locked(fd)
        with pytest.raises(Timeout):
            FileLock(path, timeout=0).acquire()
    assert not lock.is_locked(fd)
    assert lock.try_lock(fd)
    with pytest.raises(Timeout):
        FileLock(path, timeout=0).acquire()
    lock.unlock(fd)
    with FileLock(path, timeout=0):
        assert not lock.try_lock(fd)


def test_control_a_lock_on_another_file_excludes_nobody(path: str, fd: int) -> None:
    with Holder(BY_FLOCK, path + ".other"):
        assert lock.try_lock(fd)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not tell who holds a lock")
def test_after_the_timeout_the_holder_is_named(path: str, fd: int) -> None:
    waits: list[int] = []
    with Holder(BY_FLOCK, path) as other:
        with pytest.raises(BusyError) as caught:
            lock.lock(fd, "t", timeout=0.05, on_wait=lambda: waits.append(1))
        assert caught.value.pid == other.process.pid
        assert lock.holder(fd) == other.process.pid
    assert caught.value.hint == f"see what it does: ps -fp {other.process.pid}"
    assert str(caught.value) == f"t: process {other.process.pid} holds the lock; gave up after 0.05 s"
    assert waits == [1]
    lock.lock(fd, "t", timeout=0.05, on_wait=lambda: waits.append(1))
    assert waits == [1]


@pytest.mark.parametrize("timeout", [None, 30.0])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_lock_dies_with_its_holder(path: str, fd: int, timeout: float | None, is_told: bool) -> None:
    """Whether it is waited for with a timeout or without one, and whether the wait is to be told of or not."""
    waits = threading.Event()
    way = {"timeout": timeout, "on_wait": waits.set if is_told else None}
    with Holder(BY_FLOCK, path) as other:
        waiting = threading.Thread(target=lock.lock, args=(fd, "t"), kwargs=way)
        waiting.start()
        assert not is_told or waits.wait(30)
        other.process.send_signal(signal.SIGKILL)
        waiting.join(30)
        assert not waiting.is_alive()
    second = os.open(path, os.O_RDWR)
    assert not lock.try_lock(second)
    assert lock.holder(second) in (os.getpid(), None)


def test_it_waits_as_long_as_it_was_told_and_tries_now_and_then(
    fd: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock that nobody can set; the last try is at the end of that time and not before."""
    now, rests = [1000.0], []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        now[0] += 0.25

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", rest)
    with Holder(BY_FLOCK, path), pytest.raises(BusyError, match="gave up after 1 s"):
        lock.lock(fd, "t", timeout=1)
    assert rests == [lock._POLL_SECONDS] * 4
    assert lock.try_lock(fd)


def test_only_who_has_it_alone_holds_a_lock(path: str, fd: int) -> None:
    """A lock that several share, as no topic has it, names nobody."""
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert lock.holder(fd) is None


def test_nobody_holds_a_lock_that_is_free(fd: int) -> None:
    assert lock.holder(fd) is None
    assert not lock.is_locked(fd)


def test_where_the_system_does_not_tell_the_holder_is_another_process(
    path: str, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "open", _missing, raising=False)
    with Holder(BY_FLOCK, path), pytest.raises(BusyError, match="another process holds the lock") as caught:
        lock.lock(fd, "t", timeout=0.01)
    assert caught.value.pid is None
    assert caught.value.hint is None


def _missing(*_: object) -> None:
    raise FileNotFoundError

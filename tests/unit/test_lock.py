"""evtool.log.lock: who has the lock has it alone, whichever way it was taken, and it dies with its holder."""

from __future__ import annotations

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
    assert str(caught.value) == f"t: process {other.process.pid} holds the lock; gave up after 0.05 s"
    assert waits == [1]
    lock.lock(fd, "t", timeout=0.05, on_wait=lambda: waits.append(1))
    assert waits == [1]


def test_a_lock_dies_with_its_holder(path: str, fd: int) -> None:
    with Holder(BY_FLOCK, path) as other:
        waiting = threading.Thread(target=lock.lock, args=(fd, "t"), kwargs={"on_wait": lambda: None})
        waiting.start()
        other.process.send_signal(signal.SIGKILL)
        waiting.join(30)
        assert not waiting.is_alive()
    second = os.open(path, os.O_RDWR)
    assert not lock.try_lock(second)
    assert lock.holder(second) in (os.getpid(), None)


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

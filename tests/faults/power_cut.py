"""Means of fault: a power cut. A file system in a file is told to drop all that it has not written, and mounted anew.

It needs root and a loop device. `FS_IOC_SHUTDOWN` with flag 2 loses all that is unsynced; with 1 the journal is kept.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.program import wait_until

if TYPE_CHECKING:
    from types import TracebackType

_FS_IOC_SHUTDOWN = 0x8004587D
DROP_ALL, FLUSH_JOURNAL = 2, 1
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MEGABYTES = {"ext4": 48, "xfs": 320}  # the least that a file system can be or work in


class Disk:
    """A file system that can lose its power, mounted at `path` as long as the `with` lasts. kind: ext4 or xfs.

    Only this process and those that it starts see it. Another one that took a copy of all mounts, as `unshare` does,
    would keep it from ever being unmounted, and what comes back from the cut would be the one that was cut.
    """

    def __init__(self, directory: Path, kind: str = "ext4") -> None:
        self.path = directory / "disk"
        self._kind = kind
        self._image = _place(directory) / f"evtool-power-cut-{os.getpid()}.img"
        self._loop = ""
        self._outside = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self._directory = Path.cwd()

    def __enter__(self) -> Disk:
        self.path.mkdir()
        try:
            _call("unshare", _CLONE_NEWNS)
            _call("mount", "none", "/", None, _MS_REC | _MS_PRIVATE, None)
            with self._image.open("wb") as file:
                file.truncate(_MEGABYTES[self._kind] << 20)
            _run(f"mkfs.{self._kind}", "-q", "-F" if self._kind == "ext4" else "-f", str(self._image))
            self._loop = _run("losetup", "--find", "--show", str(self._image))
            self._mount()
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            why = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else error
            pytest.skip(f"no {self._kind} on a loop device here: {why}")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._unmount()
        finally:
            self._remove()

    def cut(self, flag: int) -> None:
        """Lose the power, at once."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", flag))
        except OSError as error:
            pytest.skip(f"this file system cannot be shut down: {error}")
        finally:
            os.close(fd)

    def come_back(self) -> None:
        """Start again from what is on the disk. All processes that used it must have ended."""
        self._unmount()
        self._mount()

    def _mount(self) -> None:
        _call("mount", self._loop, str(self.path), self._kind, 0, None)

    def _unmount(self) -> None:
        wait_until(self._try_to_unmount, "the disk to be no longer used")

    def _try_to_unmount(self) -> bool:
        try:
            _call("umount2", str(self.path), 0)
        except OSError:
            return False
        return True

    def _remove(self) -> None:
        if self._loop:
            _run("losetup", "--detach", self._loop)
        self._image.unlink(missing_ok=True)
        _call("setns", self._outside, _CLONE_NEWNS)
        os.close(self._outside)
        os.chdir(self._directory)


def _call(name: str, *arguments: str | int | None) -> None:
    """Call a function of the C library; a process of its own for each would take longer than a cut. Raises OSError."""
    encoded = [os.fsencode(one) if isinstance(one, str) else one for one in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*encoded):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _place(directory: Path) -> Path:
    """Where the image is: in memory, if that is possible."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else directory


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=True).stdout.decode().strip()


def why_not(kind: str = "ext4") -> str:
    """Why no power can be cut here, or nothing."""
    if os.geteuid() != 0:
        return "a power cut needs root"
    return "" if shutil.which(f"mkfs.{kind}") else f"mkfs.{kind} is not installed"


needed = pytest.mark.skipif(bool(why_not()), reason=why_not() or "power can be cut")

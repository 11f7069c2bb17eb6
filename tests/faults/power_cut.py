"""Means of fault: a power cut. A file system in a file is told to drop all that it has not written, and mounted anew.

It needs root and a loop device. `FS_IOC_SHUTDOWN` with flag 2 loses all that is unsynced; with 1 the journal is kept.
"""

from __future__ import annotations

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
_MEGABYTES = 48


class Disk:
    """An ext4 file system that can lose its power, mounted at `path` as long as the `with` lasts."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "disk"
        self._image = _place(directory) / f"evtool-power-cut-{os.getpid()}.img"

    def __enter__(self) -> Disk:
        self.path.mkdir()
        try:
            with self._image.open("wb") as file:
                file.truncate(_MEGABYTES << 20)
            _run("mkfs.ext4", "-qF", str(self._image))
            self._mount()
        except subprocess.CalledProcessError as error:
            self._image.unlink()
            pytest.skip(f"no loop device here: {error.stderr.decode().strip()}")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._unmount()
        self._image.unlink()

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
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def _unmount(self) -> None:
        wait_until(lambda: subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode == 0)


def _place(directory: Path) -> Path:
    """Where the image is: in memory, if that is possible."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else directory


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)


def _why_not() -> str:
    if os.geteuid() != 0:
        return "a power cut needs root"
    return "" if shutil.which("mkfs.ext4") else "mkfs.ext4 is not installed"


needed = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "power can be cut")

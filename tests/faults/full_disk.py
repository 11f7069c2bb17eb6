"""Means of fault: a limit on the size of a file, at any byte (EFBIG), and a small file system that is full (ENOSPC)."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import TracebackType


def limit(size: int) -> dict[str, Any]:
    """Options of a run in which no file can get longer than this, as with `prlimit --fsize`."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}


class SmallDisk:
    """A tmpfs of so many KiB, mounted where only a helper process sees it, which needs no root. `path` is its root."""

    def __init__(self, place: Path, kib: int) -> None:
        place.mkdir()
        script = f"mount -t tmpfs -o size={kib}k,mode=700 none '{place}' && echo ready && exec cat"
        command = ["unshare", "-Urm", "sh", "-c", script]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdout is not None
        self.is_there = self._process.stdout.readline() == b"ready\n"
        self.path = Path(f"/proc/{self._process.pid}/root{place}")

    def __enter__(self) -> SmallDisk:
        if not self.is_there:
            _, error = self._process.communicate()
            pytest.skip(f"no private tmpfs here: {error.decode().strip()}")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate()

    @property
    def filler(self) -> Path:
        """The file that takes up space."""
        return self.path / "filler"

    def fill(self, leave: int) -> None:
        """Take up all space but so many bytes."""
        with self.filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(self.path).free - leave))


needed = pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")

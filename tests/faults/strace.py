"""The program under strace: which system calls it makes, and what it does if one of them goes wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.program import Result

if TYPE_CHECKING:
    from tests.program import Program

CHANGING = (
    "mkdir", "mkdirat", "openat", "write", "pwrite64", "sendfile", "flock", "fchmod", "fsync", "fdatasync", "ftruncate",
    "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir",
)  # fmt: skip
SYNCS = ("fsync", "fdatasync")
# A run must make the same calls each time, so it may not keep compiled modules now and find them the next time.
_SAME_EACH_TIME = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


class Call(NamedTuple):
    """A system call: the `when`-th one of this name, with its arguments as strace shows them."""

    name: str
    when: int
    text: str

    @property
    def subject(self) -> str:
        """What it is done to: the first argument, without the number of a pipe or the time in a file's name."""
        return re.sub(r"(pipe:\[|jsonl@[0-9]+\.|/\.[a-z0-9._-]+\.)[0-9]+", r"\1", re.split(r"[,)] ", self.text)[0])


class Traced(NamedTuple):
    """What a run left, and what strace saw of it."""

    result: Result
    log: str


def _works() -> str:
    """Why strace cannot be used here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    run = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if run.returncode == 0 else f"strace may not trace here: {run.stderr.decode().strip()}"


_why_not = _works()
needed = pytest.mark.skipif(bool(_why_not), reason=_why_not or "strace works")


def trace(
    program: Program, *arguments: str, calls: tuple[str, ...] = CHANGING, inject: str = "", input: str = ""
) -> Traced:
    """Run the program with these calls logged and, if that is said, a fault injected as strace's option tells it."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        wanted = ",".join(f"?{one}" for one in calls)
        options = ["-y", "-qq", "-s", "32", "-o", str(log), "-e", f"trace={wanted}"]
        if inject:
            options += ["-e", f"inject={inject}"]
        run = subprocess.run(
            ["strace", *options, *program.command(*arguments)],
            input=input.encode(),
            capture_output=True,
            env={**os.environ, **_SAME_EACH_TIME, "EVTOOL_HOME": str(program.home)},
            timeout=60,
            check=False,
        )
        return Traced(Result(run.returncode, run.stdout, run.stderr), log.read_text())


def parse(log: str) -> list[Call]:
    """All calls of a log, each with its number among those of its name."""
    counts: dict[str, int] = {}
    calls = []
    for text in log.splitlines():
        if match := re.match(r"([a-z0-9_]+)\((.*)", text):
            counts[match[1]] = counts.get(match[1], 0) + 1
            calls.append(Call(match[1], counts[match[1]], match[2]))
    return calls


def changes(calls: list[Call], home: Path) -> list[Call]:
    """Those of the calls that change something in a home, or lock it, or say something on standard output."""
    return [one for one in calls if _is_change(one, str(home))]


def _is_change(call: Call, home: str) -> bool:
    if call.name == "openat":
        return home in call.text and "O_CREAT" in call.text
    return home in call.text or (call.name in ("write", "sendfile") and call.text.startswith("1<"))

"""What the doctor finds on a home, as tests ask it, and the command that it names, run as a shell does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import evtool as api
from tests.program import Program, Result, finish

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
Finding = dict[str, str]


def doctor(evtool: Program, *arguments: str, **options: Any) -> Result:
    """Run it where, unless the options say otherwise, nothing of ours is installed."""
    environment = {"PATH": _without_evtool(os.environ["PATH"])} | options.pop("env", {})
    return evtool("doctor", *arguments, env=environment, **options)


def _without_evtool(path: str) -> str:
    return ":".join(one for one in path.split(":") if not os.path.exists(f"{one}/evtool"))


def findings(evtool: Program, **options: Any) -> list[Finding]:
    """What the doctor finds; its exit code must be 1 if one of that is a problem."""
    result = doctor(evtool, "--json", "--quiet", **options)
    assert result.err == ""
    found = result.events
    assert result.code == any(one["severity"] == "problem" for one in found), result
    return found


def finding(evtool: Program, **options: Any) -> Finding:
    """The one thing that it finds."""
    (found,) = findings(evtool, **options)
    return found


def mend(evtool: Program, found: Finding, *more: str, **options: Any) -> None:
    """Run the command that was named, as a shell does."""
    program = evtool.home.parent / "bin" / "evtool"
    if not program.exists():
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evtool "$@"\n')
        program.chmod(0o755)
    environment = evtool.environment(options)
    environment |= {"PATH": f"{program.parent}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    command = ["sh", "-c", " ".join([found["mend"], *more])]
    result = finish(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **options))
    assert result.code == 0, result


def segments_of(evtool: Program, topic: str, *settings: str, count: int = 10) -> None:
    """A topic of some small segments."""
    assert evtool("create", topic, "segment-bytes=200", *settings).code == 0
    with api.open(evtool.home) as home:
        for number in range(count):
            home.topic(topic).append(number)
    assert len(evtool.segments(topic)) > 2


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on a file, as another process would see it."""
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def text_of(path: Path) -> str:
    """What a file has, nothing if there is none."""
    return path.read_text() if path.exists() else ""

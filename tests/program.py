"""The real program as tests run it, and how they wait for something: for the condition, never for a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 30.0  # seconds after which a condition has failed; no test takes as long as that if all is well


class Result:
    """What a run of the program left: its exit code (minus N if signal N ended it), output and error output."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """The lines of the output."""
        return self.out.split("\n")[:-1]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of the output as parsed events."""
        return [json.loads(line) for line in self.lines]

    def __repr__(self) -> str:
        return f"Result({self.code}, out={self.out[-2000:]!r}, err={self.err[-2000:]!r})"


class Program:
    """Runs evtool on one home. Input and arguments may be text or bytes."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str | bytes, input: str | bytes = b"", **options: Any) -> Result:
        """Run to the end, with this on standard input."""
        data = input.encode() if isinstance(input, str) else input
        run = subprocess.run(
            self.command(*arguments),
            input=data,
            capture_output=True,
            env=self.environment(options),
            timeout=120,
            **options,
        )
        return Result(run.returncode, run.stdout, run.stderr)

    def start(self, *arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        """Start it, with pipes for all three streams, and return at once."""
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        environment = self.environment(streams)
        return subprocess.Popen(self.command(*arguments), env=environment, **streams)

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        """The command line."""
        return [sys.executable, "-m", "evtool", *arguments]

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        """The environment of a run; takes the `env` that is to be added out of the options."""
        return {**os.environ, "EVTOOL_HOME": str(self.home), **options.pop("env", {})}

    def topic(self, name: str) -> Path:
        """The directory of a topic."""
        return self.home / "topics" / name

    def segments(self, name: str) -> list[Path]:
        """The segments of a topic, in order."""
        return sorted(self.topic(name).glob("*.jsonl"))

    def log(self, name: str) -> bytes:
        """All bytes of a topic's segments."""
        return b"".join(path.read_bytes() for path in self.segments(name))


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as the condition holds; fail if it does not in a long time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what or condition}"
        time.sleep(0.002)


def finish(process: subprocess.Popen[bytes], timeout: float = PATIENCE) -> Result:
    """Close the input of a process, wait for its end and return what it left."""
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)

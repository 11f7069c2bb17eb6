"""The real program while it runs: what it has written so far, whether it waits, and what it costs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.program import PATIENCE, Program, Result, wait_until

if TYPE_CHECKING:
    from types import TracebackType

linux = pytest.mark.skipif(not Path("/proc/self/fdinfo").exists(), reason="looks into /proc")


class Running:
    """The program while it runs, to be used in a `with`: its output goes to files, so that nothing waits for us.

    code: a Python program that takes the place of `-m evtool`. The other options are those of Popen.
    """

    def __init__(self, program: Program, *arguments: str, code: str | None = None, **options: Any) -> None:
        self._files = [self._new_file(program.home.parent, name) for name in ("out", "err")]
        streams = {"stdin": subprocess.DEVNULL, "stdout": self._files[0], "stderr": self._files[1]}
        command = program.command(*arguments) if code is None else [sys.executable, "-c", code, *arguments]
        environment = program.environment(options)
        self.process = subprocess.Popen(command, env=environment, preexec_fn=_heed_sigint, **(streams | options))

    @staticmethod
    def _new_file(directory: Path, name: str) -> Any:
        number = len(list(directory.glob(f"{name}.*")))
        return (directory / f"{name}.{number}").open("w+b", buffering=0)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in self._files:
            file.close()

    @property
    def out(self) -> str:
        """All that it has written so far."""
        return Path(self._files[0].name).read_text()

    @property
    def err(self) -> str:
        """All that it has complained of so far."""
        return Path(self._files[1].name).read_text()

    @property
    def is_waiting(self) -> bool:
        """Whether it has come to the end of what there is and watches a directory for more."""
        return self.watchers > 0

    @property
    def watchers(self) -> int:
        """How many of its threads watch directories; each has an inotify descriptor of its own."""
        found = 0
        for path in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += "inotify wd:" in path.read_text()
        return found

    def await_out(self, text: str) -> None:
        """Wait until just this was written."""
        try:
            wait_until(lambda: len(self.out) >= len(text) or self.process.poll() is not None)
        finally:
            assert self.out == text, (self.process.poll(), self.err)

    def await_err(self, text: str) -> None:
        """Wait until just this was complained of."""
        wait_until(lambda: len(self.err) >= len(text) or self.process.poll() is not None, text)
        assert self.err == text

    def await_waiting(self) -> None:
        """Wait until it waits for more, after which nothing is missed."""
        wait_until(lambda: self.is_waiting or self.process.poll() is not None, "the follower to wait")
        assert self.process.poll() is None, self.err

    def end(self, number: int | None = None) -> Result:
        """Send it a signal, if one is given, and wait for its end."""
        if number is not None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE)
        return Result(self.process.returncode, self.out.encode(), self.err.encode())


def switches(pid: int) -> int:
    """How often a process has gone to sleep so far, that is to say how often it was awake."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError("the system does not tell")


def cpu_seconds(pid: int) -> float:
    """The processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _heed_sigint() -> None:
    """A process started in the background may have been told to ignore Ctrl-C, and would hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""Programs that lose their patience soon, and many of them at a time: what tests of servers that are gone share."""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.nats.program import NatsProgram
from tests.program import PATIENCE as END_SECONDS
from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.program import Program, Result

PATIENCE = 0.5  # seconds
# What takes the place of `-m evtool`: it waits for an answer not for 30 s, and says after a moment that it waits.
HASTY = f"""
from evtool.stores.nats import connection
begin = connection.Connection.__init__
def begin_hastily(self, *said, **more):
    begin(self, *said, **more)
    self.patience = {PATIENCE}
connection.Connection.__init__ = begin_hastily
connection._TELL_SECONDS = 0.2
from evtool.__main__ import main
main()
"""
WAITS, GOES_ON = "no server answers; trying again", "the server answers again"
FILES_ONLY = {"repair", "compact", "doctor"}
# At least one of each command that asks a server; URL stands for the store's, FILES for a directory with a log.
EVERY_COMMAND = [
    ["append", "t", "1"],
    ["append", "t", "1", "2", "--atomic", "--expect-offset=1"],
    ["tail", "t"],
    ["tail", "-f", "t", "u*"],
    ["replay", "t"],
    ["subscribe", "t"],
    ["subscribe", "t", "--", "true"],
    ["subscribe", "t", "-g", "g", "--drain"],
    ["subscribe", "t", "-g", "g", "--", "true"],
    ["subscribe", "t", "-g", "g", "--worker", "--", "cat"],
    ["subscribe", "t", "-g", "g", "--share", "--", "true"],
    ["subscribe", "t", "-g", "g", "--manual"],
    ["fanout", "t", "--to", "topic:u", "--drain"],
    ["fanout", "t", "--to", "exec:cat", "--to", "topic:u"],
    ["mirror", "URL", "FILES"],
    ["mirror", "URL", "FILES", "-f"],
    ["topics"],
    ["groups", "t"],
    ["commit", "t", "-g", "g"],
    ["seek", "t", "-g", "g", "--to", "0"],
    ["dead", "t"],
    ["redrive", "t", "--all"],
    ["create", "t"],
    ["set", "t", "max-age=1d"],
    ["rm", "t", "--yes"],
    ["trim", "t"],
    ["verify", "t"],
    ["state", "t"],
    ["diff", "t", "0"],
]


class Hasty(NatsProgram):
    """The real program, with less patience than it has."""

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        """The command line."""
        return [sys.executable, "-c", HASTY, *arguments]


def run_all(
    evtool: NatsProgram, commands: Iterable[list[str]], at_once: int = 4
) -> list[tuple[list[str], Result, float]]:
    """Run these, so many at once; each with what it left, and how many seconds it took."""

    def run(command: list[str]) -> tuple[list[str], Result, float]:
        began = time.monotonic()
        result = evtool(*said(evtool, command))
        return command, result, time.monotonic() - began

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, commands))


def said(evtool: NatsProgram, command: list[str]) -> list[str]:
    """The command with the store's URL and a directory in their places."""
    places = {"URL": evtool.url, "FILES": f"file:{evtool.home}-files"}
    return [places.get(one, one) for one in command]


def heed_sigint() -> None:
    """For `preexec_fn`: what starts the tests may have been told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Held(Running):
    """One whose output nobody takes for now, so that it stands in the midst of its work.

    lines: its input, of which it gets `some` at first.
    """

    def __init__(self, program: Program, *arguments: str, lines: Iterable[str] = (), some: int = 0) -> None:
        super().__init__(program, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lines = iter(lines)
        self._out = b""
        self._write(some)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _write(self, count: int | None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(itertools.islice(self._lines, count)).encode())
        self.process.stdin.flush()

    @property
    def has_begun(self) -> bool:
        """Whether it has given out something."""
        assert self.process.stdout is not None
        if not self._out and select.select([self.process.stdout], [], [], 0)[0]:
            self._out = os.read(self.process.stdout.fileno(), 1)
        return bool(self._out)

    def finish(self) -> str:
        """Give it the rest, and take what it has; it must end well."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(self.process.stdout.read)
            self._write(None)
            self.process.stdin.close()
            self._out += rest.result(END_SECONDS)
        assert (self.process.wait(END_SECONDS), self.err.count("\n") <= 1) == (0, True), self.err
        return self._out.decode()


class Follower(Running):
    """One that follows. file: where its output is, if not on standard output."""

    def __init__(self, program: Program, *arguments: str, file: Path | None = None) -> None:
        super().__init__(program, *arguments)
        self._file = file

    def __enter__(self) -> Follower:
        return self

    @property
    def given(self) -> str:
        """All that it has given out."""
        return self.out if self._file is None else self._file.read_text() if self._file.exists() else ""

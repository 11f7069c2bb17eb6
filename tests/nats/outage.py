"""Programs that lose their patience soon, and many of them at a time: what tests of servers that are gone share."""

from __future__ import annotations

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.nats.program import NatsProgram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.program import Result

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

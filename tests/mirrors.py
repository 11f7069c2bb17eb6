"""Mirrors as tests run, kill and audit them: the destination must have what the source has, each once and in order."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.program import Program, Result

MARKS = ("origin", "origoffset", "origtime", "via")
KILL_AFTER = """
import os, signal, sys
from evtool.delivery import storesink

left = int(sys.argv.pop(1))
store = storesink.StoreSink._store

def store_and_die(self, part):
    global left
    left -= 1
    store(self, part)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

storesink.StoreSink._store = store_and_die
storesink.BLOCK = 1 << 12
"""
SMALL_BLOCKS = """
from evtool.delivery import mirror
mirror.BLOCK = 1 << 12
"""
# The negative control: what was committed is believed, and the destination is not looked at.
BLIND = """
from evtool.delivery import storesink
storesink.missing_from = lambda source, destination, way, position: position
"""
# Another one: messages have the ids that they have if nobody gives them any, so that the server knows none.
NO_TOKENS = """
from evtool.stores.nats.writer import NatsWriter
append = NatsWriter.append
NatsWriter.append = lambda self, bodies, common=b"", *, tokens: append(self, bodies, common)
"""
MAIN = """
from evtool.__main__ import main
main()
"""


def events(program: Program, topic: str = "t", store: str | Path | None = None, *options: str) -> list[dict[str, Any]]:
    """All events of a topic, wherever it is."""
    where = [] if store is None else ["--store", str(store)]
    result = program("replay", topic, *where, *options)
    assert result.code == 0, result
    return result.events


def rows(result: Result) -> list[dict[str, Any]]:
    """What a mirror says at its end, by `--json`."""
    return [json.loads(line) for line in result.lines]


def without_marks(event: dict[str, Any]) -> dict[str, Any]:
    """What a producer has said in an event."""
    return {name: value for name, value in event.items() if name not in (*MARKS, "offset", "time", "crc")}


def arrivals(found: list[dict[str, Any]], origin: str | None = None) -> list[int]:
    """The offsets that events (those of one origin) had where they come from, in the order of the destination."""
    return [int(one["origoffset"]) for one in found if "origoffset" in one and origin in (None, one["origin"])]


def check_same(source: list[dict[str, Any]], destination: list[dict[str, Any]]) -> None:
    """Every event of the source is there once, in order, with all that its producer said, and nothing else is."""
    assert arrivals(destination) == [one["offset"] for one in source]
    for ours, theirs in zip(source, destination, strict=True):
        assert without_marks(theirs) == without_marks(ours)
        assert theirs["origtime"] == ours["time"]


SLOWLY = """
import sys, time
for number in range(int(sys.argv[1])):
    print(number)
    if number % 100 == 99:
        sys.stdout.flush()
        time.sleep(0.005)
"""


@contextlib.contextmanager
def producing(program: Program, count: int, topic: str = "t") -> Iterator[subprocess.Popen[bytes]]:
    """Append so many numbers, a hundred each five milliseconds at most; gives the process that does so."""
    with (
        subprocess.Popen([sys.executable, "-c", SLOWLY, str(count)], stdout=subprocess.PIPE) as numbers,
        program.start("append", topic, stdin=numbers.stdout) as process,
    ):
        assert numbers.stdout is not None
        numbers.stdout.close()
        yield process

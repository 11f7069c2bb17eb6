"""The newest event of each key: shown by `state`, and left by `compact` while others append."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import waits
from tests.bench.measure import Row, compare, milliseconds, rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Bench

_LEAST_RATE = 300e3
_MOST_MEMORY = 300e6
_LONGEST_WAIT = 0.050
_PAUSE = 0.001  # between two appends, so that they fill neither a segment nor a processor
_NOTHING = Path("/dev/null")
_NEWEST = """
import sys, orjson
newest = {}
for path in sys.argv[1:]:
    with open(path, "rb") as lines:
        for line in lines:
            newest[orjson.loads(line)["key"]] = line
sys.stdout.buffer.writelines(newest.values())
"""
_KEYS = """
import sys, time
from evtool.log.keys import Keys
count = int(sys.argv[1])
seen = Keys()
for first in range(0, count, 10_000):
    if seen.look([b'"user-%d"' % number for number in range(first, first + 10_000)]).count(1) != 10_000:
        sys.exit("a new key was taken for an old one")
if seen.modulus > 1:
    sys.exit("not all keys had a place at once")
"""


def rows(bench: Bench, home: Path, segments: list[Path], count: int, keys: int) -> Iterator[Row]:
    """Of a topic with so many events of so many keys, which stays as it is. What takes ten seconds is done once."""
    work = f"{count:,} events, {keys:,} keys"
    simple, size = bench.drained([bench.python, "-c", _NEWEST, *segments])
    theirs = f"newest[orjson.loads(line)['key']] = line {rate(count / simple)}"
    seconds = _shown(bench, home, size)
    yield compare(f"state of {work}", rate(count / seconds), theirs, seconds / simple)
    seconds, peak = _compacted(bench, home, size)
    speed, ratio = count / seconds, round(seconds / simple, 2)
    yield Row(f"compact {work}", rate(speed), theirs, ratio, f"≥ {rate(_LEAST_RATE)}", speed >= _LEAST_RATE)
    yield Row(f"compact {work}, peak memory", f"{peak / 1e6:.0f} MB", "")
    yield _known(bench)
    for sync in ("never", "always"):
        yield _beside(bench, home, sync)
    shutil.rmtree(bench.path("compacted"))


def _shown(bench: Bench, home: Path, size: int) -> float:
    """How long it takes to show the state, which has so many bytes."""
    seconds, shown = bench.drained([bench.evtool, "state", "t"], home=home)
    if shown != size:
        raise RuntimeError(f"the state has {shown} bytes, and should have {size}")
    return seconds


def _compacted(bench: Bench, home: Path, size: int) -> tuple[float, int]:
    """How long a compaction takes, and how many bytes of memory."""
    other = _copy(bench, home)
    start = time.perf_counter()
    peak = bench.peak_memory(_compact(bench), home=other, input=_NOTHING)
    seconds = time.perf_counter() - start
    _shown(bench, other, size)
    return seconds, peak


def _compact(bench: Bench) -> list[str]:
    return [bench.evtool, "compact", "t", "-y", "-q"]


def _copy(bench: Bench, home: Path) -> Path:
    """The same topic once more, to be compacted. On disk."""
    other = bench.path("compacted")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(home, other)
    os.sync()
    return other


def _known(bench: Bench) -> Row:
    """The keys that a compaction remembers, which are as many as the topic has, without the topic."""
    count = bench.pick(10_000_000, 2_500_000)
    peak = bench.peak_memory([bench.python, "-c", _KEYS, str(count)], home=bench.home("keys"), input=_NOTHING)
    goal = f"< {_MOST_MEMORY / 1e6:g} MB"
    work = f"{count:,} keys in the memory of a compaction, peak memory"
    return Row(work, f"{peak / 1e6:.0f} MB", "", None, goal, peak < _MOST_MEMORY)


def _beside(bench: Bench, home: Path, sync: str) -> Row:
    """The longest append of another process while a compaction goes on, and while nothing does."""
    other = _copy(bench, home)
    took: list[float] = []
    longest = waits.longest(
        bench, other, sync, lambda: took.append(bench.seconds(_compact(bench), home=other)), pause=_PAUSE
    )
    alone = waits.longest(bench, other, sync, lambda: time.sleep(took[0]), pause=_PAUSE)
    return Row(
        f"the longest append of another process, sync={sync}, beside a compaction of {took[0]:.0f} s",
        milliseconds(longest),
        f"without one {milliseconds(alone)}",
        None,
        f"< {milliseconds(_LONGEST_WAIT)}",
        longest < _LONGEST_WAIT,
    )

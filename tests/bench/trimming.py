"""Many segments trimmed away, while others append and while nobody does."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evtool.log import files, line, names, retention, sealing
from tests.bench import corpus, waits
from tests.bench.measure import Row, compare, in_turn, milliseconds, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Bench

_SEGMENTS = 1000
_EVENTS_A_SEGMENT = 500
_WORK = f"trim of {_SEGMENTS:,} segments"
_MOST, _LONGEST_WAIT = 0.050, 0.020
_APPENDERS = 2
_AROUND = 0.1  # seconds in which they append before and after
_MEMORY = Path("/dev/shm")  # where removing a file costs next to nothing


def rows(bench: Bench) -> Iterator[Row]:
    """Of small segments: how long the system takes to remove a large file is not evtool's."""
    home = bench.home("trimming")
    _write_segments(home)
    yield from _alone(bench, home)
    yield _in_memory(bench, home)
    yield _beside(bench, home)
    bench.home("trimming")


def _write_segments(home: Path) -> None:
    """A topic of sealed segments, each with its seal, and one active segment. On disk."""
    directory = home / "topics" / "t"
    directory.mkdir(mode=0o700, parents=True)
    directory.parent.chmod(0o700)
    moment = line.stamp(time.time_ns())
    for number in range(_SEGMENTS + 1):
        first = number * _EVENTS_A_SEGMENT
        bodies = [corpus.order(first + index) for index in range(_EVENTS_A_SEGMENT)]
        path = directory / names.segment_name(first)
        path.write_bytes(line.render(first, moment, b"", bodies, 0))
        path.chmod(0o444 if number < _SEGMENTS else 0o600)
    sealing.seal_all(_open(home))
    os.sync()


def _open(home: Path) -> files.Directory:
    return files.open_home(str(home), create=False).subdirectory("topics").subdirectory("t")


def _copy(home: Path, other: Path) -> Path:
    """The same once more, to be trimmed. On disk."""
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(home, other)
    os.sync()
    return other


def _trim(home: Path) -> float:
    """How long it takes to remove all sealed segments."""
    topic = _open(home)
    start = time.perf_counter()
    found = retention.trim(topic, _SEGMENTS * _EVENTS_A_SEGMENT)
    taken = time.perf_counter() - start
    if found.segments != _SEGMENTS:
        raise RuntimeError(f"{found.segments} segments were removed, and not {_SEGMENTS}")
    return taken


def _alone(bench: Bench, home: Path) -> Iterator[Row]:
    other = bench.path("trimmed")
    command = [bench.evtool, "trim", "t", "--before", "latest", "-y", "-q"]
    jobs = {
        "trim": lambda: _trim(_copy(home, other)),
        "unlink": lambda: _unlink(_copy(home, other)),
        "whole": lambda: bench.seconds(command, home=_copy(home, other)),
        "bare": lambda: bench.seconds(bench.bare),
    }
    median = in_turn(jobs, bench.pick(7, 3))
    yield _judged(_WORK, median)
    bare = f"bare start {milliseconds(median['bare'])}"
    yield compare(f"{_WORK}, the whole command", milliseconds(median["whole"]), bare, median["whole"] / median["bare"])


def _in_memory(bench: Bench, home: Path) -> Row:
    """The same where no disk takes part, so that what is left is what evtool does."""
    work = f"{_WORK}, in memory"
    if not os.access(_MEMORY, os.W_OK):
        return skipped(work, f"no {_MEMORY}")
    with tempfile.TemporaryDirectory(prefix="evtool-bench-", dir=_MEMORY) as directory:
        other = Path(directory, "trimmed")
        jobs = {"trim": lambda: _trim(_copy(home, other)), "unlink": lambda: _unlink(_copy(home, other))}
        return _judged(work, in_turn(jobs, bench.pick(7, 3)))


def _judged(work: str, median: dict[str, float]) -> Row:
    taken, least = median["trim"], median["unlink"]
    beside = f"unlink, fsync {milliseconds(least)}"
    return Row(work, milliseconds(taken), beside, round(taken / least, 2), f"< {milliseconds(_MOST)}", taken < _MOST)


def _unlink(home: Path) -> float:
    """How long it takes to remove the same files without asking whether that is right."""
    topic = _open(home)
    firsts = range(0, _SEGMENTS * _EVENTS_A_SEGMENT, _EVENTS_A_SEGMENT)
    start = time.perf_counter()
    for first in firsts:
        os.unlink(names.segment_name(first), dir_fd=topic.fd)
    os.fsync(topic.fd)
    return time.perf_counter() - start


def _beside(bench: Bench, home: Path) -> Row:
    """The longest append of others while a trim goes on, and for as long without one."""

    def trim() -> None:
        time.sleep(_AROUND)
        _trim(other)
        time.sleep(_AROUND)

    other = bench.path("trimmed")
    longest: dict[str, float] = {"with": 0.0, "without": 0.0}
    for _ in range(bench.pick(7, 3)):
        _copy(home, other)
        wait = waits.longest(bench, other, "never", trim, crowd=_APPENDERS)
        longest["with"] = max(longest["with"], wait)
        wait = waits.longest(bench, other, "never", lambda: time.sleep(2 * _AROUND + _MOST), crowd=_APPENDERS)
        longest["without"] = max(longest["without"], wait)
    shutil.rmtree(other)
    return Row(
        f"the longest append of {_APPENDERS} processes, sync=never, beside a {_WORK}",
        milliseconds(longest["with"]),
        f"without a trim {milliseconds(longest['without'])}",
        None,
        f"< {milliseconds(_LONGEST_WAIT)}",
        longest["with"] < _LONGEST_WAIT,
    )

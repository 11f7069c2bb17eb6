"""Many producers at once on one topic: how much they store together, and how long one of them waits at worst."""

from __future__ import annotations

import json
import statistics
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.measure import ROOT, Row, compare, milliseconds, rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Bench

_MANY = 8
_LONGEST_WAIT = 0.1
_NOISE = 0.95  # a rate may seem to fall by so much though it does not


class Figures(NamedTuple):
    """What some processes did together: events a second, and the longest that one event took."""

    rate: float
    longest: float


def rows(bench: Bench) -> Iterator[Row]:
    yield from _unsynced(bench)
    yield from _synced(bench)


def _unsynced(bench: Bench) -> Iterator[Row]:
    rounds: dict[str, list[Figures]] = {"api": [], "bare": []}
    for _ in range(bench.pick(7, 3)):
        for kind, figures in rounds.items():
            figures.append(_contend(bench, kind, _MANY, "never"))
    ours, theirs = (_median_rate(rounds[kind]) for kind in ("api", "bare"))
    worst, their_worst = (max(one.longest for one in rounds[kind]) for kind in ("api", "bare"))
    work = f'{_MANY} processes append by the Python API, sync="never"'
    reference = f"{_MANY} processes with bare flock and write"
    yield compare(work, rate(ours), f"{reference} {rate(theirs)}", theirs / ours, at_most=2)
    yield Row(
        f"{work}, longest wait",
        milliseconds(worst),
        f"{reference} {milliseconds(their_worst)}",
        round(worst / their_worst, 2),
        f"< {milliseconds(_LONGEST_WAIT)}",
        worst < _LONGEST_WAIT,
    )


def _synced(bench: Bench) -> Iterator[Row]:
    """The rate must rise with the number of producers, which it does only if one sync serves several of them."""
    counts = (1, 2, 4, _MANY)
    rounds: dict[int, list[Figures]] = {count: [] for count in counts}
    bare: list[Figures] = []
    for _ in range(bench.pick(5, 3)):
        for count in counts:
            rounds[count].append(_contend(bench, "api", count, "always"))
        bare.append(_contend(bench, "bare", _MANY, "always"))
    rates = [_median_rate(rounds[count]) for count in counts]
    rises = rates[-1] > rates[0] and all(
        after > before * _NOISE for before, after in zip(rates, rates[1:], strict=False)
    )
    for count, each in zip(counts[1:-1], rates[1:-1], strict=True):
        yield _synced_row(count, each, rates[0])
    last = _synced_row(_MANY, rates[-1], rates[0])
    yield Row(last.work, last.ours, last.reference, last.ratio, "rises with producers", rises)
    theirs = _median_rate(bare)
    reference = f"{_MANY} processes with bare flock, write, fdatasync {rate(theirs)}"
    yield compare(last.work, last.ours, reference, theirs / rates[-1])


def _synced_row(count: int, ours: float, alone: float) -> Row:
    work = f'{count} processes append by the Python API, sync="always"'
    return compare(work, rate(ours), f"1 process {rate(alone)}", ours / alone)


def _median_rate(rounds: list[Figures]) -> float:
    return statistics.median(one.rate for one in rounds)


def _contend(bench: Bench, kind: str, count: int, sync: str) -> Figures:
    """Let so many processes store for a while, all at the same time, into one new topic."""
    home = bench.home("contention")
    seconds = "0.4" if bench.quick else "1"
    command = [bench.python, "-m", "tests.bench.workers", "contend", kind, str(home), seconds, sync]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=bench.environment, cwd=ROOT
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(command)}: did not come up")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [json.loads(process.communicate()[0]) for process in processes]
    together = sum(one["count"] / one["seconds"] for one in found)
    return Figures(together, max(one["longest"] for one in found))

"""A whole topic into a pipe, and one event out of the middle of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evtool.log import line
from tests.bench import corpus
from tests.bench.measure import Row, compare, in_turn, megabytes, milliseconds, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bench.measure import Bench


def rows(bench: Bench) -> Iterator[Row]:
    home = bench.home("replay")
    count = bench.pick(2_500_000, 500_000)
    segments = corpus.write_topic(home, "t", count, corpus.order)
    yield _whole(bench, home, segments)
    yield _one(bench, home, segments)
    bench.home("replay")


def _whole(bench: Bench, home: Path, segments: list[Path]) -> Row:
    size = corpus.size_of(segments)

    def job(*command: str | Path) -> Callable[[], float]:
        def once() -> float:
            seconds, came = bench.drained(command, home=home)
            if came != size:
                raise RuntimeError(f"{command[0]}: {came} bytes came of {size}")
            return seconds

        return once

    jobs = {"ours": job(bench.evtool, "replay", "t"), "cat": job("cat", *segments)}
    median = in_turn(jobs, bench.pick(15, 7))
    return compare(
        f"replay a topic of {megabytes(size)} into a pipe",
        milliseconds(median["ours"]),
        f"cat of its segments {milliseconds(median['cat'])}, {rate(size / median['cat'], 'B')}",
        median["ours"] / median["cat"],
        at_most=1.1,
    )


def _one(bench: Bench, home: Path, segments: list[Path]) -> Row:
    wanted, moment = _middle(segments[len(segments) // 2])
    command = [bench.evtool, "replay", "t", "--from", moment, "--count", "1"]
    if (found := bench.output(command, home=home)) != wanted:
        raise RuntimeError(f"asked for the first event of {moment}, got {found!r}, not {wanted!r}")
    jobs = {"ours": lambda: bench.seconds(command, home=home), "bare": lambda: bench.seconds(bench.bare)}
    median = in_turn(jobs, bench.pick(60, 15))
    return compare(
        "replay --from TIME --count 1 in it",
        milliseconds(median["ours"]),
        f"bare start {milliseconds(median['bare'])}",
        median["ours"] / median["bare"],
        at_most=1.8,
    )


def _middle(segment: Path) -> tuple[bytes, str]:
    """The first event of some time near the middle of a segment, and that time."""
    with segment.open("rb") as file:
        file.seek(segment.stat().st_size // 2)
        file.readline()
        before = line.time_of(file.readline())
        for text in file:
            if line.time_of(text) != before:
                return text, line.time_of(text).decode()
    raise RuntimeError(f"{segment}: one time from the middle to the end")

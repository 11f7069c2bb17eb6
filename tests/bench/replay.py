"""A whole topic read back, one event of it found, and the events of one key picked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import corpus
from tests.bench.measure import Row, compare, in_turn, megabytes, milliseconds, rate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench

_BYTES_AN_EVENT = 132
_KEY = "u000123"


def rows(bench: Bench) -> Iterator[Row]:
    count = bench.pick(2_500_000, 1_000_000)
    bench.need_space(count * _BYTES_AN_EVENT)
    home = bench.home("replay")
    segments = corpus.write_topic(home, "t", count, corpus.order)
    yield _whole(bench, home, segments)
    yield _found(bench, home, segments)
    yield _filtered(bench, home, segments, count)
    bench.home("replay")


def _whole(bench: Bench, home: Path, segments: list[Path]) -> Row:
    """The whole topic into a pipe, beside `cat` of the same files."""
    size = corpus.size_of(segments)

    def replay() -> float:
        seconds, count = bench.drained([bench.evtool, "replay", "t"], home=home)
        if count != size:
            raise RuntimeError(f"{size} bytes are stored, and {count} came out")
        return seconds

    median = in_turn({"ours": replay, "cat": lambda: bench.drained(["cat", *segments])[0]}, bench.pick(9, 3))
    ours, theirs = (rate(size / median[name], "B") for name in ("ours", "cat"))
    return compare(
        f"replay {megabytes(size)} into a pipe", ours, f"cat {theirs}", median["ours"] / median["cat"], at_most=1.1
    )


def _found(bench: Bench, home: Path, segments: list[Path]) -> Row:
    """The first event at or after a moment in the middle of the topic."""
    with segments[len(segments) // 2].open("rb") as file:
        moment = file.readline().split(b'"')[5].decode()
    jobs = {
        "bare": lambda: bench.seconds(bench.bare),
        "ours": lambda: bench.seconds([bench.evtool, "replay", "t", "--from", moment, "--count", "1"], home=home),
    }
    median = in_turn(jobs, bench.pick(40, 15))
    bare = f"bare start {milliseconds(median['bare'])}"
    work = f"replay --from TIME --count 1 in {megabytes(corpus.size_of(segments))}"
    return compare(work, milliseconds(median["ours"]), bare, median["ours"] / median["bare"], at_most=1.8)


def _filtered(bench: Bench, home: Path, segments: list[Path], count: int) -> Row:
    """The events of one key, beside what `grep -F` finds in the same files."""

    def ours() -> tuple[float, int]:
        return bench.drained([bench.evtool, "replay", "t", "--key", _KEY], home=home)

    def grep() -> tuple[float, int]:
        return bench.drained(["grep", "-h", "-F", f'"key":"{_KEY}"', *segments])

    if ours()[1] != grep()[1]:
        raise RuntimeError("--key and grep did not find the same")
    median = in_turn({"ours": lambda: ours()[0], "grep": lambda: grep()[0]}, bench.pick(7, 3))
    work = f"replay --key K of {count:,} events"
    theirs = f"grep -F {rate(count / median['grep'])}"
    return compare(work, rate(count / median["ours"]), theirs, median["ours"] / median["grep"], at_most=3)

"""An event with an id into a large topic where every event has one."""

from __future__ import annotations

from itertools import count as counter
from typing import TYPE_CHECKING

from tests.bench import corpus
from tests.bench.measure import Row, SkippedError, compare, in_turn, milliseconds, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench

_BYTES_PER_EVENT = 110  # in the log and in the cache of ids, rounded up


def rows(bench: Bench) -> Iterator[Row]:
    count = bench.pick(10_000_000, 500_000)
    work = f"append --id on a topic of {count:,} events"
    try:
        bench.need_space(count * _BYTES_PER_EVENT)
    except SkippedError as why:
        yield skipped(work, why)
        return
    home = bench.home("dedupe")
    corpus.write_topic(home, "t", count, corpus.with_id)
    yield from _rows(bench, home, count, work)
    bench.home("dedupe")


def _rows(bench: Bench, home: Path, count: int, work: str) -> Iterator[Row]:
    number = counter()

    def fresh() -> float:
        return bench.seconds([bench.evtool, "append", "t", "1", "--id", f"new-{next(number)}"], home=home)

    def known() -> float:
        return bench.seconds([bench.evtool, "append", "t", "1", "--id", "e%08d" % (count // 3)], home=home)

    first = fresh()
    _check_kept_out(bench, home, count // 3)
    jobs = {"fresh": fresh, "known": known, "bare": lambda: bench.seconds(bench.bare)}
    median = in_turn(jobs, bench.pick(40, 12))
    bare = f"bare start {milliseconds(median['bare'])}"
    for name, what in (("fresh", "a new id"), ("known", "an id that is there")):
        ratio = median[name] / median["bare"]
        yield compare(f"{work}, {what}", milliseconds(median[name]), bare, ratio, at_most=3)
    yield compare("the first of them, which makes the cache", milliseconds(first), bare, first / median["bare"])


def _check_kept_out(bench: Bench, home: Path, offset: int) -> None:
    """An event whose id is there is not stored, and the offset of the first one is the answer."""
    command = [bench.evtool, "append", "t", "1", "--id", f"e{offset:08d}", "--offsets"]
    if (answer := bench.output(command, home=home)) != b"%d\n" % offset:
        raise RuntimeError(f"an id was stored a second time: {answer!r}")

"""Deduplication: an event with an id, appended to a topic that holds millions of other ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import corpus
from tests.bench.measure import Row, compare, in_turn, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Bench

_BYTES_AN_EVENT = 150  # the cache of ids included


def rows(bench: Bench) -> Iterator[Row]:
    count = bench.pick(10_000_000, 300_000)
    bench.need_space(count * _BYTES_AN_EVENT)
    home = bench.home("dedupe")
    corpus.write_topic(home, "t", count, corpus.with_id)
    numbers = iter(range(count, 2 * count))

    def append(event_id: str) -> float:
        return bench.seconds([bench.evtool, "append", "t", '{"n":1}', "--id", event_id], home=home)

    first = append(f"e{next(numbers):08d}")  # makes the cache of ids
    jobs = {
        "bare": lambda: bench.seconds(bench.bare),
        "new": lambda: append(f"e{next(numbers):08d}"),
        "old": lambda: append(f"e{count // 3:08d}"),
    }
    median = in_turn(jobs, bench.pick(30, 10))
    _check_stored(bench, count)
    bare = f"bare start {milliseconds(median['bare'])}"
    work = f"append --id to {count:,} events with ids"
    for name, what in (("new", "a new id"), ("old", "an id that is there")):
        yield compare(f"{work}, {what}", milliseconds(median[name]), bare, median[name] / median["bare"], at_most=3)
    yield Row(f"{work}, the cache of ids not there yet", f"{first:.1f} s", "once, for whoever comes first")
    bench.home("dedupe")


def _check_stored(bench: Bench, count: int) -> None:
    """The event whose id was there is not stored again; nothing is left out that is new."""
    home = bench.path("dedupe")
    (end,) = bench.output([bench.evtool, "append", "t", "1", "--offsets"], home=home).split()
    runs = bench.pick(30, 10) + 1
    if int(end) != count + runs + 1:
        raise RuntimeError(f"{count + runs + 1} events should be stored, and {int(end)} are")

"""The housekeeping of a log: verify, state, compact, sealing, trim, doctor, and what it costs those who append."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import evtool
from evtool.log import files
from evtool.log.sealing import seal_all
from tests.bench import compaction, corpus, sealing, trimming, verification
from tests.bench.measure import Row, compare, in_turn, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench

_BYTES_AN_EVENT = 100
_EVENTS_A_KEY = 5
_TOPICS, _GROUPS_A_TOPIC = 20, 2


def rows(bench: Bench) -> Iterator[Row]:
    count = bench.pick(5_000_000, 1_400_000)
    bench.need_space(2 * count * _BYTES_AN_EVENT)
    home = bench.home("care")
    segments = _write_topic(home, count)
    yield from verification.rows(bench, home, segments)
    yield from compaction.rows(bench, home, segments, count, count // _EVENTS_A_KEY)
    bench.home("care")
    yield from sealing.rows(bench)
    yield from trimming.rows(bench)
    yield _examined(bench)


def _write_topic(home: Path, count: int) -> list[Path]:
    """A topic of events of about 100 bytes, their keys in no order. All but the last segment have their seals."""
    keys = count // _EVENTS_A_KEY

    def body(number: int) -> bytes:
        return b'"key":"k%07d","data":{"amount":%8.2f}' % (hash((number,)) % keys, number % 10_000 / 3)

    segments = corpus.write_topic(home, "t", count, body)
    seal_all(files.open_home(str(home), create=False).subdirectory("topics").subdirectory("t"))
    os.sync()
    return segments


def _examined(bench: Bench) -> Row:
    """The whole home looked at, which is full of small topics."""
    home = bench.home("doctor")
    opened = evtool.open(home)
    for number in range(_TOPICS):
        topic = opened.topic(f"t{number}")
        topic.append({"n": number})
        for group in range(_GROUPS_A_TOPIC):
            with topic.group(f"g{group}") as consumer:
                consumer.commit(0)
    jobs = {
        "bare": lambda: bench.seconds(bench.bare),
        "ours": lambda: bench.seconds([bench.evtool, "doctor", "-q"], home=home),
    }
    median = in_turn(jobs, bench.pick(15, 7))
    bench.home("doctor")
    work = f"doctor, {_TOPICS} topics and {_TOPICS * _GROUPS_A_TOPIC} groups"
    bare = f"bare start {milliseconds(median['bare'])}"
    return compare(work, milliseconds(median["ours"]), bare, median["ours"] / median["bare"])

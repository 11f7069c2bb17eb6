"""What the work is done on: events for standard input, and topics of any size written in the documented format."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from evtool.log import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT_BYTES = 69
SEGMENT_BYTES = 64 << 20
_BATCH = 5000
_SPAN = 20 * 3600 * 10**9  # a topic's events are of the last 20 hours, so that all are in the window for ids


def write_events(path: Path, count: int) -> None:
    """A file of events of 69 bytes each, newline included, and no two of them alike."""
    pattern = b'{"user":"u%06d","amount":%8.2f,"type":"order.paid","n":%d}\n'
    assert len(pattern % (1, 1.0, 1_000_000)) == EVENT_BYTES
    with path.open("wb") as file:
        for first in range(0, count, _BATCH):
            numbers = range(first, min(count, first + _BATCH))
            file.writelines(pattern % (n % 1000, n % 10_000 / 3, 1_000_000 + n) for n in numbers)


def order(number: int) -> bytes:
    """The body of an order by one of a thousand users."""
    values = (number % 1000, number % 10_000 / 3, number)
    return b'"key":"u%06d","type":"order.paid","data":{"amount":%.2f,"n":%d}' % values


def with_id(number: int) -> bytes:
    """The body of an event that has an id."""
    return b'"id":"e%08d","data":{"n":%d}' % (number, number)


def write_topic(home: Path, name: str, count: int, body: Callable[[int], bytes]) -> list[Path]:
    """A topic of `count` events as producers leave it: segments of 64 MiB, all sealed but the last. Not synced.

    Returns the segments.
    """
    directory = home / "topics" / name
    directory.mkdir(mode=0o700, parents=True)
    directory.parent.chmod(0o700)
    began = time.time_ns() - _SPAN
    step = _SPAN * 9 // 10 // count
    segments: list[Path] = []
    block = b""
    room = -1
    for first in range(0, count, _BATCH):
        bodies = [body(number) for number in range(first, min(count, first + _BATCH))]
        block = line.render(first, line.stamp(began + first * step), b"", bodies, 0)
        if len(block) > room:
            segments.append(directory / f"{first:020d}.jsonl")
            room = SEGMENT_BYTES
        with segments[-1].open("ab") as file:
            file.write(block)
        room -= len(block)
    for path in segments:
        path.chmod(0o600 if path == segments[-1] else 0o444)
    return segments


def size_of(segments: list[Path]) -> int:
    return sum(path.stat().st_size for path in segments)

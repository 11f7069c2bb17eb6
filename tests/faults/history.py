"""The one checker of histories: what producers were told and readers saw, held against what stands in the log.

It reads the files by itself, from the manual's description of them, and uses nothing of evtool.
"""

from __future__ import annotations

import binascii
import json
import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_LINE = re.compile(
    rb'\{"offset":(0|[1-9][0-9]*)'
    rb',"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"'
    rb'(?:,"crc":"([0-9a-f]{8})")?'
    rb'(?:,"[a-z][a-z0-9]{0,19}":"(?:[^"\\]|\\.)*")*'
    rb',"data":(.*)\}\n',
    re.DOTALL,
)


class Violation(AssertionError):
    """The history is not one that a log may have."""


class Stored(NamedTuple):
    """One line of the log."""

    offset: int
    time: bytes
    data: bytes
    line: bytes


class Producer:
    """What one producer sent, in order, and what it was told: the offsets that it got for the first of these events."""

    def __init__(self, sent: Iterable[str], told: str) -> None:
        self.sent = [one.encode() for one in sent]
        whole = told[: told.rfind("\n") + 1]  # a killed process may have been interrupted amid a number
        self.acknowledged = [int(one) for one in whole.split()]


def check(topic: Path, producers: Iterable[Producer]) -> list[Stored]:
    """Check a topic against what its producers know; return what is stored. Raises Violation."""
    producers = list(producers)
    stored = read(topic)
    _check_nothing_lost(stored, producers)
    _check_nothing_twice(stored)
    _check_nothing_invented(stored, producers)
    for producer in producers:
        _check_order(stored, producer)
    return stored


def read(topic: Path, *, torn_tail: bool = False) -> list[Stored]:
    """The lines of a topic, each of them right and all of them in order. `torn_tail`: allow a torn last line."""
    stored: list[Stored] = []
    paths = sorted(topic.glob("*.jsonl"))
    for path in paths:
        text = path.read_bytes()
        if torn_tail and path == paths[-1]:
            text = text[: text.rfind(b"\n") + 1]
        _check_name(path, stored)
        stored += _parse(path, text)
    _check_offsets(stored)
    _check_times(stored)
    return stored


def check_seen(stored: Sequence[Stored], seen: bytes) -> None:
    """Check that a reader saw whole lines, as they still stand in the log, one after the other, none left out."""
    if not seen:
        return
    if not seen.endswith(b"\n"):
        raise Violation(f"a torn line was given out: {seen[-80:]!r}")
    log = b"".join(one.line for one in stored)
    at = log.find(seen)
    if at < 0 or (at and log[at - 1 : at] != b"\n"):
        raise Violation("a reader saw what does not stand in the log, or not like that")


def check_handled(stored: Sequence[Stored], runs: Sequence[bytes], in_flight: int) -> None:
    """Check what the runs of a group's consumer handled, from the log's first event on to its last.

    No event may be left out; a run may repeat at most the last `in_flight` of those before.
    """
    following = 0
    for run in runs:
        check_seen(stored, run)
        offsets = [json.loads(one)["offset"] for one in run.split(b"\n")[:-1]]
        if not offsets:
            continue
        if offsets[0] > following:
            raise Violation(f"unhandled: offsets {following} to {offsets[0] - 1}")
        if offsets[0] < following - in_flight:
            raise Violation(f"{following - offsets[0]} events were repeated, but only {in_flight} were in flight")
        following = max(following, offsets[-1] + 1)
    if following != len(stored):
        raise Violation(f"unhandled: offsets {following} to {len(stored) - 1}")


def check_committed(committed: int | None, handled: bytes) -> None:
    """Check that a group has committed nothing that is not among the (whole) lines that were handled so far."""
    offsets = [json.loads(one)["offset"] for one in handled.split(b"\n")[:-1]]
    if (committed or 0) > max(offsets, default=-1) + 1:
        raise Violation(f"committed {committed}, but handled only what is before {max(offsets, default=-1) + 1}")


def _parse(path: Path, text: bytes) -> list[Stored]:
    lines = [one + b"\n" for one in text.split(b"\n")]
    if lines.pop() != b"\n":
        raise Violation(f"{path.name}: the last line is torn: {text[-80:]!r}")
    stored = []
    covered = 0
    for one in lines:
        match = _LINE.fullmatch(one)
        if match is None or not _is_json(one):
            raise Violation(f"{path.name}: no event: {one!r}")
        covered = _check_crc(path, one, match, covered)
        stored.append(Stored(int(match[1]), match[2], match[4], one))
    return stored


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _check_crc(path: Path, one: bytes, match: re.Match[bytes], before: int) -> int:
    """Check a line's crc, if it has one; return the checksum of what the next one covers as well."""
    if match[3] is None:
        return binascii.crc32(one, before)
    zeroed = one[: match.start(3)] + b"00000000" + one[match.end(3) :]
    if b"%08x" % binascii.crc32(zeroed, before) != match[3]:
        raise Violation(f"{path.name}: wrong crc: {one!r}")
    return 0


def _check_name(path: Path, before: list[Stored]) -> None:
    following = before[-1].offset + 1 if before else 0
    if path.name != f"{following:020d}.jsonl":
        raise Violation(f"{path.name} begins after offset {following - 1}")


def _check_offsets(stored: list[Stored]) -> None:
    for expected, one in enumerate(stored):
        if one.offset != expected:
            raise Violation(f"offset {one.offset} stands where {expected} should")


def _check_times(stored: list[Stored]) -> None:
    for earlier, later in pairwise(stored):
        if later.time < earlier.time:
            raise Violation(f"time falls at offset {later.offset}")


def _check_nothing_lost(stored: list[Stored], producers: list[Producer]) -> None:
    for producer in producers:
        for data, offset in zip(producer.sent, producer.acknowledged, strict=False):
            if offset >= len(stored):
                raise Violation(f"lost: offset {offset}, which was acknowledged for {data!r}")
            if stored[offset].data != data:
                raise Violation(f"lost: offset {offset} was acknowledged for {data!r}, and is {stored[offset].data!r}")


def _check_nothing_twice(stored: list[Stored]) -> None:
    for data, times in Counter(one.data for one in stored).items():
        if times > 1:
            raise Violation(f"stored {times} times: {data!r}")


def _check_nothing_invented(stored: list[Stored], producers: list[Producer]) -> None:
    for data in {one.data for one in stored}.difference(*(producer.sent for producer in producers)):
        raise Violation(f"nobody sent {data!r}")


def _check_order(stored: list[Stored], producer: Producer) -> None:
    place = {data: number for number, data in enumerate(producer.sent)}
    numbers = [place[one.data] for one in stored if one.data in place]
    if numbers != sorted(numbers):
        raise Violation("a producer's events stand in another order than it sent them")

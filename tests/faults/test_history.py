"""The checker of histories finds each anomaly in a history that was doctored to have it, and none in a good one."""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING

import pytest

from tests.faults import history
from tests.faults.history import Producer, Stored, Violation
from tests.topics import small_segments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.program import Program

EVENTS = {name: [f'{{"by":"{name}","n":{number}}}' for number in range(4)] for name in ("a", "b")}


@pytest.fixture
def topic(evtool: Program) -> Path:
    """A topic of two producers, in several segments."""
    small_segments(evtool, "t", 400)
    for number in range(0, 4, 2):
        for events in EVENTS.values():
            assert evtool("append", "t", *events[number : number + 2]).code == 0
    assert len(evtool.segments("t")) > 1
    return evtool.topic("t")


def producers() -> list[Producer]:
    """What the two were told."""
    return [Producer(EVENTS["a"], "0\n1\n4\n5\n"), Producer(EVENTS["b"], "2\n3\n6\n7\n")]


def doctor(topic: Path, change: Callable[[list[bytes]], list[bytes]], *, recount: bool = True) -> None:
    """Write the log anew, as one segment, with other lines. `recount`: give each of them a right crc."""
    lines = change([one.line for one in history.read(topic)])
    for path in topic.glob("*.jsonl"):
        path.unlink()
    (topic / f"{0:020d}.jsonl").write_bytes(b"".join(map(with_crc, lines) if recount else lines))


def with_crc(line: bytes) -> bytes:
    event = json.loads(line)
    event = {"offset": event["offset"], "time": event["time"], "crc": "0" * 8, "data": event["data"]}
    text = json.dumps(event, separators=(",", ":")).encode() + b"\n"
    return text.replace(b'"crc":"00000000"', b'"crc":"%08x"' % binascii.crc32(text), 1)


def renumbered(lines: list[bytes]) -> list[bytes]:
    return [json.dumps(json.loads(line) | {"offset": offset}).encode() for offset, line in enumerate(lines)]


def test_a_good_history_passes(topic: Path) -> None:
    stored = history.check(topic, producers())
    assert [one.offset for one in stored] == list(range(8))
    doctor(topic, list)
    assert len(history.check(topic, producers())) == 8


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: lines[:-1], "lost: offset 7"),
        (lambda lines: renumbered(lines[:3] + lines[4:]), "lost: offset [34]"),
        (lambda lines: lines[:3] + lines[4:], "offset 4 stands where 3 should"),
        (lambda lines: lines[:4] + lines[3:], "offset 3 stands where 4 should"),
        (lambda lines: renumbered([*lines, lines[0]]), "time falls at offset 8"),
        (lambda lines: [*lines, lines[7].replace(b'"offset":7', b'"offset":8')], "stored 2 times"),
        (lambda lines: [*lines, lines[7].replace(b'"offset":7', b'"offset":8').replace(b":3}", b":9}")], "nobody sent"),
        (lambda lines: [one.replace(b'"2', b'"3', 1) if b'"offset":3' in one else one for one in lines], "time falls"),
    ],
)
def test_an_anomaly_of_the_lines_is_found(topic: Path, change: Callable[[list[bytes]], list[bytes]], what: str) -> None:
    doctor(topic, change)
    with pytest.raises(Violation, match=what):
        history.check(topic, producers())


def test_another_order_of_one_producers_events_is_found(topic: Path) -> None:
    swapped = [EVENTS["a"][one] for one in (1, 0, 2, 3)]
    with pytest.raises(Violation, match="another order"):
        history.check(topic, [Producer(swapped, ""), producers()[1]])


@pytest.mark.parametrize("at", range(0, 240, 7))
def test_a_flipped_bit_is_found(topic: Path, at: int) -> None:
    path = min(topic.glob("*.jsonl"))
    path.chmod(0o600)
    text = bytearray(path.read_bytes())
    text[at] ^= 1
    path.write_bytes(text)
    with pytest.raises(Violation):
        history.check(topic, producers())


def test_lines_without_a_crc_are_covered_by_the_next_that_has_one(topic: Path) -> None:
    path = min(topic.glob("*.jsonl"))
    first, second, *_ = path.read_bytes().split(b"\n")
    assert b'"crc"' not in first
    assert b'"crc"' in second
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"n":0', b'"n":8', 1))
    with pytest.raises(Violation, match="wrong crc"):
        history.read(topic)


def test_a_torn_line_is_found(topic: Path) -> None:
    path = max(topic.glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Violation, match="torn"):
        history.read(topic)
    assert len(history.read(topic, torn_tail=True)) == 7


def test_a_lost_or_misnamed_segment_is_found(topic: Path) -> None:
    first, second, *_ = sorted(topic.glob("*.jsonl"))
    first.rename(topic / "aside")
    with pytest.raises(Violation, match="begins after"):
        history.read(topic)
    (topic / "aside").rename(first)
    second.rename(topic / f"{3:020d}.jsonl")
    with pytest.raises(Violation, match="begins after"):
        history.read(topic)


def test_what_a_reader_may_not_see_is_found(topic: Path) -> None:
    stored = history.read(topic)
    log = [one.line for one in stored]
    history.check_seen(stored, b"".join(log[2:6]))
    for seen in (
        log[0] + log[2],
        log[1] + log[0],
        log[0][:-1],
        log[0] + log[1][:20],
        log[0][3:],
        log[0].replace(b"a", b"c"),
    ):
        with pytest.raises(Violation):
            history.check_seen(stored, seen)


def test_what_a_consumer_may_not_do_is_found(topic: Path) -> None:
    stored: list[Stored] = history.read(topic)

    def run(first: int, end: int) -> bytes:
        return b"".join(one.line for one in stored[first:end])

    history.check_handled(stored, [run(0, 3), b"", run(2, 8)], in_flight=1)
    for runs, what in (
        ([run(0, 3), run(4, 8)], "unhandled: offsets 3 to 3"),
        ([run(0, 7)], "unhandled: offsets 7 to 7"),
        ([run(0, 4), run(2, 8)], "2 events were repeated"),
        ([run(1, 8)], "unhandled: offsets 0 to 0"),
    ):
        with pytest.raises(Violation, match=what):
            history.check_handled(stored, runs, in_flight=1)
    history.check_committed(3, run(0, 3))
    history.check_committed(None, b"")
    for committed, handled in ((4, run(0, 3)), (1, b"")):
        with pytest.raises(Violation, match="committed"):
            history.check_committed(committed, handled)

"""A write torn at every byte of a batch of three lines: the next producer makes whole lines of it and loses nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults import history
from tests.faults.history import Producer, Stored, Violation
from tests.faults.scale import step
from tests.faults.torn_write import Tearing
from tests.faults.without import Without
from tests.program import Program

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the torn file is found in /proc")

BEFORE = '{"by":"before"}'
EVENTS = [f'{{"by":"torn","n":{number}}}' for number in range(3)]
AFTER = '{"by":"after"}'
PARTS = 4


def check_tear(evtool: Program, count: int) -> None:
    """Tear a batch after `count` bytes on a fresh home, let a reader look, and let this producer go on."""
    shutil.rmtree(evtool.home, ignore_errors=True)
    assert Program(evtool.home)("append", "t", BEFORE).code == 0
    before = evtool.log("t")
    torn = Tearing(evtool.home, count)("append", "t", "--offsets", *EVENTS)
    assert (torn.code, torn.out) == (-9, "")
    tail = evtool.log("t")[len(before) :]
    assert len(tail) == count
    whole, newline, rest = tail.rpartition(b"\n")
    seen = Program(evtool.home)("replay", "t").raw if count % 16 == 0 else before + whole + newline
    after = evtool("append", "t", "--offsets", AFTER)
    assert after.code == 0, after
    stored = history.check(
        evtool.topic("t"), [Producer([BEFORE], "0"), Producer(EVENTS, ""), Producer([AFTER], after.out)]
    )
    history.check_seen(stored, seen)
    _check_kept(evtool, stored, before + whole + newline, rest, after.err)


def _check_kept(evtool: Program, stored: list[Stored], whole: bytes, rest: bytes, said: str) -> None:
    """What was whole stays, what was torn is put aside, and the producer who did that says so."""
    if b"".join(one.line for one in stored[:-1]) != whole:
        raise Violation("whole lines of the torn batch are gone")
    kept = [path.read_bytes() for path in (evtool.topic("t") / "damaged").glob("*")]
    if kept != ([rest] if rest else []):
        raise Violation(f"kept {kept} of {rest!r}")
    assert (f"cut {len(rest)} bytes" in said) == bool(rest), said


def length() -> int:
    """How many bytes the batch has; its offsets have one digit."""
    line = '{"offset":1,"time":"2026-11-24T04:48:50.701374Z","data":}\n'
    return sum(len(line) + len(event) for event in EVENTS) + len(',"crc":"00000000"')


@pytest.mark.parametrize("part", range(PARTS))
def test_a_write_torn_at_any_byte_is_healed(evtool: Program, part: int) -> None:
    """Each fourth byte; FAULT_SCALE=4 makes it each."""
    for count in range(part, length(), step(4 * PARTS)):
        check_tear(evtool, count)


def test_a_batch_killed_when_it_was_written_but_not_acknowledged_is_there_whole(evtool: Program) -> None:
    check_tear(evtool, length())
    with pytest.raises(AssertionError, match=str(length() + 1)):
        check_tear(evtool, length() + 1)  # so that length() is the length


@pytest.mark.parametrize("count", [1, 40, 100, 247])
def test_control_without_healing_the_next_event_is_destroyed(evtool: Program, count: int) -> None:
    with pytest.raises(Violation, match="no event"):
        check_tear(Without(evtool.home, "healing"), count)


def test_control_without_keeping_the_torn_bytes_are_gone(evtool: Program) -> None:
    with pytest.raises(Violation, match="kept"):
        check_tear(Without(evtool.home, "keeping"), 40)

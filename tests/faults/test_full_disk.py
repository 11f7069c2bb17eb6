"""A disk that is full in the middle of a batch: the exact count is reported, and all goes on once there is room."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.faults import full_disk, history, strace
from tests.faults.failing_call import fail, fail_everywhere
from tests.faults.full_disk import SmallDisk, limit
from tests.faults.history import Producer, Violation
from tests.faults.kill_at_call import on
from tests.faults.scale import step
from tests.faults.without import Without
from tests.program import Program, Result

BEFORE = '{"by":"before"}'
EVENTS = [f'{{"by":"full","n":{number},"text":"{"x" * 30}"}}' for number in range(5)]
MANY = [f'{{"by":"full","n":{number},"text":"{"x" * 40}"}}' for number in range(6000)]
AFTER = '{"by":"after"}'


def reported(result: Result) -> int:
    """How many events were stored, as the program says it, with their offsets, on standard error."""
    said = re.search(r"stored (\d+) of (\d+) events(?:, offsets (\d+) to (\d+))?: ", result.err)
    assert said is not None, result
    count = int(said[1])
    if count:
        assert int(said[4]) - int(said[3]) + 1 == count
    return count


def check_limit(evtool: Program, room: int) -> int:
    """Append a batch that finds this room; return how many events were stored."""
    shutil.rmtree(evtool.home, ignore_errors=True)
    healthy = Program(evtool.home)
    assert healthy("append", "t", BEFORE).code == 0
    before = evtool.log("t")
    full = evtool("append", "t", "--offsets", *EVENTS, **limit(len(before) + room))
    if full.code != 74 or full.out:
        raise Violation(f"{room} bytes were free, and yet: {full}")
    whole = evtool.log("t")[len(before) :]
    if whole.count(b"\n") != reported(full) or (whole and not whole.endswith(b"\n")):
        raise Violation(f"stored {whole!r}, reported {reported(full)}")
    after = healthy("append", "t", "--offsets", AFTER)
    assert (after.code, after.err) == (0, "")
    told = [Producer([BEFORE], "0"), Producer(EVENTS, ""), Producer([AFTER], after.out)]
    assert len(history.check(evtool.topic("t"), told)) == 2 + reported(full)
    return reported(full)


@pytest.mark.parametrize("part", range(2))
def test_the_count_is_exact_wherever_the_space_ends(evtool: Program, part: int) -> None:
    line = len(f'{{"offset":1,"time":"2026-11-24T04:48:50.701374Z","data":{EVENTS[0]}}}\n')
    rooms = range(part * step(7), 5 * line, 2 * step(7))
    counts = {check_limit(evtool, room) for room in [*rooms, line - 1, line, line + 1, 5 * line + 16]}
    assert counts == {0, 1, 2, 3, 4}


@strace.needed
def test_a_batch_of_which_nothing_fits_is_not_there(evtool: Program) -> None:
    evtool("append", "t", BEFORE)
    number = next(one.when for one in _writes(evtool) if ".jsonl>" in one.subject)
    full = fail(evtool, "write", "ENOSPC", str(number), "append", "t", "--offsets", *EVENTS).result
    assert (full.code, full.out, reported(full)) == (74, "", 0)
    assert "No space left on device" in full.err
    after = evtool("append", "t", "--offsets", *EVENTS)
    history.check(evtool.topic("t"), [Producer([BEFORE, AFTER], "0\n1\n"), Producer(EVENTS, after.out)])


def _writes(evtool: Program) -> list[strace.Call]:
    return strace.parse(strace.trace(evtool, "append", "t", AFTER, calls=("write",)).log)


def check_stream(evtool: Program) -> None:
    """Fill a small disk with a stream, make room, and send the rest."""
    with SmallDisk(evtool.home, 1024) as disk:
        small = on(evtool, disk.path / "home")
        assert small("append", "t", BEFORE).code == 0
        disk.fill(200_000)
        full = small("append", "t", "--offsets", input="\n".join(MANY))
        assert full.code == 74
        assert "No space left on device" in full.err
        stored = history.check(small.topic("t"), [Producer([BEFORE], "0"), Producer(MANY, full.out)])
        count = len(stored) - 1
        assert 1000 < count < len(MANY)
        assert f" to {count}: " in full.err, full.err
        assert small("replay", "t").raw == b"".join(one.line for one in stored)
        disk.filler.unlink()
        rest = small("append", "t", "--offsets", input="\n".join(MANY[count:]))
        assert rest.code == 0, rest
        told = [Producer([BEFORE], "0"), Producer(MANY[:count], full.out), Producer(MANY[count:], rest.out)]
        assert len(history.check(small.topic("t"), told)) == 1 + len(MANY)


@full_disk.needed
def test_a_stream_that_fills_the_disk_can_be_sent_again_from_where_it_stopped(evtool: Program) -> None:
    """The offsets that are reported say which event was the last, though the stream came in many pieces."""
    check_stream(evtool)


@full_disk.needed
def test_control_a_stream_that_is_not_cut_shows(evtool: Program) -> None:
    with pytest.raises(Violation, match="torn"):
        check_stream(Without(evtool.home, "cutting"))


@full_disk.needed
def test_a_stream_that_fills_the_disk_is_told_how_many_of_its_events_are_stored(evtool: Program) -> None:
    with SmallDisk(evtool.home, 1024) as disk:
        small = Program(disk.path / "home")
        assert small("append", "t", BEFORE).code == 0
        disk.fill(200_000)
        full = small("append", "t", input="\n".join(MANY))
        assert reported(full) == len(history.read(small.topic("t"))) - 1, full


def check_consumer(evtool: Program) -> None:
    """Let each write of a consumer fail, on a disk that has been full before; another one goes on from there."""
    healthy = Program(evtool.home)
    assert healthy("append", "t", *EVENTS).code == 0
    assert healthy("subscribe", "t", "--group", "g", "--from", "earliest", "--count", "1").code == 0
    stored = history.read(evtool.topic("t"))
    arguments = ["subscribe", "t", "--group", "g", "--drain"]
    kinds = set()
    for failed in fail_everywhere(evtool, "ENOSPC", ("write", "sendfile"), *arguments):
        kinds.add(failed.call.subject.partition("<")[0] == "1")
        assert failed.result.code == 74, failed
        rest = Program(failed.home)("subscribe", "t", "--group", "g", "--drain")
        assert rest.code == 0, rest
        history.check_handled(stored, [stored[0].line, failed.result.raw, rest.raw], in_flight=len(EVENTS))
    assert kinds == {True, False}  # its output and its commits


@strace.needed
def test_a_consumer_that_cannot_write_commits_nothing_that_it_has_not_handled(evtool: Program) -> None:
    check_consumer(evtool)


@strace.needed
def test_control_a_commit_before_the_output_shows(evtool: Program) -> None:
    with pytest.raises(Violation, match="unhandled"):
        check_consumer(Without(evtool.home, "waiting-to-commit"))


def test_control_a_batch_that_is_not_cut_shows(evtool: Program) -> None:
    with pytest.raises(Violation, match="reported"):
        check_limit(Without(evtool.home, "cutting"), 150)

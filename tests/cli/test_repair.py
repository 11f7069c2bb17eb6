"""evtool repair: says what it would do, does that if it is wanted, and says what is gone and where bytes are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_trim import answered
from tests.cli.test_verify import fill, kinds, on_terminal, rewrite, sums
from tests.running import Running
from tests.topics import append, committed, numbers, stored, write_commit

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.file import FileStore
    from tests.program import Program


@pytest.fixture
def log(evtool: Program) -> Program:
    """Five events, each appended by itself, in one segment."""
    for number in numbers(0, 4):
        append(evtool, "t", f'{{"n":{number}}}')
    return evtool


@pytest.fixture
def segmented(evtool: Program, store: FileStore) -> Program:
    """Fifty events with 10 to 59 as data, in five segments that begin with offset 0, 10, 20, 30 and 40."""
    fill(store)
    return evtool


def alter(program: Program, old: str, new: str, segment: int = 0) -> Path:
    path = program.segments("t")[segment]
    rewrite(path, old, new)
    return path


def steps(program: Program, *options: str) -> list[dict[str, Any]]:
    """What a repair does that is to go well."""
    result = program("repair", "t", "--json", *options)
    assert (result.code, result.err) == (0, "")
    return result.events


def data(program: Program) -> list[str]:
    return program("replay", "t", "--data").lines


def kept(program: Program) -> list[str]:
    """What was put aside."""
    directory = program.topic("t") / "damaged"
    return [path.read_text() for path in sorted(directory.iterdir())] if directory.exists() else []


def test_where_all_is_in_order_nothing_is_done(log: Program) -> None:
    before = stored(log, "t")
    for options in ([], ["--yes"], ["--dry-run"]):
        result = log("repair", "t", *options)
        assert (result.code, result.out, result.err) == (0, "", "evtool: t: nothing to repair\n")
    for options in (["-q"], ["--json"]):
        result = log("repair", "t", "--yes", *options)
        assert (result.code, result.out, result.err) == (0, "", "")
    assert stored(log, "t") == before
    assert kept(log) == []


def test_a_flipped_bit_is_put_right(log: Program) -> None:
    before = stored(log, "t")
    path = alter(log, '{"n":2}', '{"n":3}')
    at = before.index('{"n":2}') + 5
    result = log("repair", "t", "--dry-run")
    what = f"byte {at} had one bit flipped; the checksum tells which: put right"
    assert (result.code, result.out, result.err) == (0, f"{path}\t{what}\t-\t-\tno\n", "")
    assert stored(log, "t") != before
    result = log("repair", "t", "--yes")
    assert (result.code, result.err) == (0, "")
    assert result.out.split("\t")[:3] == [str(path), what, "-"]
    assert stored(log, "t") == before
    assert kinds(log) == []


def test_a_line_that_is_lost_is_said_kept_and_its_offset_never_used_again(log: Program) -> None:
    path = alter(log, '{"n":4}', "{what?}")
    damaged_line = stored(log, "t").splitlines(keepends=True)[4]
    result = log("repair", "t", "--yes")
    assert (result.code, result.err) == (0, "")
    first, *_ = [line.split("\t") for line in result.lines]
    assert (first[0], first[2], first[4]) == (str(path), "4", "yes")
    assert re.fullmatch(rf"{re.escape(str(path.parent))}/damaged/{path.name}@\d+\.\d+", first[3])
    assert kept(log) == [damaged_line]
    assert data(log) == ['{"n":0}', '{"n":1}', '{"n":2}', '{"n":3}']
    assert kinds(log) == []
    assert log("append", "t", "5", "--offsets").out == "5\n"


def test_offsets_that_are_gone_are_said_as_a_range_and_in_json_as_two_numbers(log: Program) -> None:
    alter(log, '{"n":1}', "{what?}")
    alter(log, '{"n":2}', "{what?}")
    (row,) = [line.split("\t") for line in log("repair", "t", "--dry-run").lines]
    assert row[2] == "1-2"
    (step,) = steps(log, "--dry-run")
    assert (step["gone"], step["kept"], step["done"]) == ([1, 2], None, False)
    (step,) = steps(log, "--yes")
    assert (step["gone"], step["done"]) == ([1, 2], True)
    (directory,) = log.topic("t").glob("damaged")
    assert step["kept"] == [str(path) for path in directory.iterdir()]
    assert data(log) == ['{"n":0}', '{"n":3}', '{"n":4}']


def test_a_dry_run_changes_nothing(segmented: Program) -> None:
    alter(segmented, '{"offset":12,', "{what?", segment=1)
    segmented.segments("t")[3].unlink()
    before = {path.name: path.stat().st_mtime_ns for path in segmented.topic("t").iterdir()}
    said = [(step["what"], step["gone"]) for step in steps(segmented, "--dry-run")]
    assert {path.name: path.stat().st_mtime_ns for path in segmented.topic("t").iterdir()} == before
    assert [(step["what"], step["gone"]) for step in steps(segmented, "--yes")] == said
    assert steps(segmented, "--yes") == []


def test_good_lines_that_share_a_checksum_with_a_bad_one_stay_and_that_is_said(segmented: Program) -> None:
    alter(segmented, '{"offset":12,', "{what?", segment=1)
    said = steps(segmented, "--yes")
    assert [step["gone"] for step in said if step["gone"]] == [[12, 12]]
    assert any("no checksum vouches for offsets 10 to 19; they stay" in step["what"] for step in said)
    assert data(segmented) == numbers(10, 21) + numbers(23, 59)
    assert kinds(segmented) == []


def test_a_consumer_goes_on_over_the_gap(segmented: Program) -> None:
    write_commit(segmented, 12)
    alter(segmented, '{"offset":12,', "{what?", segment=1)
    assert segmented("repair", "t", "--yes", "-q").code == 0
    result = segmented("subscribe", "t", "-g", "g", "--drain", "--data")
    assert (result.code, result.lines) == (0, numbers(23, 59))
    assert committed(segmented) == 50


@pytest.mark.parametrize("tail", ['{"offset":5,"ti', "\0" * 300])
def test_what_an_append_that_was_killed_has_left_is_cut_and_kept(log: Program, tail: str) -> None:
    before = stored(log, "t")
    with log.segments("t")[0].open("a") as file:
        file.write(tail)
    (step,) = steps(log, "--yes")
    assert step["gone"] is None
    assert (stored(log, "t"), kept(log)) == (before, [tail])
    assert log("append", "t", "5", "--offsets").out == "5\n"


def test_a_damaged_last_line_stops_appends_until_it_is_repaired(log: Program) -> None:
    with log.segments("t")[0].open("a") as file:
        file.write("rubbish\n")
    refused = log("append", "t", "5")
    assert (refused.code, refused.out) == (65, "")
    assert "evtool repair t" in refused.err
    assert log("repair", "t", "--yes", "-q").code == 0
    assert kept(log) == ["rubbish\n"]
    assert log("append", "t", "6", "--offsets").out == "6\n"
    assert kinds(log) == []


def test_a_topic_that_a_failed_sync_has_shut_takes_events_again(log: Program) -> None:
    before = stored(log, "t")
    log.segments("t")[0].chmod(0o400)
    refused = log("append", "t", "5")
    assert refused.code == 74
    assert "evtool repair t" in refused.err
    inode = log.segments("t")[0].stat().st_ino
    assert steps(log, "--yes") != []
    assert log.segments("t")[0].stat().st_ino != inode, "the same file may be synced no second time"
    assert log("append", "t", "5", "--offsets").out == "5\n"
    assert stored(log, "t").startswith(before)
    assert kinds(log) == []


def test_a_missing_segment_is_said_once(segmented: Program) -> None:
    segmented.segments("t")[2].unlink()
    said = steps(segmented, "--yes")
    assert [step["gone"] for step in said if step["gone"]] == [[20, 29]]
    assert kinds(segmented) == []
    assert steps(segmented, "--yes") == []
    assert data(segmented) == numbers(10, 29) + numbers(40, 59)


def test_a_copy_of_a_segment_is_moved_away_and_nothing_is_said_to_be_gone(segmented: Program) -> None:
    source = segmented.segments("t")[2]
    copy = source.with_name(f"{70:020d}.jsonl")
    copy.write_bytes(source.read_bytes())
    copy.chmod(0o444)
    said = steps(segmented, "--yes")
    assert [step["gone"] for step in said if step["gone"]] == []
    assert kept(segmented) == [source.read_text()]
    assert data(segmented) == numbers(10, 59)
    assert segmented("append", "t", "60", "--offsets").out == "50\n"
    assert kinds(segmented) == []


def test_a_segment_that_comes_back_from_a_backup_is_in_order(segmented: Program) -> None:
    path = segmented.segments("t")[2]
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text)
    path.chmod(0o444)
    assert kinds(segmented) == []
    assert segmented("repair", "t").err == "evtool: t: nothing to repair\n"


def test_a_broken_chain_is_forged_anew_and_whoever_knows_an_old_seal_can_tell(segmented: Program) -> None:
    known = segmented("verify", "t", "--json").events[0]["seal"]
    rewrite(sums(segmented), sums(segmented).read_text().splitlines()[3], f"# seal {'0' * 64}")
    assert kinds(segmented) == ["broken"]
    assert steps(segmented, "--yes") != []
    assert kinds(segmented) == []
    assert segmented("verify", "t", f"--since-seal={known}").code in (0, 4)


def test_sums_that_are_missing_are_made_anew(segmented: Program) -> None:
    before = sums(segmented).read_text()
    sums(segmented).unlink()
    assert steps(segmented, "--yes") != []
    assert sums(segmented).read_text() == before


def test_a_group_of_which_nothing_can_be_read_begins_again_and_its_file_is_kept(log: Program) -> None:
    write_commit(log, 3)
    (log.topic("t") / "consumers/g.jsonl").write_text("rubbish\n")
    assert log("subscribe", "t", "-g", "g", "--drain").code == 65
    assert steps(log, "--yes") != []
    assert kept(log) == ["rubbish\n"]
    assert log("subscribe", "t", "-g", "g", "--drain", "--data").lines == [f'{{"n":{one}}}' for one in range(5)]


@pytest.mark.parametrize("events", [0, 5])
def test_no_event_gets_an_offset_that_a_group_has_committed(evtool: Program, events: int) -> None:
    append(evtool, "t", *numbers(0, 4))
    write_commit(evtool, 9)
    if not events:
        evtool.segments("t")[0].unlink()
    assert kinds(evtool) == ["beyond"]
    assert steps(evtool, "--yes") != []
    assert kinds(evtool) == []
    assert evtool("append", "t", "9", "--offsets").out == "9\n"
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").out == "9\n"


def test_without_a_terminal_it_says_what_is_to_be_done_and_wants_yes(log: Program) -> None:
    path = alter(log, '{"n":2}', "{what?}")
    before = path.read_bytes()
    result = log("repair", "t")
    assert result.code == 2
    assert result.err == "evtool: repair: there is no terminal to ask on\nhint: say --yes, or --dry-run to see first\n"
    assert path.read_bytes() == before
    result = log("repair", "t", "--json")
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)])
def test_on_a_terminal_it_asks(log: Program, answer: bytes, code: int) -> None:
    path = alter(log, '{"n":2}', "{what?}")
    before = path.read_bytes()
    done, out, asked = answered(log, answer, "repair", "t")
    assert (done, asked) == (code, "Carry out 1 step to repair topic t? [y/N] ")
    first, *rest = [line.split("\t") for line in out.splitlines()]
    assert (first[2:], [row[4] for row in rest]) == (["2", "-", "no"], [] if code else ["yes"])
    assert (path.read_bytes() == before) is (code == 1)


def test_with_json_only_what_was_done_is_written(log: Program) -> None:
    alter(log, '{"n":2}', "{what?}")
    code, out, _ = answered(log, b"y\n", "repair", "t", "--json")
    assert (code, out.count("\n"), '"done":true' in out) == (0, 1, True)


def test_on_a_terminal_the_rows_are_a_table(log: Program) -> None:
    path = alter(log, '{"n":2}', "{what?}")
    seen = on_terminal(log, "repair", "t", "--dry-run", NO_COLOR="1")
    assert "offsets gone" in seen
    assert path.name in seen
    assert str(path) not in seen


def test_quiet_is_quiet(log: Program) -> None:
    alter(log, '{"n":2}', "{what?}")
    result = log("repair", "t", "--yes", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert kinds(log) == []


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["none"], 3, "evtool: none: no such topic\n"),
        (["t*"], 2, "evtool: 't*': not a topic name\nhint: "),
        (["../t"], 2, "evtool: '../t': not a topic name\nhint: "),
        ([], 2, "evtool: repair: missing argument 'TOPIC'\nhint: see evtool repair --help\n"),
    ],
)
def test_what_makes_no_sense_is_refused(log: Program, arguments: list[str], code: int, err: str) -> None:
    result = log("repair", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(err)


def test_a_follower_goes_on_through_a_repair(log: Program) -> None:
    with Running(log, "tail", "t", "-n1", "-f", "--data") as follower:
        follower.await_out('{"n":4}\n')
        alter_in_place(log, b'{"n":1}', b"{what?}")
        assert log("repair", "t", "--yes", "-q").code == 0
        append(log, "t", '{"n":5}')
        follower.await_out('{"n":4}\n{"n":5}\n')


def alter_in_place(program: Program, old: bytes, new: bytes) -> None:
    """Damage as a disk does it: the file stays the same file."""
    with program.segments("t")[0].open("r+b") as file:
        file.seek(file.read().index(old))
        file.write(new)

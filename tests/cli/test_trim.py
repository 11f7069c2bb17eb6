"""evtool trim: whole segments go, the oldest first, never the active one; who loses events is told before and after."""

from __future__ import annotations

import os
import pty
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_verify import LINE, fill
from tests.program import PATIENCE
from tests.running import Running
from tests.topics import append, committed, moment, numbers, write_commit, write_log

if TYPE_CHECKING:
    from evtool.stores.file import FileStore
    from tests.program import Program

HOUR = 3600.0


@pytest.fixture
def trimmable(evtool: Program, store: FileStore) -> Program:
    """Fifty events, in five segments that begin with 0, 10, 20, 30 and 40; group g has handled five."""
    fill(store)
    write_commit(evtool, 5)
    return evtool


def firsts(program: Program) -> list[int]:
    return [int(path.stem) for path in program.segments("t")]


def sizes(program: Program, count: int) -> int:
    return sum(path.stat().st_size for path in program.segments("t")[:count])


def trim(program: Program, *options: str) -> list[str]:
    """The row of a trim that is to go well."""
    result = program("trim", "t", *options)
    assert result.code == 0, result
    return result.out.rstrip("\n").split("\t")


def test_what_lies_before_a_place_goes_by_whole_segments(trimmable: Program) -> None:
    size = sizes(trimmable, 2)
    result = trimmable("trim", "t", "--before=25", "--yes")
    assert result.out == f"t\t0\t20\t20\t2\t{size}\tg:15\tyes\n"
    assert (result.code, result.err) == (0, "evtool: t: group g lost 15 events\n")
    assert firsts(trimmable) == [20, 30, 40]
    assert trimmable("replay", "t", "--data").lines == numbers(30, 59)


def test_a_dry_run_says_the_same_and_changes_nothing(trimmable: Program) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in trimmable.topic("t").iterdir()}
    result = trimmable("trim", "t", "--before=25", "--dry-run")
    assert result.out == f"t\t0\t20\t20\t2\t{sizes(trimmable, 2)}\tg:15\tno\n"
    assert (result.code, result.err) == (0, "evtool: t: group g would lose 15 events\n")
    assert {path.name: path.stat().st_mtime_ns for path in trimmable.topic("t").iterdir()} == before


def test_json_says_it_as_values(trimmable: Program) -> None:
    size = sizes(trimmable, 2)
    expected = {"topic": "t", "first": 0, "to": 20, "events": 20, "segments": 2, "bytes": size, "groups": {"g": 15}}
    result = trimmable("trim", "t", "--before=25", "--dry-run", "--json")
    assert result.events == [expected | {"done": False}]
    result = trimmable("trim", "t", "--before=25", "--yes", "--json")
    assert result.events == [expected | {"done": True}]


def test_quiet_is_quiet(trimmable: Program) -> None:
    result = trimmable("trim", "t", "--before=25", "--yes", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert firsts(trimmable) == [20, 30, 40]


@pytest.mark.parametrize("where", ["latest", "50", "now"])
def test_the_active_segment_never_goes(trimmable: Program, where: str) -> None:
    assert trim(trimmable, f"--before={where}", "--yes")[1:4] == ["0", "40", "40"]
    assert trimmable("replay", "t", "--data").lines == numbers(50, 59)
    assert trim(trimmable, f"--before={where}", "--yes")[1:] == ["40", "40", "0", "0", "0", "-", "yes"]


@pytest.mark.parametrize(
    ("where", "to"), [("earliest", 0), ("9", 0), ("10", 10), ("-20", 30), ("-21", 20), ("2h", 0), ("group:g", 0)]
)
def test_a_place_is_said_as_everywhere(trimmable: Program, where: str, to: int) -> None:
    assert trim(trimmable, f"--before={where}", "--dry-run")[2] == str(to)


def test_what_a_group_has_handled_goes_without_anybody_losing_anything(trimmable: Program) -> None:
    trimmable("subscribe", "t", "-g", "g", "--count=20")
    assert committed(trimmable) == 25
    result = trimmable("trim", "t", "--before=group:g", "--yes")
    assert (result.out.split("\t")[2], result.err) == ("20", "")
    assert trimmable("subscribe", "t", "-g", "g", "--drain", "--data").lines == numbers(35, 59)


def test_a_group_that_lost_events_is_told_and_goes_on_at_the_earliest(trimmable: Program) -> None:
    trim(trimmable, "--before=20", "--yes")
    result = trimmable("subscribe", "t", "-g", "g", "--drain", "--data")
    assert (result.code, result.lines) == (0, numbers(30, 59))
    assert result.err == "evtool: t: offsets 5 to 19 are gone, trimmed or lost before they were read\n"


def test_every_group_that_loses_events_is_named_and_no_other(trimmable: Program) -> None:
    write_commit(trimmable, 12, group="h")
    write_commit(trimmable, 20, group="done")
    result = trimmable("trim", "t", "--before=20", "--dry-run")
    assert result.err == "evtool: t: group g would lose 15 events\nevtool: t: group h would lose 8 events\n"
    assert result.out.split("\t")[6] == "g:15 h:8"


def test_a_group_of_which_nothing_can_be_read_does_not_hold_it_up(trimmable: Program) -> None:
    (trimmable.topic("t") / "consumers/g.jsonl").write_text("rubbish\n")
    result = trimmable("trim", "t", "--before=20", "--yes")
    assert (result.code, firsts(trimmable)) == (0, [20, 30, 40])


def test_offsets_go_on_where_they_were(trimmable: Program) -> None:
    trim(trimmable, "--before=latest", "--yes")
    assert trimmable("append", "t", "1", "--offsets").out == "50\n"
    assert trimmable("verify", "t").code == 0


def test_a_reader_in_a_segment_that_goes_is_told_what_it_missed(trimmable: Program) -> None:
    trim(trimmable, "--before=20", "--yes")
    result = trimmable("replay", "t", "--from=3", "--count=1", "--data")
    assert (result.code, result.out) == (0, "30\n")
    assert result.err == "evtool: t: offsets 3 to 19 are gone, trimmed or lost before they were read\n"


def test_a_follower_does_not_mind(trimmable: Program) -> None:
    with Running(trimmable, "tail", "t", "-n1", "-f", "--data") as follower:
        follower.await_out("59\n")
        trim(trimmable, "--before=latest", "--yes")
        append(trimmable, "t", "60")
        follower.await_out("59\n60\n")
        assert follower.err == ""


def test_without_a_terminal_it_wants_yes(trimmable: Program) -> None:
    result = trimmable("trim", "t", "--before=25")
    assert (result.code, result.out) == (2, "")
    assert result.err == ("evtool: trim: there is no terminal to ask on\nhint: say --yes, or --dry-run to see first\n")
    assert firsts(trimmable) == [0, 10, 20, 30, 40]


def answered(program: Program, answer: bytes, *arguments: str) -> tuple[int, str, str]:
    """The exit code, output and what stood on the terminal, where a question was answered."""
    leader, follower = pty.openpty()
    process = program.start(*arguments, stdin=follower, stderr=follower)
    os.close(follower)
    seen = b""
    while not seen.endswith(b"[y/N] "):
        seen += os.read(leader, 1000)
    os.write(leader, answer)
    out = process.stdout.read()
    code = process.wait(PATIENCE)
    process.stdout.close()
    os.close(leader)
    return code, out.decode(), seen.decode()


def test_where_nothing_is_to_go_nobody_is_asked(trimmable: Program) -> None:
    assert trim(trimmable, "--before=5") == ["t", "0", "0", "0", "0", "0", "-", "yes"]


def test_a_topic_without_limits_loses_nothing(trimmable: Program) -> None:
    assert trim(trimmable) == ["t", "0", "0", "0", "0", "0", "-", "yes"]


def test_limits_are_kept_to_without_a_question_as_soon_as_they_are_asked_for(trimmable: Program) -> None:
    trimmable("set", "t", "max-events=25")
    assert firsts(trimmable) == [0, 10, 20, 30, 40]
    result = trimmable("trim", "t")
    assert result.out == f"t\t0\t20\t20\t2\t{result.out.split(chr(9))[5]}\tg:15\tyes\n"
    assert result.err == "evtool: t: group g lost 15 events\n"
    assert firsts(trimmable) == [20, 30, 40]


def test_all_topics_or_those_that_are_named_are_trimmed_and_those_that_lose_something_are_told(
    trimmable: Program,
) -> None:
    append(trimmable, "other", "1")
    trimmable("set", "t", "max-events=25")
    result = trimmable("trim", "--dry-run")
    assert [line.split("\t")[:3] for line in result.lines] == [["t", "0", "20"]]
    result = trimmable("trim", "other", "t*", "--dry-run")
    assert [line.split("\t")[:3] for line in result.lines] == [["other", "0", "0"], ["t", "0", "20"]]
    assert trimmable("trim", "none", "t").code == 3
    result = trimmable("trim")
    assert (result.code, len(result.lines), firsts(trimmable)) == (0, 1, [20, 30, 40])
    result = trimmable("trim")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_where_there_is_no_topic_there_is_nothing_to_trim(evtool: Program) -> None:
    result = evtool("trim")
    assert (result.code, result.out, result.err) == (0, "", f"evtool: {evtool.home}: nothing there yet\n")
    assert evtool("trim", "-q").err == ""
    result = evtool("trim", "t")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: t: no such topic\nhint: there are no topics yet\n"


@pytest.mark.parametrize("count", [1, 9, 10, 11, 30, 50, 1000])
def test_there_are_always_as_many_events_as_max_events_says(trimmable: Program, count: int) -> None:
    trimmable("set", "t", f"max-events={count}")
    trim(trimmable)
    kept = 50 - firsts(trimmable)[0]
    assert min(count, 50) <= kept < count + 10 or kept == 10


@pytest.mark.parametrize("share", [1, 19, 20, 21, 45, 60, 100])
def test_there_are_never_more_bytes_than_max_bytes_says_but_for_the_active_segment(
    trimmable: Program, share: int
) -> None:
    most = sizes(trimmable, 5) * share // 100
    trimmable("set", "t", f"max-bytes={most}")
    trim(trimmable)
    paths = trimmable.segments("t")
    assert sizes(trimmable, 5) <= most or len(paths) == 1
    assert len(paths) == 5 or sizes(trimmable, 5) + 10 * LINE > most


def test_what_is_too_old_goes_and_nothing_younger(evtool: Program) -> None:
    now = time.time()
    for first, age in ((0, 3.0), (10, 2.0), (20, 1.0)):
        write_log(evtool, "t", [moment(now - age * HOUR + index) for index in range(10)], first=first)
    for path in evtool.segments("t")[:-1]:
        path.chmod(0o444)
    for limit, first in (("5h", 0), ("2h", 10), ("1h", 20), ("1s", 20)):
        evtool("set", "t", f"max-age={limit}")
        trim(evtool)
        assert firsts(evtool)[0] == first, limit


def test_nothing_is_too_old_while_the_clock_reads_earlier_than_the_newest_event(evtool: Program) -> None:
    now = time.time()
    write_log(evtool, "t", [moment(now - 10 * HOUR + index) for index in range(10)])
    write_log(evtool, "t", [moment(now + HOUR)], first=10)
    evtool.segments("t")[0].chmod(0o444)
    evtool("set", "t", "max-age=1h")
    assert trim(evtool)[3] == "0"
    assert trim(evtool, "--before=10", "--yes")[3] == "10"


@pytest.mark.parametrize("atomic", [[], ["--atomic"]])
def test_limits_are_kept_to_by_whoever_appends(evtool: Program, atomic: list[str]) -> None:
    evtool("create", "t", "-q", f"segment-bytes={8 * LINE}", "max-events=15")
    for first in range(10, 60, 10):
        assert evtool("append", "t", *atomic, input="".join(f"{one}\n" for one in numbers(first, first + 9))).code == 0
    kept = 50 - firsts(evtool)[0]
    assert 15 <= kept <= 30


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["none"], 3, "evtool: none: no such topic\n"),
        (["t", "--before=51"], 4, "evtool: t: there is no offset 51 yet, the next is 50\n"),
        (["t", "--before=group:none"], 3, "evtool: none: no such group of topic t\n"),
        (["t", "--before=nowhere"], 2, "evtool: 'nowhere': not a position in a topic\nhint: "),
        (["../t"], 2, "evtool: '../t': not a topic name\nhint: "),
        (["--before=20"], 2, "evtool: trim: --before wants to know which topics\nhint: "),
    ],
)
def test_a_trim_that_makes_no_sense_is_refused(trimmable: Program, arguments: list[str], code: int, err: str) -> None:
    result = trimmable("trim", *arguments, "--yes")
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(err)
    assert firsts(trimmable) == [0, 10, 20, 30, 40]


def test_the_seals_of_what_went_are_retired_and_the_others_still_hold(trimmable: Program) -> None:
    seal = trimmable("verify", "t", "--json").events[0]["seal"]
    trim(trimmable, "--before=25", "--yes")
    entries = (trimmable.topic("t") / "SHA256SUMS").read_text().split("\n")[::2]
    assert [entry[:1] for entry in entries if entry] == ["#", "#", " ", " "]
    result = trimmable("verify", "t", f"--since-seal={seal}")
    assert (result.code, result.err) == (0, "")

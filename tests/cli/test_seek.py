"""evtool seek, dead, redrive and rm: groups moved, letters read and sent again, things removed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.program import Program, wait_until
from tests.running import Running
from tests.topics import append, committed, numbers

if TYPE_CHECKING:
    from pathlib import Path

GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]


@pytest.fixture
def handled(evtool: Program) -> Program:
    """Ten events, of which the group has handled six."""
    append(evtool, "t", *numbers(0, 9))
    assert evtool(*GROUP, "--count=6").code == 0
    return evtool


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def seek(program: Program, to: str, *options: str) -> list[str]:
    result = program("seek", "t", "-g", "g", f"--to={to}", *options)
    assert (result.code, result.err) == (0, ""), result
    return result.out.rstrip("\n").split("\t")


@pytest.mark.parametrize(
    ("to", "offset", "skipped", "repeated"),
    [("earliest", 0, 0, 6), ("latest", 10, 4, 0), ("3", 3, 0, 3), ("8", 8, 2, 0), ("-1", 9, 3, 0), ("2h", 0, 0, 6)],
)
def test_a_group_is_moved_and_told_what_that_means(
    handled: Program, to: str, offset: int, skipped: int, repeated: int
) -> None:
    expected = ["t", "g", "6", str(offset), str(skipped), str(repeated)]
    assert seek(handled, to, "--dry-run") == [*expected, "no"]
    assert committed(handled) == 6
    assert seek(handled, to) == [*expected, "yes"]
    assert handled(*GROUP, "--drain", "--data").lines == numbers(offset, 9)


def test_a_group_goes_where_another_is_and_where_a_file_says(handled: Program, tmp_path: Path) -> None:
    handled("subscribe", "t", "-g", "other", "--from=earliest", "--count=2")
    (tmp_path / "groups").write_text(handled("groups", "--json").out)
    assert seek(handled, "group:other")[3] == "2"
    assert seek(handled, str(tmp_path / "groups"))[3] == "6"


def test_events_handled_ahead_of_a_slow_one_are_forgotten_by_a_seek(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 4))
    script = 'test "$EVTOOL_OFFSET" != 0 || exec sleep 60'
    with Running(evtool, *GROUP, "--jobs=2", "--", "sh", "-c", script) as consumer:
        wait_until(lambda: '"handled":"4"' in text_of(evtool.topic("t") / "consumers/g.jsonl"))
        consumer.end(signal.SIGKILL)
    assert evtool("groups", "--json").events[0]["lag"] == 1
    assert seek(evtool, "2", "--dry-run")[4:6] == ["1", "3"]
    seek(evtool, "2")
    assert evtool(*GROUP, "--drain", "--data").lines == ["2", "3", "4"]


@pytest.mark.parametrize("handler", [[], ["--", "sh", "-c", "cat; sleep 0.01"]])
def test_a_group_at_work_is_left_alone_unless_forced_and_then_goes_on_there(
    handled: Program, handler: list[str]
) -> None:
    with Running(handled, *GROUP, *handler) as consumer:
        wait_until(lambda: committed(handled) == 10)
        consumer.await_waiting()
        refused = handled("seek", "t", "-g", "g", "--to=8")
        assert (refused.code, refused.out) == (75, "")
        assert refused.err.startswith("evtool: t, group g: a process consumes for it\nhint: ")
        seek(handled, "8", "--force")
        wait_until(lambda: consumer.out.count("\n") == 6, "it to give out two again")
        assert consumer.end(signal.SIGTERM).err == "evtool: group g was moved by a seek; going on where it is now\n"
    assert committed(handled) == 10


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["t", "-g", "none", "--to=0"], 3),
        (["none", "-g", "g", "--to=0"], 3),
        (["t", "-g", "g", "--to=11"], 4),
        (["t", "-g", "g", "--to=nowhere"], 2),
        (["t", "-g", "g"], 2),
        (["t", "--to=0"], 2),
    ],
)
def test_a_seek_that_makes_no_sense_is_refused(handled: Program, arguments: list[str], code: int) -> None:
    result = handled("seek", *arguments)
    assert (result.code, result.out) == (code, "")
    assert committed(handled) == 6


def fail(evtool: Program, group: str = "g", test: str = "false") -> None:
    options = ["-g", group, "--from=earliest", "--drain", "--retries=0"]
    evtool("subscribe", "t", *options, "--", "sh", "-c", test)


def test_what_failed_goes_through_again_once_and_only_to_its_group(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 3))
    fail(evtool, test='test "$EVTOOL_OFFSET" -lt 2')
    evtool("subscribe", "t", "-g", "other", "--from=earliest", "--drain")
    result = evtool("redrive", "t", "--all")
    assert (result.code, result.out, result.err) == (0, "", "evtool: t: 2 events go through again\n")
    assert evtool("groups", "--json").events[0]["lag"] == 2
    assert evtool(*GROUP, "--drain", "--", "sh", "-c", "echo $EVTOOL_OFFSET").lines == ["2", "3"]
    assert evtool(*GROUP, "--drain", "--data").lines == []
    assert evtool("subscribe", "t", "-g", "other", "--drain").lines == []
    assert evtool("redrive", "t", "--all").err == "evtool: t: 0 events go through again\n"
    assert evtool("dead", "t").out == ""
    assert len(evtool("dead", "t", "--all").lines) == 2


def test_one_of_them_is_chosen_by_its_offset_and_its_group(evtool: Program) -> None:
    append(evtool, "t", "0", "1")
    fail(evtool)
    fail(evtool, "h")
    assert len(evtool("dead", "t").lines) == 4
    assert len(evtool("dead", "t", "--group=h").lines) == 2
    assert evtool("redrive", "t", "--offset=1", "--group=h", "--dry-run").err.endswith(
        "would send 1 event through again\n"
    )
    assert evtool("redrive", "t", "--offset=1", "--group=h", "-q").code == 0
    assert evtool("subscribe", "t", "-g", "h", "--drain", "--data").lines == ["1"]
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").lines == []
    assert evtool("redrive", "t", "--offset=1", "--group=h").code == 3


def test_a_consumer_at_work_gets_it_at_once_and_may_fail_again(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    script = f'echo "$EVTOOL_OFFSET $EVTOOL_ATTEMPT"; test -e {tmp_path}/mended'
    with Running(evtool, *GROUP, "--retries=0", "--", "sh", "-c", script) as consumer:
        wait_until(lambda: evtool("dead", "t").out)
        evtool("redrive", "t", "--all")
        wait_until(lambda: consumer.out == "0 1\n0 1\n", "the second attempt")
        wait_until(lambda: evtool("dead", "t").out, "the second letter")
        (tmp_path / "mended").touch()
        evtool("redrive", "t", "--offset=0")
        wait_until(lambda: consumer.out == "0 1\n" * 3)
        consumer.end(signal.SIGTERM)
    assert evtool("dead", "t").out == ""


def test_what_cannot_go_through_again_is_said(evtool: Program) -> None:
    append(evtool, "t", "0")
    evtool("subscribe", "t", "--from=earliest", "--drain", "--retries=0", "--", "false")
    fail(evtool, "gone")
    evtool("rm", "t", "--group=gone", "--yes")
    result = evtool("redrive", "t", "--all")
    assert result.code == 1
    assert "evtool: t: offset 0: was no group's\n" in result.err
    assert "evtool: t: offset 0: there is no group gone any more\n" in result.err
    assert len(evtool("dead", "t").lines) == 2


@pytest.mark.parametrize("options", [[], ["--all", "--offset=1"]])
def test_redrive_wants_to_be_told_which(evtool: Program, options: list[str]) -> None:
    append(evtool, "t", "0")
    result = evtool("redrive", "t", *options)
    assert (result.code, result.err) == (2, "evtool: redrive: say which: --offset N or --all\n")


def test_a_group_is_removed_and_begins_anew(handled: Program) -> None:
    what = "group g of topic t, which has committed offset 6"
    assert handled("rm", "t", "-g", "g", "--dry-run").err == f"evtool: would remove {what}\n"
    assert handled("rm", "t", "-g", "g").code == 2
    assert committed(handled) == 6
    assert handled("rm", "t", "-g", "g", "--yes").err == f"evtool: removed {what}\n"
    assert handled("groups").out == ""
    assert handled(*GROUP, "--drain", "--data").lines == numbers(0, 9)
    assert handled("rm", "t", "-g", "none", "--yes").code == 3


def test_a_topic_is_removed_with_all_that_is_in_it(handled: Program) -> None:
    result = handled("rm", "t", "--yes")
    assert (result.code, result.err) == (0, "evtool: removed topic t with 10 events and 1 group\n")
    assert not handled.topic("t").exists()
    assert list(handled.topic("t").parent.iterdir()) == []
    assert handled("rm", "t", "--yes").code == 3
    append(handled, "t", "1")
    assert handled("replay", "t").events[0]["offset"] == 0


def test_what_is_in_use_is_not_removed_unless_forced(handled: Program) -> None:
    with Running(handled, *GROUP) as consumer:
        wait_until(lambda: committed(handled) == 10)
        for options in ([], ["--group=g"]):
            assert handled("rm", "t", "--yes", *options).code == 75
        assert handled("rm", "t", "--yes", "--force").code == 0
        assert consumer.end().code == 3

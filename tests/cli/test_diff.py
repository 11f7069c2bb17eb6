"""evtool diff: a row for each key that is not what it was, and nothing of what changed and changed back."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_compact import write
from tests.cli.test_verify import on_terminal, rewrite
from tests.program import PATIENCE
from tests.running import Running
from tests.topics import append, moment, write_commit, write_log

if TYPE_CHECKING:
    from evtool.stores.file import FileStore
    from tests.program import Program

EVENTS = ("a=1 b=1", "=0 c=1", "a=2 b=null", "d=1 c=1", "e=1 e=null")
BIG = 1e9  # the time of the first event in topics that are written by hand

DIFF_DURING_A_COMPACTION = """
import os, subprocess, sys
from evtool.log import keys

def meanwhile(*arguments, backwards=keys.backwards):
    keys.backwards = backwards
    for command in (["append", "t", "--key=a", "9"], ["append", "t", "--key=a", "9"], ["compact", "t", "--yes", "-q"]):
        subprocess.run([sys.executable, "-m", "evtool", *command], env=dict(os.environ), check=True)
    return backwards(*arguments)

keys.backwards = meanwhile
from evtool.__main__ import main
main()
"""


@pytest.fixture
def keyed(evtool: Program, store: FileStore) -> Program:
    """Ten events in five segments: b goes, d comes, e comes and goes, c is said once more."""
    write(store, *EVENTS)
    return evtool


def diff(program: Program, *arguments: str) -> list[str]:
    result = program("diff", "t", *arguments)
    assert (result.code, result.err) == (0, ""), result
    return result.lines


def test_a_row_for_each_key_that_differs_in_the_order_of_the_last_change(keyed: Program) -> None:
    result = keyed("diff", "t", "2")
    assert result.out == "changed\ta\t1\t2\nremoved\tb\t1\t-\nadded\td\t-\t1\nadded\tc\t-\t1\n"
    assert (result.code, result.err) == (0, "")


def test_json_says_it_as_values_byte_for_byte(evtool: Program) -> None:
    for data in ('{"a": 1.0, "a":1E5}', "12345678901234567890123", '"\\u0041"', "null"):
        append(evtool, "t", "--key=k\n", data)
    wanted = '{"change":"%s","key":"k\\n","before":%s,"after":%s}'
    assert diff(evtool, "0", "1", "--json") == [wanted % ("added", "null", '{"a": 1.0, "a":1E5}')]
    assert diff(evtool, "1", "2", "--json") == [wanted % ("changed", '{"a": 1.0, "a":1E5}', "12345678901234567890123")]
    assert diff(evtool, "3", "4", "--json") == [wanted % ("removed", '"\\u0041"', "null")]


def test_both_places_are_exclusive_and_the_second_is_the_end_if_it_is_not_said(keyed: Program) -> None:
    assert diff(keyed, "0", "1") == ["added\ta\t-\t1"]
    assert diff(keyed, "4", "5") == ["changed\ta\t1\t2"]
    assert diff(keyed, "5") == diff(keyed, "5", "latest") == ["removed\tb\t1\t-", "added\td\t-\t1"]
    assert diff(keyed, "4", "4") == []


def test_nothing_is_told_of_what_changed_back_or_came_and_went_or_stayed_the_same(
    evtool: Program, store: FileStore
) -> None:
    write(store, "a=1 b=1 c=1", "a=2 b=null c=1 d=1", "a=1 b=1 d=null =5 none=null")
    assert diff(evtool, "3") == []


def test_data_are_compared_as_bytes_and_nothing_but_data(evtool: Program) -> None:
    append(evtool, "t", "--key=a", "--type=x", "1", "1")
    append(evtool, "t", "--key=a", "--type=y", "1")
    append(evtool, "t", "--key=a", "1.0")
    assert diff(evtool, "1", "3") == []
    assert diff(evtool, "1", "4") == ["changed\ta\t1\t1.0"]


@pytest.mark.parametrize("since", range(11))
def test_a_state_and_what_has_changed_since_make_the_newer_state(keyed: Program, since: int) -> None:
    for until in range(since, 11):
        state = {event["key"]: event["data"] for event in keyed("state", "t", f"--at={since}").events}
        for row in keyed("diff", "t", str(since), str(until), "--json").events:
            assert state.get(row["key"]) == row["before"]
            assert row["change"] == (
                "added" if row["before"] is None else "removed" if row["after"] is None else "changed"
            )
            state[row["key"]] = row["after"]
        newer = {event["key"]: event["data"] for event in keyed("state", "t", f"--at={until}").events}
        assert {key: data for key, data in state.items() if data is not None} == newer


@pytest.mark.parametrize(
    ("where", "before"),
    [
        ("earliest", None), ("1", "0"), ("3", "2"), ("group:g", "2"), (f"@{BIG + 4}", "3"), (moment(BIG + 6), "5"),
        ("2001-09-09 01:46:45", "4"), ("2001-09-09", None),
    ],
)  # fmt: skip
def test_a_place_is_said_as_everywhere(evtool: Program, where: str, before: str | None) -> None:
    write_log(evtool, "t", [moment(BIG + second) for second in range(9)], head='"key":"k",')
    write_commit(evtool, 3)
    change = "added" if before is None else "changed"
    assert diff(evtool, where) == [f"{change}\tk\t{before or '-'}\t8"]
    assert diff(evtool, where, "8") == [f"{change}\tk\t{before or '-'}\t7"]
    for later in ("now", "yesterday", "latest", "2h"):
        assert diff(evtool, later, "now") == []


def test_so_many_before_the_end_wants_a_dash_before_it(keyed: Program) -> None:
    assert diff(keyed, "--", "-5", "latest") == ["removed\tb\t1\t-", "added\td\t-\t1"]
    assert diff(keyed, "--", "-6", "-5") == ["changed\ta\t1\t2"]
    result = keyed("diff", "t", "-5")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: diff: no such option: -5\nhint: say -- before it")


def test_one_key_alone(keyed: Program) -> None:
    assert diff(keyed, "2", "--key=b") == ["removed\tb\t1\t-"]
    assert diff(keyed, "0", "--key=b") == []
    assert diff(keyed, "0", "--key=none") == []


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("", ""), ("-", "-"), ("a b", "a b"), ('"', '"'), ("\\", "\\"), ("\U0001f600", "\U0001f600"),
        ("a\nb", '"a\\nb"'), ("\t", '"\\t"'), ("\x1b[31m", '"\\u001b[31m"'), ("\u202e", '"\u202e"'),
    ],
)  # fmt: skip
def test_any_text_is_a_key_and_takes_one_column_of_one_line(evtool: Program, key: str, shown: str) -> None:
    append(evtool, "t", f"--key={key}", "1")
    assert diff(evtool, "0") == [f"added\t{shown}\t-\t1"]
    assert diff(evtool, "0", f"--key={key}") == [f"added\t{shown}\t-\t1"]
    assert json.loads(diff(evtool, "0", "--json")[0])["key"] == key


def test_data_take_one_column_of_one_line(evtool: Program) -> None:
    append(evtool, "t", "--key=a", input='{"a":\t1,\t"b": "x\\ty\\nz"}\n')
    assert diff(evtool, "0") == ['added\ta\t-\t{"a": 1, "b": "x\\ty\\nz"}']
    assert diff(evtool, "0", "--json")[0].endswith('"after":{"a":\t1,\t"b": "x\\ty\\nz"}}')


def test_a_key_that_another_program_wrote_with_escapes_is_the_same_key(evtool: Program) -> None:
    write_log(evtool, "t", [moment(BIG)], head='"key":"\\u0061\\/b",')
    append(evtool, "t", "--key=a/b", "1")
    assert diff(evtool, "1") == ["changed\ta/b\t0\t1"]


def test_on_a_terminal_there_is_a_table_in_which_nothing_is_obeyed(evtool: Program) -> None:
    append(evtool, "t", "--key=\x1b]0;title\x07", "1")
    append(evtool, "t", "--key=\u202e\u0085", '"[bold]\x7f\u202e"')
    append(evtool, "t", "--key=x\nadded    forged", "1")
    shown = on_terminal(evtool, "diff", "t", "0", NO_COLOR="1")
    rows = [line.split() for line in shown.splitlines() if line.strip(" \u2500")]
    assert rows[0] == ["change", "key", "before", "after"]
    assert [row[0] for row in rows[1:]] == ["added"] * 3
    assert '"[bold]\\x7f\\u202e"' in shown
    assert '"x\\nadded    forged"' in shown
    assert not any(one in shown for one in "\x1b\x07\x7f\u202e\u0085")
    assert on_terminal(evtool, "diff", "t", "latest", NO_COLOR="1") == ""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_many_rows_all_come_once_in_their_order(evtool: Program, options: list[str]) -> None:
    assert evtool("append", "t", "--key-from=.k", input="".join(f'{{"k":"{n}"}}\n' for n in range(2500))).code == 0
    rows = diff(evtool, "0", *options)
    keys = [json.loads(row)["key"] if options else row.split("\t")[1] for row in rows]
    assert keys == [str(number) for number in range(2500)]


def test_a_compaction_up_to_the_first_place_does_not_change_it(keyed: Program) -> None:
    before = diff(keyed, "5", "9")
    assert keyed("compact", "t", "--yes", "--grace=0s", "--before=5").out.split("\t")[2] == "1"
    assert diff(keyed, "5", "9") == before


def test_a_compaction_that_comes_meanwhile_takes_no_key_away(evtool: Program, store: FileStore) -> None:
    """While it reads, a key gets a newer event, which is not of these states, and the one that is goes."""
    write(store, "a=1", "b=1", "a=2", "b=2")
    with Running(evtool, "diff", "t", "2", "4", code=DIFF_DURING_A_COMPACTION) as reader:
        result = reader.end()
    assert (result.code, result.err) == (0, "")
    assert result.lines == ["changed\ta\t1\t2", "changed\tb\t1\t2"]


@pytest.mark.parametrize("events", [(), ("=1 =2",)])
def test_where_there_is_no_key_nothing_changes(evtool: Program, store: FileStore, events: tuple[str, ...]) -> None:
    write(store, *events)
    assert diff(evtool, "earliest") == []
    assert diff(evtool, "0", "--json") == []


def test_a_line_that_is_no_event_is_said(keyed: Program) -> None:
    rewrite(keyed.segments("t")[-1], '{"offset":8', '["offset":8')
    result = keyed("diff", "t", "0")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: {keyed.segments('t')[-1]}: byte 0: this line is no event\n")


@pytest.mark.parametrize(("old", "new"), [('"data":1', '"dqta":1'), ('"key":"a"', '"key":"\\ud800"')])
def test_a_damaged_key_and_damaged_data_are_said(keyed: Program, old: str, new: str) -> None:
    rewrite(keyed.segments("t")[0], old, new)
    result = keyed("diff", "t", "2")
    assert (result.code, result.out) == (65, "")
    assert "damaged" in result.err or "no event" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (["t"], 2, "evtool: diff: missing argument 'WHERE'\nhint: "),
        (["t", "5", "4"], 2, "evtool: diff: 5 is later than 4\nhint: say the earlier one first\n"),
        (
            ["t", "latest", "earliest"],
            2,
            "evtool: diff: latest is later than earliest\nhint: say the earlier one first\n",
        ),
        (["t", "1", "2", "3"], 2, "evtool: diff: got unexpected extra argument"),
        (["none", "1"], 3, "evtool: none: no such topic\n"),
        (["t*", "1"], 2, "evtool: 't*': not a topic name\nhint: "),
        (["t", "12"], 4, "evtool: t: there is no offset 12 yet, the next is 10\n"),
        (["t", "1", "12"], 4, "evtool: t: there is no offset 12 yet, the next is 10\n"),
        (["t", "nowhere"], 2, "evtool: 'nowhere': not a position in a topic\nhint: "),
        (["t", "1", "nowhere"], 2, "evtool: 'nowhere': not a position in a topic\nhint: "),
        (["t", "group:none"], 3, "evtool: none: no such group of topic t\n"),
    ],
)
def test_what_makes_no_sense_is_refused(keyed: Program, arguments: list[str], code: int, err: str) -> None:
    result = keyed("diff", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(err)


def test_where_there_is_nothing_there_is_no_topic(evtool: Program) -> None:
    result = evtool("diff", "t", "1")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: t: no such topic\nhint: there are no topics yet; `evtool append` makes one\n"


def test_nobody_reading_the_output_is_no_error_and_says_nothing(keyed: Program) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with keyed.start("diff", "t", "0", stdout=theirs) as process:
        os.close(theirs)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == -signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said(keyed: Program) -> None:
    with open("/dev/full", "wb") as full, keyed.start("diff", "t", "0", stdout=full) as process:
        assert process.wait(PATIENCE) == 74
        assert process.stderr is not None
        assert process.stderr.read() == b"evtool: standard output: No space left on device\n"

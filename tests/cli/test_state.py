"""evtool state: the newest event of each key, byte for byte, now or as it was at any place or moment."""

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
from tests.topics import append, moment, stored_lines, write_commit, write_log

if TYPE_CHECKING:
    from evtool.stores.file import FileStore
    from tests.program import Program

EVENTS = ("a=1 b=1", "=0 a=2", "b=null c=1", "a=null c=2", "a=3 d=1")
BIG = 1e9  # the time of the first event in topics that are written by hand

STATE_DURING_A_COMPACTION = """
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


LATE_OPENING = """
from evtool.log import segment, state

class Late(list):
    def __init__(self, topic):
        super().__init__(state.segment_offsets(topic))
        self.topic = topic

    def __reversed__(self):
        for first in super().__reversed__():
            try:
                yield segment.Segment(self.topic, first)
            except FileNotFoundError:
                pass

state._as_of_now = Late
"""


@pytest.fixture
def keyed(evtool: Program, store: FileStore) -> Program:
    """Ten events in five segments: a is deleted and comes back, b is deleted, offset 2 has no key."""
    write(store, *EVENTS)
    return evtool


def state(program: Program, *options: str) -> list[str]:
    result = program("state", "t", *options)
    assert (result.code, result.err) == (0, ""), result
    return result.lines


def model(lines: list[str]) -> list[str]:
    """The state that lines make, by an independent way."""
    newest: dict[str, str] = {}
    for line in lines:
        event = json.loads(line)
        if "key" in event:
            newest.pop(event["key"], None)
            newest[event["key"]] = line
    return [line for line in newest.values() if json.loads(line)["data"] is not None]


def test_the_newest_of_each_key_is_given_out_as_it_is_stored(keyed: Program) -> None:
    lines = stored_lines(keyed, "t")
    result = keyed("state", "t")
    assert result.out == "".join(lines[offset] for offset in (7, 8, 9))
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("at", range(11))
def test_at_an_offset_it_is_what_all_before_that_make(keyed: Program, at: int) -> None:
    before = keyed("replay", "t", f"--until={at}").lines
    assert state(keyed, f"--at={at}") == model(before)


@pytest.mark.parametrize(
    ("where", "offset"),
    [
        ("earliest", 0), ("latest", 9), ("-1", 8), ("-4", 5), ("-99", 0), ("9", 9), ("group:g", 3),
        (f"@{BIG + 4}", 4), (f"@{BIG + 3.5}", 4), (moment(BIG + 6), 6), ("2001-09-09 01:46:45", 5), ("now", 9),
        ("yesterday", 9), ("2h", 9), ("2001-09-09", 0),
    ],
)  # fmt: skip
def test_a_place_is_said_as_everywhere(evtool: Program, where: str, offset: int) -> None:
    write_log(evtool, "t", [moment(BIG + second) for second in range(9)], head='"key":"k",')
    write_commit(evtool, 3)
    assert state(evtool, f"--at={where}", "--data") == ([str(offset - 1)] if offset else [])


def test_what_comes_at_the_very_moment_does_not_count(evtool: Program) -> None:
    times = [moment(BIG), moment(BIG + 1), moment(BIG + 1), moment(BIG + 2)]
    write_log(evtool, "t", times, head='"key":"k",')
    assert state(evtool, f"--at={times[1]}", "--data") == ["0"]
    assert state(evtool, f"--at={times[3]}", "--data") == ["2"]


def test_one_key_is_shown_alone_or_not_at_all(keyed: Program) -> None:
    lines = stored_lines(keyed, "t")
    assert state(keyed, "--key=c") == [lines[7].rstrip("\n")]
    assert state(keyed, "--key=c", "--at=7", "--data") == ["1"]
    assert state(keyed, "--key=a", "--at=8") == []
    for gone in ("b", "none", ""):
        assert state(keyed, f"--key={gone}") == []


def test_a_key_that_is_the_empty_string_is_a_key(evtool: Program) -> None:
    append(evtool, "t", "1")
    append(evtool, "t", "--key=", "2")
    assert state(evtool, "--data") == ["2"]
    assert state(evtool, "--key=", "--data") == ["2"]


@pytest.mark.parametrize("key", ['"', "\\", "a\nb", "\t", "\x1b[31m", "\u202e", "\U0001f600", " ", ',"data":', "u0041"])
def test_any_text_is_a_key(evtool: Program, key: str) -> None:
    for data in ("1", "2"):
        append(evtool, "t", f"--key={key}", data)
    assert [json.loads(line)["key"] for line in state(evtool)] == [key]
    assert state(evtool, f"--key={key}", "--data") == ["2"]


def test_a_key_that_another_program_wrote_with_escapes_is_the_same_key(evtool: Program) -> None:
    lines = write_log(evtool, "t", [moment(BIG)], head='"key":"\\u0061\\/b",')
    assert state(evtool, "--key=a/b") == [lines[0].rstrip("\n")]
    append(evtool, "t", "--key=a/b", "1")
    assert state(evtool, "--data") == ["1"]


def test_it_is_written_in_the_forms_of_other_commands(evtool: Program) -> None:
    append(evtool, "t", "--key=a", "--id=x", "--type=y", '"two\\nlines"')
    append(evtool, "t", "--key=b", '{"n": 1}')
    for options in (["-d"], ["-o", "text"], ["-o", "cloudevents"], ["-o", "pretty"], ["-0"], ["-d", "-0"]):
        assert evtool("state", "t", *options).raw == evtool("replay", "t", *options).raw, options
    assert evtool("state", "t", "-d", "-0").raw == b'"two\\nlines"\0{"n": 1}\0'


def test_on_a_terminal_no_key_can_forge_an_event_or_be_obeyed(evtool: Program) -> None:
    append(evtool, "t", "--key=x\n     9  2026-11-25 15:06:48.425Z  bank", "1")
    append(evtool, "t", "--key=\x1b]0;title\x07\u202e", '"\x7f"')
    shown = on_terminal(evtool, "state", "t", NO_COLOR="1")
    assert [line[:6] for line in shown.splitlines()] == ["     0", "     1"]
    assert "x\\n     9  2026-" in shown
    assert "\\x1b]0;title\\x07\\u202e" in shown
    assert "\x7f" not in shown


@pytest.mark.parametrize("events", [(), ("=1 =2",), ("a=1 a=null",)])
def test_where_there_is_no_key_there_is_no_state(evtool: Program, store: FileStore, events: tuple[str, ...]) -> None:
    write(store, *events)
    assert state(evtool) == []
    assert state(evtool, "--key=a") == []


@pytest.mark.parametrize("before", range(11))
def test_a_compaction_changes_no_state_but_those_before_its_place(keyed: Program, before: int) -> None:
    """And nothing stays before that place but what these states need, or what has no key."""
    states = [state(keyed, f"--at={at}") for at in range(before, 11)]
    lines = stored_lines(keyed, "t")
    assert keyed("compact", "t", "--yes", "--grace=0s", f"--before={min(before, 10)}").code == 0
    assert [state(keyed, f"--at={at}") for at in range(before, 11)] == states
    needed = {2, *range(min(before, 8), 10), *(json.loads(line)["offset"] for line in states[0])}
    assert stored_lines(keyed, "t") == [line for offset, line in enumerate(lines) if offset in needed]


def test_a_compaction_that_comes_meanwhile_takes_no_key_away(evtool: Program, store: FileStore) -> None:
    """While it reads, a key gets a newer event, which is not of this state, and the one that is goes."""
    write(store, "a=1", "b=1", "c=1")
    with Running(evtool, "state", "t", "--at=3", "--data", code=STATE_DURING_A_COMPACTION) as reader:
        result = reader.end()
    assert (result.code, result.out, result.err) == (0, "1\n1\n1\n", "")


def test_the_check_above_finds_one_that_opens_segments_only_as_it_comes_to_them(
    evtool: Program, store: FileStore
) -> None:
    """Its control: a and b were compacted away before it came to them."""
    write(store, "a=1", "b=1", "c=1")
    with Running(evtool, "state", "t", "--at=3", "--data", code=LATE_OPENING + STATE_DURING_A_COMPACTION) as reader:
        assert "1\n1\n1\n" not in reader.end().out


def test_it_changes_nothing(keyed: Program) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in keyed.topic("t").iterdir()}
    state(keyed, "--at=5")
    state(keyed, "--key=a")
    assert {path.name: path.stat().st_mtime_ns for path in keyed.topic("t").iterdir()} == before


@pytest.mark.parametrize("options", [[], ["--data"], ["--key=a"]])
def test_a_line_that_is_no_event_is_said_and_nothing_is_shown(keyed: Program, options: list[str]) -> None:
    path = keyed.segments("t")[0 if "--key=a" not in options else -1]
    rewrite(path, '{"offset":', '["offset":')
    result = keyed("state", "t", *options)
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: {path}: byte 0: this line is no event\n")


@pytest.mark.parametrize("options", [[], ["--key=x"]])
def test_a_key_that_is_no_text_is_damage_too(evtool: Program, options: list[str]) -> None:
    write_log(evtool, "t", [moment(BIG)], head='"key":"\\ud800",')
    result = evtool("state", "t", *options)
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: {evtool.segments('t')[0]}: byte 0: ")


def test_a_line_without_data_is_damage_where_data_are_wanted(keyed: Program) -> None:
    path = keyed.segments("t")[-1]
    rewrite(path, '"data":3', '"dqta":3')
    result = keyed("state", "t", "--data")
    assert (result.code, result.out) == (65, "2\n")
    assert result.err.startswith('evtool: a stored line that begins with {"offset":8,')
    assert result.err.endswith("is damaged\nhint: see evtool verify\n")


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        ([], 2, "evtool: state: missing argument 'TOPIC'\nhint: "),
        (["none"], 3, "evtool: none: no such topic\n"),
        (["tt"], 3, "evtool: tt: no such topic\nhint: did you mean t?\n"),
        (["t*"], 2, "evtool: 't*': not a topic name\nhint: "),
        (["t", "--at=nowhere"], 2, "evtool: 'nowhere': not a position in a topic\nhint: "),
        (["t", "--at=12"], 4, "evtool: t: there is no offset 12 yet, the next is 10\n"),
        (["t", "--at=group:none"], 3, "evtool: none: no such group of topic t\n"),
    ],
)
def test_what_makes_no_sense_is_refused(keyed: Program, arguments: list[str], code: int, err: str) -> None:
    result = keyed("state", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(err)


def test_where_there_is_nothing_there_is_no_topic(evtool: Program) -> None:
    result = evtool("state", "t")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: t: no such topic\nhint: there are no topics yet; `evtool append` makes one\n"


def test_nobody_reading_the_output_is_no_error_and_says_nothing(keyed: Program) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with keyed.start("state", "t", stdout=theirs) as process:
        os.close(theirs)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == -signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said(keyed: Program) -> None:
    with open("/dev/full", "wb") as full, keyed.start("state", "t", stdout=full) as process:
        assert process.wait(PATIENCE) == 74
        assert process.stderr is not None
        assert process.stderr.read() == b"evtool: standard output: No space left on device\n"


def test_many_keys_come_in_the_order_of_the_log(evtool: Program) -> None:
    """More than one block of output, more than one table of keys, every second key superseded."""
    lines = [f'{{"k":"{number}"}}' for number in [*range(30_000), *range(0, 30_000, 2)]]
    evtool("create", "t", "-q", "segment-bytes=1MiB")
    assert evtool("append", "t", "--key-from=.k", input="\n".join(lines)).code == 0
    assert state(evtool) == model([line.rstrip("\n") for line in stored_lines(evtool, "t")])
    assert state(evtool, "--key=28", "--data") == ['{"k":"28"}']

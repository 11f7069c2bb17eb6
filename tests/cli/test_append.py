"""evtool append: what is stored, what is said, and when it is acknowledged."""

from __future__ import annotations

import calendar
import json
import os
import pty
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from evtool.log.topic import TopicLog
from tests.program import PATIENCE, Program, Result, finish, wait_until
from tests.running import Running, linux
from tests.topics import append, numbers, open_directory, stored_lines

if TYPE_CHECKING:
    from pathlib import Path

SILENCE = (0, "", "")


def said(result: Result) -> tuple[int, str, str]:
    return result.code, result.out, result.err


def attributes(evtool: Program, topic: str = "t") -> list[dict[str, Any]]:
    """All attributes of the stored events but those that evtool itself makes."""
    events = [json.loads(line) for line in stored_lines(evtool, topic)]
    return [{name: event[name] for name in event if name not in ("offset", "time", "crc", "data")} for event in events]


def data(evtool: Program, topic: str = "t") -> list[Any]:
    return [json.loads(line)["data"] for line in stored_lines(evtool, topic)]


# From arguments and from standard input


def test_arguments_are_events(evtool: Program) -> None:
    assert said(evtool("append", "t", '{"a":1}', "[2]", "3", '"four"', "null")) == SILENCE
    assert data(evtool) == [{"a": 1}, [2], 3, "four", None]


@pytest.mark.parametrize("dash", [[], ["-"]])
def test_lines_of_the_input_are_events(evtool: Program, dash: list[str]) -> None:
    assert said(evtool("append", "t", *dash, input='{"a":1}\n\n  2 \r\n3')) == SILENCE
    assert data(evtool) == [{"a": 1}, 2, 3]


def test_no_input_stores_nothing(evtool: Program) -> None:
    assert said(evtool("append", "t", input="")) == SILENCE
    assert evtool.segments("t") == []


def test_an_event_that_begins_with_a_dash_stands_behind_two(evtool: Program) -> None:
    assert said(evtool("append", "t", "--", "-1")) == SILENCE
    assert data(evtool) == [-1]


def test_newlines_between_the_parts_of_an_argument_become_blanks(evtool: Program) -> None:
    assert said(evtool("append", "t", '\n{\n  "a": 1\r\n}\n')) == SILENCE
    (line,) = stored_lines(evtool, "t")
    assert line.endswith('"data":{   "a": 1\r }}\n')


def test_of_several_arguments_all_are_stored_or_none(evtool: Program) -> None:
    result = evtool("append", "t", "1", "{bad", "3")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith("evtool: t: event 2: not JSON: ")
    assert result.err.count("\n") == 1
    assert evtool.segments("t") == []


def test_events_of_the_input_end_with_nul_if_asked(evtool: Program) -> None:
    assert said(evtool("append", "t", "-0", "--text", input="two\nlines\0one\0")) == SILENCE
    assert data(evtool) == ["two\nlines", "one"]


def test_a_terminal_as_input_gets_a_hint_and_no_wait(evtool: Program) -> None:
    leader, follower = pty.openpty()
    process = evtool.start("append", "t", stdin=follower)
    os.close(follower)
    out, err = process.communicate(timeout=PATIENCE)
    os.close(leader)
    assert (process.returncode, out) == (2, b"")
    assert err == (
        b"evtool: append: no events: standard input is a terminal\n"
        b"hint: pipe events in, give them as arguments, or say - to type them\n"
    )
    assert not evtool.home.exists()


def test_events_may_be_typed(evtool: Program) -> None:
    leader, follower = pty.openpty()
    process = evtool.start("append", "t", "-", stdin=follower)
    os.close(follower)
    os.write(leader, b"1\n")
    wait_until(lambda: evtool.segments("t") and evtool.log("t"))
    os.write(leader, b"\x04")
    out, err = process.communicate(timeout=PATIENCE)
    os.close(leader)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert data(evtool) == [1]


# As it comes


def test_an_event_is_readable_at_once_though_the_pipe_stays_open(evtool: Program) -> None:
    append(evtool, "t", "0")
    with Running(evtool, "tail", "t", "-f", "--data", "-n0") as follower:
        follower.await_waiting()
        producer = evtool.start("append", "t", "--offsets")
        assert producer.stdin is not None
        assert producer.stdout is not None
        for number in range(1, 4):
            producer.stdin.write(b"%d\n" % number)
            producer.stdin.flush()
            assert producer.stdout.readline() == b"%d\n" % number  # acknowledged: the pipe is open, and quiet
            follower.await_out("".join(f"{one}\n" for one in range(1, number + 1)))
        result = finish(producer)
    assert said(result) == SILENCE


def test_half_an_event_waits_for_the_rest_of_its_line(evtool: Program) -> None:
    producer = evtool.start("append", "t", "--offsets")
    assert producer.stdin is not None
    assert producer.stdout is not None
    producer.stdin.write(b'1\n{"a":')
    producer.stdin.flush()
    assert producer.stdout.readline() == b"0\n"
    assert data(evtool) == [1]
    producer.stdin.write(b"2}\n")
    producer.stdin.flush()
    assert producer.stdout.readline() == b"1\n"
    assert said(finish(producer)) == SILENCE
    assert data(evtool) == [1, {"a": 2}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_the_input_keeps_what_was_acknowledged(evtool: Program, number: int) -> None:
    producer = evtool.start("append", "t", "--offsets", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert producer.stdin is not None
    assert producer.stdout is not None
    producer.stdin.write(b"1\n2")
    producer.stdin.flush()
    assert producer.stdout.readline() == b"0\n"
    producer.send_signal(number)
    _, err = producer.communicate(timeout=PATIENCE)
    assert (producer.returncode, err) == (-number, b"")
    assert data(evtool) == [1]


# What is said


def test_offsets_are_printed_one_a_line(evtool: Program) -> None:
    assert said(evtool("append", "t", "1", "2", "--offsets")) == (0, "0\n1\n", "")
    assert said(evtool("append", "t", "--offsets", input="3\n4\n")) == (0, "2\n3\n", "")


@pytest.mark.parametrize(
    ("events", "words"),
    [([], "stored no events"), (["1"], "stored 1 event, offset 0"), (["1", "2"], "stored 2 events, offsets 0 to 1")],
)
def test_verbose_says_what_was_stored(evtool: Program, events: list[str], words: str) -> None:
    for arguments, text in ((events, ""), ([], "\n".join(events))):
        if not arguments and evtool.segments("t"):
            words = words.replace("offset 0", "offset 1").replace("0 to 1", "2 to 3")
        assert said(evtool("append", "t", "-v", *arguments, input=text)) == (0, "", f"evtool: t: {words}\n")


# Attributes


def test_attributes_from_options(evtool: Program) -> None:
    options = ["-k", 'a "key" \u2028 ☃', "-t", "order.paid", "--source", "shop", "--id", "7"]
    assert said(evtool("append", "t", *options, "--attr", "trace=x=y", "--attr", "n=", "1")) == SILENCE
    expected = {"key": 'a "key" \u2028 ☃', "type": "order.paid", "source": "shop", "id": "7", "trace": "x=y", "n": ""}
    assert attributes(evtool) == [expected]


EVENT = '{"user":{"id":7,"name":"ann"},"items":[{"sku":"x"}],"none":null,"ok":true,"":"empty","list":[]}'


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (".user.name", "ann"),
        (".user.id", "7"),
        (".items[0].sku", "x"),
        (".ok", "true"),
        (".none", None),
        (".nosuch.deeper", None),
        (".items[3].sku", None),
        (".list", None),
        (".user.id.deeper", None),
    ],
)
def test_a_key_is_taken_from_the_event(evtool: Program, path: str, key: str | None) -> None:
    expected = [{}] if key is None else [{"key": key}]
    assert said(evtool("append", "t", "--key-from", path, EVENT)) == SILENCE
    assert said(evtool("append", "u", "--key-from", path, input=EVENT)) == SILENCE
    assert attributes(evtool) == attributes(evtool, "u") == expected
    assert data(evtool) == [json.loads(EVENT)]


@pytest.mark.parametrize("path", ["", ".", "user", ".user.", "..", ".a[b]", ".a[1", ".a[-1]", ".a]0["])
def test_a_path_that_is_none_is_refused(evtool: Program, path: str) -> None:
    for option in ("--key-from", "--id-from"):
        result = evtool("append", "t", option, path, EVENT)
        if path:
            assert (result.code, result.out) == (2, "")
            assert "not a path into an event" in result.err
        else:
            assert said(result) == SILENCE  # as if it had not been said, like every empty variable of a script


def test_an_id_is_taken_from_the_event_or_it_is_refused(evtool: Program) -> None:
    result = evtool("append", "t", "--id-from", ".id", input='{"id":1}\n{"no":2}\n{"id":"3"}\n{"id":1}\n')
    assert (result.code, result.err) == (65, "evtool: t: line 2: no id at .id\n")
    assert attributes(evtool) == [{"id": "1"}, {"id": "3"}]


def test_an_id_stores_an_event_once(evtool: Program) -> None:
    for _ in range(3):
        assert said(evtool("append", "t", "--id", "a", "--offsets", "1")) == (0, "0\n", "")
    assert said(evtool("append", "t", "--id", "b", "--offsets", "2")) == (0, "1\n", "")
    assert said(evtool("append", "t", "--id", "a", "--offsets", input="3\n")) == (0, "0\n", "")
    assert data(evtool) == [1, 2]


def test_one_id_is_not_for_several_events(evtool: Program) -> None:
    result = evtool("append", "t", "--id", "a", "1", "2")
    assert (result.code, result.err) == (
        2,
        "evtool: append: --id is for one event\nhint: --id-from takes each event's own\n",
    )
    result = evtool("append", "t", "--id", "a", input="1\n2\n")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith("evtool: t: line 2: --id is for one event")
    assert data(evtool) == [1]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--id", "1", "--id-from", ".id"], "--id and --id-from exclude each other"),
        (["--key", "1", "--key-from", ".id"], "--key and --key-from exclude each other"),
        (["--text", "--key-from", ".id"], "--text has no fields"),
        (["--expect-offset", "-1"], "--expect-offset is below 0"),
        (["--atomic", "--id-from", ".id"], "--atomic cannot leave out what is already there"),
        (["--attr", "nothing"], "'nothing': not an attribute"),
        (["--attr", "UPPER=1"], "'UPPER=1': not an attribute"),
        (["--attr", "=1"], "'=1': not an attribute"),
        (["--attr", "crc=1"], "'crc=1': crc is a name of evtool's own"),
        (["--attr", "offset=1"], "'offset=1': offset is a name of evtool's own"),
        (["--attr", "topic=1"], "'topic=1': topic is a name of evtool's own"),
        (["--attr", "key=1"], "'key=1': there is an option for that: --key"),
        (["--timeout", "soon"], "'soon': "),
        (["--timeout", "-1s"], "'-1s': "),
    ],
)
def test_options_that_make_no_sense_are_refused_with_2(evtool: Program, given: list[str], complaint: str) -> None:
    for events in (["1"], []):
        result = evtool("append", "t", *given, *events, input="1\n")
        assert (result.code, result.out) == (2, "")
        assert complaint in result.err
        assert result.err.startswith("evtool: ")
    assert evtool.segments("t") == []


CLOUDEVENT = {
    "specversion": "1.0",
    "id": "A1",
    "source": "/shop",
    "type": "order.paid",
    "subject": "u1",
    "time": "2026-01-01T00:00:00Z",
    "traceparent": "00-1",
    "datacontenttype": "application/json",
    "data": {"a": [1, 2.5]},
}


def test_cloudevents_are_taken_apart_and_put_together_again(evtool: Program) -> None:
    for _ in range(2):  # their id is an id
        assert said(evtool("append", "t", "--cloudevents", input=json.dumps(CLOUDEVENT))) == SILENCE
    expected = {
        "id": "A1",
        "source": "/shop",
        "type": "order.paid",
        "key": "u1",
        "eventtime": "2026-01-01T00:00:00Z",
        "traceparent": "00-1",
    }
    assert attributes(evtool) == [expected]
    assert data(evtool) == [{"a": [1, 2.5]}]
    (back,) = evtool("replay", "t", "--output", "cloudevents").events
    for name in ("specversion", "source", "type", "time", "traceparent", "data"):
        assert back[name] == CLOUDEVENT[name]


@pytest.mark.parametrize(
    "event",
    ['{"a":1}', "[]", '{"specversion":"0.3"}', '{"specversion":"1.0","Bad Name":"x"}', '{"specversion":"1.0","a":[]}'],
)
def test_what_is_no_cloudevent_is_refused(evtool: Program, event: str) -> None:
    result = evtool("append", "t", "--cloudevents", input=event)
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith("evtool: t: line 1: not a CloudEvent: ")


# Text


def test_any_output_is_text(evtool: Program) -> None:
    lines = ['a "quoted" \\ one', "", "\ttab \x01\x1b[31m", "ünïcödé \u2028 ☃ 𝄞", "{not json}"]
    assert said(evtool("append", "t", "--text", input="\n".join(lines) + "\n")) == SILENCE
    assert data(evtool) == lines
    assert evtool("replay", "t", "--output", "text").out == "".join(f"{one}\n" for one in lines)


def test_a_carriage_return_belongs_to_the_text(evtool: Program) -> None:
    assert said(evtool("append", "t", "--text", input="50%\r100%\r\n")) == SILENCE
    assert data(evtool) == ["50%\r100%\r"]


# Conditions


def test_the_offset_that_was_expected(evtool: Program) -> None:
    assert said(evtool("append", "t", "--expect-offset", "0", "1")) == SILENCE
    assert said(evtool("append", "t", "--expect-offset", "1", input="2\n3\n")) == SILENCE
    result = evtool("append", "t", "--expect-offset", "2", "4")
    assert said(result) == (4, "", "evtool: t: the next offset is 3, not 2\n")
    assert data(evtool) == [1, 2, 3]


def test_of_two_who_expect_the_same_offset_one_wins(evtool: Program) -> None:
    append(evtool, "t", "0")
    rivals = [evtool.start("append", "t", "--expect-offset", "1", str(number)) for number in range(8)]
    assert sorted(finish(one).code for one in rivals) == [0] + [4] * 7
    assert len(data(evtool)) == 2


def test_atomic_stores_all_or_nothing(evtool: Program) -> None:
    append(evtool, "t", '"before"')
    good = "".join(f"{number}\n" for number in range(1000))
    result = evtool("append", "t", "--atomic", input=good + "{bad\n")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith("evtool: t: line 1001: not JSON: ")
    assert result.err.endswith("evtool: t: nothing was stored, as --atomic demands\n")
    assert data(evtool) == ["before"]
    assert said(evtool("append", "t", "--atomic", input=good)) == SILENCE
    assert data(evtool) == ["before", *range(1000)]


def test_atomic_shows_nothing_before_all_is_there(evtool: Program) -> None:
    producer = evtool.start("append", "t", "--atomic", "--offsets")
    assert producer.stdin is not None
    producer.stdin.write(b"1\n2\n")
    producer.stdin.flush()
    append(evtool, "t", '"between"')  # it does not keep others waiting either
    assert data(evtool) == ["between"]
    assert said(finish(producer)) == (0, "1\n2\n", "")
    assert data(evtool) == ["between", 1, 2]


# The lock


def test_a_lock_that_is_held_too_long_ends_with_75(evtool: Program) -> None:
    append(evtool, "t", "1")
    log = TopicLog(open_directory(evtool.topic("t")), "t")
    log.lock()
    result = evtool("append", "t", "--timeout", "50ms", "2")
    assert (result.code, result.out) == (75, "")
    assert result.err == (
        f"evtool: t: process {os.getpid()} holds the lock; gave up after 0.05 s\n"
        f"hint: see what it does: ps -fp {os.getpid()}\n"
    )
    assert data(evtool) == [1]


def test_who_waits_long_is_told_for_whom(evtool: Program) -> None:
    append(evtool, "t", "1")
    log = TopicLog(open_directory(evtool.topic("t")), "t")
    log.lock()
    with Running(evtool, "append", "t", "2") as producer:
        wait_until(lambda: producer.err)
        assert producer.err.startswith("evtool: t: waiting for the lock")
        assert str(os.getpid()) in producer.err
        del log
        assert producer.end().code == 0
    assert data(evtool) == [1, 2]


# Beside the topic


def test_refused_lines_are_kept_in_a_file(evtool: Program, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    for _ in range(2):
        result = evtool("append", "t", "--rejects", str(rejects), input=b"1\n{bad\n2\n\xff\n3")
        assert result.code == 65
    assert rejects.read_bytes() == b"{bad\n\xff\n" * 2
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    assert data(evtool) == [1, 2, 3] * 2


def test_a_file_for_refused_lines_that_cannot_be_written_is_said_first(evtool: Program, tmp_path: Path) -> None:
    result = evtool("append", "t", "--rejects", str(tmp_path / "no" / "such"), input="1\n")
    assert said(result) == (74, "", f"evtool: {tmp_path}/no/such: No such file or directory\n")
    assert evtool.segments("t") == []


def test_all_that_is_made_is_private(evtool: Program) -> None:
    assert said(evtool("append", "t", "1", preexec_fn=lambda: os.umask(0))) == SILENCE
    modes = {path.relative_to(evtool.home.parent): stat.S_IMODE(path.stat().st_mode) for path in evtool.home.rglob("*")}
    assert modes
    for path, mode in modes.items():
        assert mode & 0o077 == 0, path


def test_a_follower_that_never_reads_keeps_no_producer_waiting(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 3))
    lazy = evtool.start("replay", "t", "--follow")
    for _ in range(30):
        assert said(evtool("append", "t", input="9\n" * 1000)) == SILENCE
    lazy.kill()
    lazy.communicate()


@linux
def test_acknowledged_means_synced(evtool: Program) -> None:
    """An offset is printed after the system call that makes its event durable; with --sync never there is none."""
    for when in ("always", "never"):
        trace = evtool.home.parent / f"trace.{when}"
        command = ["strace", "-f", "-e", "trace=write,fdatasync,fsync", "-o", str(trace)]
        command += [str(part) for part in evtool.command("append", "t", "--offsets", "--sync", when, "1")]
        environment = evtool.environment({})
        try:
            run = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=False)
        except FileNotFoundError:
            pytest.skip("strace is not installed")
        if run.returncode:
            pytest.skip(f"strace does not work here: {run.stderr.decode()}")
        calls = trace.read_text()
        stored, told = calls.index('"offset\\":'), calls.index('write(1, "')
        synced = calls.find("fdatasync(", stored)
        assert (stored < synced < told) if when == "always" else synced == -1


def test_time_is_that_of_the_append(evtool: Program) -> None:
    before = time.time()
    append(evtool, "t", "1")
    (line,) = stored_lines(evtool, "t")
    text = json.loads(line)["time"]
    stamp = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    assert text[26:] == "Z"
    assert int(before) <= calendar.timegm(stamp) <= time.time()

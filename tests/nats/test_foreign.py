"""What evtool has not put there: messages, records, streams and consumers of others, through every command that reads.

Never a traceback, never an end in the midst; what a message carries is there as data; and a terminal is not lied to.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import ConfigurationError
from evtool.stores.nats import names, stream
from tests.program import Program, finish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.nats.program import NatsProgram
    from tests.nats.server import Server

    Programs = Callable[[str], NatsProgram]

# No events of ours, whatever they look like.
FOREIGN = [
    b"",
    b"plain",
    b"null",
    b"nan",
    b"0" * 400,
    b'"\x1b[31m"',
    b'{"b":\n2}',
    b"\xff\xfe",
    b'\xef\xbb\xbf{"data":1}',
    b"\xc2\x9b31m\xe2\x80\xae",
    b"[" * 5000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b'{"data":',
    b'{"data":nan}',
    b'{"data":1}{"data":2}',
    b'{"data":1}\r\n',
    b' {"data":1}',
    b'{"data" :1}',
    b'{"Data":1}',
    b'{"key":7,"data":1}',
    b'{"key":"a\x01","data":1}',
    b'{"key":"\\ud800","data":1}',
    b'{"key":"k","data":1,"more":2}',
    b'{"data":1,"key":"k"}',
    b'{"offset":5,"time":"2026-01-01T00:00:00.000000Z","data":1}',
    b'{"crc":"00000000","data":1}',
    b'{"topic":"u","evgroup":"g","data":1}',
    b'{"1st":"x","data":1}',
    b"x" * 300_000,
]
# Events of ours, which somebody else has made.
OURS = [b'{"data":1}', b'{"key":"k","data":"\\u001b[5m"}', b'{"foreign":"x","type":"t","data":{"a": 1}}']
HEADERS = [{}, {"X-Odd": "1"}, {"Nats-Marker-Reason": "MaxAge"}, {"KV-Operation": "DEL"}]
GROUP = ["subscribe", "t", "--from=earliest", "--drain", "-g"]
ECHO = ["sed", "-u", r"s/^{.offset.:\([0-9]*\),.*/\1/"]  # a worker


@pytest.fixture
def evtool(server: Server, nats_program: Programs) -> NatsProgram:
    """The program on a topic of one event, all the foreign messages, and what is ours after all."""
    evtool = nats_program(server.url)
    assert evtool("append", "t", '{"a":1}', "--key=k").code == 0
    with server.wire() as wire:
        for number, payload in enumerate([*FOREIGN, *OURS]):
            wire.publish(names.subject_of("t"), payload, HEADERS[number % len(HEADERS)])
    return evtool


def expected_data(payload: bytes) -> Any:
    """What is shown of a foreign message."""
    try:
        return _loads(payload)
    except ValueError:
        pass
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


def _loads(payload: bytes) -> Any:
    """A JSON value as the log takes it: as all readers of JSON do, whatever Python's does."""
    text = payload.decode()
    if "\\ud8" in text or text.startswith(("\ufeff", "[" * 2000)) or re.search(r"\bnan\b", text):
        raise ValueError("no JSON, or not for all")
    return json.loads(text)


def test_what_a_message_carries_is_there_as_data(evtool: NatsProgram) -> None:
    """With an attribute that says whose it is; what has the form of our events is an event like any other."""
    result = evtool("replay", "t")
    assert (result.code, result.err) == (0, "")
    assert [event["offset"] for event in result.events] == [*range(1 + len(FOREIGN) + len(OURS))]
    foreign, ours = result.events[1 : 1 + len(FOREIGN)], result.events[1 + len(FOREIGN) :]
    for payload, event in zip(FOREIGN, foreign, strict=True):
        assert list(event) == ["offset", "time", "foreign", "data"], payload[:60]
        assert (event["foreign"], event["data"]) == ("nats", expected_data(payload)), payload[:60]
    for payload, event in zip(OURS, ours, strict=True):
        assert json.loads(payload) == {name: event[name] for name in event if name not in ("offset", "time")}
    assert evtool("replay", "t", "--where", 'foreign == "nats" and data.b == 2', "-d").out == '{"b": 2}\n'
    assert len(evtool("replay", "t", "--key=k").lines) == 2
    assert len(evtool("replay", "t*", "--jq", ".data").lines) == len(result.lines) - result.out.count('"data":null}')


@pytest.mark.parametrize("form", ["line", "pretty", "text", "data", "cloudevents"])
def test_they_are_written_in_every_form(evtool: NatsProgram, form: str) -> None:
    result = evtool("replay", "t", "--output", form)
    assert (result.code, result.err) == (0, "")
    if form != "pretty":
        assert len(result.lines) == 1 + len(FOREIGN) + len(OURS)


def test_they_are_handled_like_any_other(evtool: NatsProgram) -> None:
    """By commands, by workers, in batches, shared, and by the far end of a pipe."""
    everything = sorted(evtool("replay", "t").lines)
    for options in (["a"], ["b", "--", "cat"], ["c", "--batch=7", "--", "cat"], ["d", "--share", "--", "cat"]):
        result = evtool(*GROUP, *options)
        assert (result.code, result.err) == (0, ""), options
        assert sorted(result.lines) == everything, options  # batches keep the order of each key
    assert evtool(*GROUP, "e", "--worker", "--", *ECHO).code == 0
    given = evtool.start(*GROUP, "f", "--manual")
    commit = evtool.start("commit", stdin=given.stdout)
    assert (commit.wait(), finish(given).code) == (0, 0)
    assert finish(commit).err == ""
    rows = evtool("groups", "t", "--json").events
    assert {row["group"]: row["lag"] for row in rows} == dict.fromkeys("abcdef", 0)


def test_they_are_set_aside_and_come_again(server: Server, evtool: NatsProgram) -> None:
    """With nothing lost of what they carry; what somebody has put among the dead letters stops nobody."""
    everything = evtool("replay", "t").out
    assert evtool(*GROUP, "g", "--retries=0", "-q", "--", "false").code == 1
    assert len(evtool("dead", "t", "--json").events) == len(everything.splitlines())
    with server.wire() as wire:
        for payload in (b"no dead letter", b'{"deadtopic":"t","deadoffset":"x","deadgroup":"g","data":1}'):
            wire.publish(names.subject_of("t.dead"), payload)
    assert evtool("dead", "t").code == 0
    redriven = evtool("redrive", "t", "--all")
    assert (redriven.code, redriven.out) == (0, ""), redriven
    again = evtool(*GROUP, "g", "--", "cat")
    assert (again.code, again.out) == (0, everything)


def test_they_are_sent_on(evtool: NatsProgram, tmp_path: Path) -> None:
    """By fan-out and by mirror, to a cluster and to files and back; the data are the same everywhere."""
    data = evtool("replay", "t", "--data").out
    file = tmp_path / "sunk"
    sinks = ["--to=topic:copy", f"--to=file:{file}", "--to=exec:cat"]
    sent = evtool("fanout", "t", "--from=earliest", "--drain", *sinks)
    assert (sent.code, sent.out, sent.err) == (0, evtool("replay", "t").out, "")
    assert file.read_text() == evtool("replay", "t").out
    assert evtool("replay", "copy", "--data").out == data
    files = Program(tmp_path / "files")
    assert evtool("mirror", evtool.url, f"file:{files.home}", "t").code == 0
    assert files("replay", "t", "--data").out == data
    assert files("verify", "t").code == 0
    assert evtool("rm", "t", "--yes", "-q").code == 0
    assert evtool("mirror", f"file:{files.home}", evtool.url, "t").code == 0
    assert evtool("replay", "t", "--data").out == data


def test_verify_tells_of_them(evtool: NatsProgram) -> None:
    """As runs of offsets, and of nothing else; what has our form is no problem."""
    result = evtool("verify", "t")
    assert result.code == 65
    span = f"offsets 1 to {len(FOREIGN)}"
    assert result.err == f"evtool: evtool_t: {span}: no event of evtool's, somebody else has published it\n"


def test_whoever_counts_and_compares_takes_them_as_they_are(evtool: NatsProgram) -> None:
    for command in (
        ["topics"],
        ["state", "t"],
        ["diff", "t", "0"],
        ["trim", "t", "--before=5", "--dry-run"],
        ["set", "t"],
    ):
        result = evtool(*command)
        assert (result.code, result.err) == (0, ""), command
    assert len(evtool("state", "t").lines) == 1
    assert evtool("state", "t", "--key=k", "--data").out == '"\\u001b[5m"\n'


def test_a_terminal_is_not_lied_to(evtool: NatsProgram) -> None:
    """Control characters and those that turn the direction of text arrive as escapes, in every form of output."""
    assert evtool(*GROUP, "g", "--retries=0", "--", "sh", "-c", "printf '\\033[31m\\a' >&2; false").code == 1
    for command in (
        ["tail", "t", "-n", "50"],
        ["replay", "t", "--output=line"],
        ["replay", "t", "--output=text"],
        ["replay", "t", "--output=cloudevents"],
        ["replay", "t", "--data"],
        ["subscribe", "t", "-g", "h", "--from=earliest", "--drain"],
        ["state", "t"],
        ["diff", "t", "0"],
        ["dead", "t"],
        ["replay", "t.dead"],
        ["groups"],
        ["verify", "t"],
    ):
        shown = _on_terminal(evtool, *command)
        assert shown, command
        odd = {one for one in _OUR_COLOURS.sub("", shown) if not (one.isprintable() or one in "\r\n")}
        assert not odd, command
        assert "\x1b[31m" not in shown, command
        assert "\x1b[5m" not in shown, command


def test_control_a_terminal_is_seen_to_be_lied_to(evtool: NatsProgram) -> None:
    """What is written by others arrives as it is."""
    shown = _on_terminal(evtool, "subscribe", "t", "--from=2", "--count=1", "--", "printf", "\\033[31m\\a")
    assert "\x1b[31m\x07" in shown


RECORDS = [b"", b"no record", b"null", b"[]", b"{}", b"\xff", b'{"committed":"x"}', b'{"handled":"5-1"}']


def test_a_record_that_makes_no_sense_says_nothing(server: Server, nats_program: Programs) -> None:
    """What a group has acknowledged stays so, and every command goes on."""
    evtool = nats_program(server.url)
    assert evtool("append", "t", "1", "2").code == 0
    groups = {f"g{number}": record for number, record in enumerate(RECORDS)}
    for group in groups:
        assert evtool("subscribe", "t", "-g", group, "--from=earliest", "--count=1").code == 0
    with server.wire() as wire:
        for group, record in groups.items():
            wire.publish(names.record_subject("t", group), record)
    rows = evtool("groups", "t", "--json")
    assert (rows.code, rows.err) == (0, "")
    assert {row["group"]: row["committed"] for row in rows.events} == dict.fromkeys(groups, 1)
    for command, code in ((["topics"], 0), (["verify", "t"], 0), (["redrive", "t", "--all"], 0)):
        assert evtool(*command).code == code, command
    for group in groups:
        result = evtool("subscribe", "t", "-g", group, "--drain", "--data")
        assert (result.code, result.out, result.err) == (0, "2\n", ""), groups[group]


STREAMS: dict[str, dict[str, Any]] = {
    "elsewhere": {"subjects": ["other.>"]},
    "copy": {"mirror": {"name": "other"}},
    "sources": {"sources": [{"name": "other"}]},
    "mute": {"subjects": ["evtool.mute"], "no_ack": True},
}


OPTIONS = [["1"], ["1", "2"], ["1", "--id=x"], ["1", "--expect-offset=0"], ["1", "2", "--atomic"]]


def test_a_stream_that_takes_no_events_says_so_at_once(server: Server, nats_program: Programs) -> None:
    """An append ends with 78, not after half a minute with 75; whatever the stream has can be read."""
    evtool = nats_program(server.url)
    with server.wire() as wire:
        wire.api("STREAM.CREATE.other", {"name": "other", "subjects": ["third"]})
        for topic, config in STREAMS.items():
            name = names.stream_of(topic)
            wire.api(f"STREAM.CREATE.{name}", {"name": name} | config)
    for topic in STREAMS:
        for options in OPTIONS[: 1 if topic == "mute" else None]:  # that takes a first try without an answer
            result = evtool("append", topic, *options, "--timeout=20s", "-q")
            assert (result.code, result.out) == (78, ""), (topic, options, result)
            why = "acknowledge what it stores" if topic == "mute" else f"take what is published on evtool.{topic}"
            assert f"evtool: {topic}: its stream does not {why}\n" in result.err, (topic, options, result)
        assert evtool("replay", topic).code == 0


@pytest.mark.parametrize(
    ("subjects", "takes"),
    [
        (["evtool.a.b"], True),
        (["other", "evtool.*.b"], True),
        (["evtool.>"], True),
        (["*.a.*"], True),
        ([">"], True),
        (["evtool.*"], False),
        (["evtool.a.b.>"], False),
        (["evtool.a.b.c"], False),
        (["evtool.b.*"], False),
        ([], False),
        (None, False),
    ],
)
def test_which_streams_take_the_events_of_a_topic(subjects: list[str] | None, takes: bool) -> None:
    """Those that have a subject, or a pattern of subjects, for it."""
    with contextlib.nullcontext() if takes else pytest.raises(ConfigurationError, match="published on evtool.a.b"):
        stream.check_takes("a.b", {"subjects": subjects})


def test_a_consumer_of_somebody_else_is_left_alone(server: Server, nats_program: Programs) -> None:
    """One that is no queue of single acknowledgements cannot be a group: 78, whoever wants to use it."""
    evtool = nats_program(server.url)
    assert evtool("append", "t", "1").code == 0
    others: dict[str, dict[str, Any]] = {
        "push": {"deliver_subject": "there", "ack_policy": "none"},
        "none": {"ack_policy": "none"},
        "all": {"ack_policy": "all"},
    }
    with server.wire() as wire:
        for name, config in others.items():
            config |= {"name": name, "durable_name": name}
            body = {"stream_name": "evtool_t", "config": config}
            wire.api(f"CONSUMER.CREATE.evtool_t.{name}", body)
        for name in others:
            for command in (["subscribe", "t", "-g", name, "--drain"], ["seek", "t", "-g", name, "--to=0"]):
                result = evtool(*command)
                assert (result.code, result.out) == (78, ""), (command, result)
                assert "there is a consumer of that name which is not evtool's" in result.err
            config = wire.api(f"CONSUMER.INFO.evtool_t.{name}")["config"]
            assert config["ack_policy"] == others[name]["ack_policy"]


def test_streams_that_can_be_no_topics_are_not_listed(server: Server, nats_program: Programs) -> None:
    evtool = nats_program(server.url)
    with server.wire() as wire:
        for number, name in enumerate(["other", "evtool_UP", "evtool_%41", "evtool_=y", "evtool_=groups", "evtool_"]):
            wire.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"some.{number}"]})
    assert evtool("append", "t", "1").code == 0
    assert [row["topic"] for row in evtool("topics", "--json").events] == ["t"]


_OUR_COLOURS = re.compile("\x1b\\[(?:0|1|2|32|33|34|35|36|39|90)?m")


def _on_terminal(evtool: NatsProgram, *command: str) -> str:
    """What a terminal gets."""
    ours, theirs = os.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = evtool.start(*command, env={"TERM": "xterm"}, **streams)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 1 << 16):
            shown += data
    except OSError:  # nobody writes any more
        pass
    os.close(ours)
    process.wait()
    return shown.decode("utf-8", "replace")

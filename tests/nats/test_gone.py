"""The server is not there: before a command, during it, and after it; and what it kept goes away under consumers."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import pytest

from evtool.stores.nats import names
from tests.nats.faults import Producer, await_progress
from tests.program import PATIENCE, wait_until
from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.nats.program import NatsProgram
    from tests.nats.server import Server

    Servers = Callable[..., Server]
    Programs = Callable[[str], NatsProgram]

COMMANDS = [
    ["append", "t", "1"],
    ["tail", "t"],
    ["tail", "-f", "t"],
    ["replay", "t"],
    ["subscribe", "t"],
    ["subscribe", "t", "-g", "g", "--drain"],
    ["subscribe", "t", "-g", "g", "--share", "--", "true"],
    ["fanout", "t", "--to", "topic:u", "--drain"],
    ["topics"],
    ["groups"],
    ["commit", "t", "-g", "g"],
    ["seek", "t", "-g", "g", "--to", "0"],
    ["dead", "t"],
    ["redrive", "t", "--all"],
    ["create", "t"],
    ["set", "t"],
    ["rm", "t", "--yes"],
    ["trim", "t"],
    ["verify", "t"],
]
GROUPS = ("plain", "handled", "worked", "shared", "sunk")
_WORKER = (
    "import sys\nfor line in sys.stdin: open(sys.argv[1], 'a').write(line); print(line[10:line.index(',')], flush=True)"
)


def test_a_server_that_is_not_there_is_told_in_a_line_within_two_seconds(
    own_server: Servers, nats_program: Programs
) -> None:
    """Whatever the command, and the exit status is 75: try again."""
    evtool = nats_program(own_server(start=False).url)
    for command in COMMANDS:
        began = time.monotonic()
        result = evtool(*command)
        assert time.monotonic() - began < 3, command
        assert (result.code, result.out) == (75, ""), (command, result)
        first, *more = result.err.splitlines()
        assert first.startswith(f"evtool: {evtool.url}: "), command
        assert all(line.startswith("hint: ") for line in more), command


def test_one_that_hangs_is_no_different(own_server: Servers, nats_program: Programs) -> None:
    """It takes the connection and says nothing."""
    server = own_server()
    server.suspend()
    began = time.monotonic()
    result = nats_program(server.url)("topics")
    assert time.monotonic() - began < 3
    assert (result.code, result.out) == (75, "")


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_all_that_waits_or_works_rides_out_a_restart(
    own_server: Servers, nats_program: Programs, tmp_path: Path, ending: str
) -> None:
    """Nobody ends, and nobody misses or doubles an event; of what was in flight a handler may get some again."""
    server = own_server(sync="always")
    evtool = nats_program(server.url)
    assert evtool("append", "t", '"first"').code == 0
    files = {name: tmp_path / name for name in ("handled", "worked", "shared", "sunk")}
    follow = ["--from=earliest"]
    commands = {
        "tail": ["tail", "-f", "t"],
        "subscribe": ["subscribe", "t", *follow],
        "group": ["subscribe", "t", "-g", "plain", *follow],
        "handled": ["subscribe", "t", "-g", "handled", *follow, "--", "sh", "-c", f"cat >>{files['handled']}"],
        "worked": _by_worker("worked", files, "--jobs=2"),
        "shared": _by_worker("shared", files, "--share"),
        "sunk": ["fanout", "t", *follow, "--name=sunk", "--to", f"file:{files['sunk']}"],
    }
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(Running(evtool, *command)) for name, command in commands.items()}

        def given(name: str) -> str:
            path = files.get(name)
            return running[name].out if path is None else path.read_text() if path.exists() else ""

        wait_until(lambda: all('"first"' in given(name) for name in commands), "all to be at work")
        producer = Producer(evtool, "t", "p", 0.01)
        stack.enter_context(producer.running)
        await_progress([producer])
        getattr(server, ending)()
        server.start()
        await_progress([producer])
        result = producer.finish()
        assert (result.code, len(result.lines)) == (0, producer.sent), result
        assert evtool("append", "t", '"last"').code == 0
        wait_until(lambda: all('"last"' in given(name) for name in commands), "all to have the last one")
        wait_until(lambda: _lags(evtool) == dict.fromkeys(GROUPS, 0), "all groups to be through")
        ended = {name: one.end(signal.SIGTERM).code for name, one in running.items()}
        outputs = {name: given(name) for name in commands}
    assert ended == dict.fromkeys(commands, -signal.SIGTERM)
    stored = evtool("replay", "t").out
    for name, out in outputs.items():
        if name in ("tail", "subscribe", "group"):
            assert out == stored, name
        else:
            assert {*out.splitlines()} == {*stored.splitlines()}, name


def test_a_server_that_does_not_come_back_is_given_up(own_server: Servers, nats_program: Programs) -> None:
    """An append whose answer never came says that nobody knows; one that was never sent says that nothing is stored."""
    server = own_server()
    evtool = nats_program(server.url)
    assert evtool("append", "t", "1").code == 0
    with Running(evtool, "append", "t", "--timeout=3s", "-q", stdin=-1) as producer:
        assert producer.process.stdin is not None
        producer.process.stdin.write(b"2\n")
        producer.process.stdin.flush()
        wait_until(lambda: server.streams()[0]["state"]["messages"] == 2, "the first to be stored")
        server.suspend()
        producer.process.stdin.write(b"3\n")
        producer.process.stdin.close()
        producer.process.wait(PATIENCE)
        assert producer.process.returncode == 75
        assert "of 1 more it is unknown: " in producer.err
        server.kill()
    server.start()
    assert evtool("replay", "t", "--data").lines[:2] == ["1", "2"]


@pytest.mark.parametrize(
    "command",
    [
        ["tail", "-f", "t"],
        ["subscribe", "t", "--from=earliest"],
        ["subscribe", "t", "-g", "g", "--from=earliest"],
        ["subscribe", "t", "-g", "g", "--from=earliest", "--share", "--", "cat"],
    ],
)
def test_a_stream_that_somebody_deletes_ends_its_readers_with_3(
    server: Server, nats_program: Programs, command: list[str]
) -> None:
    evtool = nats_program(server.url)
    assert evtool("append", "t", "1").code == 0
    with Running(evtool, *command) as reader:
        wait_until(lambda: reader.out, "it to be at work")
        with server.wire() as wire:
            wire.api(f"STREAM.DELETE.{names.stream_of('t')}")
        reader.process.wait(PATIENCE)
        assert (reader.process.returncode, reader.err) == (3, "evtool: t: the topic was removed\n")


def test_a_group_that_retention_overtakes_is_told_what_it_missed(
    server: Server, nats_program: Programs, tmp_path: Path
) -> None:
    """While it works, as well as between two runs."""
    evtool = nats_program(server.url)
    assert evtool("create", "t", "-q", "max-events=10").code == 0
    assert evtool("append", "t", input="".join(f"{number}\n" for number in range(10))).code == 0
    go, begun = tmp_path / "go", tmp_path / "begun"
    slow = f"touch {begun}; until test -e {go}; do sleep 0.01; done; cat"
    command = ["subscribe", "t", "-g", "g", "--from=earliest"]
    with Running(evtool, *command, "--", "sh", "-c", slow) as consumer:
        wait_until(begun.exists, "the first to be at work")
        assert evtool("append", "t", input="".join(f"{number}\n" for number in range(10, 500))).code == 0
        go.touch()
        wait_until(lambda: '"data":499}' in consumer.out, "it to come to the end")
        consumer.end(signal.SIGTERM)
    given = [int(line[10 : line.index(",")]) for line in consumer.out.splitlines()]
    missed = {*range(500)} - {*given}
    assert missed
    assert given == sorted({*given})
    assert "are gone, trimmed or lost before they were read" in consumer.err
    assert evtool("append", "t", input="".join(f"{number}\n" for number in range(500, 600))).code == 0
    result = evtool(*command, "--drain", "--data")
    assert (result.code, result.lines) == (0, [str(number) for number in range(590, 600)])
    assert result.err == "evtool: t: offsets 500 to 589 are gone, trimmed or lost before they were read\n"


def test_a_full_server_is_told_with_what_is_stored(own_server: Servers, nats_program: Programs) -> None:
    """Exit status 74; what was said to be stored is there, in order, and nothing else; reading goes on."""
    server = own_server(jetstream="max_file_store: 2MB")
    evtool = nats_program(server.url)
    line = f'"{"x" * 1000}"\n'
    result = evtool("append", "t", "--offsets", input=line * 4000)
    assert result.code == 74
    events = evtool("replay", "t").events
    offsets = [event["offset"] for event in events]
    assert offsets[: len(result.lines)] == [int(offset) for offset in result.lines]
    assert 0 < len(result.lines) <= len(events) < 4000
    assert f"evtool: t: stored {len(events)} of " in result.err
    assert evtool("append", "t", f'"{"x" * 100_000}"').code == 74
    assert evtool("trim", "t", "--before=latest", "--yes", "-q").code == 0
    assert evtool("append", "t", "1").code == 0


def test_credentials_that_are_taken_back_end_whatever_runs(own_server: Servers, nats_program: Programs) -> None:
    """With 78, and in words that are not those of a server that does not answer."""
    server = own_server(config='authorization { token: "old" }', login={"auth_token": "old"})
    evtool = nats_program(f"nats://old@127.0.0.1:{server.port}")
    assert evtool("append", "t", "1").code == 0
    commands = [["tail", "-f", "t"], ["subscribe", "t", "-g", "g", "--from=earliest"]]
    with Running(evtool, *commands[0]) as tail, Running(evtool, *commands[1]) as consumer:
        wait_until(lambda: tail.out and consumer.out, "both to be at work")
        server.reload('authorization { token: "new" }')
        for running in (tail, consumer):
            running.process.wait(PATIENCE)
            assert running.process.returncode == 78, running.err
            assert "refuse" in running.err or "credentials" in running.err
            assert "no answer" not in running.err
            assert "old" not in running.err
    assert evtool("tail", "t").code == 78


def test_a_message_of_somebody_else_is_an_event_for_everyone(server: Server, nats_program: Programs) -> None:
    """Read, filtered, handled, sent on and shown: never a traceback, and what it carries is there as data."""
    evtool = nats_program(server.url)
    assert evtool("append", "t", '{"a":1}').code == 0
    foreign = [b"", b"plain", b'{"b":\n2}', b"\xff\xfe", b'{"data":', b'{"key":7,"data":1}', b'"\x1b[31m"', b"[" * 5000]
    with server.wire() as wire:
        for payload in foreign:
            wire.publish(names.subject_of("t"), payload, {"X-Odd": "1"})
    result = evtool("replay", "t")
    assert (result.code, result.err) == (0, "")
    assert len(result.lines) == 1 + len(foreign)
    assert [event.get("foreign") for event in result.events] == [None] + ["nats"] * len(foreign)
    data = [event["data"] for event in result.events]
    assert data[1:5] == ["", "plain", {"b": 2}, {"base64": "//4="}]
    assert evtool("replay", "t", "--where", 'foreign == "nats" and data.b == 2', "-d").out == '{"b": 2}\n'
    for form in ("pretty", "text", "cloudevents", "data"):
        shown = evtool("replay", "t", "--output", form)
        assert (shown.code, shown.err) == (0, ""), form
    handled = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "--", "cat")
    assert (handled.code, handled.out) == (0, result.out)
    assert evtool("fanout", "t", "--from=earliest", "--to", "topic:copy", "--drain").code == 0
    assert evtool("replay", "copy", "--data").out == evtool("replay", "t", "--data").out


def _by_worker(name: str, files: dict[str, Path], *options: str) -> list[str]:
    worker = ["--worker", "--", "python3", "-c", _WORKER, str(files[name])]
    return ["subscribe", "t", "-g", name, "--from=earliest", *options, *worker]


def _lags(evtool: NatsProgram) -> dict[str, int]:
    return {row["group"]: row["lag"] for row in evtool("groups", "t", "--json").events}

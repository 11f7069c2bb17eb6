"""The server is not there: before a command, during it, and after it; or there is no room, or we are not wanted."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from evtool.cli._table import COMMANDS
from evtool.stores.nats import names
from tests.nats.faults import Producer, await_progress
from tests.nats.mute import Mute
from tests.nats.outage import (
    EVERY_COMMAND,
    FILES_ONLY,
    GOES_ON,
    WAITS,
    Follower,
    Hasty,
    Held,
    heed_sigint,
    run_all,
    said,
)
from tests.nats.outage import PATIENCE as HASTY_SECONDS
from tests.program import PATIENCE, Program, finish, wait_until
from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.nats.program import NatsProgram
    from tests.nats.server import Server
    from tests.program import Result

    Servers = Callable[..., Server]
    Programs = Callable[[str], NatsProgram]

MANY = 15_000  # events, more than anybody holds in memory or in a pipe
SOME = 3_000  # of them, which a producer has at first
GROUPS = ("plain", "handled", "worked", "shared", "sunk")
_WORKER = (
    "import sys\nfor line in sys.stdin: open(sys.argv[1], 'a').write(line); print(line[10:line.index(',')], flush=True)"
)


def test_no_command_is_forgotten() -> None:
    """What is tried here with every command is tried with every command."""
    asked = {command[0] for command in EVERY_COMMAND}
    assert asked == {name for name in COMMANDS if not name.startswith("_")} - FILES_ONLY


def test_a_server_that_is_not_there_is_told_in_a_line_within_two_seconds(
    own_server: Servers, nats_program: Programs
) -> None:
    """Whatever the command; the exit status is 75, try again, and nothing is on standard output."""
    evtool = nats_program(own_server(start=False).url)
    for command, result, seconds in run_all(evtool, EVERY_COMMAND, at_once=2):
        assert_unreachable(evtool, command, result)
        assert seconds < 3, command


def test_one_that_hangs_is_no_different(own_server: Servers, nats_program: Programs) -> None:
    """The system takes the connection, and nobody says anything."""
    server = own_server()
    server.suspend()
    evtool = nats_program(server.url)
    for command, result, seconds in run_all(evtool, EVERY_COMMAND, at_once=15):
        assert_unreachable(evtool, command, result)
        assert seconds < 10, command  # fifteen start at a time


def test_one_that_lets_us_in_and_answers_nothing_is_given_up(home: Path) -> None:
    """After our patience, which is short here: 75 and a line, and an append that was sent says that nobody knows."""
    with Mute() as mute:
        evtool = Hasty(home, mute.url)
        commands = [[*command, "--timeout=1s"] if command[0] == "append" else command for command in EVERY_COMMAND]
        for command, result, _ in run_all(evtool, commands):
            if command[0] == "append":
                assert (result.code, result.out) == (75, ""), (command, result)
                assert "events; of " in result.err, command
                assert " more it is unknown: no answer for " in result.err, command
            else:
                assert_unreachable(evtool, command, result)
                assert f"no answer for {HASTY_SECONDS} s" in result.err, command


def test_whoever_waits_for_an_answer_can_be_stopped(nats_program: Programs) -> None:
    """By a signal, soon, and by no other end than by the signal; of a server that answers nothing at all."""
    hearing = ("subscribe", "fanout", "mirror", "commit")  # which listen for signals themselves
    runs = [(command, signal.SIGINT) for command in EVERY_COMMAND]
    runs += [(command, signal.SIGTERM) for command in EVERY_COMMAND if command[0] in hearing]
    with ThreadPoolExecutor(4) as pool:
        for command, number, result, seconds in pool.map(lambda run: _interrupted(nats_program, *run), runs):
            assert (result.code, result.out, result.err) == (-number, "", ""), (command, number)
            assert seconds < 5, (command, number)


def _interrupted(
    nats_program: Programs, command: list[str], number: signal.Signals
) -> tuple[list[str], signal.Signals, Result, float]:
    with Mute() as mute:
        evtool = nats_program(mute.url)
        process = evtool.start(*said(evtool, command), stdin=subprocess.DEVNULL, preexec_fn=heed_sigint)
        assert mute.asked.wait(PATIENCE), command
        began = time.monotonic()
        process.send_signal(number)
        return command, number, finish(process), time.monotonic() - began


def assert_unreachable(evtool: NatsProgram, command: list[str], result: Result) -> None:
    """It said in one line, and a hint maybe, that no server answers, and nothing else."""
    assert (result.code, result.out) == (75, ""), (command, result)
    first, *more = result.err.splitlines()
    assert first.startswith(f"evtool: {evtool.url}: "), (command, result)
    assert all(text.startswith("hint: ") for text in more), (command, result)


def test_all_that_waits_or_works_rides_out_restarts(
    own_server: Servers, nats_program: Programs, tmp_path: Path
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
        for end in (server.kill, server.stop):
            end()
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


def test_what_is_half_done_goes_on(own_server: Servers, nats_program: Programs, tmp_path: Path) -> None:
    """A server is killed while much is read, committed, mirrored and appended, and started again: all come to the end.

    Each event is given out, copied and stored once and in order.
    """
    server = own_server()
    evtool = nats_program(server.url)
    assert evtool("append", "t", input="".join(map(_line, range(MANY)))).code == 0
    files = Program(tmp_path / "files")
    assert files("append", "in", input="".join(map(_line, range(MANY)))).code == 0
    readers = {
        "replay": ["replay", "t"],
        "filtered": ["replay", "t", "--where", "data.n >= 0"],
        "group": ["subscribe", "t", "-g", "plain", "--from=earliest", "--drain"],
        "manual": ["subscribe", "t", "-g", "manual", "--from=earliest", "--manual", f"--count={MANY}"],
    }
    with contextlib.ExitStack() as stack:
        held = {name: stack.enter_context(Held(evtool, *command)) for name, command in readers.items()}
        producer = stack.enter_context(
            Held(evtool, "append", "p", "--offsets", lines=map(_line, range(MANY)), some=SOME)
        )
        wait_until(lambda: all(one.has_begun for one in [*held.values(), producer]), "all to be at work")
        inwards = stack.enter_context(Running(evtool, "mirror", f"file:{files.home}", server.url, "in"))
        wait_until(lambda: _messages(server, "in"), "the mirror to be at work")
        inwards.process.send_signal(signal.SIGSTOP)
        outwards = stack.enter_context(Running(evtool, "mirror", server.url, f"file:{files.home}", "t"))
        wait_until(lambda: files.log("t"), "the other one to be at work")
        outwards.process.send_signal(signal.SIGSTOP)
        assert (_messages(server, "in") < MANY, files.log("t").count(b"\n") < MANY) == (True, True)
        server.kill()
        assert all(one.process.poll() is None for one in [*held.values(), inwards, outwards, producer])
        for mirror in (inwards, outwards):
            mirror.process.send_signal(signal.SIGCONT)
        server.start()
        given = {name: one.finish() for name, one in held.items()}
        stored = producer.finish()
        for mirror in (inwards, outwards):
            result = mirror.end()
            assert (result.code, result.err) == (0, "")
    assert given["replay"] == evtool("replay", "t").out
    assert given["filtered"] == given["group"] == given["replay"]
    assert _numbers(given["manual"]) == [*range(MANY)]
    commit = evtool("commit", input=given["manual"])
    assert (commit.code, commit.err) == (0, "")
    assert [int(offset) for offset in stored.splitlines()] == [*range(MANY)]
    assert _lags(evtool) == {"plain": 0, "manual": 0, **{name: 0 for name in _lags(evtool) if "mirror" in name}}
    for program, topic in ((evtool, "t"), (evtool, "in"), (evtool, "p"), (files, "t")):
        assert _numbers(program("replay", topic).out) == [*range(MANY)], topic
        assert program("verify", topic).code == 0


def test_an_outage_is_waited_for_however_long(own_server: Servers, home: Path, tmp_path: Path) -> None:
    """By whoever follows, who says so once, and that it goes on; whoever does not follow ends when patience is over."""
    server = own_server()
    evtool = Hasty(home, server.url)
    with _followers(evtool, tmp_path) as running:
        drain = running.pop("drain")
        server.kill()
        wait_until(lambda: drain.process.poll() is not None, "the drain to give up")
        assert (drain.process.returncode, "not connected to any server" in drain.err) == (75, True), drain.err
        wait_until(lambda: all(WAITS in one.err for one in running.values()), "all to say that they wait")
        server.start()
        assert evtool("append", "t", '"last"').code == 0
        wait_until(lambda: all('"last"' in one.given for one in running.values()), "all to have the last one")
        for name, one in running.items():
            assert one.process.poll() is None, (name, one.err)
            assert one.err.count(WAITS) == one.err.count(GOES_ON) == 1, (name, one.err)
            assert _data(one.given) == ["first", "last"], name
            assert one.end(signal.SIGTERM).code == -signal.SIGTERM, name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_outage_can_be_ended_by_a_signal(
    own_server: Servers, home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """While servers are waited for, whoever listens for signals hears them, and leaves soon."""
    server = own_server()
    with _followers(Hasty(home, server.url), tmp_path) as running:
        del running["drain"]
        server.kill()
        wait_until(lambda: all(WAITS in one.err for one in running.values()), "all to say that they wait")
        began = time.monotonic()
        for one in running.values():
            one.process.send_signal(number)
        ended = {name: one.end().code for name, one in running.items()}
        assert time.monotonic() - began < 8
        assert ended == dict.fromkeys(running, -number)
        for name, one in running.items():
            if name != "sunk":  # a fan-out says what became of its sink
                assert one.err == f"evtool: {server.url}: {WAITS}\n", name


@pytest.mark.parametrize("ending", ["suspend", "kill"])
def test_a_server_that_does_not_come_back_is_given_up(own_server: Servers, nats_program: Programs, ending: str) -> None:
    """An append whose answer never came says that nobody knows; one that was never sent says that nothing is stored."""
    server = own_server()
    evtool = nats_program(server.url)
    with Running(evtool, "append", "t", "--timeout=1s", "--offsets", stdin=-1) as producer:
        assert producer.process.stdin is not None
        producer.process.stdin.write(b"1\n2\n")
        producer.process.stdin.flush()
        producer.await_out("0\n1\n")
        getattr(server, ending)()
        producer.process.stdin.write(b"3\n")
        producer.process.stdin.close()
        result = producer.end()
        if server.is_running:
            server.kill()
    assert (result.code, result.out) == (75, "0\n1\n")
    assert "2 of 3 events, offsets 0 to 1" in result.err
    assert "of 1 more it is unknown" in result.err or ending == "kill"  # before which it may be sent or not
    server.start()
    assert evtool("replay", "t", "--data").lines[:2] == ["1", "2"]


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


def _by_worker(name: str, files: dict[str, Path], *options: str) -> list[str]:
    worker = ["--worker", "--", "python3", "-c", _WORKER, str(files[name])]
    return ["subscribe", "t", "-g", name, "--from=earliest", *options, *worker]


def _lags(evtool: NatsProgram) -> dict[str, int]:
    return {row["group"]: row["lag"] for row in evtool("groups", "t", "--json").events}


def _line(number: int) -> str:
    return f'{{"n":{number},"text":"{"x" * 60}"}}\n'


def _numbers(lines: str) -> list[int]:
    return [json.loads(text)["data"]["n"] for text in lines.splitlines()]


def _data(lines: str) -> list[Any]:
    return [json.loads(text)["data"] for text in lines.splitlines()]


def _messages(server: Server, topic: str) -> int:
    return sum(one["state"]["messages"] for one in server.streams() if one["name"] == names.stream_of(topic))


@contextlib.contextmanager
def _followers(evtool: NatsProgram, directory: Path) -> Iterator[dict[str, Follower]]:
    """Those that have an event each and wait for more; `drain` is at work, and does not follow."""
    assert evtool("append", "t", '"first"').code == 0
    sunk, begun = directory / "sunk", directory / "begun"
    group = ["subscribe", "t", "--from=earliest", "-g"]
    commands = {
        "tail": ["tail", "-f", "t"],
        "replay": ["replay", "-f", "t"],
        "subscribe": ["subscribe", "t", "--from=earliest"],
        "plain": [*group, "plain"],
        "handled": [*group, "handled", "--", "cat"],
        "shared": [*group, "shared", "--share", "--", "cat"],
        "manual": [*group, "manual", "--manual"],
        "sunk": ["fanout", "t", "--from=earliest", "--to", f"file:{sunk}"],
    }
    slow = [*group, "drain", "--drain", "--", "sh", "-c", f"touch {begun}; sleep 1; cat"]
    with contextlib.ExitStack() as stack:
        files = {"sunk": sunk}
        running = {
            name: stack.enter_context(Follower(evtool, *command, file=files.get(name)))
            for name, command in commands.items()
        }
        running["drain"] = stack.enter_context(Follower(evtool, *slow))
        wait_until(lambda: all('"first"' in one.given for name, one in running.items() if name != "drain"), "all")
        wait_until(begun.exists, "the drain to be at work")
        yield running

"""What the servers keep is taken away under those who use it: a topic's stream, a group's consumer, the register."""

from __future__ import annotations

import contextlib
import json
import signal
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest

from evtool.stores.nats import names
from tests.program import Program, finish, wait_until
from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.nats.program import NatsProgram
    from tests.nats.server import Server
    from tests.nats.wire import Wire

    Programs = Callable[[str], NatsProgram]

STREAM = names.stream_of("t")
ECHO = ["sed", "-u", r"s/^{.offset.:\([0-9]*\),.*/\1/"]  # a worker
GROUPS = {
    "plain": ["subscribe", "t", "-g", "plain", "--from=earliest"],
    "handled": ["subscribe", "t", "-g", "handled", "--from=earliest", "--", "cat"],
    "worked": ["subscribe", "t", "-g", "worked", "--from=earliest", "--worker", "--", *ECHO],
    "shared": ["subscribe", "t", "-g", "shared", "--from=earliest", "--share", "--", "cat"],
}
FOLLOWERS = {
    "tail": ["tail", "-f", "t"],
    "glob": ["replay", "-f", "t*"],
    "subscribe": ["subscribe", "t", "--from=earliest"],
}
READERS = {
    **FOLLOWERS,
    "manual": ["subscribe", "t", "-g", "manual", "--from=earliest", "--manual"],
    **GROUPS,
}


@contextlib.contextmanager
def at_work(evtool: NatsProgram, commands: dict[str, list[str]]) -> Iterator[dict[str, Running]]:
    """These, once each has had the one event that there is."""
    assert evtool("append", "t", '"first"').code == 0
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(Running(evtool, *command)) for name, command in commands.items()}
        others = [one for name, one in running.items() if name != "worked"]
        wait_until(lambda: all('"first"' in one.out for one in others), "all to have the first")
        wait_until(lambda: set(lags(evtool).values()) <= {0}, "all groups to be through")
        yield running


def lags(evtool: NatsProgram) -> dict[str, int]:
    """How far each group is behind that commits by itself."""
    rows = evtool("groups", "t", "--json").events
    return {row["group"]: row["lag"] for row in rows if row["group"] != "manual"}


def committed(wire: Wire, group: str) -> int:
    """What a group's record says."""
    found = wire.api(f"STREAM.MSG.GET.{names.REGISTER}", {"last_by_subj": names.record_subject("t", group)})
    said = json.loads(b64decode(found["message"]["data"]))
    return int(said["committed"])


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_stream_that_somebody_deletes_ends_its_readers_with_3(
    server: Server, nats_program: Programs, is_made_anew: bool
) -> None:
    """Also if there is another one of its name at once, of which nobody takes an event for one of the first."""
    evtool = nats_program(server.url)
    with at_work(evtool, FOLLOWERS if is_made_anew else READERS) as running:
        with server.wire() as wire:
            config = wire.api(f"STREAM.INFO.{STREAM}")["config"]
            wire.api(f"STREAM.DELETE.{STREAM}")
            if is_made_anew:
                wire.api(f"STREAM.CREATE.{STREAM}", config)
                wire.publish(names.subject_of("t"), b'{"data":"new"}')
        for name, one in running.items():
            result = one.end()
            assert (result.code, result.err) == (3, "evtool: t: the topic was removed\n"), name
            assert '"new"' not in result.out, name


def test_a_consumer_that_somebody_deletes_is_made_anew(server: Server, nats_program: Programs) -> None:
    """Each group goes on where it was, having said so; a reader says nothing. Nothing is missed.

    And nothing comes twice that was handled longer than a second ago, which is when the record says it.
    """
    evtool = nats_program(server.url)
    with at_work(evtool, READERS) as running:
        with server.wire() as wire:
            wait_until(lambda: all(committed(wire, name) == 1 for name in GROUPS), "all records to say so")
            for consumer in wire.api(f"CONSUMER.NAMES.{STREAM}")["consumers"]:
                wire.api(f"CONSUMER.DELETE.{STREAM}.{consumer}")
        assert evtool("append", "t", '"last"').code == 0
        others = [one for name, one in running.items() if name != "worked"]
        wait_until(lambda: all('"last"' in one.out for one in others), "all to have the last one")
        wait_until(lambda: lags(evtool) == dict.fromkeys(GROUPS, 0), "all groups to be through")
        for name, one in running.items():
            result = one.end(signal.SIGTERM)
            moved = f"evtool: group {name} was moved by a seek; going on where it is now\n"
            assert result.code == -signal.SIGTERM, (name, result)
            assert result.err == (moved if name in (*GROUPS, "manual") else ""), name
            if name not in ("worked", "manual"):
                assert len(result.lines) == 2, name


def test_a_register_that_somebody_deletes_ends_groups_which_can_begin_again(
    server: Server, nats_program: Programs
) -> None:
    """With 3, as a group that was removed does; what was acknowledged stays so."""
    evtool = nats_program(server.url)
    with at_work(evtool, GROUPS) as running:
        with server.wire() as wire:
            wire.api(f"STREAM.DELETE.{names.REGISTER}")
        assert evtool("append", "t", '"last"').code == 0
        for name, one in running.items():
            result = one.end()
            assert (result.code, result.err) == (3, f"evtool: t, group {name}: the group was removed\n"), name
    for name, command in GROUPS.items():
        again = evtool(*command[:5], "--drain", *command[5:])
        assert (again.code, again.err) == (0, ""), name
        assert '"first"' not in again.out, name
    assert lags(evtool) == dict.fromkeys(GROUPS, 0)


def test_a_producer_makes_its_topic_anew(server: Server, nats_program: Programs) -> None:
    """As evtool-rm(1) says: what it appends from then on is there, from offset 0 on, and nothing is refused."""
    evtool = nats_program(server.url)
    producer = evtool.start("append", "t", "--offsets")
    assert producer.stdin is not None
    assert producer.stdout is not None
    for number in (1, 2):
        producer.stdin.write(b"%d\n" % number)
        producer.stdin.flush()
        assert producer.stdout.readline() == b"%d\n" % (number - 1)
    with server.wire() as wire:
        wire.api(f"STREAM.DELETE.{STREAM}")
    producer.stdin.write(b"3\n4\n")
    result = finish(producer)
    assert (result.code, result.out, result.err) == (0, "0\n1\n", "")
    assert evtool("replay", "t", "--data").lines == ["3", "4"]


def test_a_mirror_keeps_what_it_has_copied(server: Server, nats_program: Programs, tmp_path: Path) -> None:
    """If the source's stream is deleted it says so, and goes on with other topics; the destination's it makes anew."""
    evtool = nats_program(server.url)
    files = Program(tmp_path / "files")
    assert evtool("append", "t", "1").code == 0
    with Running(evtool, "mirror", "-f", server.url, f"file:{files.home}", "t", "u*") as mirror:
        wait_until(lambda: files("replay", "t", "--data").out == "1\n", "the copy")
        with server.wire() as wire:
            wire.api(f"STREAM.DELETE.{STREAM}")
        wait_until(lambda: "t: the topic was removed; what was copied stays" in mirror.err, "a word about it")
        assert evtool("append", "u1", "2").code == 0
        wait_until(lambda: files("replay", "u1", "--data").out == "2\n", "the other topic")
        assert mirror.end(signal.SIGTERM).code == -signal.SIGTERM
    assert files("replay", "t", "--data").out == "1\n"
    with Running(evtool, "mirror", "-f", f"file:{files.home}", server.url, "t") as mirror:
        wait_until(lambda: evtool("replay", "t", "--data").out == "1\n", "the copy of the copy")
        with server.wire() as wire:
            wire.api(f"STREAM.DELETE.{STREAM}")
        assert files("append", "t", "3").code == 0
        wait_until(lambda: evtool("replay", "t", "--data").out == "3\n", "what came since")
        result = mirror.end(signal.SIGTERM)
        assert (result.code, result.err) == (-signal.SIGTERM, "")


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

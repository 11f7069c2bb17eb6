"""evtool mirror and fanout to and from NATS: each event once and in order, whoever is killed."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.mirrors import (
    BLIND,
    KILL_AFTER,
    MAIN,
    NO_TOKENS,
    SMALL_BLOCKS,
    arrivals,
    check_same,
    events,
    producing,
    rows,
    without_marks,
)
from tests.nats.program import NatsProgram
from tests.program import Program, wait_until
from tests.running import Running
from tests.topics import append, numbers

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.nats.server import Cluster, Server
    from tests.program import Result


@pytest.fixture
def far(home: Path, server: Server) -> NatsProgram:
    """The program on the shared server."""
    return NatsProgram(home, server.url)


def count(program: Program, topic: str = "t") -> int:
    """How many events a topic has; none if it is not there."""
    return sum(int(row["events"]) for row in program("topics", "--json").events if row["topic"] == topic)


def group_of(program: Program, topic: str = "t") -> str:
    """The group as which a topic is mirrored."""
    (row,) = program("groups", topic, "--json").events
    return str(row["group"])


# What arrives


def test_a_house_is_moved_and_moved_back(evtool: Program, far: NatsProgram, tmp_path: Path) -> None:
    """From files to NATS and from there to files: what producers have said is the same at the end."""
    append(evtool, "t", '{"a":1.0, "a":2e0}', "--key=k", "--type=y", "--attr=trace=z", "--id=7")
    append(evtool, "t", '"\\u00e4 \\"data\\":1 ,\\"origin\\":\\"x\\""', "1", "2")
    append(evtool, "u.1", "3")
    result = evtool("mirror", "store", far.url, "--json")
    assert (result.code, result.err) == (0, "")
    assert [(row["topic"], row["first"], row["next"], row["events"]) for row in rows(result)] == [
        ("t", 0, 4, 4),
        ("u.1", 0, 1, 1),
    ]
    check_same(events(evtool), events(far))
    back = Program(tmp_path / "back")
    assert evtool("mirror", far.url, str(back.home), "--quiet").code == 0
    assert back("replay", "t", "--data").out == evtool("replay", "t", "--data").out
    assert [without_marks(one) for one in events(back)] == [without_marks(one) for one in events(evtool)]
    assert arrivals(events(back)) == [0, 1, 2, 3]
    assert [one["via"].rpartition(":")[2] for one in events(back)] == ["0", "1", "2", "3"]
    assert back("verify").code == 0


def test_settings_move_as_far_as_the_other_store_knows_them(evtool: Program, far: NatsProgram) -> None:
    """What was chosen here is chosen there; what was not is what is usual there."""
    assert evtool("create", "t", "max-events=100", "segment-bytes=1MiB", "--quiet").code == 0
    assert evtool("mirror", "store", far.url, "--quiet").code == 0
    (row,) = far("set", "t", "--json").events
    assert row["max-events"] == 100
    assert row["dedupe"] == 120
    assert "segment-bytes" not in row


def test_from_one_cluster_to_another(own_server: Callable[..., Server], home: Path) -> None:
    """Messages of others too, as the events as which they are shown."""
    one, other = own_server(), own_server()
    source, destination = NatsProgram(home, one.url), NatsProgram(home, other.url)
    append(source, "t", "1", "--key=k")
    with one.wire() as wire:
        wire.publish("evtool.t", b"not json")
    assert source("mirror", one.url, other.url, "--quiet").code == 0
    check_same(events(source), events(destination))
    assert events(destination)[1]["foreign"] == "nats"
    assert source("mirror", one.url, "store").code == 2
    assert source("mirror", other.url, "store", "--quiet").code == 0
    assert count(source) == 2


def test_an_event_that_is_too_large_stops_its_topic_after_all_before_it(evtool: Program, far: NatsProgram) -> None:
    """It is named, with what helps; other topics go on."""
    assert far("create", "t", "max-event-bytes=100", "--quiet").code == 0
    append(evtool, "t", *numbers(0, 4), f'"{"x" * 200}"', "6")
    append(evtool, "u", "1")
    result = evtool("mirror", "store", far.url)
    assert result.code == 65
    assert result.err.startswith("evtool: t: offset 5: has 202 bytes, and the destination takes 100\nhint: let the ")
    assert result.err.endswith(f" --group {group_of(evtool)} --to 6\n")
    assert arrivals(events(far)) == [0, 1, 2, 3, 4]
    assert count(far, "u") == 1
    assert evtool("seek", "t", "--group", group_of(evtool), "--to=6", "--quiet").code == 0
    assert evtool("mirror", "store", far.url, "--quiet").code == 0
    assert arrivals(events(far)) == [0, 1, 2, 3, 4, 6]


def test_attributes_that_make_a_message_too_large_are_found_too(evtool: Program, far: NatsProgram) -> None:
    """What the limit of the topic would allow the server may not take."""
    attributes = [f"--attr=a{number}={'x' * 60000}" for number in range(18)]
    append(evtool, "t", "1", "2")
    append(evtool, "t", "3", *attributes)
    result = evtool("mirror", "store", far.url)
    assert result.code == 65
    assert result.err.startswith("evtool: t: offset 2: ")
    assert arrivals(events(far)) == [0, 1]


def test_a_server_that_is_not_there(evtool: Program, own_server: Callable[..., Server]) -> None:
    """One line, soon, and the exit code for what may be tried again; a mirror that follows waits for it."""
    append(evtool, "t", "1")
    server = own_server(start=False)
    result = evtool("mirror", "store", server.url)
    assert result.code == 75
    assert result.err.count("evtool: ") == 1
    with Running(evtool, "mirror", "store", server.url, "--follow") as process:
        wait_until(lambda: "it is tried again" in process.err, "it to complain")
        server.start()
        far = NatsProgram(evtool.home, server.url)
        wait_until(lambda: count(far) == 1)
        wait_until(lambda: "it goes on" in process.err)
        result = process.end(signal.SIGTERM)
    assert result.code == -signal.SIGTERM
    assert result.err.count("it is tried again") == result.err.count("it goes on") == 1


# Any kill


def killed(program: Program, source: str, destination: str, appends: int, code: str = "") -> None:
    """A mirror that is killed when it has appended so many blocks and has committed all but the last of them."""
    code = code + KILL_AFTER + SMALL_BLOCKS + MAIN
    with Running(program, str(appends), "mirror", source, destination, code=code) as process:
        result = process.end()
    assert result.code == -signal.SIGKILL, result


def test_killed_between_append_and_commit_nothing_comes_twice_or_is_missing(evtool: Program, far: NatsProgram) -> None:
    """The destination is the truth."""
    append(evtool, "t", input="\n".join(numbers(0, 999)))
    killed(evtool, "store", far.url, 2)
    there_now = count(far)
    assert 0 < there_now < 1000
    result = evtool("mirror", "store", far.url, "--json")
    assert (result.code, result.err, rows(result)[0]["first"]) == (0, "", there_now)
    check_same(events(evtool), events(far))


@pytest.mark.parametrize("protection", ["tokens", "none"])
def test_what_is_sent_again_all_the_same_is_known_by_its_name(
    evtool: Program, far: NatsProgram, protection: str
) -> None:
    """What was on its way when a mirror was killed may arrive after the next one has looked.

    Negative control: without these names, and without a look at what is there, some come twice.
    """
    append(evtool, "t", input="\n".join(numbers(0, 999)))
    killed(evtool, "store", far.url, 2)
    code = BLIND + (NO_TOKENS if protection == "none" else "") + MAIN
    with Running(evtool, "mirror", "store", far.url, "--quiet", code=code) as process:
        assert process.end().code == 0
    found = arrivals(events(far))
    assert sorted(set(found)) == list(range(1000))
    assert (found == list(range(1000))) == (protection == "tokens")


def test_killed_on_the_way_from_nats_to_files(far: NatsProgram, tmp_path: Path) -> None:
    """The same the other way round."""
    append(far, "t", input="\n".join(numbers(0, 29_999)))  # more than comes at once
    back = Program(tmp_path / "back")
    for appends in (1, 3):
        killed(far, "store", str(back.home), appends)
    assert 0 < len(events(back)) < 30_000
    assert far("mirror", "store", str(back.home), "--quiet").code == 0
    check_same(events(far), events(back))


def following(program: Program, url: str) -> Running:
    """A mirror that goes on with what comes, a few events at a time."""
    code = SMALL_BLOCKS + MAIN
    return Running(program, "mirror", "store", url, "--follow", "--quiet", code=code)


def wait_for_more(program: Program, producer: subprocess.Popen[bytes]) -> None:
    """Until the topic has grown, or no more is produced."""
    now = count(program)
    wait_until(lambda: count(program) > now or producer.poll() is not None)


def check_both(source: Program, destination: Program, others: int) -> None:
    """All of the source is there, and what others have appended there."""
    found = events(destination)
    check_same(events(source), [one for one in found if "origin" in one])
    assert [one["data"] for one in found if "origin" not in one] == [0, *range(others)]


def test_a_killed_follower_leaves_each_event_once_and_in_order(evtool: Program, far: NatsProgram) -> None:
    """Killed at any moment, again and again, while others append at both ends."""
    append(evtool, "t", "0")
    append(far, "t", "0")
    kills = 0
    with producing(evtool, 60_000) as producer, producing(far, 3000) as other:
        while producer.poll() is None:
            with following(evtool, far.url) as process:
                wait_for_more(far, producer)
                process.end(signal.SIGKILL)
            kills += 1
        assert (producer.wait(), other.wait()) == (0, 0)
    assert kills > 1
    assert evtool("mirror", "store", far.url, "--quiet").code == 0
    check_both(evtool, far, 3000)


def test_a_server_that_is_killed_is_ridden_out(evtool: Program, own_server: Callable[..., Server]) -> None:
    """Killed and started again under a mirror, which goes on by itself; nothing comes twice or is missing."""
    server = own_server(sync="always")
    far = NatsProgram(evtool.home, server.url)
    append(evtool, "t", "0")
    with producing(evtool, 10000) as producer, following(evtool, server.url) as process:
        for _ in range(2):
            wait_until(lambda: count(far) > 0)
            wait_for_more(far, producer)
            server.kill()
            server.start()
        assert producer.wait() == 0
        wait_until(lambda: count(far) == 10001, "all to arrive")
        assert process.end(signal.SIGTERM).code == -signal.SIGTERM
    check_same(events(evtool), events(far))


def test_a_leader_that_is_killed_is_ridden_out(evtool: Program, own_cluster: Callable[..., Cluster]) -> None:
    """The same for a cluster, which goes on without it."""
    cluster = own_cluster()
    far = NatsProgram(evtool.home, cluster.url)
    append(evtool, "t", "0")
    with producing(evtool, 10000) as producer, following(evtool, cluster.url) as process:
        wait_until(lambda: count(far) > 0)
        leader = cluster.leader_of("evtool_t")
        leader.kill()
        assert producer.wait() == 0
        wait_until(lambda: count(far) == 10001, "all to arrive")
        leader.start()
        assert process.end(signal.SIGTERM).code == -signal.SIGTERM
    check_same(events(evtool), events(far))


# Fan-out


def fan_out(program: Program, *sinks: str, options: tuple[str, ...] = ()) -> Result:
    """Give the sinks all that there is."""
    return program("fanout", "t", *(f"--to={sink}" for sink in sinks), "--drain", "--from=earliest", *options)


def test_a_fan_out_takes_events_to_a_server(evtool: Program, far: NatsProgram) -> None:
    """To the topic of the same name there, or to another one."""
    append(evtool, "t", "1", "2", "--key=k")
    for _ in range(2):
        result = fan_out(evtool, far.url, f"{far.url}#copy")
        assert (result.code, result.out, result.err) == (0, "", "")
    check_same(events(evtool), events(far))
    check_same(events(evtool), events(far, "copy"))
    groups = [row["group"] for row in evtool("groups", "t", "--json").events]
    assert [group.startswith("fanout.nats-127-0-0-1-") for group in groups] == [True, True]


def test_sinks_that_take_different_events_to_one_topic_do_not_disturb_each_other(
    evtool: Program, far: NatsProgram
) -> None:
    """Each finds its own last event there, not that of the other."""
    for number in range(6):
        append(evtool, "t", str(number), f"--key={number % 2}")
    for key in ("1", "0"):
        assert fan_out(evtool, far.url, options=(f"--key={key}", f"--name=g{key}")).code == 0
        assert evtool("rm", "t", "--group", f"g{key}", "--yes", "--quiet").code == 0
    for key in ("0", "1"):
        assert fan_out(evtool, far.url, options=(f"--key={key}", f"--name=g{key}")).code == 0
    assert arrivals(events(far)) == [1, 3, 5, 0, 2, 4]


def test_a_sink_whose_server_is_away_holds_up_no_other(
    evtool: Program, own_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The others have everything; it gets its events when the server is back."""
    append(evtool, "t", "1", "2")
    server = own_server(start=False)
    path = tmp_path / "file"
    with Running(evtool, "fanout", "t", f"--to={server.url}", f"--to=file:{path}", "--from=earliest") as process:
        wait_until(lambda: path.exists() and path.read_text().count("\n") == 2)
        wait_until(lambda: server.url in process.err, "it to complain")
        server.start()
        far = NatsProgram(evtool.home, server.url)
        wait_until(lambda: count(far) == 2)
        assert process.end(signal.SIGTERM).code == -signal.SIGTERM
    check_same(events(evtool), events(far))


def test_an_address_with_a_password_is_refused_and_not_shown(evtool: Program) -> None:
    """Others could read it; neither is it in the complaint."""
    append(evtool, "t", "1")
    for command in (["fanout", "t", "--to"], ["mirror", "store"]):
        result = evtool(*command, "nats://me:secret@127.0.0.1:1")
        assert result.code == 2
        assert "secret" not in result.err


TELLS_OF_APPENDS = """
import os
from evtool.stores.nats.writer import NatsWriter
append = NatsWriter.append

def tell_and_append(*arguments, **more):
    os.write(2, b"!")
    return append(*arguments, **more)

NatsWriter.append = tell_and_append
"""


def test_told_to_stop_it_does_not_wait_long_for_a_server_that_is_silent(
    evtool: Program, own_server: Callable[..., Server]
) -> None:
    """It ends within seconds, by the signal, and what it was about is not sent twice by the next one."""
    append(evtool, "t", "0")
    server = own_server()
    far = NatsProgram(evtool.home, server.url)
    code = TELLS_OF_APPENDS + MAIN
    with Running(evtool, "mirror", "store", server.url, "--follow", "--quiet", code=code) as process:
        wait_until(lambda: count(far) == 1)
        server.suspend()
        append(evtool, "t", "1")
        wait_until(lambda: process.err == "!!", "it to send the event")
        told = time.monotonic()
        assert process.end(signal.SIGTERM).code == -signal.SIGTERM
        assert time.monotonic() - told < 15
        server.resume()
    assert evtool("mirror", "store", server.url, "--quiet").code == 0
    check_same(events(evtool), events(far))


def test_a_source_whose_server_is_killed_is_ridden_out(own_server: Callable[..., Server], tmp_path: Path) -> None:
    """From NATS to files: killed and started again, it is read on from where the mirror was."""
    server = own_server(sync="always")
    source, back = NatsProgram(tmp_path / "home", server.url), Program(tmp_path / "back")
    append(source, "t", input="\n".join(numbers(0, 4999)))
    with Running(source, "mirror", "store", str(back.home), "--follow", "-q", code=SMALL_BLOCKS + MAIN) as process:
        wait_until(lambda: back.topic("t").exists() and back.log("t"))
        server.kill()
        server.start()
        append(source, "t", input="\n".join(numbers(5000, 5999)))
        wait_until(lambda: back.log("t").count(b"\n") == 6000, "all to arrive")
        assert process.end(signal.SIGTERM).code == -signal.SIGTERM
    check_same(events(source), events(back))


def test_a_second_process_stands_by_and_takes_over(far: NatsProgram, tmp_path: Path) -> None:
    """One at a time mirrors a topic from NATS; the other one goes on when it is killed."""
    append(far, "t", input="\n".join(numbers(0, 4999)))
    back = Program(tmp_path / "back")
    command = ["mirror", "store", str(back.home), "--follow"]
    with Running(far, *command, code=SMALL_BLOCKS + MAIN) as first:
        wait_until(lambda: back.topic("t").exists() and back.log("t"))
        with Running(far, *command) as second:
            wait_until(lambda: "standing by" in second.err, "the second one to stand by")
            first.end(signal.SIGKILL)
            append(far, "t", "5000")
            wait_until(lambda: back.log("t").count(b"\n") == 5001, "all to arrive")
            assert second.end(signal.SIGTERM).code == -signal.SIGTERM
    check_same(events(far), events(back))

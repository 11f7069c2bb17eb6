"""Groups on NATS that one process at a time consumes for: who that is, what it gets, what is known to be handled."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import ConditionError, NotFoundError
from evtool.log.ranges import Ranges
from evtool.stores.nats import claim, consumer
from evtool.stores.nats.group import ALONE, MANUAL, SHARED, NatsGroup
from tests.nats.consuming import (
    Client,
    begin,
    clients,
    info_of,
    offsets_of,
    read_all,
    read_until,
)
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nats.server import Cluster, Server

HOLDER = """
import sys
from tests.nats.consuming import Client, offsets_of
class Server: url = sys.argv[1]
client = Client(Server)
group, reader = client.consume()
count = int(sys.argv[2])
lines = b""
while lines.count(b"\\n") < count: lines += reader.read()
group.commit(count)
group.sync()
print("ready", flush=True)
for line in sys.stdin:
    group.look()
    group.commit(int(line))
    group.sync()
    print("committed", flush=True)
"""


def hold(server: Server | Cluster, count: int) -> subprocess.Popen[bytes]:
    """Another process that has the group and has handled so many events."""
    command = [sys.executable, "-c", HOLDER, server.url, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise AssertionError(process.communicate()[1].decode())
    return process


# What a group gets


def test_a_group_gets_all_in_order_and_then_what_comes(two: list[Client]) -> None:
    """From where it begins each event comes once, in order, and an empty read is the end of what there is."""
    one, other = two
    one.append(3000)
    group, reader = one.consume(start=5)
    assert read_all(reader) == list(range(5, 3000))
    other.append(2)
    assert read_until(reader, 2) == [3000, 3001]
    assert group.state.committed == 5


def test_a_new_group_is_known_by_where_it_begins(two: list[Client]) -> None:
    """It has committed nothing until it joins, and then stands where it was let begin, for others too."""
    one, other = two
    one.append(10)
    group = one.group()
    assert group.committed is None
    with pytest.raises(NotFoundError, match="no such group"):
        other.topic.standing("g")
    assert group.join(10) == 10
    assert group.committed == 10
    assert other.topic.groups() == ["g"]
    assert other.topic.standing("g").committed == 10
    assert read_all(group.reader(10)) == []


def test_what_is_handled_does_not_come_again(two: list[Client]) -> None:
    """What was committed, and what was handled above that, the next process is not given; all else it is, in order."""
    one, other = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    group.commit(4)
    group.handle(Ranges([(6, 7), (10, 11)]))
    group.sync()
    group.release()
    group, reader = other.consume()
    assert group.state.committed == 4
    assert str(group.state.handled) == "6-7,10-11"
    assert read_all(reader) == [4, 5, 8, 9, *range(12, 20)]
    assert reader.next_offset == 20
    group.handle(Ranges([(4, 5), (8, 9)]))
    assert group.state.committed == 12
    group.sync()
    assert one.topic.standing("g").lag == 8


def test_it_is_acknowledged_before_any_sync(two: list[Client], server: Server) -> None:
    """The server learns at once what is handled: who is killed before a sync has lost nothing but that."""
    one, _ = two
    one.append(10)
    group, reader = one.consume()
    read_all(reader)
    group.handle(Ranges([(0, 2), (5, 1 << 60)]))
    wait_until(lambda: info_of(server)["num_ack_pending"] == 2)
    assert info_of(server)["ack_floor"]["stream_seq"] == 3


def test_huge_ranges_cost_nothing(two: list[Client]) -> None:
    """Offsets that are handled though they were never there are not counted one by one."""
    one, _ = two
    one.append(100)
    group, reader = one.consume()
    read_all(reader)
    start = time.process_time()
    group.handle(Ranges([(50, 1 << 62)]))
    group.handle(Ranges([(2 * at, 2 * at) for at in range(25)]))
    assert time.process_time() - start < 0.5
    assert group.held.offsets() == sorted({*range(50)} - {*range(0, 50, 2)})


def test_thousands_of_acknowledgements_arrive(two: list[Client], server: Server) -> None:
    """After a sync the server has them all."""
    one, _ = two
    one.append(20_000)
    group, reader = one.consume()
    while reader.read():
        group.commit(reader.next_offset)
    group.sync()
    assert info_of(server)["ack_floor"]["stream_seq"] == 20_000
    assert group.acks is not None
    assert group.acks.is_idle


def test_it_can_handle_what_it_was_never_given(two: list[Client]) -> None:
    """`redrive` ticks off dead letters so: without joining, and it stands there afterwards."""
    one, other = two
    one.append(10)
    group = one.group()
    assert group.committed is None
    group.commit(0)
    group.handle(Ranges([(2, 3)]))
    group.sync()
    group.release()
    standing = other.topic.standing("g")
    assert (standing.committed, str(standing.handled), standing.lag) == (0, "2-3", 8)
    group = other.group()
    assert group.committed == 0
    group.handle(Ranges([(0, 1), (5, 5)]))
    group.sync()
    group.release()
    standing = other.topic.standing("g")
    assert (standing.committed, str(standing.handled), standing.lag) == (4, "5", 5)
    assert read_all(one.consume()[1]) == [4, 6, 7, 8, 9]


# Who consumes


def test_one_consumes_and_the_next_takes_over(two: list[Client]) -> None:
    """While one has the group the other gets nothing; once it has let go the other has it at once."""
    one, other = two
    one.append(3)
    group, _ = one.consume()
    standby = NatsGroup(other.connection, "t", "g")
    assert not standby.try_acquire()
    assert other.topic.standing("g").is_active
    group.release()
    assert not other.topic.standing("g").is_active
    start = time.monotonic()
    wait_until(standby.try_acquire)
    assert time.monotonic() - start < 0.9
    assert read_all(begin(standby)) == [0, 1, 2]


def test_of_many_that_want_it_at_once_one_gets_it(server: Server) -> None:
    """Four that try at the same moment: one has it, and can say so."""
    with clients(server, 4) as four:
        four[0].append(1)
        for at in range(5):
            groups = [NatsGroup(client.connection, "t", f"g{at}") for client in four]
            got: list[NatsGroup] = []
            barrier = threading.Barrier(4)

            def attempt(group: NatsGroup, got: list[NatsGroup] = got, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                if group.try_acquire():
                    got.append(group)

            threads = [threading.Thread(target=attempt, args=(group,)) for group in groups]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(got) == 1
            assert got[0].join(0) == 0
            members = four[1].topic.standing(f"g{at}").members
            assert [member.name for member in members] == [got[0].member]


def test_a_killed_holder_is_followed_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After kill -9 the next one has the group within a second, all that was not handled comes, and in order."""
    monkeypatch.setattr(claim, "_ABSENT_SECONDS", 1000.0)  # for one that may live
    with clients(server, 1) as (one,):
        one.append(50)
        holder = hold(server, 20)
        group = NatsGroup(one.connection, "t", "g")
        assert not group.try_acquire()
        holder.kill()
        holder.wait()
        start = time.monotonic()
        wait_until(group.try_acquire)
        assert time.monotonic() - start < 1
        assert read_all(begin(group)) == list(range(20, 50))
        holder.communicate()


def test_one_that_is_only_cut_off_is_not_given_up_at_once(two: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody listens in the place of a process that may live, that must be so for a while."""
    one, other = two
    one.append(3)
    group, _ = one.consume()
    presence = group.seat._presence
    assert presence is not None
    one.connection.run(presence.stop())
    standby = NatsGroup(other.connection, "t", "g")
    assert not standby.try_acquire()
    assert not standby.try_acquire()
    one.connection.run(presence.start())
    assert not standby.try_acquire()
    one.connection.run(presence.stop())
    monkeypatch.setattr(claim, "_ABSENT_SECONDS", 0.0)
    wait_until(standby.try_acquire)


def test_a_holder_that_hangs_is_given_up_after_a_while(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still has the group until it has been silent for long; afterwards it is told."""
    import os
    import signal

    with clients(server, 1) as (one,):
        one.append(50)
        holder = hold(server, 20)
        os.kill(holder.pid, signal.SIGSTOP)
        group = NatsGroup(one.connection, "t", "g")
        assert not group.try_acquire()
        assert one.topic.standing("g").is_active
        monkeypatch.setattr(claim, "_SILENT_SECONDS", 0.5)
        wait_until(group.try_acquire)
        reader = begin(group)
        os.kill(holder.pid, signal.SIGCONT)
        _, err = holder.communicate(b"30\n")
        assert b"BusyError" in err
        assert b"another process consumes for the group by now" in err
        assert read_all(reader) == list(range(20, 50))


def test_alone_and_shared_exclude_each_other(two: list[Client]) -> None:
    """One that wants it alone waits for those that share, and they for it; two that share do not wait."""
    one, other = two
    one.append(3)
    group = one.group(SHARED)
    group.join(0)
    assert not NatsGroup(other.connection, "t", "g").try_acquire(ALONE)
    wait_until(lambda: NatsGroup(other.connection, "t", "h").try_acquire(SHARED))
    second = NatsGroup(other.connection, "t", "g")
    wait_until(lambda: second.try_acquire(SHARED))
    second.release()
    group.release()
    alone = NatsGroup(other.connection, "t", "g")
    wait_until(lambda: alone.try_acquire(MANUAL))
    assert not NatsGroup(one.connection, "t", "g").try_acquire(SHARED)


def test_it_says_who_it_is(two: list[Client]) -> None:
    """Others see who consumes, since when, with what command, and what it does now; afterwards who did last."""
    import os

    one, other = two
    one.append(3)
    group, _ = one.consume()
    group.say_doing("counting")
    (member,) = other.topic.standing("g").members
    assert (member.name, member.pid, member.mode, member.doing) == (group.member, os.getpid(), ALONE, "counting")
    assert member.command == "a command"
    assert len(member.since) == 27
    group.release()
    standing = other.topic.standing("g")
    assert [member.name for member in standing.members] == [member.name]
    assert not standing.is_active


def test_a_group_that_is_not_acquired_cannot_be_used(two: list[Client]) -> None:
    """Nothing is committed for a group that others may have."""
    one, _ = two
    one.append(3)
    group = NatsGroup(one.connection, "t", "g")
    uses: list[Callable[[], object]] = [
        lambda: group.commit(1),
        lambda: group.handle(Ranges([(0, 0)])),
        group.sync,
        lambda: group.committed,
        lambda: group.join(0),
    ]
    for use in uses:
        with pytest.raises(ConditionError, match="does not consume for the group"):
            use()
    group.release()


# What it holds


def test_signs_of_life_are_given_for_what_is_held_and_only_that(
    two: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slow handler has, and what waits for it, is not given to anybody anew: the server hears of it in time."""
    monkeypatch.setitem(consumer.ACK_WAIT, ALONE, 1.2)
    one, other = two
    one.append(6000)
    heard: list[tuple[int, bytes]] = []

    async def listen(message: Any) -> None:
        heard.append((int(message.subject.split(".")[5]) - 1, message.data))

    other.connection.run(other.connection.client.subscribe("$JS.ACK.evtool_t.g.>", cb=listen))
    group, reader = one.consume()
    first = read_until(reader, 10)
    group.handle(Ranges([(0, 9)]))
    heard.clear()
    wait_until(lambda: (10, b"+WPI") in heard, "what was being said when they were handled")
    heard.clear()
    wait_until(lambda: [one for one, said in heard if said == b"+WPI"].count(10) >= 3)
    said = {offset for offset, data in heard if data == b"+WPI"}
    assert not said & {*range(10)}
    assert {*range(10, len(first) + 1)} <= said  # the last one waits to be read
    assert group.consumer is not None
    assert one.connection.call("CONSUMER.INFO.evtool_t.g")["num_redelivered"] == 0


def test_what_is_delivered_twice_comes_once(two: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server delivers again what was not acknowledged in time: it is kept, or acknowledged if it is handled."""
    monkeypatch.setitem(consumer.ACK_WAIT, ALONE, 0.2)
    monkeypatch.setattr("evtool.stores.nats.group.Heartbeat", Idle)
    one, other = two
    one.append(10)
    group, reader = one.consume()
    assert read_all(reader) == list(range(10))
    assert group.acks is not None
    lost = group.held.take(Ranges([(0, 4)]))  # as if their acknowledgements had been lost
    assert len(lost) == 5
    group.handle(Ranges([(0, 4)]))
    seen: list[int] = []

    def look() -> bool:
        seen.extend(offsets_of(reader.read()))
        floor: int = other.connection.call("CONSUMER.INFO.evtool_t.g")["ack_floor"]["stream_seq"]
        return floor == 5

    wait_until(look)
    assert seen == []
    group.handle(Ranges([(5, 9)]))
    group.sync()
    info = other.connection.call("CONSUMER.INFO.evtool_t.g")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (10, 0)


class Idle:
    """No heartbeat."""

    def __init__(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        pass


def test_what_it_leaves_others_get_at_once(two: list[Client]) -> None:
    """Of what was given out and not handled those that share get all as soon as it has ended, well or not."""
    one, other = two
    one.append(10)
    for at, ending in enumerate((lambda group: group.release(), _vanish)):
        group, reader = one.consume(name=f"g{at}")
        read_all(reader)
        group.handle(Ranges([(2, 3)]))
        group.sync()
        ending(group)
        second = NatsGroup(other.connection, "t", f"g{at}")
        wait_until(lambda second=second: second.try_acquire(SHARED))  # type: ignore[misc]
        share = second.share(second.join(0), lambda lines: lines, lambda *_: None, 30.0)
        got = [offsets_of(text)[0] for text in share.take(100)]
        assert sorted(got) == [0, 1, *range(4, 10)]
        second.release()


def _vanish(group: NatsGroup) -> None:
    """As if its process had been killed: its connection is gone."""
    group.connection.close()

"""Groups on NATS that one process at a time consumes for: who that is, what it gets, what is known to be handled."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from evtool.errors import BusyError, ConditionError, NotFoundError
from evtool.log.ranges import Ranges
from evtool.stores.moved import Moved
from evtool.stores.nats import claim, consumer, names
from evtool.stores.nats.deputy import NatsDeputy
from evtool.stores.nats.group import ALONE, MANUAL, SHARED, NatsGroup
from evtool.stores.nats.register import Record, Register
from tests.nats.consuming import Client, begin, clients, offsets_of, read_all
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evtool.stores.nats.reading import GroupReader
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


@pytest.fixture
def two(server: Server) -> Iterator[list[Client]]:
    with clients(server, 2) as made:
        yield made


def hold(server: Server | Cluster, count: int) -> subprocess.Popen[bytes]:
    """Another process that has the group and has handled so many events."""
    command = [sys.executable, "-c", HOLDER, server.url, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise AssertionError(process.communicate()[1].decode())
    return process


def raises_moved(group: NatsGroup) -> bool:
    """Whether a look says that the group was moved."""
    try:
        group.look()
    except Moved:
        return True
    return False


def info_of(server: Server | Cluster, group: str = "g") -> dict[str, Any]:
    with server.wire() as wire:
        return wire.api(f"CONSUMER.INFO.evtool_t.{group}")


# What a group gets


def test_a_group_gets_all_in_order_and_then_what_comes(two: list[Client]) -> None:
    """From where it begins each event comes once, in order, and an empty read is the end of what there is."""
    one, other = two
    one.append(3000)
    group, reader = one.consume(start=5)
    assert read_all(reader) == list(range(5, 3000))
    other.append(2)
    seen: list[int] = []
    wait_until(lambda: seen.extend(offsets_of(reader.read())) or len(seen) >= 2)
    assert seen == [3000, 3001]
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
    first = offsets_of(reader.read())
    group.handle(Ranges([(0, 9)]))
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
        return other.connection.call("CONSUMER.INFO.evtool_t.g")["ack_floor"]["stream_seq"] == 5

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


# Seek


def test_a_seek_moves_a_consumer_that_runs(two: list[Client]) -> None:
    """It is told once, goes on where the seek says, backwards or forwards, and what was handled there comes again."""
    one, other = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    group.commit(10)
    group.sync()
    for target in (3, 15, 0):
        mover = threading.Thread(target=other.topic.seek, args=("g", target))
        mover.start()
        wait_until(lambda: raises_moved(group))
        reader = begin(group)
        mover.join()
        assert read_all(reader) == list(range(target, 20))
        group.commit(20)
        group.sync()
    assert other.topic.standing("g").lag == 0


def test_every_use_tells_of_a_seek(two: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a consumer does next after a seek, it is told, and what it says is not taken."""
    monkeypatch.setattr("evtool.stores.nats.standing._FOLLOW_SECONDS", 0.02)
    one, other = two
    one.append(20)

    def uses(group: NatsGroup, reader: GroupReader) -> Iterator[Callable[[], object]]:
        yield lambda: group.commit(20)
        yield lambda: group.handle(Ranges([(0, 19)]))
        yield group.look
        yield lambda: group.say_doing("x")
        yield reader.read

    for at in range(5):
        group, reader = one.consume(name=f"g{at}")
        read_all(reader)
        other.topic.seek(f"g{at}", 1)
        wait_until(lambda group=group: group.seat.notice)  # type: ignore[misc]
        with pytest.raises(Moved):
            list(uses(group, reader))[at]()
        group.sync()
        standing = other.topic.standing(f"g{at}")
        assert (standing.committed, standing.lag) == (1, 19)


def test_a_seek_moves_a_group_that_nobody_consumes_for(two: list[Client]) -> None:
    """The next one begins there, and so it stands, whether it was handled before or not."""
    one, other = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    group.commit(10)
    group.handle(Ranges([(12, 13)]))
    group.sync()
    group.release()
    for target in (2, 18, 20, 0):
        one.topic.seek("g", target)
        standing = other.topic.standing("g")
        assert (standing.committed, str(standing.handled), standing.lag) == (target, "", 20 - target)
        group, reader = other.consume()
        assert read_all(reader) == list(range(target, 20))
        group.release()


def test_a_seek_that_ended_half_way_is_finished_by_the_next(two: list[Client]) -> None:
    """A seek is made once its record is: who joins puts the consumer where it says."""
    one, other = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    group.commit(20)
    group.sync()
    group.release()

    def move(record: Record) -> bool:
        record.move(5)
        return True

    one.connection.run(Register(one.connection).update("t", "g", move))
    standing = other.topic.standing("g")
    assert (standing.committed, standing.lag) == (5, 15)
    assert read_all(other.consume()[1]) == list(range(5, 20))


def test_nothing_is_acknowledged_after_a_seek_that_was_not_handled_after_it(server: Server) -> None:
    """A consumer at work is put back again and again: all from there on comes and is handled anew each time."""
    with clients(server, 2) as (one, other):
        one.append(400)
        handled: list[tuple[int, int]] = []  # which life of the consumer, and what it handled
        stop = threading.Event()
        life = 0

        def work() -> None:
            nonlocal life
            group = one.group()
            while not stop.is_set():
                reader = begin(group)
                life += 1
                try:
                    while not stop.is_set():
                        for offset in offsets_of(reader.read(400)):
                            handled.append((life, offset))
                            group.handle(Ranges([(offset, offset)]))
                        group.look()
                        group.sync()
                except Moved:
                    pass

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for target in (0, 350, 10, 120, 3):
                wait_until(lambda: life and [at for at, _ in handled].count(life) > 30)
                before = life
                other.topic.seek("g", target)
                wait_until(lambda before=before: life > before)  # type: ignore[misc]
                wait_until(lambda: other.topic.standing("g").lag == 0)
                anew = {offset for at, offset in handled if at > before}
                assert anew >= {*range(target, 400)}
        finally:
            stop.set()
            worker.join()


def test_a_consumer_that_another_tool_puts_back_is_followed(two: list[Client], server: Server) -> None:
    """`nats consumer reset` counts as a seek."""
    one, _ = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    group.commit(20)
    group.sync()
    with server.wire() as wire:
        wire.api("CONSUMER.RESET.evtool_t.g", {"seq": 11})

    def moved() -> bool:
        try:
            reader.read()
        except Moved:
            return True
        return False

    wait_until(moved)
    assert read_all(begin(group)) == list(range(10, 20))


def test_a_consumer_that_another_tool_removes_is_made_anew(two: list[Client], server: Server) -> None:
    """What the group has handled stands in its record: it goes on there, and does not begin anew."""
    one, _ = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    group.commit(8)
    group.handle(Ranges([(10, 11)]))
    group.sync()
    with server.wire() as wire:
        wire.api("CONSUMER.DELETE.evtool_t.g")

    def moved() -> bool:
        try:
            reader.read()
        except Moved:
            return True
        return False

    wait_until(moved)
    assert read_all(begin(group, start=20)) == [8, 9, *range(12, 20)]


# Again, removal


def test_what_is_called_again_is_known_until_it_is_handled(two: list[Client]) -> None:
    """A consumer that runs hears of it; it stands in the record until it is handled once more, over a restart too."""
    one, other = two
    one.append(10)
    group, reader = one.consume()
    read_all(reader)
    group.commit(10)
    group.sync()
    other.topic.call_again("g", Ranges([(2, 3), (7, 7)]))
    wait_until(lambda: group.look() or group.state.again)
    assert str(group.state.again) == "2-3,7"
    standing = other.topic.standing("g")
    assert (standing.committed, standing.lag, standing.waiting) == (10, 3, 2)
    group.handle(Ranges([(2, 2)]))
    group.sync()
    group.look()
    assert str(group.state.again) == "3,7"
    group.release()
    group, _ = other.consume()
    assert str(group.state.again) == "3,7"
    group.handle(Ranges([(3, 3), (7, 7)]))
    one.topic.call_again("g", Ranges([(5, 5)]))
    wait_until(lambda: group.look() or 5 in group.state.again)
    group.sync()
    assert str(group.state.again) == "5"
    assert one.topic.standing("g").lag == 1


def test_there_must_be_a_group(two: list[Client]) -> None:
    """What is done to a group that is not there, or to a topic, fails, and makes neither."""
    one, _ = two
    one.append(1)
    acts: list[Callable[[], object]] = [
        lambda: one.topic.standing("x"),
        lambda: one.topic.seek("x", 0),
        lambda: one.topic.call_again("x", Ranges([(0, 0)])),
        lambda: one.topic.remove_group("x"),
        lambda: NatsDeputy(one.connection, "t", "x", "m"),
    ]
    for act in acts:
        with pytest.raises(NotFoundError, match="no such group of topic t"):
            act()
    assert one.topic.groups() == []
    group = NatsGroup(one.connection, "nothing", "g")
    assert group.try_acquire()
    with pytest.raises(NotFoundError, match="no such topic"):
        group.join(0)


def test_a_group_in_use_is_removed_by_force_only(two: list[Client]) -> None:
    """Its consumer is told that it is gone, and nothing is left of it."""
    one, other = two
    one.append(10)
    group, reader = one.consume()
    read_all(reader)
    with pytest.raises(BusyError, match="a process consumes for it"):
        other.topic.remove_group("g")
    other.topic.remove_group("g", force=True)
    with pytest.raises(NotFoundError, match="the group was removed"):
        wait_until(lambda: group.look())
    group.sync()
    group.release()
    assert other.topic.groups() == []
    assert NatsGroup(other.connection, "t", "g").try_acquire()


def test_a_topic_that_is_removed_ends_its_consumer(two: list[Client], server: Server) -> None:
    """Who waits for events hears of it, and a topic of the same name is not taken for it."""
    one, other = two
    one.append(10)
    group, reader = one.consume()
    read_all(reader)
    assert not reader.is_gone()
    with server.wire() as wire:
        wire.api("STREAM.DELETE.evtool_t")
    wait_until(reader.is_gone)
    with pytest.raises(NotFoundError, match=r"t: (the topic was removed|no such topic)"):
        reader.read()
    group.release()
    other.append(2)
    assert reader.is_gone()
    group, reader = other.consume()
    assert group.state.committed == 0
    assert read_all(reader) == [0, 1]


# What is gone


def test_what_retention_took_before_it_joined_is_told(two: list[Client]) -> None:
    """Events that were trimmed away unhandled are told by their offsets, and the group goes on behind them."""
    one, other = two
    one.append(30)
    group, reader = one.consume()
    read_all(reader)
    group.commit(4)
    group.handle(Ranges([(6, 7)]))
    group.sync()
    group.release()
    other.topic.trim(10)
    assert other.topic.standing("g").committed == 4
    group = other.group()
    missed: list[tuple[int, int]] = []
    assert group.committed == 4
    reader = group.reader(group.join(4), lambda first, last: missed.append((first, last)))
    assert read_all(reader) == list(range(10, 30))
    assert missed == [(4, 5), (8, 9)]
    group.commit(30)
    group.sync()
    assert other.topic.standing("g").lag == 0


def test_what_was_removed_is_told_if_nothing_is_left(two: list[Client], server: Server) -> None:
    """That another tool has removed all there was is told too."""
    one, other = two
    one.append(30)
    group, reader = one.consume()
    group.release()
    with server.wire() as wire:
        wire.api("STREAM.PURGE.evtool_t")
    group = other.group()
    missed: list[tuple[int, int]] = []
    reader = group.reader(group.join(0), lambda first, last: missed.append((first, last)))
    assert read_all(reader) == []
    assert missed == [(0, 29)]
    assert reader.next_offset == 30


def test_what_was_acknowledged_and_dropped_is_no_loss(server: Server) -> None:
    """With retention `consumed` an event goes once it is handled: no loss, though the record may not know it yet."""
    with clients(server, 3) as (one, other, third):
        one.append(1)
        one.topic.set({"retention": "consumed"})
        one.append(29, 1)
        group, reader = one.consume()
        read_all(reader)
        group.commit(5)
        group.sync()
        group.commit(20)
        wait_until(lambda: other.topic.bounds().first == 20)
        one.connection.close()
        missed: list[tuple[int, int]] = []
        group = NatsGroup(other.connection, "t", "g")
        wait_until(group.try_acquire)
        assert group.committed == 20
        reader = group.reader(group.join(20), lambda first, last: missed.append((first, last)))
        assert read_all(reader) == list(range(20, 30))
        assert missed == []
        group.release()
        third.topic.trim(25)
        group = NatsGroup(third.connection, "t", "g")
        wait_until(group.try_acquire)
        reader = group.reader(group.join(20), lambda first, last: missed.append((first, last)))
        assert read_all(reader) == list(range(25, 30))
        assert missed == [(20, 24)]


def test_what_retention_takes_while_it_runs_is_told(two: list[Client]) -> None:
    """A consumer that is overtaken hears of all that it will not get, once, and of nothing that it was given."""
    one, other = two
    other.topic.writer().append([b'"data":0'])
    other.topic.set({"max-events": 6000})
    one.append(5000, 1)
    missed: list[tuple[int, int]] = []
    group = one.group()
    reader = group.reader(group.join(0), lambda first, last: missed.append((first, last)))
    seen = offsets_of(reader.read())
    other.append(50_000, 5001)
    seen += read_all(reader)
    gone = Ranges(missed)
    assert gone
    assert gone.count() == sum(last - first + 1 for first, last in missed)
    assert len(seen) + gone.count() == 55_001
    assert sorted([*seen, *gone.offsets()]) == list(range(55_001))
    assert seen == sorted(seen)


def test_a_gap_that_nobody_trimmed_is_no_loss(two: list[Client], server: Server) -> None:
    """Single messages that somebody has deleted are passed over, and the group does not wait for them."""
    one, other = two
    one.append(10)
    with server.wire() as wire:
        for sequence in (4, 5, 10):
            wire.api("STREAM.MSG.DELETE.evtool_t", {"seq": sequence})
    missed: list[tuple[int, int]] = []
    group = one.group()
    reader = group.reader(group.join(0), lambda first, last: missed.append((first, last)))
    assert read_all(reader) == [0, 1, 2, 5, 6, 7, 8]
    assert missed == []
    group.commit(9)
    group.sync()
    assert other.topic.standing("g").lag == 0


def test_a_log_that_lost_its_end_is_noticed(two: list[Client]) -> None:
    """If there is less than the group has handled, or something else in its place, it does not go on as before."""
    one, other = two
    one.append(10)
    group, reader = one.consume()
    read_all(reader)
    group.commit(10)
    group.sync()
    group.release()

    def forge(change: Callable[[Record], None]) -> None:
        def apply(record: Record) -> bool:
            change(record)
            return True

        one.connection.run(Register(one.connection).update("t", "g", apply))

    assert other.group().committed == 10

    def put_ahead(record: Record) -> None:
        record.committed, record.holder = 12, ""

    forge(put_ahead)
    group = other.group()
    with pytest.raises(ConditionError, match="has committed offset 12, but the log ends before 10") as caught:
        assert group.committed
    assert "evtool seek t --group g --to 10" in str(caught.value.hint)
    group.release()

    def was_another(record: Record) -> None:
        assert record.mark is not None
        record.committed, record.mark = 10, [9, record.mark[1] - 1]

    forge(was_another)
    group = other.group()
    with pytest.raises(ConditionError, match="offset 9 is not the event that it has handled"):
        assert group.committed
    group.release()
    other.topic.seek("g", 9)
    assert read_all(other.consume()[1]) == [9]


# When something breaks


def test_acknowledgements_that_were_lost_are_sent_again(two: list[Client], server: Server) -> None:
    """What was on its way when a connection broke arrives through the next one; without that it does not."""
    one, _ = two
    one.append(2000)
    group, reader = one.consume()
    read_all(reader)

    def drop_all() -> None:
        one.connection.client.drop()

    group.handle(Ranges([(0, 1999)]))
    one.connection.loop.call_soon_threadsafe(drop_all)
    group.sync()
    assert info_of(server)["ack_floor"]["stream_seq"] == 2000


def test_a_delivery_that_was_lost_comes_again_in_its_place(two: list[Client]) -> None:
    """A number that is missing among the deliveries shows, wherever it is; then all comes in order, and once."""
    one, other = two
    one.append(6000)
    group, reader = one.consume()
    seen = offsets_of(reader.read(1000))
    for _ in range(3):
        wait_until(lambda: reader._pull.count > 10)
        assert reader._pull.take(1, 1)  # lost
        seen += offsets_of(reader.read(1000))
        group.commit(seen[-5])
    seen += read_all(reader)
    assert seen == list(range(6000))
    group.commit(6000)
    group.sync()
    assert other.topic.standing("g").lag == 0


def test_it_goes_on_after_its_connection_was_lost(two: list[Client], server: Server) -> None:
    """All of what comes then is given out, nothing twice, and what was held is still ours to handle."""
    one, other = two
    one.append(10_000)
    group, reader = one.consume()
    seen: list[int] = []
    for at in range(5):
        seen += offsets_of(reader.read())
        group.handle(Ranges([(10 * at, 10 * at + 4)]))
        one.connection.loop.call_soon_threadsafe(one.connection.client.drop)
    seen += read_all(reader)
    assert seen == list(range(10_000))
    other.append(1)
    wait_until(lambda: reader.read())
    group.commit(10_001)
    group.sync()
    assert info_of(server)["num_ack_pending"] == 0
    assert other.topic.standing("g").lag == 0


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_it_goes_on_after_the_server_was_started_anew(own_server: Callable[..., Server], ending: str) -> None:
    """Nothing is lost, nothing that is held comes twice, and it still has the group."""
    server = own_server()
    with clients(server, 2) as (one, other):
        one.append(10_000)
        group, reader = one.consume()
        seen = offsets_of(reader.read())
        group.handle(Ranges([(0, 99)]))
        group.sync()
        getattr(server, ending)()
        server.start()
        seen += read_all(reader)
        assert seen == list(range(10_000))
        group.commit(10_000)
        group.sync()
        assert info_of(server)["ack_floor"]["stream_seq"] == 10_000
        assert not NatsGroup(other.connection, "t", "g").try_acquire()
        other.append(5)
        more: list[int] = []
        wait_until(lambda: more.extend(offsets_of(reader.read())) or len(more) == 5)


def test_a_cluster_that_loses_its_leader_is_ridden_out(own_cluster: Callable[..., Cluster]) -> None:
    """While the leader of the topic is killed a consumer gets all in order, and what it handles is known in the end."""
    cluster = own_cluster()
    with clients(cluster, 2) as (one, other):
        one.append(20_000)
        group, reader = one.consume()
        seen = offsets_of(reader.read())
        cluster.leader_of(names.stream_of("t")).kill()
        for _ in range(20):
            seen += offsets_of(reader.read())
            group.commit(reader.next_offset - 50)
        group.sync()
        seen += read_all(reader)
        assert seen == list(range(20_000))
        group.commit(20_000)
        group.sync()
        assert other.topic.standing("g").lag == 0
        group.release()
        assert read_all(other.consume()[1]) == []


# For others to commit


def test_a_deputy_commits_while_events_are_given_out(two: list[Client], server: Server) -> None:
    """Any number may be under way; what the deputy says is known to the server, and not given out again."""
    one, other = two
    one.append(30_000)
    group, reader = one.consume(mode=MANUAL)
    assert len(read_all(reader)) == 30_000
    assert len(group.held) == 0
    deputy = NatsDeputy(other.connection, "t", "g", group.member)
    assert deputy.committed == 0
    deputy.commit(10)
    deputy.commit(25_000)
    deputy.commit(7)
    deputy.sync()
    assert deputy.committed == 25_000
    assert info_of(server)["ack_floor"]["stream_seq"] == 25_000
    assert other.topic.standing("g").committed == 25_000
    one.connection.loop.call_soon_threadsafe(one.connection.client.drop)
    other.append(3)
    more: list[int] = []
    wait_until(lambda: more.extend(offsets_of(reader.read())) or len(more) >= 3)
    assert more == [30_000, 30_001, 30_002]
    group.release()
    assert read_all(one.consume()[1]) == list(range(25_000, 30_003))


def test_a_deputy_commits_when_the_member_has_ended(two: list[Client]) -> None:
    """What the member has given out in all is handled when the pipe has come to its end."""
    one, other = two
    one.append(100)
    group, reader = one.consume(mode=MANUAL)
    read_all(reader)
    member = group.member
    deputy = NatsDeputy(other.connection, "t", "g", member)
    deputy.commit(40)
    deputy.finish()
    assert deputy.committed == 40  # nobody has said yet what was given out
    group.say(given="90")
    group.sync()
    group.release()
    deputy.finish()
    assert deputy.committed == 90
    standing = one.topic.standing("g")
    assert (standing.committed, standing.lag) == (90, 10)
    late = NatsDeputy(other.connection, "t", "g", member)
    assert late.committed == 90


def test_a_deputy_is_refused_when_another_consumes(two: list[Client]) -> None:
    """What a pipe still has comes again where the group is consumed now, so nothing of it is committed."""
    one, other = two
    one.append(100)
    group, reader = one.consume(mode=MANUAL)
    read_all(reader)
    deputy = NatsDeputy(other.connection, "t", "g", group.member)
    deputy.commit(40)
    deputy.sync()
    group.release()
    second = NatsGroup(one.connection, "t", "g")
    wait_until(second.try_acquire)
    assert read_all(begin(second)) == list(range(40, 100))
    for use in (lambda: deputy.commit(100), deputy.finish):
        with pytest.raises(ConditionError, match="another process consumes for the group by now"):
            use()
    deputy.sync()
    assert one.topic.standing("g").committed == 40


def test_a_record_of_a_former_topic_says_nothing_of_events(two: list[Client], server: Server) -> None:
    """If somebody removes a stream with another tool, the group of the next one begins anew."""
    one, other = two
    one.append(100)
    group, reader = one.consume()
    read_all(reader)
    group.commit(60)
    group.sync()
    group.release()
    with server.wire() as wire:
        wire.api("STREAM.DELETE.evtool_t")
        other.append(5)
        message = wire.api(f"STREAM.MSG.GET.{names.REGISTER}", {"last_by_subj": names.record_subject("t", "g")})
        assert message["message"]["seq"]
    second = other.group()
    assert second.committed is None
    assert read_all(begin(second)) == [0, 1, 2, 3, 4]
    assert orjson.dumps(second.state.committed) == b"0"

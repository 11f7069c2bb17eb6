"""What others do to a group on NATS while a process consumes for it, which hears of that: seek, redrive, remove."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import BusyError, NotFoundError
from evtool.log.ranges import Ranges
from evtool.stores.moved import Moved
from evtool.stores.nats.deputy import NatsDeputy
from evtool.stores.nats.group import ALONE, SHARED, NatsGroup
from evtool.stores.nats.reader import NatsReader
from evtool.stores.nats.register import Record, Register
from evtool.stores.nats.survey import Survey, survey
from tests.nats.consuming import (
    Client,
    begin,
    clients,
    hear_again,
    hear_notice,
    offsets_of,
    read_all,
)
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evtool.stores.nats.reading import GroupReader
    from tests.nats.server import Server


def raises_moved(group: NatsGroup) -> bool:
    """Whether a look says that the group was moved."""
    try:
        group.look()
    except Moved:
        return True
    return False


def read_until_moved(reader: GroupReader) -> None:
    """Read until that says that the group was moved."""

    def look() -> bool:
        try:
            reader.read()
        except Moved:
            return True
        return False

    wait_until(look)


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
        hear_notice(group)
        with pytest.raises(Moved):
            list(uses(group, reader))[at]()
        group.sync()
        standing = other.topic.standing(f"g{at}")
        assert (standing.committed, standing.lag) == (1, 19)


def test_what_was_read_before_it_joined_anew_moves_nobody_again(
    two: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One seek is told once, though a look at the record was begun before and ends long after."""
    one, other = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    seat, register = group.seat, Register(one.connection)
    stale = one.connection.run(register.read("t", "g"))
    other.topic.seek("g", 8)
    hear_notice(group)
    with pytest.raises(Moved):
        group.check()
    gate = asyncio.Event()
    looks: list[asyncio.Task[Record]] = []
    read = seat._register.read

    async def look_meanwhile(*args: Any) -> Survey:
        if not looks:
            monkeypatch.setattr(seat._register, "read", read_late)
            looks.append(asyncio.ensure_future(seat.look()))
        return await survey(*args)

    async def read_late(*_: Any) -> tuple[Record, int]:
        monkeypatch.setattr(seat._register, "read", read)
        await gate.wait()
        return stale

    async def finish() -> None:
        gate.set()
        await looks[0]

    monkeypatch.setattr("evtool.stores.nats.seat.survey", look_meanwhile)
    assert group.join(8) == 8
    one.connection.run(finish())
    assert seat.notice == ""
    assert read_all(group.reader(8)) == list(range(8, 20))


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


def test_a_sync_finds_out_about_a_seek_that_nobody_told_of(two: list[Client]) -> None:
    """A member that heard nothing says nothing of what was before into the record, and is told by its next use."""
    one, other = two
    one.append(20)
    group, reader = one.consume()
    read_all(reader)
    assert group.seat._watching is not None
    one.connection.run(group.seat._watching.unsubscribe())

    def move(record: Record) -> bool:
        record.move(5)
        return True

    other.connection.run(Register(other.connection).update("t", "g", move))
    group.commit(20)
    group.sync()
    assert other.topic.standing("g").committed == 5
    assert raises_moved(group)
    assert read_all(begin(group)) == list(range(5, 20))


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
    read_until_moved(reader)
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
    read_until_moved(reader)
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
    assert hear_again(group) == "2-3,7"
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
    assert hear_again(group) == "5"
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
    with pytest.raises(NotFoundError, match="the topic was removed"):
        group.join(0)


@pytest.mark.parametrize("mode", [ALONE, SHARED])
def test_whatever_is_asked_of_a_topic_that_was_removed_says_so(two: list[Client], server: Server, mode: str) -> None:
    """Not that there is no such topic, which who has consumed it would not believe."""
    one, _ = two
    one.append(5)
    group = one.group(mode)
    group.join(0)
    reader = NatsReader(one.connection, "t", 0, lambda *_: None)
    assert reader.read()
    with server.wire() as wire:
        wire.api("STREAM.DELETE.evtool_t")
    acts: list[Callable[[], object]] = [
        group.first_sequence,
        lambda: group.join(0),
        lambda: one.connection.run(group.consumer.info()),
        lambda: reader._tell_of_gaps([9]),
    ]
    for act in acts:
        with pytest.raises(NotFoundError, match="the topic was removed"):
            act()


def test_a_group_in_use_is_removed_by_force_only(two: list[Client]) -> None:
    """Its consumer is told that it is gone, and nothing is left of it."""
    one, other = two
    one.append(10)
    group, reader = one.consume()
    read_all(reader)
    with pytest.raises(BusyError, match="a process consumes for it"):
        other.topic.remove_group("g")
    other.topic.remove_group("g", force=True)
    hear_notice(group)
    with pytest.raises(NotFoundError, match="the group was removed"):
        group.look()
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

"""The register: records of groups, changed by compare-and-set."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import BusyError
from evtool.log.ranges import Ranges
from evtool.stores.nats import names
from evtool.stores.nats.register import Record, Register
from tests.nats.consuming import clients

if TYPE_CHECKING:
    from tests.nats.consuming import Client
    from tests.nats.server import Cluster, Server


def _add(client: Client, offset: int) -> None:
    def add(record: Record) -> bool:
        record.again.add(offset, offset)
        return True

    client.connection.run(Register(client.connection).update("t", "g", add))


def test_a_record_is_read_as_it_was_written() -> None:
    """What a record says survives being a message; what is not said is as in an empty one."""
    record = Record()
    record.committed, record.seeks, record.holder, record.born = 0, 2, "abc", "2026-01-01T00:00:00Z"
    record.handled, record.again = Ranges([(3, 5)]), Ranges([(1, 1)])
    record.members = {"abc": {"pid": "1", "mode": "alone"}}
    record.mark = [2, 1795956908743763421]
    import orjson

    again = Record(orjson.loads(record.encode()))
    for name in Record.__slots__:
        assert str(getattr(again, name)) == str(getattr(record, name)), name
    assert Record(orjson.loads(Record().encode())).committed is None


def test_a_record_too_long_keeps_the_lowest_handled_offsets() -> None:
    """A message has a limit: what is left out of `handled` is handled once more, nothing else is lost."""
    import orjson

    record = Record()
    record.handled = Ranges((offset, offset) for offset in range(10**9, 10**9 + 100_000, 2))
    again = Record(orjson.loads(record.encode()))
    assert len(record.encode()) < 300_000
    assert next(iter(again.handled)) == (10**9, 10**9)
    left = Ranges(again.handled)
    left.subtract(record.handled)
    assert not left


def test_who_is_never_the_first_gives_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that others are always faster than ends when its patience does, and so does a removal."""

    async def too_late(*_: Any) -> bool:
        return False

    with clients(server, 1) as (one,):
        _add(one, 1)
        monkeypatch.setattr(Register, "_store", too_late)
        register = Register(one.connection)
        one.connection.patience = 0.3
        with pytest.raises(BusyError, match="others change its record all the time"):
            one.connection.run(register.update("t", "g", lambda _: True))
        with pytest.raises(BusyError, match="others change its record all the time"):
            one.connection.run(register.remove("t", "g"))


def test_the_stream_is_made_at_first_need(server: Server) -> None:
    """Reading makes nothing; the first change makes the stream of all records, which no topic is."""
    with clients(server, 1) as (one,):
        register = Register(one.connection)
        record, version = one.connection.run(register.read("t", "g"))
        assert (record.committed, version) == (None, 0)
        with server.wire() as wire:
            assert wire.streams() == []
            _add(one, 7)
            assert wire.streams() == [names.REGISTER]
        record, version = one.connection.run(register.read("t", "g"))
        assert str(record.again) == "7"
        assert version > 0


def test_records_have_as_many_replicas_as_topics(cluster: Cluster) -> None:
    """In a cluster the register is on three servers, as topics are if nobody says."""
    with clients(cluster, 1) as (one,), cluster.wire() as wire:
        _add(one, 7)
        assert wire.api(f"STREAM.INFO.{names.REGISTER}")["config"]["num_replicas"] == 3


def test_changes_at_the_same_time_are_all_made(server: Server) -> None:
    """What four processes change at once in the same record is all there in the end."""
    with clients(server, 4) as four:

        def work(client: Client, start: int) -> None:
            for offset in range(start, start + 15):
                _add(client, offset)

        threads = [threading.Thread(target=work, args=(client, 15 * at)) for at, client in enumerate(four)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        record, _ = four[0].connection.run(Register(four[0].connection).read("t", "g"))
        assert str(record.again) == "0-59"


def test_what_need_not_change_is_not_written(server: Server) -> None:
    """A change that has nothing to do leaves the version as it is."""
    with clients(server, 1) as (one,):
        _add(one, 1)
        register = Register(one.connection)
        _, version = one.connection.run(register.read("t", "g"))
        one.connection.run(register.update("t", "g", lambda _: False))
        assert one.connection.run(register.read("t", "g"))[1] == version


def test_a_removed_record_leaves_nothing(server: Server) -> None:
    """After `remove` there is no message left, and a change begins with an empty record."""
    with clients(server, 1) as (one,), server.wire() as wire:
        _add(one, 1)
        register = Register(one.connection)
        one.connection.run(register.remove("t", "g"))
        one.connection.run(register.remove("t", "g"))
        assert wire.api(f"STREAM.INFO.{names.REGISTER}")["state"]["messages"] == 0
        _add(one, 2)
        assert str(one.connection.run(register.read("t", "g"))[0].again) == "2"


def test_a_foreign_message_is_an_empty_record(server: Server) -> None:
    """What somebody else puts in the place of a record does no harm."""
    with clients(server, 1) as (one,), server.wire() as wire:
        _add(one, 1)
        for text in (b"", b"nonsense", b"[1]", b'{"handled":"x"}', b'{"committed":{}}'):
            wire.publish(names.record_subject("t", "g"), text)
            _add(one, 2)
            assert str(one.connection.run(Register(one.connection).read("t", "g"))[0].again) == "2"


def test_groups_of_names_with_dots_are_kept_apart(server: Server) -> None:
    """The records of a.b of topic c and of b of topic c.a are two."""
    with clients(server, 1) as (one,):
        register = Register(one.connection)

        def move(offset: int) -> object:
            def change(record: Record) -> bool:
                record.committed = offset
                return True

            return change

        for at, (topic, group) in enumerate([("c", "a.b"), ("c.a", "b"), ("c.", "a"), ("c", "a.")]):
            one.connection.run(register.update(topic, group, move(at)))  # type: ignore[arg-type]
        for at, (topic, group) in enumerate([("c", "a.b"), ("c.a", "b"), ("c.", "a"), ("c", "a.")]):
            assert one.connection.run(register.read(topic, group))[0].committed == at

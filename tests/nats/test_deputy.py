"""Committing for a process that gives events out: the far end of `subscribe --manual | … | evtool commit`, on NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evtool.errors import ConditionError
from evtool.stores.nats.deputy import NatsDeputy
from evtool.stores.nats.group import MANUAL, NatsGroup
from tests.nats.consuming import (
    Client,
    begin,
    info_of,
    read_all,
    read_until,
)
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nats.server import Server


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
    assert read_until(reader, 3) == [30_000, 30_001, 30_002]
    assert info_of(server)["ack_floor"]["stream_seq"] == 25_000
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


def test_a_deputy_says_again_what_the_server_would_not_hear(
    two: list[Client], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While events are delivered anew after a loss they can't be acknowledged for a moment: it is made up for."""
    monkeypatch.setattr("evtool.stores.nats.acks._ANSWER_SECONDS", 0.1)
    one, other = two
    one.append(100)
    group, reader = one.consume(mode=MANUAL)
    read_all(reader)
    deputy = NatsDeputy(other.connection, "t", "g", group.member)
    one.connection.run(reader._pull.leave())
    one.connection.run(group.seat.put_back(0))
    deputy.commit(10)
    deputy.sync()
    assert info_of(server)["ack_floor"]["stream_seq"] == 0
    assert other.topic.standing("g").committed == 10
    one.connection.run(group.seat.put_back(0))
    reader._pull = reader._new_pull()
    reader._pull.start()
    wait_until(lambda: reader._pull.count == 100)
    deputy.commit(11)
    deputy.sync()
    assert info_of(server)["ack_floor"]["stream_seq"] == 11


def test_a_deputy_is_refused_after_a_seek(two: list[Client]) -> None:
    """What the pipe still had is not committed where the group was put meanwhile."""
    one, other = two
    one.append(100)
    group, reader = one.consume(mode=MANUAL)
    read_all(reader)
    deputy = NatsDeputy(other.connection, "t", "g", group.member)
    group.release()
    other.topic.seek("g", 50)
    with pytest.raises(ConditionError):
        deputy.commit(60)
    assert one.topic.standing("g").committed == 50


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
    uses: list[Callable[[], object]] = [lambda: deputy.commit(100), deputy.finish]
    for use in uses:
        with pytest.raises(ConditionError, match="another process consumes for the group by now"):
            use()
    deputy.sync()
    assert one.topic.standing("g").committed == 40

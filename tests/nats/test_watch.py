"""Waiting for a cluster's news: heard at once, at no cost until then."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest

from evtool.errors import BusyError
from evtool.stores.nats import names, stream, watch
from evtool.stores.nats.address import parse
from evtool.stores.nats.connection import Connection
from evtool.stores.nats.reader import NatsReader
from evtool.stores.nats.watch import NatsWatch
from tests.nats.events import fill
from tests.program import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nats.server import Server


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    """A connection with the topic orders."""
    connection = Connection(parse(server.url, {}))
    stream.create_stream(connection, "orders", {})
    yield connection
    connection.close()


@pytest.fixture
def other(server: Server) -> Iterator[Connection]:
    """Another connection."""
    connection = Connection(parse(server.url, {}))
    yield connection
    connection.close()


def test_an_event_ends_a_wait(connection: Connection, other: Connection) -> None:
    """A wait without an end comes back when there is something to read, and what is then read is that."""
    reader = NatsReader(connection, "orders", 0)
    assert reader.read() == b""
    waiting = NatsWatch(connection, ["orders"])
    while waiting.wait(0):
        assert reader.read() == b""
    for number in range(20):
        fill(other, "orders", 1, first=number)
        while not (lines := reader.read()):
            assert waiting.wait(PATIENCE)
        assert lines.endswith(b'"data":%d}\n' % number)


def test_what_comes_while_we_read_is_not_lost(connection: Connection, other: Connection) -> None:
    """News between a wait and the reading after it ends the next wait too, if nothing else does."""
    reader = NatsReader(connection, "orders", 0)
    waiting = NatsWatch(connection, ["orders"])
    left = 3000
    future = other.start(_publish(other, left))
    while left:
        if lines := reader.read(1):
            left -= lines.count(b"\n")
        else:
            assert waiting.wait(PATIENCE)
    future.result()


async def _publish(connection: Connection, count: int) -> None:
    for _ in range(count):
        await connection.request(names.subject_of("orders"), b'{"data":1}')


def test_nothing_is_no_news(connection: Connection) -> None:
    """A wait that nothing ends lasts as long as it was told to, and says so."""
    waiting = NatsWatch(connection, ["orders"])
    waiting.wait(0)
    start = time.monotonic()
    assert not waiting.wait(0.1)
    assert time.monotonic() - start >= 0.09


def test_one_reader_does_not_take_the_news_of_another(connection: Connection, other: Connection) -> None:
    """What came for one topic while another was waited for by its reader is still to be heard."""
    stream.create_stream(connection, "others", {})
    first, second = NatsReader(connection, "orders", 0), NatsReader(connection, "others", 0)
    waiting = NatsWatch(connection, ["orders", "others"])
    assert first.read() == second.read() == b""
    waiting.wait(0)
    fill(other, "others", 1)
    fill(other, "orders", 100)
    wait_until(first.read, "the first topic's")
    assert waiting.wait(PATIENCE)
    wait_until(second.read, "the second topic's")


def test_the_descriptor_is_readable_when_there_is_news(connection: Connection, other: Connection) -> None:
    """A loop of its own can wait for it together with others."""
    reader = NatsReader(connection, "orders", 0)
    reader.read()
    waiting = NatsWatch(connection, ["orders"])
    waiting.wait(0)
    assert waiting.fd is not None
    assert select.select([waiting.fd], [], [], 0)[0] == []
    fill(other, "orders", 1)
    assert select.select([waiting.fd], [], [], PATIENCE)[0] == [waiting.fd]
    assert waiting.wait(0)


def test_a_wake_ends_a_wait(connection: Connection) -> None:
    """The descriptor that stands for a stop does, for good."""
    near, far = os.pipe()
    waiting = NatsWatch(connection, ["orders"], near)
    waiting.wait(0)
    os.close(far)
    assert waiting.wait(PATIENCE)
    assert waiting.wait(PATIENCE)
    os.close(near)


def test_new_topics_are_heard_of(connection: Connection, other: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is made ends a wait, and so does one that is removed; as a control, not where it is not asked for."""
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.05)
    waiting = NatsWatch(connection, [], new_topics=True)
    while waiting.wait(0):
        pass
    stream.create_stream(other, "others", {})
    assert waiting.wait(PATIENCE)
    other.call(f"STREAM.DELETE.{names.stream_of('others')}")
    assert waiting.wait(PATIENCE)
    del waiting
    deaf = NatsWatch(connection, [])
    deaf.wait(0)
    stream.create_stream(other, "others", {})
    assert not deaf.wait(0.3)


def test_a_watch_is_begun_however_long_servers_take(
    connection: Connection, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has time for ever waits for the first answer too; control: as long as everybody else."""
    monkeypatch.setattr(watch, "_PATIENCE", 0.01)
    server.suspend()
    timer = threading.Timer(0.3, server.resume)
    timer.start()
    try:
        connection.patience = 0.01
        with pytest.raises(BusyError):
            NatsWatch(connection, [], new_topics=True)
        connection.patience = math.inf
        assert NatsWatch(connection, [], new_topics=True).fd is not None
    finally:
        timer.join()


def test_no_one_is_asked_unless_topics_are_awaited(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a watch for new topics sends anything, and none any more when it is gone."""
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.02)
    NatsWatch(connection, ["orders"]).wait(0.2)
    before = connection.client.stats["out_msgs"]
    NatsWatch(connection, ["orders"]).wait(0.2)
    assert connection.client.stats["out_msgs"] == before
    waiting = NatsWatch(connection, ["orders"], new_topics=True)
    wait_until(lambda: connection.client.stats["out_msgs"] > before + 3, "it to ask")
    del waiting
    connection.call("INFO")
    before = connection.client.stats["out_msgs"]
    NatsWatch(connection, ["orders"]).wait(0.2)
    assert connection.client.stats["out_msgs"] == before


def test_a_topic_removed_ends_a_wait(connection: Connection, other: Connection) -> None:
    """Its reader says then that it is gone."""
    reader = NatsReader(connection, "orders", 0)
    reader.read()
    waiting = NatsWatch(connection, ["orders"])
    waiting.wait(0)
    other.call(f"STREAM.DELETE.{names.stream_of('orders')}")
    assert waiting.wait(PATIENCE)
    wait_until(reader.is_gone, "it to be gone")

"""Fetching a consumer's messages: asked for ahead, or so many on demand; what becomes of requests is heard."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from evtool.stores.nats import names, pull, stream
from evtool.stores.nats.address import parse
from evtool.stores.nats.connection import Connection
from evtool.stores.nats.pull import DELETED, INTERRUPTED, LIMIT, REFUSED, Pull
from tests.nats.events import fill
from tests.program import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.nats.server import Server

STREAM = names.stream_of("orders")
VERB = f"{STREAM}.billing"


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    """A connection with the topic orders and a durable consumer of it, whose messages come again after 30 s."""
    connection = Connection(parse(server.url, {}))
    make(connection)
    yield connection
    connection.close()


def make(connection: Connection) -> None:
    """Make the topic and its consumer."""
    stream.create_stream(connection, "orders", {})
    config = {"durable_name": "billing", "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": 50_000}
    connection.call(f"CONSUMER.CREATE.{VERB}", {"stream_name": STREAM, "config": config})


def data_of(messages: list[tuple[bytes, str]]) -> list[int]:
    """The numbers that messages carry."""
    return [int(payload.rpartition(b":")[2].rstrip(b"}")) for payload, _ in messages]


def take_all(pulled: Pull, count: int) -> list[int]:
    """The numbers of the next messages, so many of them."""
    found: list[int] = []
    while len(found) < count:
        assert pulled.wait(PATIENCE)
        found += data_of(pulled.take(1 << 16))
    return found


def test_messages_are_fetched_ahead_up_to_a_limit(connection: Connection) -> None:
    """As many as may be kept come by themselves; more only when some were taken."""
    fill(connection, "orders", 10_000)
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    wait_until(lambda: pulled.count == LIMIT, "as many as there may be")
    assert connection.call(f"CONSUMER.INFO.{VERB}")["num_ack_pending"] == LIMIT
    assert len(pulled.replies()) == LIMIT
    assert take_all(pulled, 10_000) == list(range(10_000))
    pulled.close()


def test_at_most_so_many_are_taken(connection: Connection) -> None:
    """By number, whatever the size."""
    fill(connection, "orders", 10)
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    wait_until(lambda: pulled.count == 10, "all")
    assert data_of(pulled.take(1 << 20, 4)) == [0, 1, 2, 3]
    assert pulled.count == 6
    pulled.close()


def test_on_demand_so_many_come_as_are_asked_for(connection: Connection) -> None:
    """No more, though there are more; `asked` counts down."""
    fill(connection, "orders", 100)
    pulled = Pull(connection, STREAM, "billing", on_demand=True)
    pulled.start()
    assert pulled.asked == 0
    pulled.ask(7)
    wait_until(lambda: not pulled.asked, "all that was asked for")
    pulled.ask(5)
    assert take_all(pulled, 12) == list(range(12))
    assert connection.call(f"CONSUMER.INFO.{VERB}")["num_ack_pending"] == 12
    pulled.close()


@pytest.mark.parametrize("there", [0, 3, 10])
def test_at_once_only_what_is_there_comes(connection: Connection, there: int) -> None:
    """A wait ends when it is known that nothing more comes of it."""
    fill(connection, "orders", there)
    pulled = Pull(connection, STREAM, "billing", on_demand=True)
    pulled.start()
    pulled.ask(10, at_once=True)
    found: list[int] = []
    while pulled.asked or pulled.count:
        assert pulled.wait(PATIENCE)
        found += data_of(pulled.take(1 << 16))
    assert found == list(range(there))
    pulled.close()


def test_what_was_asked_for_comes_when_it_is_there(connection: Connection) -> None:
    """A request stands, and the signal is set when something comes."""
    pulled = Pull(connection, STREAM, "billing", on_demand=True)
    pulled.start()
    pulled.ask(2)
    assert not pulled.wait(0.1)
    connection.signal.take()
    fill(connection, "orders", 2)
    wait_until(connection.signal.take, "news")
    assert take_all(pulled, 2) == [0, 1]
    pulled.close()


def test_that_nothing_is_there_is_no_news(connection: Connection) -> None:
    """The signal is for what comes, so that who asks again whenever it is set does not do so all the time."""
    pulled = Pull(connection, STREAM, "billing", on_demand=True)
    pulled.start()
    connection.signal.take()
    pulled.ask(10, at_once=True)
    assert pulled.wait(PATIENCE)
    assert not pulled.asked
    assert not connection.signal.take()
    pulled.ask(1, seconds=0.2)
    wait_until(connection.signal.take, "the end of a request that stood for a while")
    assert not pulled.asked
    pulled.close()


def test_what_has_come_is_there_once_nothing_is_asked_for_any_more(connection: Connection) -> None:
    """Whatever the moment at which the other thread looks: a message is in the queue before it counts as come."""
    pulled = Pull(connection, STREAM, "billing", on_demand=True)
    seen: list[int] = []

    class Queue(deque[tuple[bytes, str]]):
        def append(self, message: tuple[bytes, str]) -> None:
            seen.append(pulled.asked)
            super().append(message)

    pulled._messages = Queue()
    pulled.start()
    fill(connection, "orders", 3)
    pulled.ask(3)
    assert take_all(pulled, 3) == [0, 1, 2]
    assert seen == [3, 2, 1]
    pulled.close()


def test_a_consumer_that_is_removed_is_told(connection: Connection) -> None:
    """Nothing more comes, what has come is still there, and the wait is over."""
    fill(connection, "orders", 10)
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    wait_until(lambda: pulled.count == 10, "all")
    assert take_all(pulled, 10) == list(range(10))
    connection.call(f"CONSUMER.DELETE.{VERB}")
    assert pulled.wait(PATIENCE)
    assert pulled.failure == DELETED
    pulled.close()


def test_a_consumer_that_is_not_there_interrupts(connection: Connection) -> None:
    """Nobody answers for it, which may be for want of a leader."""
    pulled = Pull(connection, STREAM, "nobody")
    pulled.start()
    assert pulled.wait(PATIENCE)
    assert pulled.failure == INTERRUPTED
    pulled.close()


def test_a_request_that_makes_no_sense_is_refused(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server's words, instead of asking again and again."""
    monkeypatch.setattr(pull, "HEARTBEAT", 100)
    monkeypatch.setattr(pull, "_LEAST_BEATS", 1)
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    assert pulled.wait(PATIENCE)
    assert (pulled.failure, pulled.reason) == (REFUSED, "Bad Request - heartbeat value too large")
    pulled.close()


def test_requests_that_run_out_are_made_again(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower has some open at any time."""
    monkeypatch.setattr(pull, "HEARTBEAT", 0.1)
    monkeypatch.setattr(pull, "_EXPIRES", 1)
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    wait_until(lambda: pulled._request_count > 8, "them to be made again")
    assert pulled.failure is None
    fill(connection, "orders", 10)
    assert take_all(pulled, 10) == list(range(10))
    assert pulled.asked <= LIMIT
    pulled.close()


def test_after_a_lost_connection_it_asks_again(own_server: Callable[..., Server]) -> None:
    """When told to; what has come before stays."""
    server = own_server()
    connection = Connection(parse(server.url, {}))
    make(connection)
    fill(connection, "orders", 10)
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    wait_until(lambda: pulled.count == 10, "all")
    server.stop()  # in good order, so that it remembers what it has delivered
    server.start()
    wait_until(lambda: pulled.failure == INTERRUPTED, "the loss to be noticed")
    assert take_all(pulled, 10) == list(range(10))
    connection.call(f"CONSUMER.INFO.{VERB}")
    pulled.restart()
    assert pulled.failure is None
    fill(connection, "orders", 10, first=10)
    assert take_all(pulled, 10) == list(range(10, 20))
    connection.close()


def test_a_pull_that_is_closed_asks_no_more(connection: Connection) -> None:
    """Its requests go with its inbox, and nothing that comes later is delivered to it."""
    pulled = Pull(connection, STREAM, "billing")
    pulled.start()
    wait_until(lambda: pulled.asked == LIMIT, "requests")
    pulled.close()
    fill(connection, "orders", 5)
    assert connection.call(f"CONSUMER.INFO.{VERB}")["num_ack_pending"] == 0
    assert pulled.count == 0

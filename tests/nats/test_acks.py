"""Acknowledgements on their way: each is sent, by one at a time, and it is known when all have arrived."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.nats.consuming import clients, read_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nats.consuming import Client
    from tests.nats.server import Server


@pytest.fixture
def one(server: Server) -> Iterator[Client]:
    with clients(server, 1) as (made,):
        yield made


def floor(client: Client) -> int:
    """All up to which sequence is acknowledged."""
    return int(client.connection.call("CONSUMER.INFO.evtool_t.g")["ack_floor"]["stream_seq"])


def slow_down(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let whatever is sent give way to others, as nats-py does when much is to be sent; the subjects of it."""
    publish = client.connection.client.publish
    sent: list[str] = []

    async def slowly(subject: str, *args: Any, **kwargs: Any) -> None:
        sent.append(subject)
        await asyncio.sleep(0.0005)
        await publish(subject, *args, **kwargs)

    monkeypatch.setattr(client.connection.client, "publish", slowly)
    return sent


def test_what_is_added_while_others_are_sent_is_sent_after_them(one: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in order, however many add at a time; a confirmation waits for all."""
    one.append(600)
    group, reader = one.consume()
    read_until(reader, 600)
    sent = slow_down(one, monkeypatch)
    for end in range(30, 601, 30):
        group.commit(end)
    group.sync()
    assert group.acks is not None
    assert group.acks.is_idle
    sequences = [int(subject.split(".")[-4]) for subject in sent if subject.startswith("$JS.ACK.")]
    assert sequences == [*range(1, 601), 600]
    assert floor(one) == 600


def test_what_was_lost_with_a_connection_while_we_ask_is_not_known_to_have_arrived(
    one: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a question that was asked through the next connection says nothing of what went before."""
    one.append(20)
    group, reader = one.consume()
    read_until(reader, 20)
    acks = group.acks
    assert acks is not None
    request = one.connection.request
    asked: list[str] = []

    async def ask(subject: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(subject)
        if len(asked) == 1:  # lost, and there again
            acks._on_reconnect()
        return await request(subject, *args, **kwargs)

    monkeypatch.setattr(one.connection, "request", ask)
    group.commit(20)
    one.connection.run(acks.confirm())
    assert len(asked) == 2
    assert acks.is_idle
    assert floor(one) == 20

"""Events put into streams, many at once, without evtool's own writer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evtool.stores.nats import names

if TYPE_CHECKING:
    from evtool.stores.nats.connection import Connection

BATCH = 1000


def fill(connection: Connection, topic: str, count: int, first: int = 0, text: bytes = b"%d") -> None:
    """Append events whose data are `text` with their number in it, as atomic batches, and wait until they are there."""
    for start in range(first, first + count, BATCH):
        connection.run(_store(connection, topic, start, min(start + BATCH, first + count), text))


async def _store(connection: Connection, topic: str, start: int, end: int, text: bytes) -> None:
    subject, batch = names.subject_of(topic), os.urandom(8).hex()
    for number in range(start, end):
        headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number - start + 1)}
        payload = b'{"key":"k","data":%b}' % (text % number)
        if number + 1 < end:
            await connection.client.publish(subject, payload, headers=headers)
    headers["Nats-Batch-Commit"] = "1"
    answer = await connection.request(subject, payload, headers, timeout=20)
    assert b"error" not in answer.data, answer.data

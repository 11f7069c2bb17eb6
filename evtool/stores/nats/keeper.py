"""What keeps the events of a topic with retention `consumed` for as long as it has no group.

JetStream drops what no consumer is interested in at once: with no group all, and even what was there before the
retention was changed. The file log keeps everything until there is a group that has handled it. So a topic without one
has a durable consumer of which nobody ever asks for events. It is there before it is needed and goes when a group
has its own; killed in between, we leave one too many, which the next one that looks takes away.
"""

from __future__ import annotations

from evtool.stores.nats import names, stream
from evtool.stores.nats.connection import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.stores.nats.connection import Connection

NAME = "=keeper"  # no group is called so


def hold(connection: Connection, topic: str) -> None:
    """Keep all events of the topic that there are and that come."""
    name = names.stream_of(topic)
    config = {"name": NAME, "durable_name": NAME, "ack_policy": "explicit", "deliver_policy": "all"}
    body: dict[str, Any] = {"stream_name": name, "config": config}
    stream.call(connection, topic, f"CONSUMER.CREATE.{name}.{NAME}", body)


async def release(connection: Connection, topic: str) -> None:
    """Keep none of them, for there is a group by now; nothing to do is no error."""
    try:
        await connection.api(f"CONSUMER.DELETE.{names.stream_of(topic)}.{NAME}")
    except ApiError as error:
        if error.number not in (stream.NO_CONSUMER, stream.NO_STREAM):
            raise

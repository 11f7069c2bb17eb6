"""Names: topics and groups ⇄ streams, consumers and subjects of NATS. The only place that builds one of these.

    topic orders.eu      stream   evtool_orders=eu      subject  evtool.orders.eu
    group billing.eu     consumer billing=eu            record   evtool-groups.orders=eu.billing=eu

JetStream takes no dot in the name of a stream or a consumer, and no subject that ends with one; ``=`` stands for it,
which no topic and no group has in its name. What has a capital letter, or ``=`` at its front, is therefore no group.
"""

from __future__ import annotations

from evtool.log.names import is_name

PREFIX = "evtool_"
SUBJECT_PREFIX = "evtool."
REGISTER = PREFIX + "=groups"  # the stream of what the groups say of themselves; no topic can be called so
_RECORD_PREFIX = "evtool-groups."
_WHO_PREFIX = "evtool-groups-who."


def stream_of(topic: str) -> str:
    """The stream that keeps a topic."""
    return PREFIX + _encode(topic)


def topic_of_stream(stream: str) -> str | None:
    """The topic that a stream keeps, or None if it is not one of ours."""
    return _decode(stream[len(PREFIX) :]) if stream.startswith(PREFIX) else None


def subject_of(topic: str) -> str:
    """The subject on which the events of a topic are published."""
    return SUBJECT_PREFIX + (topic[:-1] + "=" if topic.endswith(".") else topic)


def consumer_of(group: str) -> str:
    """The durable consumer, of a topic's stream, that is a group."""
    return _encode(group)


def group_of_consumer(consumer: str) -> str | None:
    """The group that a consumer is, or None if no group is called so."""
    return _decode(consumer)


def record_subject(topic: str, group: str) -> str:
    """The subject of a group's record, in the stream REGISTER."""
    return f"{_RECORD_PREFIX}{_encode(topic)}.{_encode(group)}"


def who_subject(topic: str, group: str) -> str:
    """The subject on which the members of a group answer who they are."""
    return f"{_WHO_PREFIX}{_encode(topic)}.{_encode(group)}"


def _encode(name: str) -> str:
    return name.replace(".", "=")


def _decode(encoded: str) -> str | None:
    name = encoded.replace("=", ".")
    return name if is_name(name) and "." not in encoded else None

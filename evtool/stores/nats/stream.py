"""The stream that is a topic: made, looked at, changed, removed; and what JetStream refuses, in words of ours."""

from __future__ import annotations

import asyncio
import os

from evtool.errors import ConditionError, ConfigurationError, NotFoundError, StorageError
from evtool.stores.nats import names, settings
from evtool.stores.nats.connection import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from evtool.errors import EvtoolError
    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.settings import Settings

NO_STREAM, NO_CONSUMER, NO_MESSAGE = 10059, 10014, 10037
EXISTS, _OVERLAP = 10058, 10065
_NO_ROOM = frozenset((10002, 10023, 10028, 10047, 10077))
_NO_PEERS, _NOT_CLUSTERED = 10005, 10074
_NO_REPLICAS = frozenset((_NO_PEERS, _NOT_CLUSTERED))
_INVALID = frozenset((10052, 10053, 10110))  # which it calls failures of its own
_SERVERS_FAULT = 500
_STARTING_SECONDS = 10.0
_REPLICAS_OF_CLUSTER = 3
# What helps, by the number of the error.
_HINTS = {
    10113: "say max-bytes=10GiB, for example",
    10122: "say a smaller max-bytes",
    10026: "evtool rm --group removes groups that nobody needs",
    10027: "evtool rm removes topics that nobody needs",
}


def refused(topic: str, error: ApiError) -> EvtoolError:
    """What an answer of JetStream that is an error means for a topic."""
    number, why = error.number, error.description
    if number == NO_STREAM:
        return NotFoundError(topic, "no such topic")
    if number == EXISTS:
        return ConditionError(topic, "the topic is there already", hint=f"see evtool set {topic}")
    if number == _OVERLAP:
        hint = f"nats stream ls shows who takes {names.subject_of(topic)}"
        return ConfigurationError(topic, "a stream that is not evtool's takes its events", hint=hint)
    if number in _NO_REPLICAS:
        hint = "say replicas=1, or ?replicas=1 in the store's URL; or see whether all servers are up"
        return ConfigurationError(topic, f"the servers cannot keep so many replicas: {why}", hint=hint)
    if number in _NO_ROOM:
        return StorageError(topic, f"the server has no room for it: {why}")
    if error.code >= _SERVERS_FAULT and number not in _INVALID:
        return StorageError(topic, f"the server failed: {why}")
    return ConfigurationError(topic, f"the server refuses it: {why}", hint=_HINTS.get(number))


def check_takes(topic: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if a stream, which then somebody else has made, can't be appended to."""
    subject = names.subject_of(topic)
    hint = f"nats stream info {names.stream_of(topic)} shows how somebody else has made it"
    if not any(_covers(pattern, subject) for pattern in config.get("subjects") or ()):
        raise ConfigurationError(topic, f"its stream does not take what is published on {subject}", hint=hint)
    if config.get("no_ack"):
        raise ConfigurationError(topic, "its stream does not acknowledge what it stores", hint=hint)


def _covers(pattern: str, subject: str) -> bool:
    """Whether a pattern of subjects, with * for a part and > for all the rest, is also for this subject."""
    wanted, parts = pattern.split("."), subject.split(".")
    if wanted[-1] == ">" and len(parts) >= len(wanted):
        parts[len(wanted) - 1 :] = [">"]
    return len(wanted) == len(parts) and all(one in ("*", part) for one, part in zip(wanted, parts, strict=True))


def info(connection: Connection, topic: str, **body: Any) -> dict[str, Any]:
    """What the server says of a topic's stream. Raises NotFoundError."""
    return call(connection, topic, f"STREAM.INFO.{names.stream_of(topic)}", body or None)


def call(connection: Connection, topic: str, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask JetStream something that concerns a topic. Raises what `refused` makes of an error."""
    try:
        return connection.call(verb, body)
    except ApiError as error:
        raise refused(topic, error) from error


async def message(connection: Connection, topic: str, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """A stored message, out of the hands of the stream's leader; None if there is none."""
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{names.stream_of(topic)}", wanted)
    except ApiError as error:
        if error.number == NO_MESSAGE:
            return None
        raise refused(topic, error) from error
    found: dict[str, Any] = answer["message"]
    return found


async def listed(
    connection: Connection,
    verb: str,
    what: str,
    body: Mapping[str, Any] | None = None,
    *,
    patience: float | None = None,
) -> list[str]:
    """All names that JetStream lists, a page at a time, under `what`. Raises ApiError."""
    found: list[str] = []
    total = 1
    while len(found) < total:
        page = await connection.api(verb, {"offset": len(found), **(body or {})}, patience=patience)
        there = page.get(what) or []
        found += there
        total = page["total"] if there else 0
    return found


def default_replicas(connection: Connection) -> int:
    """On how many servers a topic is if nobody says."""
    return connection.address.replicas or (_REPLICAS_OF_CLUSTER if connection.is_clustered else 1)


async def make(connection: Connection, topic: str, chosen: Mapping[str, Any] | None = None) -> Settings:
    """Make a topic with these settings. Raises ConditionError if it is there already.

    That holds when we are asked to say it twice: what was made the first time, the second one recognises as its own.
    """
    checked = _checked(connection, topic, chosen or {})
    stream = names.stream_of(topic)
    verb, token = f"STREAM.CREATE.{stream}", os.urandom(8).hex()
    config = settings.new_config(stream, names.subject_of(topic), checked, default_replicas(connection), token)
    try:
        made = await _create(connection, verb, config)
    except ApiError as error:
        if error.number != _NOT_CLUSTERED or connection.address.replicas or checked.get("replicas"):
            raise refused(topic, error) from error
        # We speak through a leaf node that is in a cluster, and what is behind it is a single server.
        made = await connection.api(verb, settings.new_config(stream, names.subject_of(topic), checked, 1, token))
    return settings.of_config(made["config"])


async def _create(connection: Connection, verb: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for a stream; for a while again, if servers that should keep it are just starting. Raises ApiError."""
    deadline = connection.loop.time() + _STARTING_SECONDS
    while True:
        try:
            return await connection.api(verb, config)
        except ApiError as error:
            is_starting = error.number == _NO_PEERS and "offline" in error.description
            if not is_starting or connection.is_hurried or connection.loop.time() >= deadline:
                raise
        await asyncio.sleep(_STARTING_SECONDS / 40)


async def make_missing(connection: Connection, topic: str) -> None:
    """Make a topic, unless it is there or somebody else makes it in this moment."""
    try:
        await make(connection, topic)
    except ConditionError:
        pass


def create_stream(connection: Connection, topic: str, chosen: Mapping[str, Any]) -> Settings:
    """`make`, from the main thread."""
    return connection.run(make(connection, topic, chosen))


def update(connection: Connection, topic: str, changes: Mapping[str, Any]) -> Settings:
    """Change settings of a topic, None back to the default. Raises ConfigurationError for what cannot be changed."""
    checked = _checked(connection, topic, changes)
    before = info(connection, topic)["config"]
    config = settings.changed(before, checked, default_replicas(connection))
    made = call(connection, topic, f"STREAM.UPDATE.{names.stream_of(topic)}", config)
    return settings.of_config(made["config"])


def _checked(connection: Connection, topic: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes as they are used. Raises ConfigurationError."""
    checked = {name: _check(topic, name, value) for name, value in changes.items()}
    largest = checked.get("max-event-bytes")
    if largest is not None and largest > connection.max_payload:
        why = f"the server takes messages of at most {connection.max_payload} bytes"
        raise ConfigurationError(topic, why, hint="max_payload in its configuration says how many")
    return checked


def _check(topic: str, name: str, value: Any) -> Any:
    return None if value is None and name in settings.KNOWN else settings.check(topic, name, value)

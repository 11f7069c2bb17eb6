"""The Python API: the same log and the same groups as on the command line, for producers and consumers in Python.

Objects are for one thread each: open another home in another thread.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

import orjson

from evtool.errors import ConditionError, DataError, UsageError
from evtool.log import line, payload
from evtool.stores import find, open_store, where

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from evtool.stores import protocol
    from evtool.stores.protocol import Reader, Store, Watch, Writer

    Sync = Literal["always", "never"]
    Where = str | int

_log = logging.getLogger("evtool")
_SYNC_SECONDS = 1.0
_STANDBY_SECONDS = 0.05


def open(path: str | os.PathLike[str] | None = None, *, allow_network: bool = False) -> Home:
    """Open the store of all topics: a home directory, which is made if it is missing, or a cluster.

    path: a directory, or the URL of a cluster such as nats://HOST. By default what $EVTOOL_STORE says, else
        $EVTOOL_HOME, else the settings file, else $XDG_DATA_HOME/evtool or ~/.local/share/evtool.
    allow_network: use a directory though it is on a network file system, as one machine alone may.

    Raises ConfigurationError if the directory is not safe to use, or the address refers to what is not there.
    """
    import os

    location, settings = find(None if path is None else os.fspath(path))
    opened = open_store(location, create=True, allow_network=allow_network, notify=_log.warning, settings=settings)
    return Home(opened)


class Event:
    """One event of a topic.

    offset: its number in the topic. time: when it was appended, UTC, RFC 3339 with six digits of a second.
    """

    __slots__ = ("_line", "offset", "time")

    def __init__(self, stored: bytes) -> None:
        self._line = stored
        self.offset = line.offset_of(stored)
        self.time = line.time_of(stored).decode()

    @property
    def line(self) -> bytes:
        """The stored line, newline included."""
        return self._line

    @property
    def raw(self) -> bytes:
        """The data as JSON, byte for byte as the producer gave them."""
        return line.data_of(self._line)

    @property
    def data(self) -> Any:
        """The data as Python values."""
        return orjson.loads(self.raw)

    @property
    def attributes(self) -> dict[str, str]:
        """All attributes by name: key, type, source, id and the producer's own."""
        return line.attributes(self._line)

    @property
    def key(self) -> str | None:
        """What the event is about."""
        return self.attributes.get("key")

    @property
    def type(self) -> str | None:
        """What kind of event it is."""
        return self.attributes.get("type")

    def __repr__(self) -> str:
        return f"Event({self._line!r})"


class Home:
    """All topics of one home directory. Use `evtool.open` to get one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return self._store.topics()

    def topic(self, name: str, *, sync: Sync = "always") -> Topic:
        """The topic of this name, which its first append makes.

        sync: "always" returns from an append when the events are on disk, "never" leaves that to the system.

        Raises UsageError if no topic can have this name.
        """
        from evtool.log.names import check_name

        if sync not in ("always", "never"):
            raise UsageError(repr(sync), "not a way to sync", hint="say always or never")
        return Topic(self._store, check_name("topic", name), durable=sync == "always")

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection to a cluster. A home on disk holds nothing open that would need closing."""
        self._store.close()


class Topic:
    """One topic, to append to and to read from. Use `Home.topic` to get one."""

    def __init__(self, store: Store, name: str, *, durable: bool) -> None:
        self.name = name
        self._store = store
        self._durable = durable
        self._writer: Writer | None = None

    def append(
        self,
        data: Any,
        *,
        key: str | None = None,
        type: str | None = None,
        source: str | None = None,
        id: str | None = None,
        attributes: Mapping[str, str] | None = None,
        expect: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Append one event and return its offset.

        data: what orjson can encode, or JSON as `bytes`, which is kept byte for byte.
        id: if the topic has an event with this id already, nothing is stored and that one's offset returned.
        expect: store only if this is the next offset, else raise ConditionError.
        timeout: seconds to wait for the topic's lock, then BusyError.

        Raises DataError if the event cannot be stored, StorageError if the disk does not take it.
        """
        given = {"key": key, "type": type, "source": source, "id": id}
        common = line.DATA
        if attributes or key is not None or type is not None or source is not None or id is not None:
            common = _encode_attributes(given, attributes) + common
        ids: list[str | None] | None = None if id is None else [id]
        return self._append([_encode(data)], common, ids, expect, timeout)[0]

    def append_many(
        self, events: Iterable[Any], *, key: str | None = None, type: str | None = None, timeout: float | None = None
    ) -> Sequence[int]:
        """Append events next to each other, with the same key and type, and return the offset of each."""
        common = _encode_attributes({"key": key, "type": type}, None) + line.DATA
        return self._append([_encode(data) for data in events], common, None, None, timeout)

    def read(
        self,
        start: Where = "earliest",
        *,
        until: Where | None = None,
        follow: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """Give out the events from one position up to another.

        start, until: an offset or a WHERE as on the command line, such as "earliest", "2h" or "-10".
        follow: at the end wait for more, at most `timeout` seconds for each if that is given.

        Raises NotFoundError if there is no such topic.
        """
        topic = self._store.topic(self.name)
        first = _where(start).begin(topic)
        end = None if until is None else _where(until).resolve(topic)
        if follow and timeout is None:
            self._store.persist()
        for event in _events(self._store, self.name, topic.reader(first), follow, timeout):
            if end is not None and event.offset >= end:
                return
            yield event

    def group(self, name: str, *, start: Where = "latest", follow: bool = False, timeout: float | None = None) -> Group:
        """Consume as the group `name`, which goes on where it left off. To be used in a `with` statement.

        start: where a new group begins.
        follow, timeout: as in `read`.
        """
        return Group(self._store, self.name, name, _where(start), follow=follow, timeout=timeout)

    def _append(
        self,
        bodies: list[bytes],
        common: bytes,
        ids: list[str | None] | None,
        expect: int | None,
        timeout: float | None,
    ) -> Sequence[int]:
        if self._writer is None:
            self._writer = self._store.ensure_topic(self.name).writer()
        offsets = self._writer.append(bodies, common, ids=ids, expect=expect, timeout=timeout)
        if self._durable:
            self._writer.sync()
        return offsets


class Group:
    """A consumer group of one topic, held by this process within a `with` statement.

    Iterating gives out what the group has not handled; `commit` says what it has.
    """

    def __init__(
        self, store: Store, topic: str, name: str, start: where.Where, *, follow: bool, timeout: float | None
    ) -> None:
        self.name = name
        self._store = store
        self._topic = topic
        self._start = start
        self._follow = follow
        self._timeout = timeout
        self._group: protocol.Group | None = None
        self._reader: Reader | None = None
        self._synced = 0.0

    def __enter__(self) -> Group:
        """Become the one that consumes for the group; waits while another process does."""
        topic = self._store.topic(self._topic)
        if self._follow and self._timeout is None:
            self._store.persist()
        group = topic.group(self.name)
        while not group.try_acquire():
            time.sleep(_STANDBY_SECONDS)
        self._group = group
        start = group.committed
        if start is None:
            start = self._start.begin(topic)
        self._reader = group.reader(group.join(start))
        self._synced = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the commits durable and let another process consume."""
        group, self._group = self._held, None
        try:
            self._sync(group)
        finally:
            group.release()

    def __iter__(self) -> Iterator[Event]:
        assert self._held is not None
        assert self._reader is not None
        return _events(self._store, self._topic, self._reader, self._follow, self._timeout)

    @property
    def committed(self) -> int:
        """The offset of the next event that the group will get."""
        return self._held.committed or 0

    def commit(self, handled: Event | int) -> None:
        """Say that the group has handled this event, or the one with this offset, and all before it."""
        offset = handled.offset if isinstance(handled, Event) else handled
        self._held.commit(offset + 1)
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self._sync(self._held)

    @property
    def _held(self) -> protocol.Group:
        if self._group is None:
            raise ConditionError(self.name, "a group is consumed for within a `with` statement")
        return self._group

    def _sync(self, group: protocol.Group) -> None:
        group.sync()
        self._synced = time.monotonic()


def _events(store: Store, topic: str, reader: Reader, follow: bool, timeout: float | None) -> Iterator[Event]:
    """The events behind a cursor; with `follow` those too that come within `timeout` seconds of the one before."""
    watch: Watch | None = None
    while True:
        lines = reader.read()
        for text in lines.split(b"\n")[:-1]:
            yield Event(text + b"\n")
        if lines:
            continue
        if not follow:
            return
        if watch is None:
            watch = store.watch([topic])
        elif not watch.wait(timeout):
            return


def _encode(data: Any) -> bytes:
    if isinstance(data, bytes):
        return payload.check_bytes(data)
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise DataError("event", f"cannot be encoded as JSON: {error}") from error


def _encode_attributes(known: Mapping[str, str | None], own: Mapping[str, str] | None) -> bytes:
    given = {name: value for name, value in known.items() if value is not None}
    for name, value in (own or {}).items():
        if not line.is_attribute_name(name) or name in line.RESERVED_ATTRIBUTES or name in known:
            raise UsageError(repr(name), "cannot name an attribute", hint="1 to 20 of a-z 0-9, a letter first")
        given[name] = value
    return payload.encode_attributes(given)


def _where(said: Where) -> where.Where:
    return where.Where("offset", said) if isinstance(said, int) else where.parse(said)

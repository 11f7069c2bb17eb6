"""The NATS store: topics are streams of JetStream. See evtool-nats(7) for what differs from the file store."""

from __future__ import annotations

import math
import time

from evtool.errors import NotFoundError, UnreachableError
from evtool.log.names import check_name
from evtool.log.settings import CONSUMED
from evtool.stores import naming
from evtool.stores.nats import keeper, names, settings, stream
from evtool.stores.nats.connection import ApiError, Connection
from evtool.stores.nats.topic import NatsTopic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from evtool.stores.nats.address import Address
    from evtool.stores.nats.settings import Settings
    from evtool.stores.nats.watch import NatsWatch
    from evtool.stores.protocol import Capabilities

_AGAIN_SECONDS = 0.2
_STALL_SECONDS = 8.0  # until those that are left have a new leader


class NatsStore:
    """Topics in a cluster; see `evtool.stores.protocol.Store`.

    It connects when it is first asked for something, and stays connected until `close`.
    notify: called with a sentence about what was found on the way. patience: seconds for which to try to connect, once
        at least; that takes up to 2 s.
    """

    def __init__(self, address: Address, notify: Callable[[str], None] | None = None, *, patience: float = 0.0) -> None:
        self.address = address
        self._notify = notify
        self._give_up_at = time.monotonic() + patience
        self._persists = False
        self._connected: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The connection. Raises UnreachableError or ConfigurationError if there can be none."""
        while self._connected is None:
            try:
                self._connected = Connection(self.address, self._notify)
            except UnreachableError:
                if time.monotonic() >= self._give_up_at:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                self._be_patient()
        return self._connected

    @property
    def capabilities(self) -> Capabilities:
        from evtool.stores.nats.batch import MOST
        from evtool.stores.protocol import Capabilities

        return Capabilities(
            "nats",
            has_gapless_offsets=False,
            atomic_limit=MOST,
            dedupe=float(settings.KNOWN["dedupe"][1] or 0),
            is_synced=False,
            stamped_by="server",
            keeps_keys_apart=False,
            is_local=False,
            longest_stall=_STALL_SECONDS,
        )

    @property
    def known_settings(self) -> Mapping[str, tuple[str | tuple[str, ...], float | str | None]]:
        return settings.KNOWN

    def topics(self) -> list[str]:
        """The names of all topics, sorted: of all streams that are called as ours are, whoever made them."""
        found = self.connection.run(stream.listed(self.connection, "STREAM.NAMES", "streams"))
        return sorted({topic for name in found if (topic := names.topic_of_stream(name)) is not None})

    def has(self, topic: str) -> bool:
        """Whether the topic exists."""
        check_name("topic", topic)
        try:
            stream.info(self.connection, topic)
        except NotFoundError:
            return False
        return True

    def topic(self, topic: str) -> NatsTopic:
        """A topic that exists. Raises NotFoundError, with the nearest name that does."""
        if not self.has(topic):
            raise naming.missing(self, topic)
        return NatsTopic(self.connection, topic)

    def ensure_topic(self, topic: str) -> NatsTopic:
        """The same; one that is missing is made by its first append, so that nothing is asked now."""
        return NatsTopic(self.connection, check_name("topic", topic))

    def create(self, topic: str, chosen: Mapping[str, Any]) -> Settings:
        """Make a topic with these settings, or none at all. Raises ConditionError if it is there already."""
        check_name("topic", topic)
        if chosen.get("retention") != CONSUMED:
            return stream.create_stream(self.connection, topic, chosen)
        stream.create_stream(self.connection, topic, {**chosen, "retention": None})
        keeper.hold(self.connection, topic)  # first: what nobody is interested in would be dropped
        return stream.update(self.connection, topic, {"retention": CONSUMED})

    def remove_topic(self, topic: str) -> None:
        """Remove a topic with all that is in it, and what its groups have said. Raises NotFoundError."""
        self.topic(topic)
        name = names.stream_of(topic)
        try:
            # First its events: a server that has just stored one may write it again, into a new stream of the name.
            stream.call(self.connection, topic, f"STREAM.PURGE.{name}")
            stream.call(self.connection, topic, f"STREAM.DELETE.{name}")
        except NotFoundError:  # somebody else did, or we, and were not told
            pass
        self._forget_groups(topic)

    def _forget_groups(self, topic: str) -> None:
        """Take what groups have said out of the register, for a topic of the same name has none of them."""
        try:
            self.connection.call(f"STREAM.PURGE.{names.REGISTER}", {"filter": names.record_subject(topic, "*")})
        except ApiError as error:
            if error.number != stream.NO_STREAM:
                raise stream.refused(topic, error) from error

    def watch(self, topics: Iterable[str], wake: int | None = None, *, new_topics: bool = False) -> NatsWatch:
        """What waits for more in these topics and, with `new_topics`, for topics that are made or removed."""
        from evtool.stores.nats.watch import NatsWatch

        return NatsWatch(self.connection, topics, wake, new_topics=new_topics)

    def persist(self) -> None:
        """Wait from now on for a server that does not answer as long as it takes, and say so."""
        self._persists = True
        self._be_patient()

    def _be_patient(self) -> None:
        if self._persists and self._connected is not None:
            self._connected.patience = math.inf

    def hurry(self) -> None:
        """Let nobody wait for long any more for a server that does not answer."""
        if self._connected is not None:
            self._connected.hurry()

    def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connected = self._connected, None
        if connection is not None:
            connection.close()

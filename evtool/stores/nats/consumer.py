"""The consumer of JetStream that is a group: made, looked at, put somewhere else, removed.

It is made to begin with the first event of all and then put where the group begins, for it can't be put before where
it was made to begin. Nobody is asked to deliver before somebody pulls, so nothing happens in between.
"""

from __future__ import annotations

import asyncio

from evtool.errors import ConfigurationError, NotFoundError
from evtool.log.offsets import ALONE, MANUAL, SHARED
from evtool.stores.nats import keeper, names, stream
from evtool.stores.nats.connection import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from evtool.stores.nats.connection import Connection

# Seconds after which what was delivered comes again, unless we say in time that it is in work. What is given out for
# others to commit may be held in any number and for hours, and whoever is next begins anew, so nobody waits for that.
ACK_WAIT = {ALONE: 30.0, SHARED: 30.0, MANUAL: 24 * 3600.0}
_BELOW_START = 10204
_NS = 10**9
_MOST_WAITING = 1 << 14  # requests: each member that shares and has nothing to do has one
_FIRST = 1  # the first sequence of any stream
_MOST_PUTS, _PAUSE_SECONDS = 5, 0.01


class ConsumerInfo:
    """What the server says of a consumer. Sequences are those of the stream, if nothing else is said.

    floor: all up to it is acknowledged.
    delivered: the highest that was delivered. delivered_count: how many were.
    pending: how many are left to be delivered. unacknowledged: how many are delivered and not acknowledged.
    """

    __slots__ = ("config", "delivered", "delivered_count", "floor", "pending", "unacknowledged")

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.config: dict[str, Any] = said["config"]
        self.floor: int = said["ack_floor"]["stream_seq"]
        self.delivered: int = said["delivered"]["stream_seq"]
        self.delivered_count: int = said["delivered"]["consumer_seq"]
        self.pending: int = said.get("num_pending", 0)
        self.unacknowledged: int = said.get("num_ack_pending", 0)

    def check(self, topic: str, group: str) -> None:
        """Raise ConfigurationError if it is somebody else's, and no group can live in it."""
        if self.config.get("ack_policy") != "explicit" or self.config.get("deliver_subject"):
            why = "there is a consumer of that name which is not evtool's"
            raise ConfigurationError(f"{topic}, group {group}", why, hint="nats consumer info shows it")


class Durable:
    """A group's consumer. All methods run in the loop's thread and raise NotFoundError if the topic is gone."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self.topic = topic
        self.group = group
        self.stream = names.stream_of(topic)
        self.name = names.consumer_of(group)
        self._connection = connection

    async def info(self, *, patience: float | None = None) -> ConsumerInfo | None:
        """What the server says of it; None if there is none."""
        try:
            return ConsumerInfo(await self._call("CONSUMER.INFO", patience=patience))
        except ApiError as error:
            if error.number == stream.NO_CONSUMER:
                return None
            raise stream.refused(self.topic, error) from error

    async def begin(self, offset: int, ack_wait: float, found: ConsumerInfo | None, *, is_consumed: bool = True) -> int:
        """Let it deliver from an offset on, whatever it has delivered, and say how many there are; make it if need be.

        ack_wait: seconds after which it delivers again what was neither acknowledged nor said to be in work.
        found: how it is now. is_consumed: whether the topic may drop what all groups have handled.
        """
        if found is None:
            await self._make(ack_wait)
            if is_consumed:
                await keeper.release(self._connection, self.topic)
        else:
            await self.let_wait(ack_wait, found)
        try:
            return await self._put(offset)
        except ApiError as error:
            if error.number != _BELOW_START:
                raise stream.refused(self.topic, error) from error
        await self.remove()
        await self._make(ack_wait)
        return await self._put(offset)

    async def let_wait(self, ack_wait: float, found: ConsumerInfo) -> None:
        """Have what is delivered from now on delivered again after so many seconds."""
        found.check(self.topic, self.group)
        wanted = {"ack_wait": round(ack_wait * _NS), "max_ack_pending": -1, "max_deliver": -1}
        usual = {"max_deliver": -1}
        if (
            any((usual | found.config).get(name) != value for name, value in wanted.items())
            or "backoff" in found.config
        ):
            # Also one that somebody else has made: what was delivered some times must not be given up by the server.
            changed = {name: value for name, value in found.config.items() if name != "backoff"} | wanted
            try:
                await self._call("CONSUMER.CREATE", {"stream_name": self.stream, "config": changed, "action": "update"})
            except ApiError as error:
                raise stream.refused(self.topic, error) from error

    async def remove(self) -> None:
        """Remove it; if there is none, that is no error."""
        try:
            await self._call("CONSUMER.DELETE")
        except ApiError as error:
            if error.number not in (stream.NO_CONSUMER, stream.NO_STREAM):
                raise stream.refused(self.topic, error) from error

    def ack_of(self, sequence: int) -> str:
        """The subject on which a delivered message is acknowledged, be it ours or not."""
        return f"$JS.ACK.{self.stream}.{self.name}.1.{sequence}.{sequence}.0.0"

    def nak_of(self, sequence: int, delivered_count: int) -> str:
        """The subject on which one of so many delivered messages is given back."""
        return f"$JS.ACK.{self.stream}.{self.name}.1.{sequence}.{delivered_count}.0.0"

    async def _put(self, offset: int) -> int:
        """Put it there; how many events there are.

        What the server was about to note of a delivery it may note after that, and shows what was before: once more.
        """
        for _ in range(_MOST_PUTS):
            put = await self._call("CONSUMER.RESET", {"seq": offset + 1})
            if not put["delivered"]["consumer_seq"] and not put["ack_floor"]["consumer_seq"]:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return int(put.get("num_pending", 0))

    async def _make(self, ack_wait: float) -> None:
        config = {
            "name": self.name,
            "durable_name": self.name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": _FIRST,
            "ack_policy": "explicit",
            "ack_wait": round(ack_wait * _NS),
            "max_ack_pending": -1,
            "max_waiting": _MOST_WAITING,
            "metadata": {"evtool": "1"},
        }
        try:
            await self._call("CONSUMER.CREATE", {"stream_name": self.stream, "config": config})
        except ApiError as error:
            raise stream.refused(self.topic, error) from error

    async def _call(
        self, verb: str, body: Mapping[str, Any] | None = None, *, patience: float | None = None
    ) -> dict[str, Any]:
        try:
            return await self._connection.api(f"{verb}.{self.stream}.{self.name}", body, patience=patience)
        except ApiError as error:
            if error.number == stream.NO_STREAM:
                raise NotFoundError(self.topic, "the topic was removed") from None
            raise

"""The register: what the groups say of themselves, one record a group, in a stream of its own.

    {"seeks":2,"committed":81920,"handled":"81922-81930","holder":"5e1f0c","members":{"5e1f0c":{"pid":"411", ...}}}

JetStream knows which events of a group are acknowledged, and forgets it when the group's consumer is put back; it does
not know who consumes, nor what is to come again. That is in here:

    committed   the offset of the group's next event, as of the last sync (its consumer may be ahead of that)
    handled     these offsets above it are handled too. again: these are to come again
    seeks       how often the group has been moved. is_sought: its consumer has yet to follow, to `committed`
    putter      the member that sees to that; puts: how often one has
    holder      the member that consumes alone, or lets others commit; empty if there is none
    members     who consumes, or did last: `pid`, `host`, `mode`, `command`, `since`, `given`; what it has of `again`
    born        when the stream of the topic was made: the record of a former topic of that name is worth nothing
    is_left     whether the last one has ended in good order, so that nothing is acknowledged but what is said here
    mark        an offset and the time, in nanoseconds, of its event: that of the last one which was handled
    paces       how far the group was behind at some moments of the last minute

A record is changed by whoever has read its latest version, so nothing that one says is lost by what another says.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time

import orjson

from evtool.errors import BusyError
from evtool.log.line import LIMIT
from evtool.log.ranges import Ranges
from evtool.stores.nats import names, stream
from evtool.stores.nats.connection import ApiError, NoResponders, Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evtool.stores.nats.connection import Connection

    Change = Callable[["Record"], bool]

_WRONG_LAST = frozenset((10071, 10164))
_ANSWER_SECONDS = 2.0  # for one try; then we look again
_MOST_BYTES = 256 << 10  # of handled offsets; what is left out is handled once more


class Record:
    """What is said of one group; see the module. `committed` is None for a group that nobody has begun."""

    __slots__ = (
        "again",
        "born",
        "committed",
        "handled",
        "holder",
        "is_left",
        "is_removed",
        "is_sought",
        "mark",
        "members",
        "paces",
        "puts",
        "putter",
        "seeks",
    )

    def __init__(self, said: dict[str, Any] | None = None) -> None:
        said = said or {}
        committed = said.get("committed")
        self.committed: int | None = committed if isinstance(committed, int) and 0 <= committed < LIMIT else None
        self.handled = Ranges.parse(said.get("handled", ""))
        self.again = Ranges.parse(said.get("again", ""))
        self.seeks: int = said.get("seeks", 0)
        self.is_sought: bool = said.get("sought", False)
        self.putter: str = said.get("putter", "")
        self.puts: int = said.get("puts", 0)
        self.holder: str = said.get("holder", "")
        members = said.get("members", {})
        self.members: dict[str, dict[str, str]] = {name: one for name, one in members.items() if isinstance(one, dict)}
        self.born: str = said.get("born", "")
        self.is_left: bool = said.get("left", False)
        mark = said.get("mark")
        self.mark: list[int] | None = mark if isinstance(mark, list) and len(mark) == 2 else None
        paces = said.get("paces", [])
        self.paces: list[list[float]] = [one for one in paces if isinstance(one, list) and len(one) == 2]
        self.is_removed: bool = said.get("removed", False)

    def encode(self) -> bytes:
        """The record as a message."""
        return orjson.dumps(self.say())

    def say(self) -> dict[str, Any]:
        """What such a message says."""
        said = {
            "committed": self.committed,
            "handled": _shortened(self.handled),
            "again": str(self.again),
            "seeks": self.seeks,
            "sought": self.is_sought,
            "putter": self.putter,
            "puts": self.puts,
            "holder": self.holder,
            "members": self.members,
            "born": self.born,
            "left": self.is_left,
            "mark": self.mark,
            "paces": self.paces,
            "removed": self.is_removed,
        }
        return {name: value for name, value in said.items() if value or name == "committed"}

    def move(self, offset: int) -> None:
        """Let the group begin anew at an offset; its consumer has yet to follow."""
        self.seeks += 1
        self.committed, self.is_sought = offset, True
        self.handled, self.again, self.mark = Ranges(), Ranges(), None
        for member in self.members.values():
            member.pop("given", None)
            member.pop("again", None)

    def take_in(self, committed: int, handled: Ranges) -> None:
        """Add what is handled to what is said of it."""
        self.handled.update(handled)
        self.committed = self.handled.take_from(max(committed, self.committed or 0))


def _shortened(handled: Ranges) -> str:
    """As many of the offsets, from the lowest, as a message should hold."""
    text = str(handled)
    return text if len(text) <= _MOST_BYTES else text[: text.rindex(",", 0, _MOST_BYTES)]


class Register:
    """Reads and changes records. Its methods run in the loop's thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, topic: str, group: str, *, patience: float | None = None) -> tuple[Record, int]:
        """A group's record and the number of its version; an empty one and 0 if there is none."""
        wanted = {"last_by_subj": names.record_subject(topic, group)}
        try:
            found = await self._connection.api(f"STREAM.MSG.GET.{names.REGISTER}", wanted, patience=patience)
        except ApiError as error:
            if error.number not in (stream.NO_STREAM, stream.NO_MESSAGE):
                raise
            return Record(), 0
        message = found["message"]
        record = _decode(base64.b64decode(message.get("data", "")))
        return record, message["seq"]

    async def update(self, topic: str, group: str, change: Change, *, patience: float | None = None) -> Record:
        """Let `change` alter the record, and store it unless that returns False; give back the record as it is then.

        `change` is called again when somebody else was faster, and when an answer did not come: it may then find what
        it has done itself. Raises BusyError after so many seconds, or the connection's patience; ApiError.
        """
        deadline = time.monotonic() + (self._connection.patience if patience is None else patience)
        while True:
            record, version = await self.read(topic, group, patience=_left(deadline))
            if record.is_removed:
                record = Record()
            if not change(record):
                return record
            if await self._is_stored(topic, group, record, version, deadline):
                return record

    async def remove(self, topic: str, group: str) -> None:
        """Forget a group. Whoever consumes for it is told by a last record. Raises as `update` does."""
        record = Record()
        record.is_removed = True
        deadline = time.monotonic() + self._connection.patience
        while True:
            now, version = await self.read(topic, group, patience=_left(deadline))
            if version == 0:
                return
            if now.is_removed or await self._is_stored(topic, group, record, version, deadline):
                break
        await self._connection.api(f"STREAM.PURGE.{names.REGISTER}", {"filter": names.record_subject(topic, group)})

    async def _is_stored(self, topic: str, group: str, record: Record, version: int, deadline: float) -> bool:
        """Try to store a record; say whether that is done, else after a moment. Raises BusyError at the deadline."""
        why = "others change its record all the time"
        try:
            if await self._store(topic, group, record, version, min(_ANSWER_SECONDS, _left(deadline))):
                return True
        except (Unanswered, NoResponders) as error:
            if self._connection.is_hurried:
                raise BusyError(error.what, error.why) from None
            why = error.why
        if time.monotonic() >= deadline:
            raise BusyError(f"{topic}, group {group}", why)
        await asyncio.sleep(0.001 + 0.02 * os.urandom(1)[0] / 255)  # not all at the same moment
        return False

    async def _store(self, topic: str, group: str, record: Record, version: int, seconds: float) -> bool:
        """Store a record if this is still the latest version; say whether that was so."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(version)}
        subject = names.record_subject(topic, group)
        try:
            answer = await self._connection.request(subject, record.encode(), headers, timeout=seconds)
        except NoResponders:
            await self._make()
            raise
        error = orjson.loads(answer.data).get("error")
        if error is None:
            return True
        if error.get("err_code") in _WRONG_LAST:
            return False
        raise stream.refused(topic, ApiError(names.REGISTER, error))

    async def _make(self) -> None:
        """Make the stream if it is missing."""
        config = {
            "name": names.REGISTER,
            "subjects": [names.record_subject("*", "*")],
            "max_msgs_per_subject": 1,
            "num_replicas": stream.default_replicas(self._connection),
            "metadata": {"evtool": "1"},
        }
        try:
            await self._connection.api(f"STREAM.CREATE.{names.REGISTER}", config)
        except ApiError as error:
            if error.number != stream.EXISTS:
                raise


def _left(deadline: float) -> float:
    """The seconds that are left, but enough to ask once."""
    return max(0.1, deadline - time.monotonic())


def _decode(data: bytes) -> Record:
    """The record that a message holds; an empty one if somebody else has put something there."""
    try:
        return Record(orjson.loads(data))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return Record()

"""Where a group stands, out of all that know something of it: its record, its consumer, and the stream."""

from __future__ import annotations

import asyncio
import datetime

from evtool.errors import NotFoundError
from evtool.log.ranges import Ranges
from evtool.stores.nats import names, stream
from evtool.stores.nats.connection import ApiError
from evtool.stores.nats.consumer import Durable
from evtool.stores.nats.register import Record, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.consumer import ConsumerInfo

_ANY = ">"
_CERTAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Survey:
    """What is known of a group at one moment.

    record: what it says of itself, empty if it is that of a former topic. info: of its consumer, None if there is none.
    is_consumed: whether the topic drops what all groups have handled.
    first, next: the offset of the earliest event, and of that which will come next. born: when the stream was made.
    """

    __slots__ = ("born", "first", "info", "is_consumed", "next", "record")

    def __init__(self, record: Record, info: ConsumerInfo | None, found: dict[str, Any]) -> None:
        state = found["state"]
        self.born: str = found["created"]
        self.is_consumed = found["config"].get("retention", "limits") != "limits"
        self.next: int = state["last_seq"]
        self.first: int = max(0, state["first_seq"] - 1) if state["messages"] else self.next
        self.info = info
        is_ours = not record.is_removed and record.born in ("", self.born)
        self.record = record if is_ours else _of_another_topic(record)

    @property
    def committed(self) -> int | None:
        """The offset of the group's next event; None if there is no such group.

        Its record may be behind, by what was acknowledged since the last sync; its consumer too, as acknowledgements
        that were on their way can be lost with a server. What was trimmed away the consumer counts as acknowledged.
        """
        known = self.record.committed
        if self.info is None or (known is not None and self.record.is_sought):
            return known
        if known is None:
            return self.info.floor
        if known < self.first and self.info.floor <= self.first and not self._drops_what_is_handled:
            return known
        return Ranges(self.record.handled).take_from(max(known, self.info.floor))

    @property
    def _drops_what_is_handled(self) -> bool:
        """Whether events may be gone because they were acknowledged, and the record had not come to say so."""
        return self.is_consumed and not self.record.is_left

    def renew(self, record: Record) -> None:
        """Let a record be about the events of this topic, if it is about those of a former one."""
        if record.born not in ("", self.born):
            record.committed = record.mark = None
            record.handled, record.again, record.paces = Ranges(), Ranges(), []
        record.born = self.born

    @property
    def handled(self) -> Ranges:
        """What is handled above that."""
        committed = self.committed
        found = Ranges(self.record.handled)
        if committed:
            found.remove(0, committed - 1)
        return found

    @property
    def exists(self) -> bool:
        """Whether there is such a group."""
        return self.committed is not None


def _of_another_topic(record: Record) -> Record:
    """A record without what concerns events, which are not those that it was about."""
    fresh = Record()
    if not record.is_removed:
        fresh.seeks, fresh.holder, fresh.members = record.seeks, record.holder, record.members
    return fresh


async def survey(connection: Connection, topic: str, group: str) -> Survey:
    """Where a group stands. Raises NotFoundError, for who consumes for it, if the topic is not there any more."""
    stream_of, info_of = _stream(connection, topic), Durable(connection, topic, group).info()
    try:
        found, read, info = await asyncio.gather(stream_of, Register(connection).read(topic, group), info_of)
    except NotFoundError:
        raise NotFoundError(topic, "the topic was removed") from None
    return Survey(read[0], info, found)


async def rewound(connection: Connection, topic: str, found: Survey) -> tuple[str, int] | None:
    """What is wrong, and the first offset since then, if the log is not the one that the group has seen.

    It may have lost its end with a server, or been put back, and have grown again.
    """
    committed, mark = found.committed, found.record.mark
    if not committed:
        return None
    if committed > found.next and committed > (end := await _end(connection, topic, committed)):
        first = end if mark is None else await _offset_after(connection, topic, mark[1], end)
        return f"has committed offset {committed}, but the log ends before {end}", first
    if mark is None or mark[0] < found.first:
        return None
    seen = await _time_at(connection, topic, mark[0])
    if seen is None or seen == mark[1]:
        return None
    first = await _offset_after(connection, topic, mark[1], found.next)
    return f"has committed offset {committed}, but offset {mark[0]} is not the event that it has handled", first


async def _stream(connection: Connection, topic: str) -> dict[str, Any]:
    try:
        return await connection.api(f"STREAM.INFO.{names.stream_of(topic)}")
    except ApiError as error:
        raise stream.refused(topic, error) from error


async def _end(connection: Connection, topic: str, expected: int) -> int:
    """The offset of the event that will come next, asked for until that is as expected or it is certain.

    A server that leads since a moment ago may say less, as long as it has not taken in all that the others have.
    """
    certain_at = connection.loop.time() + _CERTAIN_SECONDS
    while True:
        found = await _stream(connection, topic)
        end = int(found["state"]["last_seq"])
        if end >= expected or found["config"]["num_replicas"] == 1 or connection.loop.time() >= certain_at:
            return end
        await asyncio.sleep(_LOOK_SECONDS)


async def _time_at(connection: Connection, topic: str, offset: int) -> int | None:
    """When the event with this offset was stored, in nanoseconds since the epoch; None if there is none."""
    found = await stream.message(connection, topic, {"seq": offset + 1})
    return None if found is None else nanoseconds(found["time"])


async def _offset_after(connection: Connection, topic: str, moment: int, end: int) -> int:
    """The offset of the first event after a moment, in nanoseconds since the epoch; `end` if there is none."""
    moment += 1
    start = f"{_second(moment)}.{moment % 10**9:09d}Z"
    found = await stream.message(connection, topic, {"start_time": start, "next_by_subj": _ANY})
    if found is None or nanoseconds(found["time"]) < moment:  # the server's way to say that there is none
        return end
    return int(found["seq"]) - 1


def nanoseconds(moment: str) -> int:
    """A time as the server writes it (up to nine digits of a second) in nanoseconds since the epoch."""
    seconds, _, fraction = moment.rstrip("Z").partition(".")
    whole = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.UTC) - _EPOCH
    return (whole.days * 86400 + whole.seconds) * 10**9 + int(f"{fraction:0<9}" if fraction else 0)


def _second(moment: int) -> str:
    return (_EPOCH + datetime.timedelta(seconds=moment // 10**9)).strftime("%Y-%m-%dT%H:%M:%S")

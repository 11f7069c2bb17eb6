"""One topic on NATS: a stream, of which offsets are the sequences - 1."""

from __future__ import annotations

import base64
from zlib import crc32

from evtool.errors import EvtoolError, NotFoundError, UsageError
from evtool.log.names import check_name
from evtool.log.settings import CONSUMED
from evtool.stores.naming import nearest
from evtool.stores.nats import keeper, names, settings, stream
from evtool.stores.nats.connection import ApiError
from evtool.stores.nats.message import stamp_of, stamped_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    from evtool.log.ranges import Ranges
    from evtool.log.state import Change
    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.deputy import NatsDeputy
    from evtool.stores.nats.group import NatsGroup
    from evtool.stores.nats.reader import NatsReader
    from evtool.stores.nats.settings import Settings
    from evtool.stores.nats.verify import Report
    from evtool.stores.nats.writer import NatsWriter
    from evtool.stores.protocol import Standing

    T = TypeVar("T")

_ANY = ">"
_NEVER = "0001-01-01T00:00:00Z"


class Bounds:
    """Where a topic begins and ends, out of the state of its stream; see `evtool.stores.protocol.Bounds`.

    last_time: of the newest event, which may be gone. count is exact.
    """

    __slots__ = ("count", "first", "last_time", "next", "size")

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.next: int = state["last_seq"]
        self.count: int = state["messages"]
        self.first: int = state["first_seq"] - 1 if self.count else self.next
        self.size: int = state["bytes"]
        last = state.get("last_ts", _NEVER)
        self.last_time = None if last == _NEVER else stamp_of(last)

    @property
    def is_gapless(self) -> bool:
        """Whether there is an event for every offset."""
        return self.count == self.next - self.first


class Trimming:
    """What a trim takes away: `count` events, those from `first` to `end` - 1. The server does not tell the bytes."""

    __slots__ = ("count", "end", "first", "segments", "size")

    def __init__(self, first: int, end: int, count: int) -> None:
        self.first = first
        self.end = end
        self.count = count
        self.segments: int | None = None
        self.size: int | None = None


class NatsTopic:
    """A topic; see `evtool.stores.protocol.Topic`. Whether it is there shows when something is asked of it."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self._connection = connection
        self._stream = names.stream_of(name)

    def identity(self) -> str:
        """``nats:5f2a90c1``: which stream this is, of all that ever had its name."""
        created = self._info()["created"]
        return f"nats:{crc32(f'{self._stream}:{created}'.encode()):08x}"

    # Events

    def writer(self) -> NatsWriter:
        """What appends to the topic, which the first append makes if it is missing."""
        from evtool.stores.nats.writer import NatsWriter

        return NatsWriter(self._connection, self.name)

    def reader(self, offset: int, on_missed: Callable[[int, int], None] | None = None) -> NatsReader:
        """A cursor over the topic, from `offset` on."""
        from evtool.stores.nats.reader import NatsReader

        return NatsReader(self._connection, self.name, offset, on_missed)

    def bounds(self) -> Bounds:
        """Where the topic begins and ends."""
        return Bounds(self._info()["state"])

    def offset_at(self, moment: bytes) -> int:
        """The offset of the first event at or after `moment` (27 bytes); the next event's if none is.

        Where the servers' clocks differ a change of the leader may have let times fall; then it is one such event.
        """
        found = self._message({"start_time": moment.decode(), "next_by_subj": _ANY})
        if found is None or stamp_of(found["time"]) < moment:  # for a time behind the end the server gives the first
            return self.bounds().next
        sequence: int = found["seq"]
        return sequence - 1

    def offset_back(self, count: int) -> int:
        """The offset of the event that is `count` before the end, or of the earliest if there are fewer."""
        bounds = self.bounds()
        if count == 0 or count >= bounds.count:
            return bounds.first if count else bounds.next
        if bounds.is_gapless:
            return bounds.next - count
        state = self._info(deleted_details=True)["state"]
        return _offset_back(Bounds(state), set(state.get("deleted") or ()), count)

    def time_at(self, offset: int) -> bytes | None:
        """The time of the event with this offset, or of the next one there is; None at the end."""
        found = self._message({"seq": offset + 1, "next_by_subj": _ANY})
        return None if found is None else stamp_of(found["time"])

    def line_at(self, offset: int) -> bytes | None:
        """The line of the event with this offset; None if there is none."""
        found = self._message({"seq": offset + 1})
        if found is None:
            return None
        return stamped_line(found["seq"], stamp_of(found["time"]), base64.b64decode(found.get("data") or ""))

    def newest_of_each(self, until: int | None) -> Iterator[bytes]:
        """The newest event of each key before an offset, or of all there are, as blocks of whole lines."""
        from evtool.stores import keyed

        return keyed.newest_of_each(self, until)

    def newest_of(self, key: bytes, until: int | None) -> bytes | None:
        """The newest event of a key (a JSON string) before an offset, as a line; None if there is none, or a null."""
        from evtool.stores import keyed

        return keyed.newest_of(self, key, until)

    def changes(self, since: int, until: int | None, key: bytes | None = None) -> Iterator[Change]:
        """The keys whose state is not the same before two offsets, the second of them maybe the end."""
        from evtool.stores import keyed

        return keyed.changes(self, since, until, key)

    def _message(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        return self._connection.run(stream.message(self._connection, self.name, wanted))

    # Care

    def settings(self) -> Settings:
        """The settings of the topic."""
        return settings.of_config(self._info()["config"])

    def set(self, changes: Mapping[str, Any]) -> Settings:
        """Change settings of the topic, None back to the default, and return them all. Raises ConfigurationError."""
        if changes.get("retention") == CONSUMED and not self.groups():
            keeper.hold(self._connection, self.name)
        try:
            return stream.update(self._connection, self.name, changes)
        finally:
            if "retention" in changes and self.settings().retention != CONSUMED:
                self._connection.run(keeper.release(self._connection, self.name))

    def trimming(self, before: int | None) -> Trimming:
        """What `trim` would take away. Without an offset that is nothing: the server keeps to the limits by itself.

        The newest event stays in any case, as in the file log, where it is in the active segment.
        """
        bounds = self.bounds()
        end = bounds.first if before is None else max(bounds.first, min(before, bounds.next - 1))
        if end == bounds.first:
            return Trimming(end, end, 0)
        count = end - bounds.first if bounds.is_gapless else self._count_before(end)
        return Trimming(bounds.first, end, count)

    def _count_before(self, end: int) -> int:
        """How many events there are before an offset, where there are gaps."""
        state = self._info(deleted_details=True)["state"]
        first = Bounds(state).first
        return max(0, end - first - sum(1 for sequence in state.get("deleted") or () if first < sequence <= end))

    def trim(self, before: int | None) -> Trimming:
        """Remove the events before an offset, at once and for good."""
        found = self.trimming(before)
        if found.end > found.first:
            purged = self._call(f"STREAM.PURGE.{self._stream}", {"seq": found.end + 1})
            found.count = purged.get("purged", found.count)
        if before is None and self.groups():
            self._connection.run(keeper.release(self._connection, self.name))
        return found

    def losers(self, before: int) -> dict[str, int]:
        """The groups that have not handled all before an offset, and how many events each would lose."""
        earliest = self.bounds().first
        found = {}
        for group in self.groups():
            standing = self.standing(group)
            start = max(earliest, standing.committed)
            above = sum(max(0, min(last + 1, before) - max(low, start)) for low, last in standing.handled)
            count = max(0, before - start) - above
            if count > 0:
                found[group] = count
        return found

    def verify(self, progress: Callable[[int], None] | None = None, seal: str | None = None) -> Report:
        """Whether every message is an event of ours and in its place, and all replicas have it."""
        if seal is not None:
            hint = "the file store has seals; NATS checks what it stores by sums of its own"
            raise UsageError(self.name, "topics on NATS have no seals", hint=hint)
        from evtool.stores.nats.verify import verify

        return verify(self._connection, self, progress)

    # Groups

    def groups(self) -> list[str]:
        """The groups that consume the topic, sorted: its consumers, but for those of names that no group has."""
        try:
            found = self._connection.run(stream.listed(self._connection, f"CONSUMER.NAMES.{self._stream}", "consumers"))
        except ApiError as error:
            raise stream.refused(self.name, error) from error
        return sorted({group for name in found if (group := names.group_of_consumer(name))})

    def group(self, group: str) -> NatsGroup:
        """A group, to consume for it. Nothing is made yet."""
        check_name("group", group)
        from evtool.stores.nats.group import NatsGroup

        return NatsGroup(self._connection, self.name, group)

    def standing(self, group: str) -> Standing:
        """How the group stands. Raises NotFoundError, with the nearest name that does exist."""
        check_name("group", group)
        from evtool.stores.nats import standing as groups

        return self._of_group(group, lambda: groups.standing(self._connection, self.name, group))

    def seek(self, group: str, offset: int) -> None:
        """Let a group begin anew at `offset`, whoever consumes for it. Raises NotFoundError for one that is missing."""
        check_name("group", group)
        from evtool.stores.nats import standing as groups

        self._of_group(group, lambda: groups.seek(self._connection, self.name, group, offset))

    def call_again(self, group: str, offsets: Ranges) -> None:
        """Let a group get these events again. Raises NotFoundError for one that is missing."""
        check_name("group", group)
        from evtool.stores.nats import standing as groups

        self._of_group(group, lambda: groups.call_again(self._connection, self.name, group, offsets))

    def deputy(self, group: str, member: str) -> NatsDeputy:
        """What commits for a member of a group that does not do so itself. Raises NotFoundError."""
        check_name("group", group)
        from evtool.stores.nats.deputy import NatsDeputy

        return self._of_group(group, lambda: NatsDeputy(self._connection, self.name, group, member))

    def remove_group(self, group: str, *, force: bool = False) -> None:
        """Forget a group. Raises NotFoundError, or BusyError if it is in use, unless by `force`."""
        check_name("group", group)
        from evtool.stores.nats import standing as groups

        is_last = self.groups() == [group] and self.settings().retention == CONSUMED
        if is_last:
            keeper.hold(self._connection, self.name)
        try:
            self._of_group(group, lambda: groups.remove(self._connection, self.name, group, force=force))
        except EvtoolError:
            if is_last:
                self._connection.run(keeper.release(self._connection, self.name))
            raise

    def _of_group(self, group: str, act: Callable[[], T]) -> T:
        """Do it. Raises NotFoundError for a missing group with the nearest name that does exist."""
        try:
            return act()
        except NotFoundError as error:
            if error.what != group or error.hint is not None:
                raise
            hint = nearest(group, [one for one in self.groups() if one != group])
            raise NotFoundError(group, f"no such group of topic {self.name}", hint=hint) from None

    def _info(self, **body: Any) -> dict[str, Any]:
        return stream.info(self._connection, self.name, **body)

    def _call(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return stream.call(self._connection, self.name, verb, body)


def _offset_back(bounds: Bounds, deleted: set[int], count: int) -> int:
    """The offset of the event that is so many before the end of a stream with gaps."""
    for sequence in range(bounds.next, bounds.first, -1):
        count -= sequence not in deleted
        if count == 0:
            return sequence - 1
    return bounds.first

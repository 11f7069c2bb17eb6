"""A group on NATS: who may consume for it, and what it has handled.

An event that is handled is acknowledged at once. Beside that, about once a second, the group's record is told what its
consumer does not know (see `register`). What a process was given and has not handled it holds, by signs of life.

    try_acquire    the record's `holder`, by compare-and-set, if nobody else lives that has it; see `claim` and `seat`
    join           the consumer is put back to what is committed, so that who consumes alone gets all in order
    reader, share  events, which are held once they are given out
    Moved          a seek has changed the record; from then on nothing more is acknowledged for what was before
"""

from __future__ import annotations

import time

from evtool.errors import BusyError, ConditionError, EvtoolError, NotFoundError
from evtool.log.offsets import ALONE, MANUAL, SHARED
from evtool.log.ranges import Ranges
from evtool.stores.moved import Moved
from evtool.stores.nats import stream
from evtool.stores.nats.acks import Acks
from evtool.stores.nats.consumer import ACK_WAIT, Durable
from evtool.stores.nats.held import Heartbeat, Held
from evtool.stores.nats.seat import MOVED, SEIZED, Progress, Seat
from evtool.stores.nats.standing import call_again, remove, seek, standing
from evtool.stores.nats.survey import rewound, survey

__all__ = ["ALONE", "MANUAL", "SHARED", "NatsGroup", "call_again", "remove", "seek", "standing"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.reading import GroupReader
    from evtool.stores.nats.share import NatsShare
    from evtool.stores.nats.survey import Survey

    OnMissed = Callable[[int, int], None]

_BEATS = 3  # signs of life in the time after which an event would come again
_SHORT_PATIENCE = 2.0  # if we have just waited in vain
_PACE_STEP = 10.0
_TELLS = 4  # a second, by all members that share: each hears of each


class State:
    """What a group has handled: all before `committed`, and `handled` above it; `again` is to come again."""

    __slots__ = ("again", "committed", "handled")

    def __init__(
        self, committed: int | None = None, handled: Ranges | None = None, again: Ranges | None = None
    ) -> None:
        self.committed = committed
        self.handled = Ranges() if handled is None else handled
        self.again = Ranges() if again is None else again


class NatsGroup:
    """One group of one topic, for the process that has acquired it; see `evtool.stores.protocol.Group`."""

    def __init__(self, connection: Connection, topic: str, name: str) -> None:
        self.name = name
        self.topic = topic
        self.connection = connection
        self.consumer = Durable(connection, topic, name)
        self.seat = Seat(connection, self.consumer, self._answer, self._stop_acks, self._settle)
        self.held = Held()
        self.acks: Acks | None = None  # from `join` until we are moved
        self.born = ""  # when the topic was made
        self.mark: list[int] | None = None
        self._heartbeat: Heartbeat | None = None
        self._reader: GroupReader | None = None
        self._state = State()
        self._done_again = Ranges()  # of what was to come again, and the record is not told
        self._doing = ""
        self._said: dict[str, str] = {}
        self._is_dirty = False  # the record is to be told something
        self._is_stale = False  # we were moved, and have not joined anew
        self._is_cut_off = False
        self._paced = 0.0
        self._is_put_off = False  # by `sync`, and it will be by `release` at the latest
        self._told = float("-inf")  # when the record was, by the clock of this process
        self._members = 1  # as of then

    # Who consumes

    @property
    def member(self) -> str:
        """Our name among the members; empty if we do not consume."""
        return self.seat.member

    @property
    def mode(self) -> str:
        """ALONE, SHARED or MANUAL."""
        return self.seat.mode

    def try_acquire(self, mode: str = ALONE, command: str = "") -> bool:
        """Become the one that consumes for the group, or one of several, if nobody else does so alone.

        command: what handles the events, for those who look. Returns whether that was so.
        """
        if not self.member:
            self._is_stale = self._is_cut_off = False
            self.born = ""
            return self.connection.run(self.seat.take(mode, command))
        return True

    def release(self) -> None:
        """Let others consume, and have what was not handled."""
        if not self.member:
            return
        try:
            if self._is_put_off and self.acks is not None and not self.seat.notice:
                self._tell(_SHORT_PATIENCE)
        except EvtoolError:  # what was not told comes from the consumer, or once more
            pass
        self._end()
        try:
            self.connection.run(self.seat.leave())
        except EvtoolError:  # nobody answers for us any more, which says the same
            pass

    @property
    def committed(self) -> int | None:
        """The offset of the next event that the group will get; None for a group that is new. Acquired groups only.

        Raises ConditionError if the log is not the one that the group has seen: something was lost or put back.
        """
        if self.acks is None:
            self._need_seat()
            self._take_in(self.connection.run(self._look_up()))
        return self._state.committed

    @property
    def state(self) -> State:
        """What is known of it as of the last look."""
        return self._state

    def join(self, start: int) -> int:
        """Say who consumes from now on, and where: at `start` if the group is new. Returns where."""
        self._need_seat()
        self._end()
        self._is_stale = False
        found = self.connection.run(self.seat.join(start))
        self._take_in(found)
        self.born = found.born
        self.acks = Acks(self.connection, self.consumer)
        if self.seat.notice:
            self._stop_acks()
        assert self._state.committed is not None
        return self._state.committed

    def reader(self, offset: int, on_missed: OnMissed | None = None) -> GroupReader:
        """Its events from where it has joined, which are held for this process once they are given out."""
        from evtool.stores.nats.reading import GroupReader

        self._reader = reader = GroupReader(self, offset, on_missed)
        if self.mode == ALONE:
            seconds = ACK_WAIT[ALONE] / _BEATS
            self._heartbeat = Heartbeat(self.connection, lambda: self.held.old() + reader.waiting(), seconds)
        return reader

    def share(self, offset: int, wants: Callable[[bytes], bytes], on_missed: OnMissed, seconds: float) -> NatsShare:
        """Our part of a group that shares; see there."""
        from evtool.stores.nats.share import NatsShare

        return NatsShare(self, offset, wants, on_missed, seconds)

    # What is handled

    def commit(self, offset: int) -> None:
        """Everything before `offset` is handled. Durable after `sync`. Raises Moved."""
        self._need_seat()
        self.check()
        if self.acks is not None:
            self.acks.add(self.held.take_before(offset))
        state = self._state
        state.committed = state.handled.take_from(max(offset, state.committed or 0))
        self._is_dirty = True

    def handle(self, handled: Ranges) -> None:
        """These offsets are handled. Durable after `sync`. Raises Moved."""
        self._need_seat()
        self.check()
        if self.acks is not None:
            self.acks.add(self.held.take(handled))
        state = self._state
        if state.again:
            self._done_again.update(_common(state.again, handled))
            state.again.subtract(handled)
        state.handled.update(handled)
        state.committed = state.handled.take_from(state.committed or 0)
        self._is_dirty = True

    def say(self, **fields: str) -> None:
        """Say something else as this member; it stands in the record after `sync`."""
        self._need_seat()
        self.check()
        self._said |= fields
        self._is_dirty = True

    def say_doing(self, doing: str) -> None:
        """Say what this member does, in words, to those who ask. Raises Moved."""
        self.check()
        self._doing = doing

    def look(self) -> None:
        """Take in what others have said of the group. Raises Moved, NotFoundError if it was removed."""
        self.check()
        again, self.seat.again = self.seat.again, None
        if again is not None:
            again.subtract(self._done_again)
            self._state.again = again

    def sync(self) -> None:
        """Return when all acknowledgements have arrived, and the record says the rest; do nothing if we were moved.

        Raises Unanswered, BusyError.
        """
        self._need_seat()
        if self.seat.notice == SEIZED:
            self.check()
        if self.seat.notice or self._is_stale:
            return
        patience = _SHORT_PATIENCE if self._is_cut_off else None
        self._is_cut_off = True
        if self.acks is not None and not self.acks.is_idle:
            self.connection.run(self.acks.confirm(patience))
        if self._is_dirty:
            self._is_put_off = not self._may_tell
            if not self._is_put_off:
                self._tell(patience)
        self._is_cut_off = False
        if self.seat.notice == SEIZED:
            self.check()

    @property
    def has_lapsed(self) -> bool:
        """Whether events were not kept for it, as it was away for too long: the server waits for every group."""
        return False

    def check(self) -> None:
        """Raise what others have done: Moved, BusyError if one of them consumes by now, NotFoundError."""
        notice = self.seat.notice
        if not notice and not self._is_stale:
            return
        self._end()
        what = f"{self.topic}, group {self.name}"
        if notice in ("", MOVED):
            self.seat.notice, self._is_stale = "", True
            raise Moved(self.topic, self.name)
        if notice == SEIZED:
            hint = "this one gave no sign of life for too long; what it had comes again, over there"
            raise BusyError(what, "another process consumes for the group by now", hint=hint)
        self.connection.run(survey(self.connection, self.topic, self.name))  # the topic may have been
        raise NotFoundError(what, "the group was removed")

    # For its reader and its share

    def is_topic_gone(self) -> bool:
        """Whether the topic was removed, or made anew, since we have joined."""
        try:
            return bool(stream.info(self.connection, self.topic)["created"] != self.born)
        except NotFoundError:
            return True

    def first_sequence(self) -> int:
        """The first that the stream has. Raises NotFoundError if the topic was removed."""
        try:
            return int(stream.info(self.connection, self.topic)["state"]["first_seq"])
        except NotFoundError:
            raise NotFoundError(self.topic, "the topic was removed") from None

    def follow_removal(self, *, is_gone: bool) -> None:
        """The consumer is not there: raise NotFoundError if topic or group are not, else Moved, to make it anew.

        is_gone: whether it is known that the topic is not.
        """
        if is_gone:
            raise NotFoundError(self.topic, "the topic was removed")
        self.connection.run(self.seat.follow_removal())
        self.check()

    def unhandled(self, first: int, last: int) -> Ranges:
        """What is not handled of some offsets."""
        found = Ranges([(first, last)])
        found.subtract(self._state.handled)
        return found

    # Within

    def _need_seat(self) -> None:
        if not self.member:
            raise ConditionError(self.name, "this process does not consume for the group")

    async def _look_up(self) -> Survey:
        found = await survey(self.connection, self.topic, self.name)
        if self.born not in ("", found.born):  # another topic of the name
            raise NotFoundError(self.topic, "the topic was removed")
        wrong = await rewound(self.connection, self.topic, found)
        if wrong is None:
            return found
        raise ConditionError(
            f"{self.topic}, group {self.name}",
            wrong[0],
            hint="was the log restored? To go on with what came since:"
            f" evtool seek {self.topic} --group {self.name} --to {wrong[1]}",
        )

    def _take_in(self, found: Survey) -> None:
        self._state = State(found.committed, found.handled, Ranges(found.record.again))
        self._done_again, self._is_dirty, self._is_put_off = Ranges(), False, False

    def _end(self) -> None:
        """Nothing that was given out is ours any more."""
        acks, self.acks = self.acks, None
        if acks is not None:
            acks.close()
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.held.clear()

    @property
    def _may_tell(self) -> bool:
        """Whether it is time to write the record. Of those who share, the consumer knows what each has handled."""
        pause = self._members / _TELLS if self._members > _TELLS and self.mode == SHARED else 0.0
        return bool(self._done_again) or time.monotonic() - self._told >= pause

    def _tell(self, patience: float | None) -> None:
        """Write into the record what is handled, and learn from it what others have brought about."""
        progress = self._progress()
        if self.acks is None:
            self.connection.run(self.seat.tell_unjoined(progress))
        else:
            record = self.connection.run(self.seat.tell(progress, patience))
            if record is not None:  # what others have handled closes the gaps in what we have
                self._state.committed, self._state.handled = record.committed, Ranges(record.handled)
                self._members = len(record.members)
        self._told = time.monotonic()
        self._is_dirty = self._is_put_off = False
        self._done_again = Ranges()

    def _progress(self) -> Progress:
        state = self._state
        handled = Ranges(state.handled)
        return Progress(state.committed or 0, handled, self._done_again, self._said, self.mark, self._behind())

    def _behind(self) -> list[float] | None:
        """The time and how far we are behind, now and then."""
        now = time.monotonic()
        if self._reader is None or now - self._paced < _PACE_STEP:
            return None
        self._paced = now
        return [round(time.time(), 3), self._reader.behind()]

    # In the loop's thread

    def _answer(self) -> dict[str, str]:
        said = {"doing": self._doing}
        if self.mode == SHARED and len(self.held):
            said["leased"] = str(Ranges.of(self.held.offsets()))
        return said

    def _stop_acks(self) -> None:
        if self.acks is not None:
            self.acks.close()

    async def _settle(self) -> None:
        if self.acks is not None:
            await self.acks.settle()


def _common(first: Ranges, second: Ranges) -> Ranges:
    """What is in both."""
    only = Ranges(first)
    only.subtract(second)
    both = Ranges(first)
    both.subtract(only)
    return both

"""A process's seat in a group: taken, kept, lost; and what of the group's record is its own to say.

It listens for changes of the record, as anybody may move the group, call events again, or take the seat of one that
gave no sign of life. What it hears is noted, and told by `NatsGroup.check` when the group is next used.
"""

from __future__ import annotations

import asyncio
import os
import time

import orjson

from evtool.errors import BusyError
from evtool.log.offsets import SHARED
from evtool.log.ranges import Ranges
from evtool.stores.nats import names, who
from evtool.stores.nats.claim import Claim, enter, gone, is_in, leave
from evtool.stores.nats.consumer import ACK_WAIT, Durable
from evtool.stores.nats.register import Record, Register
from evtool.stores.nats.survey import Survey, survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from evtool.stores.nats.connection import Connection

MOVED, SEIZED, REMOVED = "moved", "seized", "removed"
_PACE_SECONDS = 60.0
_FOLLOW_SECONDS = 1.0  # that a seek has to put the consumer where it is to be, before a member that shares does it
_LOOK_SECONDS = 0.02
_PUT_SECONDS = 5.0  # that another member has to put the consumer where it is to be; then it is thought dead
_LOOKS = (0.0, 0.005, 0.02, 0.1, 0.5)  # seconds to wait before each
_NAKS_AT_ONCE = 256  # before others have their turn in the loop
_MOST_NAKS = 1 << 16  # what is beyond comes again by itself, a little later


class Progress:
    """What a member has to tell the record.

    committed, handled: what is handled. again: what came again and is handled. said: fields of the member itself.
    mark: an offset and the time of its event. behind: the time and how far the group is behind, if it is to be noted.
    """

    __slots__ = ("again", "behind", "committed", "handled", "mark", "said")

    def __init__(
        self,
        committed: int,
        handled: Ranges,
        again: Ranges,
        said: dict[str, str],
        mark: list[int] | None,
        behind: list[float] | None,
    ) -> None:
        self.committed = committed
        self.handled = handled
        self.again = again
        self.said = said
        self.mark = mark
        self.behind = behind

    def enter(self, record: Record, member: str) -> None:
        """Put it into a record."""
        record.take_in(self.committed, self.handled)
        record.again.subtract(self.again)
        if self.mark is not None and self.mark[0] == self.committed - 1:
            record.mark = self.mark
        if member in record.members:
            record.members[member] |= self.said
        if self.behind is not None:
            start = self.behind[0] - _PACE_SECONDS
            record.paces = [pace for pace in record.paces if pace[0] > start] + [self.behind]


class Seat:
    """One member of a group. All methods run in the loop's thread.

    answer: what it says to those who ask, beside who it is. on_notice: called when it has lost its place.
    settle: awaited before it says that it knows of that.
    notice: MOVED, SEIZED, REMOVED or empty. again: what is to come again, if that is news.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: Durable,
        answer: Callable[[], dict[str, str]],
        on_notice: Callable[[], None],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self.member = ""
        self.mode = ""
        self.notice = ""
        self.again: Ranges | None = None
        self.pending = 0  # events that there were when it joined
        self._connection = connection
        self._consumer = consumer
        self._topic, self._group = consumer.topic, consumer.group
        self._answer = answer
        self._on_notice = on_notice
        self._settle = settle
        self._register = Register(connection)
        self._claim = Claim(connection, self._topic, self._group)
        self._presence = who.Presence(connection, self._topic, self._group, self._say, self._on_seek)
        self._watching: Subscription | None = None
        self._introduction: dict[str, str] = {}
        self._seeks = 0
        self._known_again = ""
        self._dead: set[str] = set()  # members that were not there any more when it joined
        self._joins = self._tells = 0
        self._is_in = False  # joined, and not moved since

    async def take(self, mode: str, command: str) -> bool:
        """Become a member, if nobody else is in the way; say whether that was so."""
        member = os.urandom(6).hex()
        self._introduction = who.introduction(member, mode, command, time.time_ns())
        if not await self._claim.take(member, self._introduction, self._presence):
            return False
        self.member, self.mode, self.notice = member, mode, ""
        subject = names.record_subject(self._topic, self._group)
        self._watching = await self._connection.client.subscribe(subject, cb=self._on_record)
        self._connection.watch_lost(self._on_reconnect)
        return True

    async def leave(self) -> None:
        """Let others consume."""
        member, self.member = self.member, ""
        self._is_in = False
        self._connection.unwatch_lost(self._on_reconnect)
        if self._watching is not None:
            await self._watching.unsubscribe()
            self._watching = None
        await self._presence.stop()
        await self._claim.give_back(member, self.mode)

    async def join(self, start: int) -> Survey:
        """Put the consumer where the group stands, at `start` if it is new, and say in the record that we are there."""
        self.notice, self.again, self._is_in = "", None, False
        self._joins += 1
        sought_until = time.monotonic() + _FOLLOW_SECONDS
        patient_until = time.monotonic() + _PUT_SECONDS
        while True:
            found = await survey(self._connection, self._topic, self._group)
            if found.record.holder not in ("", self.member):
                self.note(SEIZED)
                raise BusyError(f"{self._topic}, group {self._group}", "another process consumes for the group by now")
            if self.mode == SHARED and found.record.is_sought and found.info and time.monotonic() < sought_until:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            position = await self._put_consumer(found, start, has_waited=time.monotonic() > patient_until)
            if position is None:
                await asyncio.sleep(_LOOK_SECONDS)
            elif await self._enter(position, found):
                self._is_in = True
                await self.look()  # for what was said before we listened
                return found

    async def tell(self, progress: Progress, patience: float | None) -> Record | None:
        """Say in the record what has been handled; what it says then, or None if it is not ours to say."""
        if self.mode == SHARED and self._is_in:
            info = await self._consumer.info(patience=patience)
            if info is not None:  # the others have brought it about too
                progress.committed = max(progress.committed, info.floor)

        def change(record: Record) -> bool:
            if not self._is_ours(record):
                return False
            progress.enter(record, self.member)
            return True

        record = await self._register.update(self._topic, self._group, change, patience=patience)
        self._tells += 1
        if self._is_ours(record):
            return record
        if self._is_in:
            await self.look()
        return None

    async def tell_unjoined(self, progress: Progress) -> None:
        """The same, for one that has not joined: the consumer is put where that is."""
        found = await survey(self._connection, self._topic, self._group)
        committed = progress.committed
        begins = found.info is None or found.info.floor < committed
        if found.info is None:
            await self._prepare(committed, found)
        if begins:
            await self._consumer.begin(committed, ACK_WAIT[self.mode], found.info, is_consumed=found.is_consumed)

        def change(record: Record) -> bool:
            if begins:
                record.is_sought = False
            progress.enter(record, self.member)
            return True

        await self._register.update(self._topic, self._group, change)

    async def look(self) -> Record:
        """Read the record, and note what it says."""
        joins = self._joins if self._is_in else None
        tells = -1
        while tells != self._tells:  # what was read before we have said something does not know of that
            tells = self._tells
            record, version = await self._register.read(self._topic, self._group)
        if joins != self._joins or not self._is_in:
            pass  # this was asked before we were moved and joined anew, and told by then
        elif version == 0 or record.is_removed:
            self.note(REMOVED)
        elif record.seeks != self._seeks:
            self.note(MOVED)
        elif not is_in(record, self.member, self.mode):  # given up, as we gave no sign of life
            self.note(MOVED if self.mode == SHARED and not record.holder else SEIZED)
        else:
            self.again, self._known_again = Ranges(record.again), str(record.again)
            self._connection.signal.set()
        return record

    async def put_back(self, offset: int) -> int | None:
        """Let the consumer deliver anew, from an offset on; how many events there are, or None if we have lost it."""
        await self.look()
        info = await self._consumer.info()
        if self.notice or info is None:
            self.note()
            return None
        return await self._consumer.begin(offset, ACK_WAIT[self.mode], info)

    async def follow_consumer(self) -> None:
        """The consumer is not where we left it: by a seek, or by somebody else's tool, which then counts as one."""
        await self.look()
        info = await self._consumer.info()
        if self.notice or info is None:
            self.note()
            return

        def change(record: Record) -> bool:
            if not self._is_ours(record):
                return False
            record.move(info.floor)
            record.is_sought = False
            return True

        await self._register.update(self._topic, self._group, change)
        self.note()

    async def follow_removal(self) -> None:
        """The consumer is not there: note what has become of the group."""
        await self.look()
        self.note()

    def note(self, notice: str = MOVED) -> None:
        """We have lost our place; the first reason counts."""
        self.notice, self._is_in = self.notice or notice, False
        self._on_notice()
        self._connection.signal.set()

    # What others say

    def _is_ours(self, record: Record) -> bool:
        """Whether the group is still where we joined, and we are in it."""
        return self._is_in and record.seeks == self._seeks and is_in(record, self.member, self.mode)

    async def _on_record(self, message: Msg) -> None:
        """Somebody has published a record: look, unless it says nothing new.

        We hear of it before it is stored, if it is at all, so we may have to look for it more than once.
        """
        try:
            said = self._gist(orjson.loads(message.data))
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            return
        for seconds in _LOOKS:
            if not self._is_in or said == (False, self._seeks, self._holder, True, self._known_again):
                return
            await asyncio.sleep(seconds)
            if self._gist((await self.look()).say()) == said:
                return

    @property
    def _holder(self) -> str:
        return "" if self.mode == SHARED else self.member

    def _gist(self, said: dict[str, Any]) -> tuple[bool, int, str, bool, str]:
        """What of a record concerns us, unless it is what is handled: that may be long, and comes from each member."""
        is_member = self.mode != SHARED or self.member in said.get("members", {})
        removed, seeks = said.get("removed", False), said.get("seeks", 0)
        return removed, seeks, said.get("holder", ""), is_member, said.get("again", "")

    def _on_reconnect(self) -> None:
        if self._is_in:
            self._connection.begin(self.look())

    async def _on_seek(self, seeks: int) -> None:
        """Somebody asks whether we have heard of a seek: after our answer nothing of what was before arrives."""
        if self._is_in and seeks > self._seeks:
            self.note()
            await self._settle()

    def _say(self) -> dict[str, str]:
        return self._introduction | self._answer()

    # Joining

    async def _put_consumer(self, found: Survey, start: int, *, has_waited: bool) -> int | None:
        """Put it where the group stands; where that is, or None if another member is just doing so.

        Of several that begin at once only one may: it would deliver again what the others have. In the survey it is
        then None, as it is not what it was. has_waited: the other one has had its time.
        """
        position = found.committed
        if position is None:
            position = start
        if self.mode == SHARED:
            if found.info is not None and not found.record.is_sought:
                await self._clear_away(found)
                return position
            if not await self._prepare(position, found, from_others=has_waited):
                return None
        elif found.info is None:
            await self._prepare(position, found)
        self.pending = await self._consumer.begin(
            position, ACK_WAIT[self.mode], found.info, is_consumed=found.is_consumed
        )
        found.info = None
        return position

    async def _prepare(self, position: int, found: Survey, *, from_others: bool = False) -> bool:
        """Say where the consumer will have to be, should we not come to put it there; say whether that is ours to do.

        from_others: even if another member has said so.
        """

        def change(record: Record) -> bool:
            is_others = record.is_sought and record.putter not in ("", self.member) and not from_others
            if record.seeks != found.record.seeks or record.puts != found.record.puts or is_others:
                return False
            found.renew(record)
            record.committed, record.is_sought, record.putter = position, True, self.member
            return True

        record = await self._register.update(self._topic, self._group, change)
        return record.is_sought and record.putter == self.member

    async def _clear_away(self, found: Survey) -> None:
        """If all other members are gone, have delivered again, now and not only when it is due, what they have left."""
        others = {name: said for name, said in found.record.members.items() if name != self.member}
        self._dead = await gone(self._connection, self._topic, self._group, others)
        info = found.info
        assert info is not None
        if len(self._dead) < len(others) or not info.unacknowledged:
            return
        for sequence in range(info.floor + 1, min(info.delivered, info.floor + _MOST_NAKS) + 1):
            await self._connection.client.publish(self._consumer.nak_of(sequence, info.delivered_count), b"-NAK")
            if sequence % _NAKS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _enter(self, position: int, found: Survey) -> bool:
        """Say that we consume, from `position` on; say whether nobody has moved the group meanwhile."""

        def change(record: Record) -> bool:
            if record.seeks != found.record.seeks:
                return False
            found.renew(record)
            record.take_in(position, Ranges())
            if record.putter == self.member:
                record.putter, record.puts = "", record.puts + 1
            record.is_sought = record.is_left = False
            for name in self._dead:
                leave(record, name)
            enter(record, self.member, self._introduction)
            return True

        record = await self._register.update(self._topic, self._group, change)
        if record.seeks != found.record.seeks:
            return False
        found.record, self._seeks = record, record.seeks
        return True

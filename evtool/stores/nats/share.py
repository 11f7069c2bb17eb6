"""Sharing a group on NATS: JetStream gives each event to one of the processes that ask, for as long as a lease holds.

What is not handled when its lease is over, or given back, another process gets, or this one once more. Nothing keeps
two events with the same key from being with two processes at a time: that the file store alone can do. Events that are
to come again after they were handled stand in the group's record, where a member takes them for itself.
"""

from __future__ import annotations

import asyncio
import time

from nats import errors

from evtool.errors import StorageError
from evtool.log import line
from evtool.log.ranges import Ranges
from evtool.stores.nats import claim
from evtool.stores.nats.block import Block
from evtool.stores.nats.held import say_in_progress
from evtool.stores.nats.pull import DELETED, REFUSED, Pull
from evtool.stores.nats.register import Record, Register
from evtool.stores.nats.topic import NatsTopic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.stores.nats.consumer import ConsumerInfo
    from evtool.stores.nats.group import NatsGroup
    from evtool.stores.nats.who import Answer

_ANSWER_SECONDS = 5.0
_RENEW_SECONDS = 2.0  # for an answer
_PARTS = 4  # of a lease: so long a request stands, and what it brings has the rest left
_SIZE = 1 << 24
_FRESH_SECONDS = 1.0
_AGAIN = "again"


class NatsShare:
    """One member's part of a group that shares. The group is acquired so, and joined.

    If nothing is there it leaves one request open; what that brings sets the connection's signal.

    wants: which of some whole lines are wanted. on_missed: told of events that are gone, unread. seconds: of a lease.
    """

    def __init__(
        self,
        group: NatsGroup,
        offset: int,
        wants: Callable[[bytes], bytes],
        on_missed: Callable[[int, int], None],
        seconds: float,
    ) -> None:
        self.group = group
        self._connection = group.connection
        self._register = Register(group.connection)
        self._wants = wants
        self._on_missed = on_missed
        self._seconds = seconds
        self._until: dict[int, float] = {}  # of each lease, by the clock of this process
        self._again = Ranges()  # what comes again, and we have
        self._reached = 0  # the highest sequence that anybody was given, as far as we know
        self._reached_count = 0  # how many deliveries there had been by then
        self._asked = 0.0  # since when there is a request: what has come was leased after that
        self._looked = self._pruned = float("-inf")
        self._count = 0
        self._is_drained = False
        self._pull = Pull(self._connection, group.consumer.stream, group.consumer.name, on_demand=True)
        info = self._info()
        self._connection.run(group.consumer.let_wait(seconds, info))
        first = self.group.first_sequence()
        if offset + 1 < first and info.floor < first:
            self._tell_missed(offset, first - 2)
        self._pull.start()

    @property
    def is_drained(self) -> bool:
        """Whether there was nothing left, for anybody, at the last look."""
        return self._is_drained

    @property
    def count(self) -> int:
        """How many unhandled events there were at the last look, ours and those of others."""
        return self._count

    def take(self, limit: int) -> list[bytes]:
        """Lease some more events, at most so many; their lines. Raises Moved."""
        self.group.look()
        lines = self._take_again(limit) if self.group.state.again else []
        while len(lines) < limit:
            messages = self._ask(limit - len(lines))
            if not messages:
                self._rest(is_empty=not lines)
                break
            self._is_drained = False
            if new := self._lease(messages, self._asked):
                lines += self._lines_of(new)
        return lines

    def handle(self, handled: Ranges) -> Ranges:
        """These are handled; returns those that are ours no more and were refused. Raises Moved."""
        self.group.check()
        now = time.monotonic()
        refused = Ranges.of(offset for offset in handled.offsets() if not self._has(offset, now))
        ours = Ranges(handled)
        ours.subtract(refused)
        if ours:
            self.group.handle(ours)
            for offset in ours.offsets():
                self._until.pop(offset, None)
            if self._again:
                self._give_up_again(ours, is_handled=True)
        return refused

    def renew(self, held: Ranges) -> Ranges:
        """Hold on to these, if the server says so; returns those that are ours no more. Raises Moved."""
        self.group.check()
        now = time.monotonic()
        lost = Ranges.of(offset for offset in held.offsets() if not self._has(offset, now))
        for offset in lost.offsets():
            self._until.pop(offset, None)
        self.group.held.take(lost)
        kept = [offset for offset in held.offsets() if offset in self._until]
        replies = self.group.held.replies_of(kept)
        if self._connection.run(
            say_in_progress(self._connection, replies, min(_RENEW_SECONDS, self._seconds / _PARTS))
        ):
            self._until.update(dict.fromkeys(kept, now + self._seconds))
        return lost

    def leave(self) -> None:
        """Let others have what is leased and not handled."""
        self._until.clear()
        self._connection.run(self._give_back(self.group.held.clear()))
        if self._again:
            self._give_up_again(self._again, is_handled=False)

    def is_gone(self) -> bool:
        """Whether the topic was removed. Asks nobody unless something is wrong."""
        return self._pull.failure is not None and self.group.is_topic_gone()

    # What the consumer gives us

    def _ask(self, count: int) -> list[tuple[bytes, str]]:
        """What there is now, at most so many messages. If a request is open there is no more than it has brought."""
        pull = self._pull
        is_open = pull.failure is None and pull.asked > 0  # before we look: what comes then is there to be taken
        if pull.count or is_open:
            return pull.take(_SIZE, count)
        if pull.failure is not None:
            self._recover()
        if time.monotonic() - self._looked > _FRESH_SECONDS:
            self._reach_to(self._info())
        self._asked = time.monotonic()
        pull.ask(count, at_once=True)
        messages: list[tuple[bytes, str]] = []
        while len(messages) < count and pull.wait(_ANSWER_SECONDS) and pull.count:
            messages += pull.take(_SIZE, count - len(messages))
        return messages

    def _rest(self, *, is_empty: bool) -> None:
        """Nothing is there: be told of what comes, and see how much others have, unless nothing can have changed."""
        is_open = self._pull.failure is None and self._pull.asked > 0
        if is_open and self._is_drained:
            return
        if is_empty and not is_open and self._pull.failure is None and not self._pull.count:
            self._asked = time.monotonic()
            self._pull.ask(1, seconds=self._seconds / _PARTS)
        self._look()

    def _lease(self, messages: list[tuple[bytes, str]], asked: float) -> list[tuple[bytes, str]]:
        """Hold these. Those that we did not have already: a server that was killed may forget what it has delivered."""
        if time.monotonic() >= asked + self._seconds:  # they have come too late, and come again
            return []
        offsets = [sequence - 1 for sequence in Block(messages).stream_seqs]
        new = [one for one, offset in zip(messages, offsets, strict=True) if not self._has(offset, asked)]
        self.group.held.add(offsets, [reply for _, reply in messages])
        self._until.update(dict.fromkeys(offsets, asked + self._seconds))
        return new

    def _lines_of(self, messages: list[tuple[bytes, str]]) -> list[bytes]:
        """The lines that are wanted; the others are handled."""
        block = Block(messages)
        self._reach(block)
        wanted = self._wants(block.lines(0, len(messages)))
        lines = [text + b"\n" for text in wanted.split(b"\n")[:-1]]
        if len(lines) < len(messages):
            unwanted = {sequence - 1 for sequence in block.stream_seqs}.difference(map(line.offset_of, lines))
            self.handle(Ranges.of(sorted(unwanted)))
        return lines

    def _reach(self, block: Block) -> None:
        """These were given to us; tell what was removed before them. Others may have been given what lies between.

        That is so if there were as many deliveries as there are events.
        """
        for sequence, count in sorted(zip(block.stream_seqs, block.consumer_seqs, strict=True)):
            if sequence - self._reached > max(1, count - self._reached_count) and self._reached:
                first = self.group.first_sequence()
                if self._reached + 1 < first:
                    self._tell_missed(self._reached, min(sequence, first) - 2)
            if sequence > self._reached:
                self._reached, self._reached_count = sequence, count
            else:  # once more
                self._reached_count += 1

    def _reach_to(self, info: ConsumerInfo) -> None:
        """The server says how far others have come."""
        if info.delivered > self._reached:
            self._reached, self._reached_count = info.delivered, info.delivered_count

    def _tell_missed(self, first: int, last: int) -> None:
        for low, high in self.group.unhandled(first, last):
            self._on_missed(low, high)

    def _has(self, offset: int, now: float) -> bool:
        return self._until.get(offset, float("-inf")) >= now or offset in self._again

    async def _give_back(self, replies: list[str]) -> None:
        """Ask for nothing more, and give back these and what has come and was not taken."""
        await self._pull.drain()
        for reply in replies + self._pull.replies():
            try:
                await self._connection.client.publish(reply, b"-NAK")
            except errors.Error:  # no connection: it comes again when its lease is over
                return

    def _recover(self) -> None:
        """Ask again, or raise what has happened."""
        if self._pull.failure == REFUSED:
            raise StorageError(self.group.topic, f"the server refuses what it is asked for: {self._pull.reason}")
        if self._pull.failure == DELETED:
            self.group.follow_removal(is_gone=self.is_gone())
        self._info()
        self._pull.restart()

    def _info(self) -> ConsumerInfo:
        """What the server says of the consumer. Raises Moved if it is gone, so that it is made anew."""
        info = self._connection.run(self.group.consumer.info())
        if info is None:
            self.group.follow_removal(is_gone=self.is_gone())
            raise AssertionError("what is removed is told of")
        self._looked = time.monotonic()
        return info

    # What there is for all

    def _look(self) -> None:
        """See how much is left, for us and for others."""
        info, record = self._connection.run(self._read())
        self._looked = time.monotonic()
        if info is not None:
            self._reach_to(info)
        others = {name: said for name, said in record.members.items() if _AGAIN in said and name != self.group.member}
        claimed = sum(Ranges.parse(said[_AGAIN]).count() for said in others.values())
        unhandled = info.pending + info.unacknowledged if info is not None else 0
        self._count = unhandled + record.again.count() + claimed + self._again.count()
        self._is_drained = self._count == 0
        if others and time.monotonic() - self._pruned > self._seconds:
            self._pruned = time.monotonic()
            self._connection.run(self._prune(others))

    async def _read(self) -> tuple[ConsumerInfo | None, Record]:
        group = self.group
        info, (record, _) = await asyncio.gather(group.consumer.info(), self._register.read(group.topic, group.name))
        return info, record

    # What is to come again

    def _take_again(self, limit: int) -> list[bytes]:
        """Take some of what is to come again; the lines of those that are there and wanted."""
        mine = self._connection.run(self._claim_again(limit))
        topic = NatsTopic(self._connection, self.group.topic)
        found = {offset: topic.line_at(offset) for offset in mine.offsets()}
        wanted = self._wants(b"".join(text for text in found.values() if text is not None))
        lines = [text + b"\n" for text in wanted.split(b"\n")[:-1]]
        done = Ranges(mine)
        for text in lines:
            offset = line.offset_of(text)
            done.remove(offset, offset)
        if done:
            self._give_up_again(done, is_handled=True)
        return lines

    async def _claim_again(self, limit: int) -> Ranges:
        """Put some of what is to come again down as ours."""
        mine = Ranges()

        def take(record: Record) -> bool:
            nonlocal mine
            said = record.members.get(self.group.member)
            if said is None:
                return False
            before = Ranges.parse(said.get(_AGAIN, ""))
            had = Ranges(before)
            had.subtract(self._again)
            mine = had or Ranges.of(offset for offset, _ in zip(record.again.offsets(), range(limit), strict=False))
            record.again.subtract(mine)
            before.update(mine)
            said[_AGAIN] = str(before)
            return bool(mine) and not had

        record = await self._register.update(self.group.topic, self.group.name, take)
        self._again.update(mine)
        self.group.state.again = Ranges(record.again)
        return mine

    def _give_up_again(self, offsets: Ranges, *, is_handled: bool) -> None:
        """These of what came again are ours no more."""
        ours = Ranges(self._again)
        self._again.subtract(offsets)
        ours.subtract(self._again)
        if ours:
            self._connection.run(self._put_down(ours, is_handled=is_handled))

    async def _put_down(self, offsets: Ranges, *, is_handled: bool) -> None:
        def put(record: Record) -> bool:
            said = record.members.get(self.group.member)
            if said is None or _AGAIN not in said:
                return False
            left = Ranges.parse(said[_AGAIN])
            left.subtract(offsets)
            said[_AGAIN] = str(left)
            if not left:
                del said[_AGAIN]
            if not is_handled:
                record.again.update(offsets)
            return True

        await self._register.update(self.group.topic, self.group.name, put)

    async def _prune(self, suspects: dict[str, Answer]) -> None:
        """Let what came again come once more, if the members that had taken it are gone."""
        group = self.group
        dead = await claim.gone(self._connection, group.topic, group.name, suspects)

        def drop(record: Record) -> bool:
            left = dead & record.members.keys()
            for name in left:
                claim.leave(record, name)
            return bool(left)

        await self._register.update(group.topic, group.name, drop)

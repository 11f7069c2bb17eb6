"""The events of a group for a process that has it alone: in order, each once, from the group's own consumer.

Its deliveries are numbered. If one is missing, or the connection was, the consumer is put back to what is committed and
delivers again; what we have had is then passed over, or acknowledged if it is handled. A number that comes twice means
that somebody else has put it back.
"""

from __future__ import annotations

import time

from evtool.errors import StorageError
from evtool.log import files, line
from evtool.log.offsets import MANUAL
from evtool.stores.nats.block import Block, end_before, removed
from evtool.stores.nats.message import place_of
from evtool.stores.nats.pull import DELETED, REFUSED, Pull
from evtool.stores.nats.survey import survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.stores.nats.group import NatsGroup

    Messages = list[tuple[bytes, str]]

CHUNK = 1 << 16
_STALL_SECONDS = 0.5  # nothing has come for so long although something should: see why
_PAUSE_SECONDS = 0.2  # between two attempts to begin anew


class GroupReader:
    """A cursor over what a group has yet to handle. `next_offset` is the least offset that the next line may have.

    group: acquired and joined, not shared. offset: where it has joined.
    on_missed: called with the first and the last offset of events that were removed before they were handled.
    """

    def __init__(self, group: NatsGroup, offset: int, on_missed: Callable[[int, int], None] | None = None) -> None:
        self.next_offset = offset
        self._group = group
        self._on_missed = on_missed
        self._taken = 0  # deliveries of the consumer, since it was put where it is
        self._pending = group.seat.pending  # what it has yet to deliver
        self._opened = time.monotonic()
        self._kept: tuple[int, bytes] | None = None  # lines taken and not given out, and the next offset behind them
        self._pull = self._new_pull()
        self._pull.start()
        if not self._pending:
            self._skip_removed()

    def read(self, limit: int = CHUNK) -> bytes:
        """The next lines, about `limit` bytes of them but at least one; empty at the end of what there is.

        Raises Moved, NotFoundError if topic or group are not there any more, Unanswered.
        """
        self._group.check()
        if self._kept is not None:
            (self.next_offset, lines), self._kept = self._kept, None
            return lines
        while True:
            if messages := self._pull.take(limit):
                if lines := self._lines_of(messages):
                    return lines
            elif self._pull.failure is not None:
                self._recover()
            elif self._pending == 0:
                return b""
            elif not self._pull.wait(_STALL_SECONDS):
                self._look()
            self._group.check()

    def send(self, out: int, until: int | None = None) -> int:
        """Write the next lines to the descriptor `out`; return how many bytes that were, 0 at the end of what there is.

        until: an offset not to reach.
        """
        lines = self.read()
        end = len(lines) if until is None else end_before(lines, until)
        if end < len(lines):
            self._kept = self.next_offset, lines[end:]
            self.next_offset = line.offset_of(lines[end : end + line.HEAD_LENGTH])
        files.write_all(out, lines[:end])
        return end

    def is_gone(self) -> bool:
        """Whether the topic was removed, or made anew, since. Asks nobody unless something is wrong."""
        return self._pull.failure is not None and self._group.is_topic_gone()

    def close(self) -> None:
        """Ask for nothing any more."""
        self._pull.close()

    def behind(self) -> int:
        """How many events there are, as far as we know, that are not handled."""
        return self._pending + self._pull.count + len(self._group.held)

    def waiting(self) -> list[str]:
        """Where that is acknowledged which has come and was not read yet."""
        return self._pull.replies()

    # Out of the consumer

    def _lines_of(self, messages: Messages) -> bytes:
        """The lines of what was delivered, as far as nothing is missing before it, and was not given out before."""
        block = Block(messages)
        first = self._taken + 1
        end = block.run_from(first)
        self._taken += end
        self._pending = block.pending
        lines = self._news_of(block, messages[:end]) if end else b""
        if end < len(messages):
            if block.consumer_seqs[end] < first + end:
                self._follow_consumer()
            else:
                self._restart()
        return lines

    def _news_of(self, block: Block, messages: Messages) -> bytes:
        """The lines of those that are new, which are held from now on."""
        sequences = block.stream_seqs[: len(messages)]
        is_all_new = self._is_all_new(sequences)
        if not is_all_new:
            messages = self._sort_out(messages, sequences)
        self._reach(sequences)
        if not messages:
            return b""
        group = self._group
        if not is_all_new:
            block = Block(messages)
        if group.mode != MANUAL:  # others say what is handled of it
            group.held.add([one - 1 for one in block.stream_seqs[: len(messages)]], [reply for _, reply in messages])
            group.mark = [sequences[-1] - 1, place_of(messages[-1][1]).time_ns]
        return block.lines(0, len(messages))

    def _is_all_new(self, sequences: list[int]) -> bool:
        """Whether none of these was given out or handled before."""
        handled = self._group.state.handled
        return sequences[0] > self.next_offset and (not handled or handled.end < sequences[0])

    def _sort_out(self, messages: Messages, sequences: list[int]) -> Messages:
        """Those that are new. Of the others those that are handled are acknowledged."""
        group, state = self._group, self._group.state
        committed = state.committed or 0
        new: Messages = []
        done: list[str] = []
        for (text, reply), sequence in zip(messages, sequences, strict=True):
            offset = sequence - 1
            if offset < committed or offset in state.handled:
                done.append(reply)
            elif offset >= self.next_offset:  # else it is held already
                new.append((text, reply))
        if group.acks is not None:
            group.acks.add(done)
        return new

    def _reach(self, sequences: list[int]) -> None:
        """All up to these was delivered; tell what is missing of it."""
        fresh = [sequence for sequence in sequences if sequence > self.next_offset]
        if fresh:
            if fresh[-1] - self.next_offset > len(fresh):
                self._tell_of_gaps(fresh)
            self.next_offset = fresh[-1]

    # What is not there

    def _tell_of_gaps(self, sequences: list[int]) -> None:
        """Some sequences before these are not there: tell which ones limits or a trim have taken."""
        first = self._group.first_sequence()
        for low, high in removed(sequences, self.next_offset, first):
            self._tell_missed(low, high)

    def _skip_removed(self) -> None:
        """There is nothing left: what there was is handled, or was removed."""
        first = self._group.first_sequence() - 1
        if first > self.next_offset:
            self._tell_missed(self.next_offset, first - 1)
            self.next_offset = first

    def _tell_missed(self, first: int, last: int) -> None:
        if self._on_missed is not None:
            for low, high in self._group.unhandled(first, last):
                self._on_missed(low, high)

    def _look(self) -> None:
        """Nothing has come for a while: see whether there is nothing after all, or the consumer is not what it was."""
        group = self._group
        found = group.connection.run(group.consumer.info())
        if found is None:
            self._group.follow_removal(is_gone=self.is_gone())
        elif found.delivered_count < self._taken:
            self._follow_consumer()
        elif found.delivered_count == self._taken and not found.pending and not self._pull.count:
            self._pending = 0
            self._skip_removed()

    # When something is wrong

    def _recover(self) -> None:
        """The pull has failed: begin anew, or raise what has happened."""
        if self._pull.failure == REFUSED:
            raise StorageError(self._group.topic, f"the server refuses what it is asked for: {self._pull.reason}")
        if self._pull.failure == DELETED:
            self._group.follow_removal(is_gone=self.is_gone())
        else:
            self._restart()

    def _follow_consumer(self) -> None:
        """The consumer is not where it was: raise Moved, unless its server has forgotten what it had delivered."""
        group = self._group
        group.connection.run(group.seat.look())
        group.check()
        if self._pull.failure is None:
            group.connection.run(group.seat.follow_consumer())
            group.check()
        self._restart()

    def _restart(self) -> None:
        """Have everything that is not handled delivered again, in order."""
        wait = self._opened + _PAUSE_SECONDS - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._opened = time.monotonic()
        self._group.connection.run(self._begin())
        self._group.check()

    async def _begin(self) -> None:
        group = self._group
        await self._pull.leave()
        if group.acks is not None:
            await group.acks.confirm()
        committed = group.state.committed or 0
        if group.mode == MANUAL:  # others commit
            found = await survey(group.connection, group.topic, group.name)
            committed = max(committed, found.committed or 0)
        pending = await group.seat.put_back(committed)
        if pending is None:
            return
        self._pending, self._taken = pending, 0
        self._pull = self._new_pull()
        await self._pull.open()

    def _new_pull(self) -> Pull:
        group = self._group
        return Pull(group.connection, group.consumer.stream, group.consumer.name, is_ordered=True)

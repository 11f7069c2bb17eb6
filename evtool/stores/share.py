"""Sharing a group: several processes take different events of a topic, each under leases that stand in the commit log.

A lease takes many events at once. An event is not leased while an earlier one with the same key is somebody else's, so
the order of a key holds across processes. A lease that is not renewed in time is free for others; what its holder says
of it then is refused.
"""

from __future__ import annotations

from evtool.log import line, offsets
from evtool.log.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.offsets import Commits, Member
    from evtool.log.reader import Reader
    from evtool.stores.group import FileGroup

_WINDOW = 8192  # unhandled events that one looks at, at most


class Share:
    """One member's part of a group that shares. The group is acquired so, and joined.

    reader: a cursor at what the group has committed. wants: which of some whole lines are wanted.
    line_at: the line with an offset, if there is one. seconds: how long a lease holds.
    """

    def __init__(
        self,
        group: FileGroup,
        reader: Reader,
        wants: Callable[[bytes], bytes],
        line_at: Callable[[int], bytes | None],
        seconds: float,
    ) -> None:
        self.group = group
        self.reader = reader
        self._wants = wants
        self._line_at = line_at
        self._seconds = seconds
        self._open: dict[int, tuple[bytes | None, bytes]] = {}  # unhandled events by offset, rising: key and line
        self._skipped = Ranges()  # what is not wanted, and gaps: not said yet
        self._read_to = reader.next_offset
        self._is_at_end = False

    @property
    def is_drained(self) -> bool:
        """Whether there was nothing left, for anybody, at the last look."""
        return self._is_at_end and not self._open

    @property
    def count(self) -> int:
        """How many unhandled events there were at the last look, ours and those of others."""
        return len(self._open)

    def is_gone(self) -> bool:
        """Whether the topic was removed."""
        return self.reader.is_gone()

    def take(self, limit: int) -> list[bytes]:
        """Lease some more events, at most so many, in order. Raises Moved."""
        with self.group.turn() as log:
            self.group.check_place(log)
            me = self._present(log)
            self._free_the_expired(log)
            self._look_over(log)
            chosen = self._choose(log, me, limit)
            while len(chosen) < limit and self._read(log):
                chosen += self._choose(log, me, limit - len(chosen), Ranges.of(chosen))
            if self._skipped:
                self.group.make_durable(self._skipped.end)
                log.handle(self._skipped)
                self._skipped = Ranges()
            if chosen:
                leased = {"member": me.name, "lease": str(Ranges.of(sorted(chosen))), "until": self._until()}
                assert log.committed is not None
                log.write(log.committed, leased)
            return [self._open[offset][1] for offset in chosen]

    def handle(self, handled: Ranges) -> Ranges:
        """Say that these are handled; return those of them that are ours no more and were refused. Raises Moved."""
        self.group.make_durable(handled.end)
        with self.group.turn() as log:
            self.group.check_place(log)
            me = log.state.members.get(self.group.member)
            refused = Ranges(handled)
            if me is not None:
                refused.subtract(me.leased)
            ours = Ranges(handled)
            ours.subtract(refused)
            if ours:
                log.handle(ours, {"member": self.group.member})
            return refused

    def renew(self, held: Ranges) -> Ranges:
        """Hold on to what we have; return those of these offsets that are ours no more. Raises Moved."""
        with self.group.turn() as log:
            self.group.check_place(log)
            me = log.state.members.get(self.group.member)
            lost = Ranges(held)
            if me is not None:
                lost.subtract(me.leased)
                assert log.committed is not None
                log.write(log.committed, {"member": me.name, "until": self._until()})
            return lost

    def leave(self) -> None:
        """Let others have what is leased and not handled."""
        with self.group.turn() as log:
            if self.group.member in log.state.members:
                assert log.committed is not None
                log.write(log.committed, {"member": self.group.member, "gone": "1"})

    # Within a turn

    def _until(self) -> str:
        return offsets.after(self._seconds)

    def _present(self, log: Commits) -> Member:
        """Ourselves among the members; anew if we were given up."""
        if self.group.member not in log.state.members:
            assert log.committed is not None
            log.write(log.committed, self.group.introduction | {"until": self._until()})
        return log.state.members[self.group.member]

    def _free_the_expired(self, log: Commits) -> None:
        for member in list(log.state.members.values()):
            if member.name != self.group.member and member.mode == offsets.SHARED and member.has_expired():
                assert log.committed is not None
                log.write(log.committed, {"member": member.name, "gone": "1"})

    def _look_over(self, log: Commits) -> None:
        """Forget what was handled meanwhile, and take in what is to come again."""
        state = log.state
        assert state.committed is not None
        committed, handled, again = state.committed, state.handled, state.again
        done = [offset for offset in self._open if (offset < committed and offset not in again) or offset in handled]
        for offset in done:
            del self._open[offset]
        new = [offset for offset in again.offsets() if offset not in self._open]
        if new:
            found = {offset: self._line_at(offset) for offset in new}
            for offset in [offset for offset, text in found.items() if text is None]:
                self._skipped.add(offset, offset)
            come = {offset: (line.key_of(text), text) for offset, text in found.items() if text is not None}
            self._open = dict(sorted((come | self._open).items()))

    def _choose(self, log: Commits, me: Member, limit: int, taken: Ranges | None = None) -> list[int]:
        """Offsets, at most so many, that nobody has and of whose keys nobody else has an earlier one."""
        others = Ranges()
        for member in log.state.members.values():
            if member is not me:
                others.update(member.leased)
        blocked: set[bytes] = set()
        chosen = []
        for offset, (key, _) in self._open.items():
            if offset in others:
                if key is not None:
                    blocked.add(key)
            elif key not in blocked and offset not in me.leased and (taken is None or offset not in taken):
                chosen.append(offset)
                if len(chosen) == limit:
                    break
        return chosen

    def _read(self, log: Commits) -> bool:
        """Read on; say whether there was something."""
        if len(self._open) >= _WINDOW:
            return False
        lines = self.reader.read()
        self._is_at_end = not lines
        if not lines:
            return False
        handled = log.state.handled
        committed = log.committed or 0
        read_to, self._read_to = self._read_to, self.reader.next_offset
        between = Ranges([(read_to, self._read_to - 1)])
        for text in self._wants(lines).split(b"\n")[:-1]:
            offset = line.offset_of(text)
            between.remove(offset, offset)
            if offset >= committed and offset not in handled:
                self._open[offset] = (line.key_of(text), text + b"\n")
        between.subtract(handled)
        self._skipped.update(between)
        return True

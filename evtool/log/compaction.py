"""Compaction: of the events of each key only the newest stays, while producers and readers go on.

Sealed segments are gone through from the newest to the oldest. One in which something is superseded is written anew
beside itself, without that, and put in the place of the old one: whoever reads the old one goes on reading it. What
stays, stays byte for byte where it was in the order. A kill leaves each segment as it was or as it is to be, and either
is right, as the newest event of a key is in all of them.

A null that deletes its key has to outlast what it deletes, so it goes in a second round, when that is gone. What
supersedes has to outlast a power cut, so nothing counts that was not synced.
"""

from __future__ import annotations

import os
import time

from evtool.errors import BusyError, CorruptionError, EvtoolError
from evtool.log import check, files, keys, line, names, sealing, seals
from evtool.log.keys import KEYLESS, NEWEST, OLDER, Keys
from evtool.log.lock import lock, unlock
from evtool.log.picked import Picked
from evtool.log.seals import Seals, SealsFile
from evtool.log.segment import Segment, segment_offsets
from evtool.log.topic import LOCK_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evtool.log.files import Directory

TURN_NAME = sealing.COMPACT_TURN_NAME
SUFFIX = ".compacted"
_PATIENCE = 0.5  # seconds to wait for who only tidies up
_PACE = 4 << 20  # sync at least every so many bytes, so that nobody who appends has to wait for much to be written


class Compaction:
    """What a compaction did, or would do.

    events, size: how many there were before in the sealed segments, of bytes too. removed, freed: what of that went.
    rewritten, dropped: how many segments were written anew, or went whole.
    """

    __slots__ = ("dropped", "events", "freed", "removed", "rewritten", "size")

    def __init__(self) -> None:
        self.events = self.size = self.removed = self.freed = self.rewritten = self.dropped = 0


class Policy:
    """What stays though it is superseded, and what goes though it is not.

    nulls_before: a null that deletes a key may go if its time (27 bytes) is before this.
    ids_since: an event with an id stays if its time is not before this, or the event could be stored once more.
    """

    def __init__(self, nulls_before: bytes, ids_since: bytes) -> None:
        self.nulls_before = nulls_before
        self._ids_since = ids_since

    @classmethod
    def of(cls, grace: float, dedupe: float) -> Policy:
        """The policy by which, as of now, nulls stay for so many seconds, and events with an id for so many."""
        now = time.time_ns()
        return cls(*(line.stamp(max(0, now - int(seconds * 1e9))) for seconds in (grace, dedupe)))

    def keeps(self, text: bytes) -> bool:
        """Whether a superseded event stays for its id. From then on no null goes that could supersede it."""
        if b'"id":' not in text or line.time_of(text) < self._ids_since or "id" not in line.attributes(text):
            return False
        self.nulls_before = min(self.nulls_before, self._ids_since)
        return True

    def buries(self, text: bytes) -> bool:
        """Whether a null may go, once all is gone that it deletes."""
        return keys.deletes(text) and line.time_of(text) < self.nulls_before


def active_of(topic: Directory) -> tuple[int, int]:
    """First offset of the active segment, and how many bytes of whole lines it has, for a look that changes nothing."""
    first = max(segment_offsets(topic), default=0)
    try:
        segment = Segment(topic, first)
    except FileNotFoundError:
        return first, 0
    return first, segment.end_of_lines(segment.size())


def compact(
    topic: Directory,
    active: tuple[int, int],
    policy: Policy,
    progress: Callable[[int], None] | None = None,
    *,
    before: int | None = None,
    dry_run: bool = False,
    most_keys: int = keys.MOST,
) -> Compaction:
    """Remove what is superseded from the sealed segments of a topic, or say what would go.

    active: first offset of the active segment, and how many of its bytes are known to be on disk.
    progress: called with the number of bytes that were looked at, again and again.
    before: an offset; what stands at or behind it neither supersedes nor goes.

    Raises BusyError if another process is at it, CorruptionError for a damaged segment (which is not touched),
    StorageError if there is no space to write one anew.
    """
    if dry_run:
        return _Round(topic, active, policy, before, dry_run, progress).run(most_keys)
    fd = topic.open(TURN_NAME, os.O_RDWR | os.O_CREAT)
    try:
        name = topic.path.rpartition("/")[2]
        try:
            lock(fd, name, timeout=_PATIENCE)
        except BusyError as error:
            raise BusyError(name, "another process compacts it", pid=error.pid, hint="let that one end") from None
        return _Round(topic, active, policy, before, dry_run, progress).run(most_keys)
    finally:
        os.close(fd)


class _Round:
    """The way through the segments of a topic, as they are when it begins."""

    def __init__(
        self,
        topic: Directory,
        active: tuple[int, int],
        policy: Policy,
        before: int | None,
        dry_run: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._topic = topic
        self._active, self._active_end = active
        self._policy = policy
        self._before = 1 << 62 if before is None else before
        self._dry_run = dry_run
        self._progress = progress or (lambda _: None)
        self._sealed = [first for first in segment_offsets(topic) if first < self._active]
        self._with_nulls: set[int] = set()
        self._nulls: list[tuple[bytes, int]] = []  # time and length of those that a dry run comes by
        self._rewritten: set[int] = set()
        self._dropped: set[int] = set()
        self.found = Compaction()

    def run(self, most_keys: int) -> Compaction:
        """Go through all segments for each part of the keys, which is once unless there are very many."""
        if not self._dry_run:
            self._remove_unfinished()
            sealing.retire_replaced(self._topic)
        parts = [(1, 0)]
        is_first = True
        while parts:
            modulus, rest = parts.pop()
            seen = Keys(None if self._dry_run else most_keys, (modulus, rest))
            self._look_at_all(seen, is_first)
            is_first = False
            while modulus < seen.modulus:
                parts.append((2 * modulus, rest + modulus))
                modulus *= 2
        if self._dry_run:
            self._count_nulls()
        else:
            self._topic.sync()
            for first in sorted(self._with_nulls):
                self._bury(first)
            self._topic.sync()
        self.found.rewritten, self.found.dropped = len(self._rewritten), len(self._dropped)
        return self.found

    def _remove_unfinished(self) -> None:
        """Remove what a compaction that was killed has left; nothing of it was ever in the log."""
        for name in self._topic.names():
            if name.endswith(names.SEGMENT_SUFFIX + SUFFIX):
                os.unlink(name, dir_fd=self._topic.fd)

    def _look_at_all(self, seen: Keys, is_first: bool) -> None:
        if self._active_end:
            active = Segment(self._topic, self._active)
            for _, _, known in keys.backwards(active, active.find_offset(self._active_end, self._before)):
                seen.look(known)
        for first in reversed(self._sealed):
            try:
                segment = Segment(self._topic, first)
            except FileNotFoundError:  # trimmed, or all of it was superseded
                continue
            kept, count = self._look_at(segment, seen)
            if is_first:
                self.found.events += count
                self.found.size += segment.size()
            self._keep_only(segment, kept, count)

    def _look_at(self, segment: Segment, seen: Keys) -> tuple[Picked, int]:
        """What stays of a segment, and how many events it has."""
        kept, count, end = self._keep_behind(segment)
        for start, lines, known in keys.backwards(segment, end):
            flags = seen.look(known)
            self._judge(segment, lines, flags)
            kept.add(start, lines, flags)
            count += len(lines)
            self._progress(sum(map(len, lines)) + len(lines))
        return kept, count

    def _keep_behind(self, segment: Segment) -> tuple[Picked, int, int]:
        """All that a segment has behind the place up to which is compacted, how many that are, and the place."""
        kept = Picked(segment)
        end = segment.find_offset(segment.size(), self._before)
        for start, lines, _ in keys.backwards(segment, segment.size(), end):
            kept.add(start, lines, bytearray([KEYLESS]) * len(lines))
        return kept, kept.count, end

    def _judge(self, segment: Segment, lines: list[bytes], flags: bytearray) -> None:
        """Let what is superseded stay if the policy keeps it; remember where nulls are that may go later."""
        policy = self._policy
        at = flags.find(OLDER)
        while at >= 0:
            if policy.keeps(lines[at]):
                flags[at] = KEYLESS
            at = flags.find(OLDER, at + 1)
        for flag, text in zip(flags, lines, strict=True):
            if flag == NEWEST and policy.buries(text):
                self._with_nulls.add(segment.first)
                if self._dry_run:
                    self._nulls.append((line.time_of(text), len(text) + 1))

    def _count_nulls(self) -> None:
        """Count the nulls that would go, now that it is known which may."""
        going = [length for moment, length in self._nulls if moment < self._policy.nulls_before]
        self.found.removed += len(going)
        self.found.freed += sum(going)

    def _bury(self, first: int) -> None:
        """Take the nulls out of a segment that may go, as all that they delete is gone."""
        try:
            segment = Segment(self._topic, first)
        except FileNotFoundError:
            return
        kept, count, end = self._keep_behind(segment)
        for start, lines, known in keys.backwards(segment, end):
            flags = bytearray(
                OLDER if key and self._policy.buries(text) else NEWEST for key, text in zip(known, lines, strict=True)
            )
            kept.add(start, lines, flags)
            count += len(lines)
        self._keep_only(segment, kept, count)

    def _keep_only(self, segment: Segment, kept: Picked, count: int) -> None:
        gone = count - kept.count
        if not gone:
            return
        self.found.removed += gone
        self.found.freed += segment.size() - kept.size
        (self._rewritten if kept.count else self._dropped).add(segment.first)
        if self._dry_run:
            return
        self._check(segment)
        if kept.count:
            self._write_anew(segment, kept)
        else:
            self._rewritten.discard(segment.first)
            self._drop(segment)

    def _check(self, segment: Segment) -> None:
        """Raise CorruptionError if a segment is not as it was: what is written anew must not vouch for damage.

        One that has no seal yet gets it, so that a kill finds either file with a seal that fits.
        """
        known = Seals(self._topic, checked=False)
        found, digests = seals.digest(segment), known.digests.get(segment.first)
        if not (found in digests if digests else not check.has_problem(segment, known.gaps)):
            hint = f"see evtool verify {self._topic.path.rpartition('/')[2]}"
            raise CorruptionError(segment.path, 0, "it is not as it was when it was written", hint=hint)
        if found not in known.live.get(segment.first, ()):
            with SealsFile(self._topic) as file:
                file.add(segment.first, found)

    def _drop(self, segment: Segment) -> None:
        """Remove a segment of which all events are superseded. The chain of seals says so, durably, before that."""
        last = line.offset_of(segment.last_line(segment.size())[1])
        with SealsFile(self._topic) as file:
            file.add_gap(segment.first, last)
            file.retire([segment.first])
            file.sync()
        name = names.segment_name(segment.first)
        self._while_in_place(segment, lambda: os.unlink(name, dir_fd=self._topic.fd))
        seals.retire(self._topic, [segment.first])  # somebody may have sealed it once more before it was gone

    def _write_anew(self, segment: Segment, kept: Picked) -> None:
        name = names.segment_name(segment.first)
        digest = self._write(name + SUFFIX, kept.blocks())
        try:
            with SealsFile(self._topic) as file:
                file.add(segment.first, digest)
                file.sync()
        except EvtoolError:
            os.unlink(name + SUFFIX, dir_fd=self._topic.fd)
            raise
        is_done = self._while_in_place(segment, lambda: self._topic.rename(name + SUFFIX, name))
        if not is_done:
            os.unlink(name + SUFFIX, dir_fd=self._topic.fd)
        self._topic.sync()
        with SealsFile(self._topic) as file:
            if is_done:
                file.retire([segment.first], but=digest)
            else:
                file.retire([segment.first], only=digest if name in self._topic.names() else None)

    def _write(self, name: str, blocks: Iterator[bytes]) -> str:
        """Write a file, durably, and return its SHA-256."""
        from hashlib import sha256

        hashed = sha256()
        fd = self._topic.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            unsynced = 0
            for block in blocks:
                files.write_all(fd, block)
                hashed.update(block)
                unsynced += len(block)
                if unsynced >= _PACE:
                    files.sync_data(fd)
                    unsynced = 0
            os.fchmod(fd, files.SEALED_MODE)
            os.fsync(fd)
        except OSError as error:
            os.unlink(name, dir_fd=self._topic.fd)
            self._topic.fail(name, error)
        finally:
            os.close(fd)
        return hashed.hexdigest()

    def _while_in_place(self, segment: Segment, do: Callable[[], None]) -> bool:
        """Do something while nobody else changes the topic, if the segment was not trimmed or repaired meanwhile."""
        fd = self._topic.open(LOCK_NAME, os.O_RDWR | os.O_CREAT)
        try:
            lock(fd, self._topic.path)
            if segment.is_gone():
                return False
            do()
            return True
        finally:
            unlock(fd)
            os.close(fd)

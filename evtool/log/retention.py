"""Dropping events that are not wanted any more: those that every group has handled, are too old, or too many.

Only whole segments go, the oldest first, and never the active one.
"""

from __future__ import annotations

import itertools
import os
import time
from bisect import bisect_left

from evtool.errors import CorruptionError
from evtool.log import clock, files, names, offsets, seals
from evtool.log.bounds import Bounds, offset_at
from evtool.log.lock import is_locked, lock, unlock
from evtool.log.segment import Segment
from evtool.log.settings import CONSUMED, load
from evtool.log.topic import LOCK_NAME, segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory
    from evtool.log.settings import Settings

_HOLD_SECONDS = 0.004  # so long appenders may have to wait for a piece of the work
_MOST_AT_ONCE = 200  # segments, which are open for a moment
_REST_SECONDS = 0.0005  # for whoever waits for the lock


class Trimming:
    """What a trim takes away: all events from offset `first` to `end` - 1, which are `segments` of `size` bytes."""

    __slots__ = ("end", "first", "segments", "size")

    def __init__(self, first: int) -> None:
        self.first = self.end = first
        self.segments = 0
        self.size = 0

    @property
    def count(self) -> int:
        """How many events that are, if none were compacted away."""
        return self.end - self.first


def surplus(topic: Directory, settings: Settings) -> int:
    """The least offset that the limits in the settings let a topic keep; 0 if they let it keep all."""
    bounds = Bounds(topic)
    wanted = 0
    if settings.max_events is not None and bounds.next - bounds.first > settings.max_events:
        wanted = max(wanted, _first_with(topic, settings.max_events, bounds.next))
    if settings.max_bytes is not None:
        wanted = max(wanted, _first_within(topic, settings.max_bytes, bounds.size))
    if settings.max_age is not None:
        moment = clock.cutoff(topic, settings.max_age, bounds.last_time)
        if moment is not None:
            wanted = max(wanted, offset_at(topic, moment))
    return wanted


def _first_with(topic: Directory, least: int, end: int) -> int:
    """The first offset of the latest segment from which on a topic, whose next offset is `end`, has so many events."""
    firsts = segment_offsets(topic)
    holes = seals.removed_or_remade(topic, firsts[0] if firsts else 0)
    for first in reversed(firsts):
        has_all = bisect_left(holes, first) == bisect_left(holes, end)
        least -= end - first if has_all else _count(topic, first)
        if least <= 0:
            return first
        end = first
    return firsts[0] if firsts else 0


def _count(topic: Directory, first: int) -> int:
    try:
        segment = Segment(topic, first)
    except FileNotFoundError:  # trimmed in this moment
        return 0
    size = segment.size()
    return segment.count_back(size, size)[1]


def _first_within(topic: Directory, most: int, size: int) -> int:
    """The first offset from which on a topic of `size` bytes has at most so many bytes, or just its active segment."""
    firsts = segment_offsets(topic)
    for first in firsts[:-1]:
        if size <= most:
            return first
        size -= _size(topic, first)
    return firsts[-1] if firsts else 0


def plan(topic: Directory, before: int) -> Trimming:
    """What a trim of all before the offset `before` would take away."""
    firsts = segment_offsets(topic)
    found = Trimming(firsts[0] if firsts else 0)
    for first, following in itertools.pairwise(firsts):
        if following > before or not _is_sealed(topic, first):
            break
        found.end = following
        found.segments += 1
        found.size += _size(topic, first)
    return found


def trim(topic: Directory, before: int) -> Trimming:
    """Remove the segments of which all events lie before the offset `before`; say what that was.

    It needs no space. The topic's lock is held for a few milliseconds at a time.
    """
    found = plan(topic, before)
    if found.segments:
        going = _segments_before(topic, found.end)
        all_going = going.copy()
        seals.retire(topic, all_going)
        fd = topic.open(LOCK_NAME, os.O_RDWR | os.O_CREAT)
        try:
            while going:
                lock(fd, topic.path)
                try:
                    removed = _remove(topic, going)
                finally:
                    unlock(fd)
                removed.clear()
                if going:
                    time.sleep(_REST_SECONDS)
        finally:
            os.close(fd)
        topic.sync()
        seals.retire(topic, all_going)  # somebody may have sealed one once more before it was gone
    return found


def enforce(topic: Directory, settings: Settings) -> list[Segment]:
    """Trim what the limits do not let the topic keep, or the first part of it. The topic's lock must be held.

    Returns the segments that were removed, to be closed when it is not held any more.
    """
    going = _segments_before(topic, plan(topic, surplus(topic, settings)).end)
    seals.retire(topic, going)
    removed = _remove(topic, going)
    seals.retire(topic, [segment.first for segment in removed])
    return removed


def losers(topic: Directory, before: int) -> dict[str, int]:
    """The groups that have not handled all before the offset `before`, and how many events each would lose."""
    try:
        consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
    except FileNotFoundError:
        return {}
    earliest = min(segment_offsets(topic), default=0)
    found = {}
    for group in offsets.group_names(consumers):
        try:
            commits = offsets.read_commits(consumers, group)
        except CorruptionError:  # nobody knows what it has handled
            found[group] = before - earliest
            continue
        if not commits:
            continue
        state = offsets.state_of(commits)
        start = max(state.committed or 0, earliest)
        above = sum(max(0, min(last + 1, before) - max(low, start)) for low, last in state.handled)
        again = sum(max(0, min(last + 1, before) - max(low, earliest)) for low, last in state.again)
        count = max(0, before - start) - above + again
        if count > 0:
            found[group] = count
    return found


def drop_consumed(topic: Directory) -> int:
    """Remove the sealed segments that every group has handled; return how many. A topic that keeps all loses nothing.

    A group that nobody serves and that has committed nothing for longer than the topic's `group-ttl` holds nothing
    back. Without a group nothing is removed: there may be one tomorrow that wants it.
    """
    settings = load(topic)
    if settings.retention != CONSUMED:
        return 0
    needed = _needed_from(topic, settings.group_ttl)
    if needed is None:
        return 0
    return trim(topic, needed).segments


def has_lapsed(topic: Directory, group: str) -> bool:
    """Whether a group has been away for so long that it held nothing back any more."""
    settings = load(topic)
    if settings.retention != CONSUMED:
        return False
    known = offsets.read_commits(topic.subdirectory(offsets.DIRECTORY_NAME), group)
    cutoff = clock.cutoff(topic, settings.group_ttl)
    return bool(known) and cutoff is not None and known[-1].time < cutoff


def _needed_from(topic: Directory, group_ttl: float) -> int | None:
    """The first offset that some group may still want; None if there is no group that counts."""
    try:
        consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
    except FileNotFoundError:
        return None
    needed = None
    cutoff = clock.cutoff(topic, group_ttl)
    for group in offsets.group_names(consumers):
        commits = offsets.read_commits(consumers, group)
        has_lapsed = bool(commits) and cutoff is not None and commits[-1].time < cutoff
        if not commits or (has_lapsed and not _is_served(consumers, group)):
            continue
        state = offsets.state_of(commits)
        first = min([state.committed or 0, *(low for low, _ in state.again)])
        needed = first if needed is None else min(needed, first)
    return needed


def _is_served(consumers: Directory, group: str) -> bool:
    """Whether a process consumes for the group: one that waits for events commits nothing."""
    try:
        fd = consumers.open(names.group_lock_name(group), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return is_locked(fd)
    finally:
        os.close(fd)


def _segments_before(topic: Directory, end: int) -> list[int]:
    """The first offsets below `end` of a topic's segments, falling."""
    return [first for first in reversed(segment_offsets(topic)) if first < end]


def _remove(topic: Directory, going: list[int]) -> list[Segment]:
    """Take the last ones of these segments off the list and out of the log, for a few milliseconds.

    They are returned open: it is the closing that frees their space, which may take a disk longer than anybody should
    have to wait for the lock.
    """
    removed: list[Segment] = []
    deadline = time.monotonic() + _HOLD_SECONDS
    while going and len(removed) < _MOST_AT_ONCE and time.monotonic() < deadline:
        first = going.pop()
        try:
            removed.append(Segment(topic, first))
            os.unlink(names.segment_name(first), dir_fd=topic.fd)
        except FileNotFoundError:  # another one was faster
            continue
        except OSError as error:
            topic.fail(names.segment_name(first), error)
    return removed


def _is_sealed(topic: Directory, first: int) -> bool:
    try:
        mode = os.lstat(names.segment_name(first), dir_fd=topic.fd).st_mode
    except FileNotFoundError:
        return True
    return not mode & files.WRITABLE


def _size(topic: Directory, first: int) -> int:
    try:
        return os.lstat(names.segment_name(first), dir_fd=topic.fd).st_size
    except FileNotFoundError:  # trimmed in this moment
        return 0

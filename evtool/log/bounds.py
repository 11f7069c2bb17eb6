"""Where a topic begins and ends, and which offset stands at a moment or so many events before the end, lock-free."""

from __future__ import annotations

import os

from evtool.log import line, names
from evtool.log.segment import Segment
from evtool.log.topic import segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from evtool.log.files import Directory

    T = TypeVar("T")


class Bounds:
    """What the names, the sizes and the last line of a topic's segments tell.

    first: the offset of the earliest event that is left (the next one's if there is none).
    next: the offset that the next event will get.
    size: bytes of all segments.
    last_time: the time of the newest event (27 bytes), or None.
    """

    __slots__ = ("_directory", "_firsts", "first", "last_time", "next")

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        _while_it_changes(directory, self._look)

    @property
    def count(self) -> int:
        """How many events there are, if none were compacted away."""
        return self.next - self.first

    @property
    def size(self) -> int:
        return sum(_size(self._directory, first) for first in self._firsts)

    def _look(self, directory: Directory) -> None:
        self._firsts = firsts = segment_offsets(directory)
        self.first = firsts[0] if firsts else 0
        self.next = firsts[-1] if firsts else 0
        self.last_time: bytes | None = None
        for first in reversed(firsts):
            segment = Segment(directory, first)
            end = segment.end_of_lines(segment.size())
            if end:
                start = segment.last_line(end)[0]
                self.next = max(self.next, _offset_in(segment, start) + 1)
                self.last_time = _time_in(segment, start)
                return


def _while_it_changes(directory: Directory, look: Callable[[Directory], T]) -> T:
    """What the look finds; it looks again if a segment that it saw was trimmed, or compacted away, meanwhile."""
    while True:
        try:
            return look(directory)
        except FileNotFoundError:
            if directory.is_gone():
                raise


def _size(directory: Directory, first: int) -> int:
    try:
        return os.lstat(names.segment_name(first), dir_fd=directory.fd).st_size
    except FileNotFoundError:  # trimmed in this moment
        return 0


def next_offset(directory: Directory) -> int:
    """The offset that the next event will get."""
    return Bounds(directory).next


def first_offset(directory: Directory) -> int:
    """The offset of the earliest event that is left."""
    return min(segment_offsets(directory), default=0)


def offset_at(directory: Directory, moment: bytes) -> int:
    """The offset of the first event at or after `moment` (27 bytes); the next event's if none is."""
    return _while_it_changes(directory, lambda topic: _offset_at(topic, moment))


def _offset_at(directory: Directory, moment: bytes) -> int:
    firsts = segment_offsets(directory)
    if not firsts:
        return 0
    low, high = 0, len(firsts)  # the segments before `low` + 1 begin too early, those from `high` on do not
    while high - low > 1:
        middle = (low + high) // 2
        segment = Segment(directory, firsts[middle])
        if segment.first_head() and _time_in(segment, 0) < moment:
            low = middle
        else:
            high = middle
    segment = Segment(directory, firsts[low])
    end = segment.end_of_lines(segment.size())
    position = segment.find_time(end, moment)
    if position < end:
        return _offset_in(segment, position)
    if high < len(firsts):
        return firsts[high]
    return _offset_in(segment, segment.last_line(end)[0]) + 1 if end else segment.first


def offset_back(directory: Directory, count: int) -> int:
    """The offset of the event that is `count` events before the end, or of the earliest one if there are fewer."""
    return (
        next_offset(directory) if count == 0 else _while_it_changes(directory, lambda topic: _offset_back(topic, count))
    )


def _offset_back(directory: Directory, count: int) -> int:
    for first in reversed(segment_offsets(directory)):
        segment = Segment(directory, first)
        position, found = segment.count_back(segment.end_of_lines(segment.size()), count)
        if found == count:
            return _offset_in(segment, position)
        count -= found
    return first_offset(directory)


def time_at(directory: Directory, offset: int) -> bytes | None:
    """The time of the first event with this offset or a higher one, or None."""
    found = event_at(directory, offset)
    return None if found is None else found[1]


def event_at(directory: Directory, offset: int) -> tuple[int, bytes] | None:
    """Offset and time of the first event with this offset or a higher one, or None."""
    return _while_it_changes(directory, lambda topic: _event_at(topic, offset))


def _event_at(directory: Directory, offset: int) -> tuple[int, bytes] | None:
    firsts = segment_offsets(directory)
    at_or_below = [first for first in firsts if first <= offset]
    for first in at_or_below[-1:] + [first for first in firsts if first > offset]:
        segment = Segment(directory, first)
        end = segment.end_of_lines(segment.size())
        position = segment.find_offset(end, offset)
        if position < end:
            return _offset_in(segment, position), _time_in(segment, position)
    return None


def _offset_in(segment: Segment, position: int) -> int:
    try:
        return line.offset_of(os.pread(segment.fd, line.HEAD_LENGTH, position))
    except ValueError as error:
        raise segment.damaged(position) from error


def _time_in(segment: Segment, position: int) -> bytes:
    try:
        return line.time_of(os.pread(segment.fd, line.HEAD_LENGTH, position))
    except ValueError as error:
        raise segment.damaged(position) from error

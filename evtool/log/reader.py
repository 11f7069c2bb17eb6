"""The read side of a topic: a cursor over its lines, from segment to segment, that takes no lock.

It gives out complete lines only and keeps none of the bytes behind the last newline from one read to the next, since a
torn line may be cut and another be written in its place.
"""

from __future__ import annotations

import errno
import os

from evtool.log import files, line
from evtool.log.segment import Segment
from evtool.log.topic import segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.files import Directory

CHUNK = 1 << 16  # more would come from and go back to the system each time, page by page, which takes twice as long
_LARGEST_SEND = 1 << 24


class Reader:
    """A cursor over one topic. `next_offset` is the least offset that the next line may have.

    directory: the topic's directory.
    offset: where to begin.
    on_missed: called with the first and the last offset of events that were trimmed away before they were read.
    """

    __slots__ = ("_is_newest", "_on_missed", "_position", "_segment", "directory", "next_offset")

    def __init__(self, directory: Directory, offset: int, on_missed: Callable[[int, int], None] | None = None) -> None:
        self.directory = directory
        self.next_offset = offset
        self._on_missed = on_missed
        self._segment: Segment | None = None
        self._position = 0
        self._is_newest = False  # whether the segment was the last one when we looked

    def is_gone(self) -> bool:
        """Whether the topic was removed."""
        return self.directory.is_gone()

    def read(self, limit: int = CHUNK) -> bytes:
        """The next lines, about `limit` bytes of them but at least one; empty at the end of the log."""
        while True:
            segment = self._segment
            if segment is None:
                if not self._open_first():
                    return b""
                continue
            block = os.pread(segment.fd, limit, self._position)
            end = block.rfind(b"\n") + 1
            if end:
                lines = block if end == len(block) else block[:end]
                self._advance(segment, self._position + end, lines)
                return lines
            if len(block) == limit:
                limit *= 2
            elif not self._open_following(segment):
                return b""

    def send(self, out: int, until: int | None = None) -> int:
        """Copy the next lines to the descriptor `out` without looking at them; return how many bytes that were.

        0 means the end of the log. `until`: an offset not to reach. Raises OSError if `out` takes no more; what it
        took whole is then behind the cursor.
        """
        segment = self._at_lines()
        if segment is None:
            return 0
        end = segment.end_of_lines(segment.size())
        if until is not None:
            end = segment.find_offset(end, until)
        limit = min(end, self._position + _LARGEST_SEND)
        whole = segment.end_of_lines(limit) if limit > self._position else limit
        if whole <= self._position < end:  # one line longer than that
            whole = segment.next_start(self._position + 1, end)
        return self._send_range(segment, out, whole)

    def _send_range(self, segment: Segment, out: int, end: int) -> int:
        start = position = self._position
        try:
            while position < end:
                position += _copy(segment.fd, out, position, end - position)
        finally:
            whole = segment.end_of_lines(position)
            if whole > start:
                self._advance(segment, whole, segment.last_line(whole)[1])
        return position - start

    def _advance(self, segment: Segment, position: int, lines: bytes) -> None:
        start = lines.rfind(b"\n", 0, -1) + 1
        try:
            self.next_offset = line.offset_of(lines[start : start + line.HEAD_LENGTH]) + 1
        except ValueError as error:
            raise segment.damaged(position - len(lines) + start) from error
        self._position = position

    def _at_lines(self) -> Segment | None:
        """The segment in which there is at least one line at the cursor, or None at the end of the log."""
        while True:
            segment = self._segment
            if segment is None:
                if not self._open_first():
                    return None
                continue
            size = segment.size()
            if size > self._position and segment.end_of_lines(size) > self._position:
                return segment
            if not self._open_following(segment):
                return None

    def _open_first(self) -> bool:
        """Go to the line with `next_offset`, or the first one behind it."""
        firsts = segment_offsets(self.directory)
        if not firsts:
            return False
        first = max((first for first in firsts if first <= self.next_offset), default=firsts[0])
        return self._open(first, is_loss=True)

    def _open_following(self, segment: Segment) -> bool:
        """Go on from the end of `segment` to the next one; say whether there is one, or more in this one after all."""
        if self._is_newest and segment.is_active():  # it is sealed before there is a next one
            return False
        firsts = segment_offsets(self.directory)
        following = min((first for first in firsts if first > segment.first), default=None)
        is_gone = segment.is_gone()
        if is_gone and firsts and (following is None or segment.first in firsts):
            self._segment = None  # another file has its name, or the topic was made anew
            return True
        if following is None:
            self._is_newest = True
            return False
        size = segment.size()
        if size > self._position and segment.end_of_lines(size) > self._position:
            return True  # written between our looking at the file and at the directory
        is_loss = following == min(firsts) if is_gone else not self._is_known_hole(segment, following)
        return self._open(following, is_loss=is_loss)

    def _is_known_hole(self, segment: Segment, following: int) -> bool:
        """Whether nothing is missing between a segment and the next, or what is was superseded, or noted as lost."""
        if following <= self.next_offset:
            return True
        from evtool.log.seals import Seals

        known = Seals(self.directory, checked=False)
        return segment.first in known.remade or known.unexplained(self.next_offset, following) is None

    def _open(self, first: int, *, is_loss: bool) -> bool:
        """Go to a segment. is_loss: whether offsets that are missing before it were trimmed, or lost, which is told."""
        try:
            segment = Segment(self.directory, first)
        except FileNotFoundError:  # trimmed in this moment: look again
            self._segment = None
            return True
        if is_loss and first > self.next_offset and self._on_missed is not None:
            self._on_missed(self.next_offset, first - 1)
        self._segment = segment
        self._is_newest = False
        end = segment.end_of_lines(segment.size())
        self._position = 0 if first >= self.next_offset else segment.find_offset(end, self.next_offset)
        self.next_offset = max(first, self.next_offset)
        return True


def _copy(source: int, out: int, position: int, count: int) -> int:
    """Move up to `count` bytes from one descriptor to another inside the kernel, where it can."""
    try:
        return os.sendfile(out, source, position, count)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EAGAIN):
            raise
    return files.write_some(out, os.pread(source, min(count, CHUNK), position))

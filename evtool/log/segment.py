"""One segment: a file of whole lines, the last one perhaps torn, whose name is the offset of its first event.

There is no index: offsets and times both rise from line to line, so either is found by bisecting the bytes.
"""

from __future__ import annotations

import os

from evtool.errors import CorruptionError, SyncError, repair_hint
from evtool.log import files, line, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.files import Directory

_BLOCK = 4096
_LARGEST_BLOCK = 1 << 20


def segment_offsets(directory: Directory) -> list[int]:
    """The first offsets of a topic's segments, rising."""
    return sorted(first for name in directory.names() if (first := names.parse_segment(name)) is not None)


class Segment:
    """An open segment. `first` is the offset in its name, `fd` its descriptor, closed with the object."""

    __slots__ = ("fd", "first", "path")

    def __init__(self, directory: Directory, first: int, flags: int = os.O_RDONLY) -> None:
        """Open a segment of a topic's directory. Raises FileNotFoundError if it was trimmed away."""
        self.fd = -1
        self.first = first
        name = names.segment_name(first)
        self.path = f"{directory.path}/{name}"
        self.fd = directory.open(name, flags)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def size(self) -> int:
        """How many bytes there are, torn ones included."""
        return os.fstat(self.fd).st_size

    def sync(self) -> None:
        """Make all that is in the file durable. Raises SyncError; then the log takes no more events.

        For a second sync of the same file may answer "done" for data that are gone.
        """
        try:
            files.sync_data(self.fd)
        except OSError as error:
            raise self.shut(error) from error

    def shut(self, error: OSError) -> SyncError:
        """Mark the segment as one whose sync has failed; return the error that says so."""
        try:
            os.fchmod(self.fd, files.UNSYNCED_MODE)
        except OSError:  # a disk this ill refuses the next write too
            pass
        return SyncError(
            self.path,
            f"cannot sync: {files.reason(error)}; it is not known which of the last events are on disk",
            hint=repair_hint(self._topic),
        )

    def is_active(self) -> bool:
        """Whether the file is in its place and not sealed."""
        status = os.fstat(self.fd)
        return bool(status.st_mode & files.WRITABLE and status.st_nlink)

    def is_gone(self) -> bool:
        """Whether the file was removed or replaced since it was opened."""
        return os.fstat(self.fd).st_nlink == 0

    def end_of_lines(self, size: int) -> int:
        """The position after the last newline in the first `size` bytes: what is behind it is torn or being written."""
        block = _BLOCK
        end = size
        while end > 0:
            start = max(0, end - block)
            newline = os.pread(self.fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
            block = min(block * 4, _LARGEST_BLOCK)
        return 0

    def last_line(self, end: int) -> tuple[int, bytes]:
        """The last of the lines that stop at `end` (a position after a newline), and where it starts.

        Raises CorruptionError if it is no event.
        """
        block = _BLOCK
        while True:
            start = max(0, end - block)
            text = os.pread(self.fd, end - start, start)
            newline = text.rfind(b"\n", 0, -1)
            if newline >= 0 or start == 0:
                break
            block *= 4
        start += newline + 1
        text = text[newline + 1 :]
        if not line.is_event(text):
            raise self.damaged(start)
        return start, text

    def first_head(self) -> bytes:
        """The beginning of the first line, enough for its offset and time; empty if no line is complete yet."""
        block = os.pread(self.fd, _BLOCK, 0)
        if b"\n" not in block and self.end_of_lines(self.size()) == 0:
            return b""
        return block[: line.HEAD_LENGTH]

    def find_offset(self, end: int, offset: int) -> int:
        """The position of the first line whose offset is `offset` or more; `end` (after a newline) if none is."""
        return self._bisect(end, lambda head: line.offset_of(head) < offset)

    def find_time(self, end: int, moment: bytes) -> int:
        """The position of the first line whose time is `moment` (27 bytes) or later; `end` if none is."""
        return self._bisect(end, lambda head: line.time_of(head) < moment)

    def _bisect(self, end: int, is_before: Callable[[bytes], bool]) -> int:
        """The position of the first line for whose head `is_before` is false.

        Every line that starts below `low` is before; the one at `answer` is not; only those that start at a
        position from `low` up to `high` are still in doubt.
        """
        low, high, answer = 0, end, end
        while low < high:
            middle = (low + high) // 2
            start = self.next_start(middle, high)
            if start >= high:
                high = middle
            elif self._test(is_before, start):
                low = start + 1
            else:
                answer, high = start, middle
        return answer

    def _test(self, is_before: Callable[[bytes], bool], start: int) -> bool:
        try:
            return is_before(os.pread(self.fd, line.HEAD_LENGTH, start))
        except ValueError as error:
            raise self.damaged(start) from error

    def next_start(self, position: int, limit: int) -> int:
        """Where the first line that starts at `position` or later does, or `limit` if that is not below it."""
        if position == 0:
            return 0
        at = position - 1
        block = 512
        while at < limit:
            newline = os.pread(self.fd, block, at).find(b"\n")
            if newline >= 0:
                return at + newline + 1
            at += block
            block = min(block * 4, _LARGEST_BLOCK)
        return limit

    def count_back(self, end: int, count: int) -> tuple[int, int]:
        """Where the last `count` (1 or more) of the lines that stop at `end` begin, and how many of them there are."""
        found = -1  # the newline that ends the last line begins nothing
        start = end
        while start > 0:
            stop = start
            start = max(0, stop - _BLOCK * 16)
            text = os.pread(self.fd, stop - start, start)
            newlines = text.count(b"\n")
            if found + newlines < count:
                found += newlines
                continue
            position = len(text)
            while found < count:
                position = text.rfind(b"\n", 0, position)
                found += 1
            return start + position + 1, count
        return 0, found + 1

    def damaged(self, position: int) -> CorruptionError:
        """The error that says that the complete line at `position` is no event."""
        return CorruptionError(self.path, position, "this line is no event", hint=repair_hint(self._topic))

    @property
    def _topic(self) -> str:
        return self.path.rsplit("/", 2)[1]

"""The events of one topic, from a position up to another, in blocks of whole lines."""

from __future__ import annotations

from evtool.log import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.stores.protocol import Reader


BLOCK = 1 << 16  # as much as comes from and goes to the system fastest


class Source:
    """One topic's events. `is_finished` once it has come to where it is to end.

    reader: the cursor, at the first event.
    until_offset, until_time: the first offset, or time (27 bytes), that is not wanted any more.
    """

    def __init__(
        self, topic: str, reader: Reader, until_offset: int | None = None, until_time: bytes | None = None
    ) -> None:
        self.topic = topic
        self.reader = reader
        self.is_finished = False
        self._until_offset = until_offset
        self._until_time = until_time
        self._has_end = until_offset is not None or until_time is not None

    def read(self, limit: int = BLOCK) -> bytes:
        """The next lines, about `limit` bytes of them; empty at the end of the log, or when finished."""
        if self._until_offset is not None and self.reader.next_offset >= self._until_offset:
            self.is_finished = True
        if self.is_finished:
            return b""
        lines = self.reader.read(limit)
        if lines and self._has_end and self._is_beyond(last_line(lines)):
            self.is_finished = True
            return self._cut(lines)
        return lines

    def _is_beyond(self, text: bytes) -> bool:
        if self._until_offset is not None and line.offset_of(text) >= self._until_offset:
            return True
        return self._until_time is not None and line.time_of(text) >= self._until_time

    def _cut(self, lines: bytes) -> bytes:
        kept = lines.split(b"\n")[:-1]
        while kept and self._is_beyond(kept[-1]):
            kept.pop()
        return b"".join(b"%b\n" % one for one in kept)


def last_line(lines: bytes) -> bytes:
    """The last one of whole lines, newline included."""
    return lines[lines.rfind(b"\n", 0, -1) + 1 :]


def first_lines(lines: bytes, count: int) -> bytes:
    """The first `count` of whole lines, or all if there are fewer."""
    end = 0
    for _ in range(count):
        end = lines.find(b"\n", end) + 1
        if end == 0:
            return lines
    return lines[:end]


def last_lines(lines: bytes, count: int) -> bytes:
    """The last `count` of whole lines, or all if there are fewer."""
    start = len(lines)
    for _ in range(count):
        if start <= 0:
            return lines
        start = lines.rfind(b"\n", 0, start - 1) + 1
    return lines[start:] if count else b""

"""Which ids a topic has seen, so that an event sent twice is stored once.

The log is the truth. Beside it, in `ids/`, one file a segment remembers where ids stand; it is a cache: checked
against the segment before it is believed, brought up to date by reading what was appended since, and rebuilt if lost.

    a magic word, then native u64: bytes of the segment covered, CRC-32 of what ends there, records that are sorted,
    records behind them, CRC-32 of those; then one u64 a record: CRC-32 of the id << 32 | offset - first offset of the
    segment

The sorted records are bisected in a memory map; the few behind them are gone through. As a record only says where to
look, the stored line decides: two ids with the same checksum are told apart there. A power cut may leave any of what
was written last, so sorted records are on disk before they get their name, and those behind them have a checksum.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from array import array
from bisect import bisect_left
from zlib import crc32

from evtool.errors import StorageError
from evtool.log import files, line, names, payload
from evtool.log.segment import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evtool.log.files import Directory

DIRECTORY_NAME = "ids"
_HEADER = struct.Struct("=8s5Q")
_MAGIC = b"evtids2\n"
_RECORD = 8
_LARGEST_TAIL = 8192  # records; more of them are sorted in
_CHUNK = 1 << 20
_NEEDLE = b',"id":"'


def place(topic: Directory, ids: Sequence[str | None], next_offset: int, window: float) -> tuple[list[int], list[int]]:
    """Decide for each of these ids whether its event is new. The topic's lock must be held.

    ids: None for an event that has none, which is always new. window: seconds for which an id keeps others out.

    Returns the offsets, one an id (of the event that has it already, or that the new one will get), and the positions
    in `ids` of those that are new. Raises StorageError.
    """
    since = line.stamp(max(0, time.time_ns() - int(window * 1e9)))
    try:
        index = IdIndex(topic, since)
    except OSError as error:
        raise StorageError(f"{topic.path}/{DIRECTORY_NAME}", files.reason(error)) from error
    offsets: list[int] = []
    fresh: list[int] = []
    batch: dict[str, int] = {}
    for position, name in enumerate(ids):
        offset = None if name is None else batch[name] if name in batch else index.find(name)
        if offset is None:
            offset = next_offset + len(fresh)
            fresh.append(position)
        if name is not None:
            batch[name] = offset
        offsets.append(offset)
    return offsets, fresh


class IdIndex:
    """The ids of all events of a topic since a moment (27 bytes, as in a line), as of when it was made."""

    def __init__(self, topic: Directory, since: bytes) -> None:
        self._since = since
        directory = topic.subdirectory(DIRECTORY_NAME, create=True)
        self._segments = [_SegmentIds(directory, segment) for segment in _segments_since(topic, since)]

    def find(self, name: str) -> int | None:
        """The offset of the newest event with this id, or None."""
        encoded = payload.encode_string(name)
        key = crc32(encoded)
        for segment in self._segments:
            for offset in segment.candidates(key):
                text = segment.read_line(offset)
                if _id_of(text) == encoded and line.time_of(text) >= self._since:
                    return offset
        return None


def _segments_since(topic: Directory, since: bytes) -> Iterator[Segment]:
    """The segments with events at or after `since`, newest first."""
    firsts = [first for name in topic.names() if (first := names.parse_segment(name)) is not None]
    for first in sorted(firsts, reverse=True):
        segment = Segment(topic, first)
        yield segment
        head = segment.first_head()
        if head and line.time_of(head) < since:
            return


def _id_of(text: bytes) -> bytes | None:
    """The id of a line as its JSON string, quotes included."""
    start = text.find(_NEEDLE)
    if start < 0 or not line.stands_in_head(text, 0, start):
        return None
    start += len(_NEEDLE) - 1
    return text[start : payload.end_of_string(text, start)]


class _SegmentIds:
    """The ids of one segment."""

    def __init__(self, directory: Directory, segment: Segment) -> None:
        self._fd = -1
        self._directory = directory
        self._segment = segment
        self._name = names.segment_name(segment.first).removesuffix(names.SEGMENT_SUFFIX)
        self._end = segment.end_of_lines(segment.size())
        covered = self._open()
        if covered < self._end:
            self._extend(covered)
        self._map()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def candidates(self, key: int) -> Iterator[int]:
        """The offsets, newest first, of events whose id may have this checksum."""
        for record in reversed(self._tail):
            if record >> 32 == key:
                yield self._segment.first + (record & 0xFFFFFFFF)
        at = bisect_left(self._sorted, (key + 1) << 32) - 1
        while at >= 0 and self._sorted[at] >> 32 == key:
            yield self._segment.first + (self._sorted[at] & 0xFFFFFFFF)
            at -= 1

    def read_line(self, offset: int) -> bytes:
        """The stored line with this offset."""
        start = self._segment.find_offset(self._end, offset)
        return os.pread(self._segment.fd, self._segment.next_start(start + 1, self._end) - start, start)

    def _open(self) -> int:
        """Open the file, emptied if it does not belong to the segment; return how much of the segment it covers."""
        self._fd = self._directory.open(self._name, os.O_RDWR | os.O_CREAT)
        header = os.pread(self._fd, _HEADER.size, 0)
        if len(header) == _HEADER.size:
            magic, covered, check, self._count, self._more, self._more_check = _HEADER.unpack(header)
            if magic == _MAGIC and covered <= self._end and check == self._check(covered) and self._has_records():
                return int(covered)
        os.ftruncate(self._fd, 0)
        self._count = self._more = self._more_check = 0
        self._write_header(0)
        return 0

    def _has_records(self) -> bool:
        """Whether the records that the header speaks of are there."""
        size = os.fstat(self._fd).st_size - _HEADER.size
        if (self._count + self._more) * _RECORD > size:
            return False
        more = os.pread(self._fd, self._more * _RECORD, _HEADER.size + self._count * _RECORD)
        return bool(crc32(more) == self._more_check)

    def _write_header(self, covered: int) -> None:
        fields = (covered, self._check(covered), self._count, self._more, self._more_check)
        files.write_all_at(self._fd, _HEADER.pack(_MAGIC, *fields), 0)

    def _check(self, covered: int) -> int:
        return crc32(os.pread(self._segment.fd, 4096, max(0, covered - 4096))[: min(covered, 4096)])

    def _extend(self, covered: int) -> None:
        """Add the records of what was appended since; the header last, so that a kill in between costs a rereading."""
        records = array("Q", self._scan(covered))
        if self._more + len(records) > _LARGEST_TAIL:
            self._sort_in(records)
            return
        text = records.tobytes()
        files.write_all_at(self._fd, text, _HEADER.size + (self._count + self._more) * _RECORD)
        self._more += len(records)
        self._more_check = crc32(text, self._more_check)
        self._write_header(self._end)

    def _sort_in(self, records: array[int]) -> None:
        """Write the file anew with all records sorted, beside the old one, and put it in its place."""
        old = array("Q")
        old.frombytes(os.pread(self._fd, (self._count + self._more) * _RECORD, _HEADER.size))
        merged = array("Q", sorted(old + records))
        new = f"{self._name}.new"
        fd = self._directory.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.close(self._fd)
        self._fd = fd
        self._count, self._more, self._more_check = len(merged), 0, 0
        self._write_header(self._end)
        files.write_all_at(fd, merged.tobytes(), _HEADER.size)
        files.sync_data(fd)
        self._directory.rename(new, self._name)

    def _map(self) -> None:
        size = _HEADER.size + (self._count + self._more) * _RECORD
        view = memoryview(mmap.mmap(self._fd, size, access=mmap.ACCESS_READ))
        records = view[_HEADER.size :].cast("Q")
        self._sorted = records[: self._count]
        self._tail = records[self._count :]

    def _scan(self, covered: int) -> Iterator[int]:
        """The records of all events with an id from position `covered` to the end of the segment."""
        first = self._segment.first
        while covered < self._end:
            chunk = os.pread(self._segment.fd, min(_CHUNK, self._end - covered), covered)
            stop = chunk.rfind(b"\n") + 1
            if stop == 0:  # one line longer than the chunk
                following = self._segment.next_start(covered + 1, self._end)
                chunk = os.pread(self._segment.fd, following - covered, covered)
                stop = len(chunk)
            found = chunk.find(_NEEDLE, 0, stop)
            while found >= 0:
                start = chunk.rfind(b"\n", 0, found) + 1
                end = chunk.index(b"\n", found) + 1
                text = chunk[start:end]
                if line.stands_in_head(text, 0, found - start) and (encoded := _id_of(text)):
                    yield crc32(encoded) << 32 | (line.offset_of(text) - first)
                found = chunk.find(_NEEDLE, end, stop)
            covered += stop

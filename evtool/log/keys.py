"""Which event of each key is the newest: the lines of segments from the end backwards, and the keys seen so far.

Whoever begins with the newest event needs no more than a set of keys: the first one that is met is the newest. The set
is a table of hashes, 20 bytes a key at its fullest, since a set of Python's takes five times that. The hashes have 96
bits and are keyed anew in each process, so that among ten million keys two are taken for one with a chance of 10^-15.
"""

from __future__ import annotations

import os
import re
from array import array
from itertools import compress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evtool.log.segment import Segment

OLDER, NEWEST, KEYLESS = 0, 1, 2
MOST = 10_400_000  # keys in the largest table of 2^24 places, which has 192 MiB
_CHUNK = 1 << 20
_FEWEST_PLACES, _GROWTH = 1 << 10, 4
_SECOND = 0xFFFFFFFF
_SALT = os.urandom(8)
_NULL = b',"data":null}'
_KEY = re.compile(
    rb'^\{"offset":[0-9]+,"time":"[^"\n]*"(?:,"(?!key":|data":)[a-z][a-z0-9]*":"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*")*'
    rb',(?:"key":("[^"\\\n]*(?:\\[^\n][^"\\\n]*)*")|"data":)',
    re.MULTILINE,
)


class Keys:
    """The keys that were seen, and no more than `most` of them at a time, if that is said.

    When there are too many, those of every second hash are given up: from then on only keys with ``hash % modulus ==
    rest`` are known, and whoever wants to know all begins anew with each other rest. part: the modulus and the rest to
    begin with.
    """

    __slots__ = ("_count", "_limit", "_marks", "_most", "_seconds", "modulus", "rest")

    def __init__(self, most: int | None = MOST, part: tuple[int, int] = (1, 0)) -> None:
        self._most = most
        self._count = 0
        self.modulus, self.rest = part
        self._make_tables(_FEWEST_PLACES)

    def look(self, keys: list[bytes]) -> bytearray:
        """Take in the keys of lines, the last one first; say of each line whether it is the NEWEST, OLDER or KEYLESS.

        keys: as JSON strings, quotes included; empty for a line that has none. A key that is given up looks NEWEST.
        """
        flags = bytearray(len(keys))
        marks, mask, modulus, rest = self._marks, len(self._marks) - 1, self.modulus, self.rest
        for at in range(len(keys) - 1, -1, -1):
            key = keys[at]
            if not key:
                flags[at] = KEYLESS
                continue
            mark = hash(key) or 1
            if modulus > 1 and mark % modulus != rest:
                flags[at] = NEWEST
                continue
            second = hash(key + _SALT) & _SECOND
            place = second & mask
            while (found := marks[place]) and (found != mark or self._seconds[place] != second):
                place = (place + 1) & mask
            if not found:
                flags[at] = NEWEST
                marks[place], self._seconds[place] = mark, second
                self._count += 1
                if self._count > self._limit:
                    self._make_room()
                    marks, mask, modulus = self._marks, len(self._marks) - 1, self.modulus
        return flags

    def _make_tables(self, places: int) -> None:
        self._marks = array("q", bytes(8)) * places
        self._seconds = array("I", bytes(4)) * places
        self._limit = places * 5 // 8 if self._most is None else min(self._most, places * 5 // 8)

    def _make_room(self) -> None:
        """Put the keys into larger tables or, if there may be no larger ones, give up half of them."""
        marks, seconds = self._marks, self._seconds
        if self._most is None or self._count <= self._most:
            self._make_tables(len(marks) * _GROWTH)
            self._put(zip(marks, seconds, strict=True))
            return
        self.modulus *= 2
        is_kept = [mark != 0 and mark % self.modulus == self.rest for mark in marks]
        marks, seconds = array("q", compress(marks, is_kept)), array("I", compress(seconds, is_kept))
        self._count = len(marks)
        places = len(is_kept)
        self._marks, self._seconds = marks, seconds  # so that the old tables are gone before the new ones come
        del is_kept
        self._make_tables(places)
        self._put(zip(marks, seconds, strict=True))

    def _put(self, pairs: Iterable[tuple[int, int]]) -> None:
        marks, seconds = self._marks, self._seconds
        mask = len(marks) - 1
        for mark, second in pairs:
            if mark:
                place = second & mask
                while marks[place]:
                    place = (place + 1) & mask
                marks[place], seconds[place] = mark, second


def backwards(segment: Segment, end: int, begin: int = 0) -> Iterator[tuple[int, list[bytes], list[bytes]]]:
    """The lines from the position `begin` to `end`, by chunks, the last one first: where each begins, lines and keys.

    Lines are without their newlines. A key is a JSON string in its shortest form, quotes included; empty if the line
    has none. Raises CorruptionError.
    """
    while end > begin:
        start = max(begin, end - _CHUNK)
        if start > begin:
            start = segment.next_start(start + 1, end)
            if start >= end:  # one line longer than a chunk
                start = segment.last_line(end)[0]
        chunk = os.pread(segment.fd, end - start, start)
        lines = chunk.split(b"\n")
        del lines[-1]
        keys = _KEY.findall(chunk)
        if len(keys) != len(lines):
            raise segment.damaged(start + _first_damaged(lines))
        if b"\\" in chunk:
            keys = _plain_keys(segment, start, lines, keys)
        yield start, lines, keys
        end = start


def _first_damaged(lines: list[bytes]) -> int:
    """The position of the first of these lines that is no event."""
    position = 0
    for text in lines:
        if _KEY.match(text) is None:
            break
        position += len(text) + 1
    return position


def _plain_keys(segment: Segment, start: int, lines: list[bytes], keys: list[bytes]) -> list[bytes]:
    """The keys with those that were written with escapes in the form that evtool writes: equal keys are equal bytes."""
    import orjson

    plain = []
    for number, key in enumerate(keys):
        try:
            plain.append(orjson.dumps(orjson.loads(key)) if b"\\" in key else key)
        except orjson.JSONDecodeError as error:
            position = start + sum(len(text) + 1 for text in lines[:number])
            raise segment.damaged(position) from error
    return plain


def deletes(text: bytes) -> bool:
    """Whether the data of a line, with or without its newline, are null, which deletes its key."""
    return text.endswith((_NULL, _NULL + b"\n"))

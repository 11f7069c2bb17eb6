"""Is a segment what it should be? Every line an event, offsets rising, times not falling, every checksum right.

A segment is gone through in chunks that are looked at as a whole, by a few calls that each see all lines of a chunk.
Only where one of them does not like what it sees are the lines taken one by one, to say what is wrong and where.
"""

from __future__ import annotations

import operator
import os
import re
from zlib import crc32

import orjson

from evtool.log import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evtool.log.seals import Gaps
    from evtool.log.segment import Segment

CHUNK = 256 << 10
# What is wrong with a line, or with what stands between lines:
MALFORMED, REPEATED, MISSING, FALLING, UNSOUND, UNCOVERED, TORN = (
    "malformed", "repeated", "missing", "falling", "unsound", "uncovered", "torn",
)  # fmt: skip
_OFFSET_AND_TIME = (
    rb'^\{"offset":(0|[1-9][0-9]{0,18}),'
    rb'"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"'
)
_BEGINNING = re.compile(_OFFSET_AND_TIME)
_HEAD = re.compile(
    _OFFSET_AND_TIME + rb'(?:,"crc":"([0-9a-f]{8})")?'
    rb'(?:,"(?!(?:offset|time|crc|data)":)[a-z][a-z0-9]{0,19}":"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*")*,"data":',
    re.MULTILINE,
)


class Problem:
    """Something that is wrong in a segment.

    kind: one of the constants of this module. what: it, in words.
    position, length: the bytes concerned. number: of the line, from 1.
    offsets: the first and the last offset that are concerned, if that is known.
    """

    __slots__ = ("kind", "length", "number", "offsets", "position", "what")

    def __init__(
        self, kind: str, what: str, position: int, length: int, number: int, offsets: tuple[int, int] | None = None
    ) -> None:
        self.kind = kind
        self.what = what
        self.position = position
        self.length = length
        self.number = number
        self.offsets = offsets


class Course:
    """How far the lines that were looked at have come.

    next: the least offset that the next line may have; None before the first, if any will do.
    time: of the last line, 27 bytes. gaps: those that are known, if any are. sparse: offsets may be left out and
    checksums may cover what is gone, for the segment was compacted.
    """

    __slots__ = ("carry", "gaps", "group", "next", "number", "position", "sparse", "time")

    def __init__(self, next_offset: int | None = None, gaps: Gaps | None = None) -> None:
        self.gaps = gaps
        self.next = next_offset
        self.time = b""
        self.sparse = False
        self.begin()

    def begin(self) -> None:
        """Go to the beginning of a segment."""
        self.position = 0
        self.number = 1
        self.carry = 0
        self.group = (0, 1, self.next)  # position, line and offset behind the last checksum


def problems(
    segment: Segment, end: int, course: Course, *, sealed: bool, progress: Callable[[int], None] | None = None
) -> Iterator[Problem]:
    """What is wrong with the first `end` bytes of a segment, which the course is to go through.

    sealed: nothing comes behind them, so that lines which no checksum covers stay like that.
    """
    course.begin()
    while course.position < end:
        before = course.position
        chunk = _chunk(segment, course.position, end)
        if not chunk:
            length = end - before
            is_nul = not os.pread(segment.fd, min(length, CHUNK), before).strip(b"\0")
            what = f"{length} bytes that " + ("are all NUL" if is_nul else "end without a newline")
            yield Problem(TORN, what, before, length, course.number)
            return
        if not _is_sound(chunk, course):
            yield from _look_closely(chunk, course)
        if progress is not None:
            progress(course.position - before)
    start, number, first = course.group
    if start < end and not sealed and not course.sparse:
        last = None if course.next is None else course.next - 1
        span = None if first is None or last is None else (first, last)
        what = "no checksum covers these lines, the last ones"
        yield Problem(UNCOVERED, what, start, end - start, number, span)


def has_problem(segment: Segment, gaps: Gaps) -> bool:
    """Whether anything is wrong with a segment that is written no more."""
    return any(problems(segment, segment.size(), Course(segment.first, gaps), sealed=True))


def is_head(text: bytes) -> bool:
    """Whether these are the first bytes of a line, its offset and time among them."""
    return _BEGINNING.match(text) is not None


def is_whole(text: bytes) -> bool:
    """Whether this is a line as the format has it: its head in order, and JSON to its end."""
    if not text.endswith(line.END) or _HEAD.match(text) is None:
        return False
    try:
        return _ends_with_data(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False


def _ends_with_data(event: dict[str, object]) -> bool:
    return next(reversed(event)) == "data"


def _chunk(segment: Segment, position: int, end: int) -> bytes:
    """The next whole lines, at least one; empty if there is none."""
    size = CHUNK
    while True:
        text = os.pread(segment.fd, min(size, end - position), position)
        stop = text.rfind(b"\n") + 1
        if stop or len(text) < size:
            return text[:stop]
        size *= 4


def _is_sound(chunk: bytes, course: Course) -> bool:
    """Whether all lines of a chunk are in order; if so, the course is behind them, else where it was."""
    heads = _HEAD.findall(chunk)
    count = chunk.count(b"\n")
    if len(heads) != count:
        return False
    offsets = [int(head[0]) for head in heads]
    if course.next is not None and (offsets[0] < course.next if course.sparse else offsets[0] != course.next):
        return False
    if course.sparse:
        if not all(map(operator.lt, offsets, offsets[1:])):
            return False
    elif offsets != list(range(offsets[0], offsets[0] + count)):
        return False
    times = [head[1] for head in heads]
    if times[0] < course.time or times != sorted(times):
        return False
    try:
        events = orjson.loads(b"[" + chunk[:-1].replace(b"\n", b",") + b"]")
    except orjson.JSONDecodeError:
        return False
    if len(events) != count or not all(map(_ends_with_data, events)):
        return False
    if not course.sparse and not _has_right_sums(chunk, heads, offsets, course):
        return False
    course.next = offsets[-1] + 1
    course.time = times[-1]
    course.position += len(chunk)
    course.number += count
    return True


def _has_right_sums(chunk: bytes, heads: list[tuple[bytes, bytes, bytes]], offsets: list[int], course: Course) -> bool:
    """Whether every checksum in the chunk is right; if so, the course knows what is behind the last one."""
    carry, group, start = course.carry, course.group, 0
    number = course.number
    view = memoryview(chunk)
    needle = b'","crc":"'
    for index, (_, _, crc) in enumerate(heads):
        if crc:
            at = chunk.index(needle + crc, start) + len(needle)
            end = chunk.index(b"\n", at) + 1
            carry = crc32(view[at + 8 : end], crc32(b"00000000", crc32(view[start:at], carry)))
            if b"%08x" % carry != crc:
                return False
            carry, start = 0, end
            group = (course.position + end, number + index + 1, offsets[index] + 1)
    course.carry = crc32(view[start:], carry) if start < len(chunk) else carry
    course.group = group
    return True


def _look_closely(chunk: bytes, course: Course) -> Iterator[Problem]:
    """The same for a chunk in which something is wrong, line by line. The course goes on behind it."""
    for text in _lines(chunk):
        yield from _problems_of(text, course)
        course.position += len(text)
        course.number += 1


def _lines(chunk: bytes) -> list[bytes]:
    return [text + b"\n" for text in chunk.split(b"\n")[:-1]]


def _problems_of(text: bytes, course: Course) -> Iterator[Problem]:
    position, number, length = course.position, course.number, len(text)
    if not is_whole(text):
        what = "NUL bytes" if text.startswith(b"\0") else "this line is no event"
        span = None if course.next is None or course.sparse else (course.next, course.next)
        yield Problem(MALFORMED, what, position, length, number, span)
        course.carry = crc32(text, course.carry)
        if course.next is not None:
            course.next += 1
        return
    offset, moment = line.offset_of(text), line.time_of(text)
    expected = offset if course.next is None else course.next
    if offset < expected:
        what = f"offset {offset} stands where {expected} should"
        yield Problem(REPEATED, what, position, length, number, (offset, offset))
    elif offset > expected and not course.sparse and not (course.gaps and course.gaps.has(expected, offset - 1)):
        gone = (expected, offset - 1)
        yield Problem(MISSING, f"{_span(gone)} missing before this line", position, 0, number, gone)
    if moment < course.time:
        what = f"its time is earlier than the one before, {course.time.decode()}"
        yield Problem(FALLING, what, position, length, number, (offset, offset))
    course.next = max(expected, offset + 1)
    course.time = max(course.time, moment)
    if not course.sparse:
        yield from _check_sum(text, course, offset)


def _check_sum(text: bytes, course: Course, offset: int) -> Iterator[Problem]:
    crc = line.crc_of(text)
    if crc is None:
        course.carry = crc32(text, course.carry)
        return
    start, number, first = course.group
    if b"%08x" % crc32(line.without_crc(text), course.carry) != crc:
        span = (offset if first is None else min(first, offset), offset)
        what = f"wrong checksum: not all of {_span(span)} as written"
        yield Problem(UNSOUND, what, start, course.position + len(text) - start, number, span)
    course.carry = 0
    course.group = (course.position + len(text), course.number + 1, offset + 1)


def _span(offsets: tuple[int, int]) -> str:
    first, last = offsets
    return f"offset {first} is" if first == last else f"offsets {first} to {last} are"

"""Where an event that was taken from one log to another comes from, as attributes; written and found in this module.

    "origin":"web1:5f2a90c1","origoffset":"81920","origtime":"2026-11-23T22:25:32.123456Z","key":"u1","data":{"amount":9.5}
    "via":"hub:0a1b2c3d:4711","origin":"web1:5f2a90c1","origoffset":"81920",…

The origin is the log that it was first appended to (HOST:ID, see `Topic.identity`), with the offset and the time that
it has there. An event that has one keeps it; then `via` tells the last log and the offset there. Every way from one log
to another so leaves a mark, HOST:ID and an offset, by which it finds out how far it has got. A way that takes only some
of the events, and that others may go beside, has a mark of its own: HOST:ID-WAY.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from zlib import crc32

from evtool.errors import DataError
from evtool.log import line, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Found = list[tuple[bytes, bytes, bytes, bytes]]  # offset, time, attributes with the name of the data, data

_find: Callable[[bytes], Found] = re.compile(
    rb'^\{"offset":([0-9]{1,19}),"time":"(.{27})"(?:,"crc":"[0-9a-f]{8}")?,'
    rb'((?:"[a-z][a-z0-9]*":"[^"\\]*(?:\\.[^"\\]*)*",)*"data":)(.*)\}$',
    re.MULTILINE,
).findall
_whole_line = re.compile(rb"[^\n]*\n").finditer
_DATA = b"," + line.DATA
_VIA = b',"via":'
_GIVEN = (b',"origin":', b',"origoffset":', b',"origtime":')  # what says that an event has an origin
_NAMES = (b'"origin":', b'"origoffset":', b'"origtime":', b'"via":')
_hop = re.compile(rb"([^:\"\\]+:[0-9a-f]{8}(?:-[0-9a-f]{8})?):([0-9]{1,18})").fullmatch
_ORIGIN = b'%b","origtime":"%b",%b%b'


class Marked:
    """Events with their marks: what their bodies have in common and how they go on, and the offset of each (digits)."""

    __slots__ = ("bodies", "common", "offsets")

    def __init__(self, common: bytes, bodies: list[bytes], offsets: list[bytes]) -> None:
        self.common = common
        self.bodies = bodies
        self.offsets = offsets

    def part(self, first: int, end: int | None = None) -> Marked:
        """Those from one place to before another."""
        return Marked(self.common, self.bodies[first:end], self.offsets[first:end])

    def since(self, offset: int) -> Marked:
        """Those with this offset or a higher one."""
        if not self.offsets or int(self.offsets[0]) >= offset:
            return self
        return self.part(bisect_left(self.offsets, offset, key=int))


class Way:
    """The way from one log to another.

    source, destination: the identities of the logs. What was appended to the destination first does not go back there.
    name: what tells it from other ways between the two, if it takes only some of the events.
    """

    def __init__(self, source: str, destination: str, name: str = "") -> None:
        self.mark = f"{source}-{crc32(name.encode()):08x}" if name else source
        self._mark = self.mark.encode()
        self._is_plain = not name
        self._origin = b'"origin":"%b","origoffset":"' % source.encode()
        self._via = b'"via":"%b:' % self._mark
        self._destination = destination.encode()
        self._returns = b',"origin":"%b"' % self._destination
        self._needles = [b"," + self._via]
        if self._is_plain:
            self._needles.append(b"," + self._origin)

    def tokens(self, offsets: Sequence[bytes]) -> list[str]:
        """What each of these events is called, the same whenever it goes this way and never for another one."""
        return [f"{self.mark}:{offset.decode()}" for offset in offsets]

    # To the destination

    def mark_all(self, lines: bytes) -> Marked:
        """These lines as bodies that say where they come from. Raises DamagedError."""
        found = _find(lines)
        if len(found) != lines.count(b"\n") or not payload.all_valid([one[3] for one in found]):
            raise DamagedError(lines)
        if not any(name in lines for name in _NAMES):
            return self._mark_first(found)
        bodies, offsets = [], []
        for offset, moment, head, data in found:
            if (marked := self._mark_one(offset, moment, head, data)) is not None:
                bodies.append(marked)
                offsets.append(offset)
        return Marked(b"", bodies, offsets)

    def _mark_first(self, found: Found) -> Marked:
        """Events of which none has a mark yet, which is what most of them are."""
        offsets = [one[0] for one in found]
        if self._is_plain:
            return Marked(self._origin, [_ORIGIN % one for one in found], offsets)
        pattern = b'%b",' + self._origin + _ORIGIN
        return Marked(self._via, [pattern % (one[0], *one) for one in found], offsets)

    def _mark_one(self, offset: bytes, moment: bytes, head: bytes, data: bytes) -> bytes | None:
        """One event with its mark; None if it comes from where it would go."""
        said = b"," + head
        hop = _hop(_value(said, _VIA) or b"")
        is_given = any(name in said for name in _GIVEN)
        if is_given and (self._returns in said or (hop is not None and self._begins_there(hop[1]))):
            return None
        if self._is_plain and not is_given and hop is None:
            return self._origin + _ORIGIN % (offset, moment, head, data)
        head = _without_via(head)
        if not is_given:
            head = self._origin + _ORIGIN % (offset, moment, head, b"")
        return b'%b%b",%b%b' % (self._via, offset, head, data)

    def _begins_there(self, mark: bytes) -> bool:
        """Whether this is the mark of a way that begins where ours ends."""
        return mark == self._destination or mark.startswith(self._destination + b"-")

    # At the destination

    def last_in(self, lines: bytes) -> tuple[int, bytes | None] | None:
        """Offset at the source of the last of these lines that came this way, and its time there as far as it tells."""
        places = [lines.rfind(needle) for needle in self._needles]
        while (at := max(places)) >= 0:
            start = lines.rfind(b"\n", 0, at) + 1
            if (found := self._read(lines[start : lines.index(b"\n", at)])) is not None:
                return found
            places = [
                place if place < start else lines.rfind(needle, 0, start)
                for place, needle in zip(places, self._needles, strict=True)
            ]
        return None

    def _read(self, text: bytes) -> tuple[int, bytes | None] | None:
        """What the mark of this way says, if the line has one."""
        head = b"," + text[1 : text.index(_DATA)]
        hop = _hop(_value(head, _VIA) or b"")
        if hop is not None:
            return (int(hop[2]), None) if hop[1] == self._mark else None
        offset, moment = (_value(head, name) or b"" for name in _GIVEN[1:])
        if not (self._is_plain and b"," + self._origin in head and offset.isdigit() and len(offset) < 19):
            return None
        return int(offset), moment if line.is_time(moment) else None


def _without_via(head: bytes) -> bytes:
    """Attributes without the mark of an earlier way."""
    said = b"," + head
    at = said.find(_VIA)
    return head if at < 0 else head[:at] + head[payload.end_of_string(said, at + len(_VIA)) :]


def _value(head: bytes, name: bytes) -> bytes | None:
    """An attribute's value as it stands in its quotes, or None."""
    at = head.find(name)
    if at < 0:
        return None
    start = at + len(name)
    return head[start + 1 : payload.end_of_string(head, start) - 1]


def span(lines: bytes) -> tuple[int, int]:
    """The offset of the first of these lines, and the one behind the last. Raises DamagedError."""
    try:
        first = line.offset_of(lines[: line.HEAD_LENGTH])
        start = lines.rfind(b"\n", 0, -1) + 1
        return first, line.offset_of(lines[start : start + line.HEAD_LENGTH]) + 1
    except ValueError:
        raise DamagedError(lines) from None


class DamagedError(DataError):
    """A stored line that is no event. before: the lines that stand before it."""

    def __init__(self, lines: bytes) -> None:
        start = next((one.start() for one in _whole_line(lines) if not _is_sound(one[0])), 0)
        text = lines[start : start + line.HEAD_LENGTH].partition(b"\n")[0].decode("utf-8", "backslashreplace")
        super().__init__(f"a stored line that begins with {text}", "is damaged", hint="see evtool verify")
        self.before = lines[:start]


def _is_sound(text: bytes) -> bool:
    found = _find(text)
    return bool(found) and payload.all_valid([found[0][3]])

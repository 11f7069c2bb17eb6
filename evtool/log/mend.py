"""Mending the lines that one checksum covers, so that as many of them as possible stay, and nothing false is kept.

A CRC-32 tells more than that something is wrong. The difference between the checksum that should be and the one that
is depends only on which bits are flipped: for a single one it says which, as no two bits of less than 500 MB have the
same difference (the polynomial's period is 2^32 - 1). So one flipped bit is put right, and the checksum proves it.
"""

from __future__ import annotations

from itertools import pairwise
from zlib import crc32

from evtool.log import check, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LARGEST = 1 << 20  # bytes in which a flipped bit is looked for: beyond, chance could find one
_HEAD = 128  # bytes of a line in which its crc stands
_NEEDLE = b',"crc":"'


def is_sound(group: bytes, expected: int | None) -> bool:
    """Whether these lines are events, offset by offset from `expected` on, with a right checksum at their end."""
    start = group.rfind(b"\n", 0, -1) + 1
    if not _has_right_sum(group, start):
        return False
    following = expected
    lines = [text + b"\n" for text in group.split(b"\n")[:-1]]
    for number, text in enumerate(lines, 1):
        if not check.is_whole(text) or (number < len(lines) and line.crc_of(text) is not None):
            return False
        offset = line.offset_of(text)
        if following is not None and offset != following:
            return False
        following = offset + 1
    return True


def _has_right_sum(group: bytes, start: int) -> bool:
    """Whether the last line, which starts there, has a checksum, and it is right. Most that is damaged fails here."""
    last = group[start:]
    crc = line.crc_of(last) if check.is_head(last) else None
    return crc is not None and b"%08x" % crc32(line.without_crc(last), crc32(group[:start])) == crc


def flip_back(group: bytes, expected: int | None) -> tuple[bytes, int] | None:
    """The lines with the one bit put right that is flipped, and the byte it is in; None if it is not one bit.

    group: all bytes that the last line's checksum covers. expected: the offset that the first line should have.
    """
    if len(group) > _LARGEST:
        return None
    for at, bit in _suspects(group):
        mended = bytearray(group)
        mended[at] ^= bit
        if is_sound(bytes(mended), expected):
            return bytes(mended), at
    return None


def _suspects(group: bytes) -> Iterator[tuple[int, int]]:
    """The bits, as a byte and a bit in it, of which one is flipped if only one is."""
    start = group.rfind(b"\n", 0, -1) + 1
    found = group.find(_NEEDLE, start, start + _HEAD)
    at = found + len(_NEEDLE)
    try:
        stored = int(group[at : at + 8], 16) if found >= 0 else None
    except ValueError:
        stored = None
    if stored is not None:
        zeroed = group[:at] + b"00000000" + group[at + 8 :]
        place = _locate(crc32(zeroed) ^ stored, len(zeroed))
        if place is not None:
            yield place
    for index in range(start, min(start + _HEAD, len(group))):  # the checksum itself, or the bytes that say it is one
        for bit in range(8):
            yield index, 1 << bit


def _locate(difference: int, length: int) -> tuple[int, int] | None:
    """The flipped bit of so many bytes that makes this difference in their CRC-32."""
    of_bit = {_TABLE[1 << bit]: 1 << bit for bit in range(8)}
    for back in range(1, length + 1):
        if difference in of_bit:
            return length - back, of_bit[difference]
        index = _BACK[difference >> 24]
        difference = ((difference ^ _TABLE[index]) << 8 | index) & 0xFFFFFFFF
    return None


def _make_table() -> list[int]:
    """What a byte makes of a CRC-32 of nothing, for each byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _make_table()
_BACK = {entry >> 24: index for index, entry in enumerate(_TABLE)}  # no two begin alike


def pieces(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The events that are hidden in a line which is none: where each stands, to where, and as it should be.

    A torn line with another behind it, NUL bytes before an event, or two of which the newline between is lost.
    """
    starts = []
    at = text.find(line.START)
    while at >= 0:
        starts.append(at)
        at = text.find(line.START, at + 1)
    for start, end in pairwise([*starts, len(text)]):
        piece = text[start:end]
        for candidate in (piece, piece[:-1] + b"\n"):
            if check.is_whole(candidate):
                yield start, end, candidate
                break


def with_crc(texts: Sequence[bytes], carry: int = 0) -> bytes:
    """The last of these lines with the checksum over all of them; the others must have none."""
    for text in texts[:-1]:
        carry = crc32(text, carry)
    last = texts[-1]
    moment = last.index(b",", len(line.START))
    after_time = moment + len(b',"time":"') + line.TIME_LENGTH + 1
    head, body = last[:after_time], last[after_time:]
    if body.startswith(_NEEDLE):
        body = body[len(_NEEDLE) + 9 :]
    before = head + _NEEDLE
    after = b'"' + body
    return b"%b%08x%b" % (before, crc32(after, crc32(b"00000000", crc32(before, carry))), after)

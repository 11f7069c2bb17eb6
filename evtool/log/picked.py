"""Lines picked out of a segment from its end backwards, which are then given out in their order."""

from __future__ import annotations

import os
from array import array
from itertools import accumulate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evtool.log.segment import Segment

_BLOCK = 1 << 20


class Picked:
    """Some lines of a segment, at 16 bytes a run of them. count, size: how many there are, of bytes too."""

    __slots__ = ("_segment", "_stops", "count", "size")

    def __init__(self, segment: Segment) -> None:
        self.count = self.size = 0
        self._segment = segment
        self._stops = array("Q")  # end and start of each run, the last one first

    def add(self, start: int, lines: list[bytes], flags: bytearray) -> None:
        """Pick those of the lines whose flag is not 0. They begin at `start`; the next call gives those before them.

        lines: without their newlines.
        """
        places = list(accumulate((len(text) + 1 for text in lines), initial=start))
        end = len(flags)
        while end > 0:
            if not flags[end - 1]:
                end -= 1
                continue
            begin = flags.rfind(0, 0, end) + 1
            self._stops.extend((places[end], places[begin]))
            self.count += end - begin
            self.size += places[end] - places[begin]
            end = begin

    def blocks(self) -> Iterator[bytes]:
        """The picked lines, in blocks of about 1 MiB."""
        return in_blocks(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        """The runs, those longer than a block in several pieces."""
        block, at = b"", 0
        for start, end in self._runs():
            if end > at + len(block):
                block, at = os.pread(self._segment.fd, _BLOCK, start), start
            yield block[start - at : end - at]

    def _runs(self) -> Iterator[tuple[int, int]]:
        stops = iter(reversed(self._stops))
        for start, end in zip(stops, stops, strict=True):
            for at in range(start, end, _BLOCK):
                yield at, min(end, at + _BLOCK)


def in_blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces, put together to blocks of about 1 MiB."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)

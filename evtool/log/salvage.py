"""Which lines of a damaged segment stay, and in what form: none that is good is given up, nothing is made up.

Lines go together that one checksum covers. Where a checksum is wrong, first one flipped bit is looked for; if it is
more than that, the lines that still are events stay, and a new checksum covers them.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from itertools import accumulate

from evtool.log import check, line, mend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evtool.log.seals import Gaps
    from evtool.log.segment import Segment

_BLOCK = 1 << 20


class Edit:
    """Bytes of a segment, from `start` to `end`, in whose place `text` goes."""

    __slots__ = ("end", "start", "text")

    def __init__(self, start: int, end: int, text: bytes) -> None:
        self.start = start
        self.end = end
        self.text = text


class Salvage:
    """The way through the lines of a segment in which something is wrong.

    expected: the offset that the first line should have, if that is known. gaps: those that are known. is_sparse:
    whether the segment was compacted, so that no checksum in it tells anything. is_altered: whether it is known that
    not all is as it was; is_sealed: whether nothing comes behind it. moment: the time of the last line before. behind:
    time and offset of the first one behind, as far as they are known.

    What it leaves: edits, findings (what, and which offsets are gone by it), next: the offset behind the last line that
    stays, and floor: the least offset that was not given to anybody, as far as the damaged lines let that be guessed.
    """

    def __init__(
        self,
        segment: Segment,
        expected: int | None,
        gaps: Gaps,
        *,
        is_sparse: bool,
        is_altered: bool,
        is_sealed: bool,
        moment: bytes,
        behind: tuple[bytes, int | None],
    ) -> None:
        self._segment = segment
        self._gaps = gaps
        self._behind = behind
        self._sparse = is_sparse
        self._altered = is_altered
        self._sealed = is_sealed
        self.next = expected
        self.floor = expected or 0
        self.edits: list[Edit] = []
        self.findings: list[tuple[str, tuple[int, int] | None]] = []
        self.kept_lines = 0
        self.repeated = 0
        self._lost_lines = 0  # since the last line that stays
        self.time = moment  # of the last line that stays
        self._latest = b""  # a time that no line at hand may be behind, if that is known
        self._limit: int | None = None  # an offset that no line at hand may have or pass, if that is known

    def run(self) -> None:
        """Go through all lines, by the groups that a checksum covers."""
        size = self._segment.size()
        end = self._segment.end_of_lines(size)
        behind = _behind_each(_groups(self._segment, end), self._behind)
        for start, texts in _groups(self._segment, end):
            self._latest, self._limit = behind.pop()
            if self.next is not None and check.is_whole(texts[0]):
                offset = line.offset_of(texts[0])
                if offset > self.next and self._gaps.has(self.next, offset - 1):
                    self.next = offset
            if self._sparse:
                self._take_apart(start, texts)
            elif not self._is_in_order(start, texts):
                self._mend_group(start, texts)
        if end < size:
            is_nul = not os.pread(self._segment.fd, min(size - end, _BLOCK), end).strip(b"\0")
            what = "NUL bytes at the end are cut" if is_nul else "a torn line at the end is cut"
            if not (is_nul or self._sealed):
                what += "; nobody was told of it"
            self.findings.append((what, None))
            self.edits.append(Edit(end, size, b""))
        if self._lost_lines and self.next is not None:
            gone = (self.next, self.next + self._lost_lines - 1)
            self.findings.append((f"{_count(self._lost_lines)} taken out at the end", gone))
            self.floor = max(self.floor, gone[1] + 1)

    def _is_in_order(self, start: int, texts: list[bytes]) -> bool:
        """Whether a group needs no mending; if so it is behind us. At the end lines may be without a checksum.

        An append that was killed leaves such lines, and other programs do; unless a seal vouches for them they get one.
        """
        group = b"".join(texts)
        sound = mend.is_sound(group, self.next)
        if not sound and not self._altered and not any(map(_has_crc, texts)):
            following = self.next
            for text in texts:
                if not check.is_whole(text) or (following is not None and line.offset_of(text) != following):
                    return False
                following = line.offset_of(text) + 1
            if not self._sealed:
                ends = list(accumulate(map(len, texts), initial=start))
                self._cover(list(zip(ends, ends[1:], texts, strict=False)))
            sound = True
        if sound:
            self._stays(texts)
        return sound

    def _mend_group(self, start: int, texts: list[bytes]) -> None:
        group = b"".join(texts)
        if mend.is_sound(group, None) and self._follows(texts[0]):
            self._note_gap(texts[0])
            self._stays(texts)
            return
        if self._flip_back(start, texts):
            return
        for count in _joints(texts):  # the end of a group before may be damaged, and this be two of them
            if mend.is_sound(b"".join(texts[count:]), None):
                head = b"".join(texts[:count])
                if not self._flip_back(start, texts[:count]):
                    self._take_apart(start, texts[:count])
                rest = texts[count:]
                if self._follows(rest[0]):
                    self._note_gap(rest[0])
                    self._stays(rest)
                else:
                    self._take_apart(start + len(head), rest)
                return
        self._take_apart(start, texts)

    def _flip_back(self, start: int, texts: list[bytes]) -> bool:
        """Put the one bit right that is flipped in a group, if it is one; say whether it was."""
        mended = mend.flip_back(b"".join(texts), self.next)
        if mended is None:
            return False
        text, at = mended
        self.edits.append(Edit(start, start + len(text), text))
        self.findings.append((f"byte {start + at} had one bit flipped; the checksum tells which: put right", None))
        self._stays([one + b"\n" for one in text.split(b"\n")[:-1]])
        return True

    def _take_apart(self, start: int, texts: list[bytes]) -> None:
        """Keep the lines of a group that are events, and take the others out."""
        position = start
        kept: list[tuple[int, int, bytes]] = []
        is_alone = len(texts) == 1 and not self._sparse and _has_crc(texts[0]) and check.is_whole(texts[0])
        out_of_order = is_alone and self.next is not None and line.offset_of(texts[0]) < self.next
        if is_alone and not out_of_order and not mend.is_sound(texts[0], None):
            self._lose(position, len(texts[0]), "a line with a wrong checksum is taken out")
            return
        row = self._row(texts)
        behind = self._limit
        for number, text in enumerate(texts):
            self._limit = next((offset for at, offset in row.items() if at > number), behind)
            if number in row:
                kept.append((position, position + len(text), text))
                self._note_gap(text)
                self._stays([text])
            elif check.is_whole(text) and not self._follows(text):
                self.repeated += 1
                what = f"offset {line.offset_of(text)} stands here again; this line is taken out"
                self.findings.append((what, None))
                self.edits.append(Edit(position, position + len(text), b""))
            elif check.is_whole(text):
                self._lose(position, len(text), None)
            else:
                kept += self._pick_out(position, text)
            position += len(text)
        self._limit = behind
        if kept and not self._sparse:
            self._cover(kept)

    def _row(self, texts: list[bytes]) -> dict[int, int]:
        """Those of the lines that stay, by their places, with the offsets: as many as have rising times and offsets.

        One that says a wrong offset or time falls out of the row, rather than to push out those behind it.
        """
        events = [
            number
            for number, text in enumerate(texts)
            if check.is_whole(text) and self._follows(text) and self._may_be(text)
        ]
        in_time = _longest_rising([(line.time_of(texts[number]), number) for number in events])
        offsets = [(line.offset_of(texts[events[at]]), 0) for at in in_time]
        return {events[in_time[at]]: offsets[at][0] for at in _longest_rising(offsets)}

    def _pick_out(self, position: int, text: bytes) -> list[tuple[int, int, bytes]]:
        """Take a damaged line out, but for the events that are hidden in it."""
        found = []
        at = 0
        for start, end, event in mend.pieces(text):
            if not (self._follows(event) and self._may_be(event)):
                continue
            if start > at:
                self.edits.append(Edit(position + at, position + start, b""))
            if event != text[start:end]:
                self.edits.append(Edit(position + start, position + end, event))
            self.findings.append((f"offset {line.offset_of(event)} is freed from damaged bytes around it", None))
            self._note_gap(event)
            self._stays([event])
            found.append((position + start, position + end, event))
            at = end
        if not found:
            self._lose(position, len(text), None)
        elif at < len(text):
            self.edits.append(Edit(position + at, position + len(text), b""))
        return found

    def _cover(self, kept: list[tuple[int, int, bytes]]) -> None:
        """Let every checksum among these lines be right, and the last of them have one."""
        group = []
        for number, one in enumerate(kept, 1):
            group.append(one)
            if _has_crc(one[2]) or number == len(kept):
                self._cover_group(group)
                group = []

    def _cover_group(self, group: list[tuple[int, int, bytes]]) -> None:
        texts = [text for _, _, text in group]
        start, end, last = group[-1]
        covered = mend.with_crc(texts)
        if covered == last:
            return
        self.edits = [edit for edit in self.edits if (edit.start, edit.end) != (start, end)]
        self.edits.append(Edit(start, end, covered))
        span = f"{line.offset_of(texts[0])} to {line.offset_of(last)}"
        self.findings.append((f"no checksum vouches for offsets {span}; they stay, with a new one", None))

    def _lose(self, position: int, length: int, what: str | None) -> None:
        self.edits.append(Edit(position, position + length, b""))
        self._lost_lines += 1
        if what is not None:
            self.findings.append((what, None))

    def _follows(self, text: bytes) -> bool:
        return self.next is None or line.offset_of(text) >= self.next

    def _may_be(self, text: bytes) -> bool:
        """Whether a line for which no checksum vouches may be as it was: a time out of the row says that it is not."""
        moment = line.time_of(text)
        is_in_time = self.time <= moment and (not self._latest or moment <= self._latest)
        return is_in_time and (self._limit is None or line.offset_of(text) < self._limit)

    def _note_gap(self, text: bytes) -> None:
        """Say which offsets are gone before a line that stays."""
        offset = line.offset_of(text)
        is_known = self.next is not None and self._gaps.has(self.next, offset - 1)
        if self.next is not None and offset > self.next and not self._sparse and not is_known:
            lost = f"{_count(self._lost_lines)} taken out" if self._lost_lines else "lines are missing"
            self.findings.append((lost, (self.next, offset - 1)))
        elif self._lost_lines:
            self.findings.append((f"{_count(self._lost_lines)} taken out", None))
        self._lost_lines = 0

    def _stays(self, texts: list[bytes]) -> None:
        self.kept_lines += len(texts)
        self.next = line.offset_of(texts[-1]) + 1
        self.time = line.time_of(texts[-1])
        self.floor = max(self.floor, self.next)


def _count(lines: int) -> str:
    return "1 damaged line is" if lines == 1 else f"{lines} damaged lines are"


def _has_crc(text: bytes) -> bool:
    return text.startswith(line.START) and b',"crc":"' in text[:96]


def _groups(segment: Segment, end: int) -> Iterator[tuple[int, list[bytes]]]:
    """The lines before `end`, by the groups that end with a checksum, each with the position where it begins."""
    group: list[bytes] = []
    start = position = 0
    while position < end:
        block = os.pread(segment.fd, min(_BLOCK, end - position), position)
        stop = block.rfind(b"\n") + 1
        if not stop:
            following = segment.next_start(position + 1, end)
            block = os.pread(segment.fd, following - position, position)
            stop = len(block)
        for text in block[:stop].split(b"\n")[:-1]:
            group.append(text + b"\n")
            if _has_crc(text):
                yield start, group
                start += sum(map(len, group))
                group = []
        position += stop
    if group:
        yield start, group


def _behind_each(
    groups: Iterator[tuple[int, list[bytes]]], last: tuple[bytes, int | None]
) -> list[tuple[bytes, int | None]]:
    """Time and offset of the next sound group behind each group, that of the first group at the end; else `last`."""
    begins: list[tuple[bytes, int | None] | None] = []
    for _, texts in groups:
        is_sound = mend.is_sound(b"".join(texts), None)
        begins.append((line.time_of(texts[0]), line.offset_of(texts[0])) if is_sound else None)
    behind = []
    for begin in reversed(begins):
        behind.append(last)
        last = begin or last
    return behind


def _joints(texts: list[bytes]) -> Iterator[int]:
    """Where in a group an append may have ended whose checksum cannot be read: after damage, or before another time."""
    moments = [line.time_of(text) if check.is_whole(text) else b"" for text in texts]
    for count in range(1, len(texts)):
        if not moments[count - 1] or moments[count] != moments[count - 1]:
            yield count


def _longest_rising(values: Sequence[tuple[bytes | int, int]]) -> list[int]:
    """The places of a longest row of values that rise (by patience sorting)."""
    lasts: list[tuple[bytes | int, int]] = []  # of the rows of each length, the lowest value that one ends with
    places: list[int] = []  # and where it stands
    before: list[int] = []
    for place, value in enumerate(values):
        at = bisect_left(lasts, value)
        before.append(places[at - 1] if at else -1)
        lasts[at : at + 1], places[at : at + 1] = [value], [place]
    row: list[int] = []
    place = places[-1] if places else -1
    while place >= 0:
        row.append(place)
        place = before[place]
    return row[::-1]


def joined(edits: list[Edit]) -> Iterator[tuple[int, int]]:
    """The ranges of bytes that are edited, those that touch as one."""
    start = end = -1
    for edit in sorted(edits, key=lambda edit: edit.start):
        if edit.start != end:
            if end > start:
                yield start, end
            start = edit.start
        end = edit.end
    if end > start:
        yield start, end


def edited(segment: Segment, edits: list[Edit]) -> Iterator[bytes]:
    """The bytes of a segment after these edits."""
    position = 0
    size = segment.size()
    for edit in [*sorted(edits, key=lambda edit: edit.start), Edit(size, size, b"")]:
        while position < edit.start:
            block = os.pread(segment.fd, min(_BLOCK, edit.start - position), position)
            yield block
            position += len(block)
        yield edit.text
        position = edit.end

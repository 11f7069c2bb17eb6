"""The checker of histories for millions of numbered events: no line is kept, and the log's beginning may be trimmed.

It holds the log to the same promises as `history.check`, and reads the files by itself as well.
"""

from __future__ import annotations

import binascii
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.faults import numbered
from tests.faults.history import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class Told(NamedTuple):
    """An acknowledgement: `events` events from the sender's `n`-th on have the offsets from `offset` on."""

    n: int
    events: int
    offset: int


class Sender(NamedTuple):
    """A producer of numbered events, and what it was told. large: see `numbered`."""

    by: int
    told: Sequence[Told]
    large: int


class View(NamedTuple):
    """What a reader got at once: lines of `size` bytes with this CRC-32, from offset `first` up to `following`.

    Of size -1 are those that it was told to have missed.
    """

    first: int
    following: int
    size: int
    crc: int


class Log:
    """The lines of a topic, from wherever it begins, checked one by one as they are taken in; raises Violation.

    first: the offset of the first line; following: the one that the next line will have.
    """

    def __init__(self, large: int) -> None:
        self.first = self.following = -1
        self.text = bytearray()
        self.starts: list[int] = []  # of each line, in `text`
        self._large = large
        self._time = b""
        self._numbers: dict[int, list[int]] = {}  # by sender, of its events in the order of the log
        self._offsets: dict[int, list[int]] = {}

    def take_in(self, path: Path) -> None:
        """Take in the next segment."""
        text = path.read_bytes()
        named = int(path.name[:20])
        if self.first < 0:
            self.first = self.following = named
        if named != self.following:
            raise Violation(f"{path.name} begins after offset {self.following - 1}")
        self._take_in_lines(path.name, text)
        self.text += text

    def _take_in_lines(self, name: str, text: bytes) -> None:
        at = len(self.text)
        view = memoryview(text)
        end = covered = 0
        for match in numbered.LINE.finditer(text):
            start, before, end = match.start(), end, match.end()
            offset, moment, crc, by, n, pad = match.groups()
            if start != before:
                raise Violation(f"{name}: no event: {text[before : min(start, before + 200)]!r}")
            if int(offset) != self.following:
                raise Violation(f"{name}: offset {int(offset)} stands where {self.following} should")
            if moment < self._time:
                raise Violation(f"{name}: time falls at offset {self.following}")
            if crc:
                _check_crc(name, view[covered:end], match.start(3) - covered, crc)
                covered = end
            self._note(int(by), int(n), len(pad))
            self.starts.append(at + start)
            self._time = moment
            self.following += 1
        if end != len(text):
            raise Violation(f"{name}: no event: {text[end : end + 200]!r}")

    def _note(self, by: int, n: int, size: int) -> None:
        if size != numbered.size(by, n, self._large):
            raise Violation(f"nobody sent {by}:{n} with {size} bytes")
        self._numbers.setdefault(by, []).append(n)
        self._offsets.setdefault(by, []).append(self.following)

    def check_senders(self, senders: Iterable[Sender]) -> None:
        """Check that what was acknowledged is there, nothing twice, nothing invented, and in the order of each."""
        known = set()
        for sender in senders:
            known.add(sender.by)
            self._check_sender(sender)
        if invented := self._numbers.keys() - known:
            raise Violation(f"nobody sent what is by {sorted(invented)}")

    def _check_sender(self, sender: Sender) -> None:
        numbers = self._numbers.get(sender.by, [])
        offsets = self._offsets.get(sender.by, [])
        first = numbers[0] if numbers else 0
        if first and self.first == 0:
            raise Violation(f"lost: the first {first} events of {sender.by}")
        if numbers != list(range(first, first + len(numbers))):
            raise Violation(f"the events of {sender.by} are not there in order and once: {_where(numbers)}")
        for n, count, offset in sender.told:
            trimmed = max(0, self.first - offset)
            if trimmed < count:
                expected = list(range(offset + trimmed, offset + count))
                if offsets[n + trimmed - first : n + count - first] != expected or n + trimmed < first:
                    raise Violation(f"lost: {sender.by}:{n} and more, acknowledged as offsets from {offset} on")

    def check_views(self, views: Iterable[View]) -> int:
        """Check that one reader saw the log as it stands here, one after the other; return how many events it saw."""
        count = 0
        following = -1
        for view in views:
            if following >= 0 and view.first != following:
                raise Violation(f"a reader went from offset {following - 1} to {view.first}")
            following = view.following
            if view.size < 0:
                continue
            start, end = self._at(view.first), self._at(view.following)
            if end - start != view.size or binascii.crc32(memoryview(self.text)[start:end]) != view.crc:
                raise Violation(f"a reader saw offsets {view.first} to {view.following - 1} otherwise than they are")
            count += view.following - view.first
        return count

    def _at(self, offset: int) -> int:
        if not self.first <= offset <= self.following:
            raise Violation(f"a reader was at offset {offset}; there are {self.first} to {self.following - 1}")
        return self.starts[offset - self.first] if offset < self.following else len(self.text)


def read(topic: Path, large: int) -> Log:
    """Take in all segments of a topic."""
    log = Log(large)
    for path in sorted(topic.glob("*.jsonl")):
        log.take_in(path)
    return log


def _check_crc(name: str, group: memoryview, at: int, crc: bytes) -> None:
    """Check the checksum, of which the digits stand at `at`, over these lines."""
    found = binascii.crc32(group[at + 8 :], binascii.crc32(b"00000000", binascii.crc32(group[:at])))
    if b"%08x" % found != crc:
        raise Violation(f"{name}: wrong crc: {bytes(group[:80])!r}")


def _where(numbers: Sequence[int]) -> str:
    for number, (one, following) in enumerate(pairwise(numbers)):
        if following != one + 1:
            return f"{numbers[max(0, number - 2) : number + 4]}"
    return ""

"""The state that a topic describes: the newest event of each key, as of any offset, and how two states differ."""

from __future__ import annotations

from evtool.log import files, keys, line
from evtool.log.keys import NEWEST, Keys
from evtool.log.picked import Picked
from evtool.log.segment import Segment
from evtool.log.topic import segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtool.log.files import Directory


def state(topic: Directory, until: int | None = None) -> Iterator[bytes]:
    """The newest event before the offset `until` (or of all) of each key that is not deleted, in the order of the log.

    Given out as blocks of whole lines. It takes 20 bytes of memory for a key, and up to 16 for an event that is shown.
    """
    seen = Keys(most=None)
    picked = []
    for segment, end in _before(_as_of_now(topic), until):
        picked.append(Picked(segment))
        for start, lines, known in keys.backwards(segment, end):
            flags = seen.look(known)
            shown = bytearray(
                flag == NEWEST and not keys.deletes(text) for flag, text in zip(flags, lines, strict=True)
            )
            picked[-1].add(start, lines, shown)
    while picked:
        yield from picked.pop().blocks()


def newest(topic: Directory, key: bytes, until: int | None = None) -> bytes | None:
    """The newest event of a key (a JSON string) before the offset `until`, as a line; None if there is none, or a null.

    It looks no further back than that.
    """
    found = _newest_of(_as_of_now(topic), {key}, until).get(key)
    return None if found is None or keys.deletes(found) else found


class Change:
    """How a key differs between two states. key: a JSON string. before, after: lines; None where there is none."""

    __slots__ = ("after", "before", "key")

    def __init__(self, key: bytes, before: bytes | None, after: bytes | None) -> None:
        self.key = key
        self.before = before
        self.after = after


def changes(topic: Directory, since: int, until: int | None = None, key: bytes | None = None) -> Iterator[Change]:
    """The keys whose state before the offset `until` (or now) is not what it was before the offset `since`.

    key: only this one. They come in the order in which they changed last. It takes memory for all events that are told.
    """
    segments = _as_of_now(topic)
    after = _newest_between(segments, since, until, key)
    before = _newest_of(segments, set(after), since)
    for changed in reversed(after):
        old, new = (None if one is None or keys.deletes(one) else one for one in (before.get(changed), after[changed]))
        if (old is None and new is None) or (old and new and line.data_of(old) == line.data_of(new)):
            continue
        yield Change(changed, old, new)


def _as_of_now(topic: Directory) -> list[Segment]:
    """All segments, opened so that together they hold what was there at one moment, whatever is compacted meanwhile.

    Else an event could be missing that was superseded by one which stands behind the last of them.
    """
    while True:
        firsts = segment_offsets(topic)
        files.allow_open(len(firsts))
        try:
            segments = [Segment(topic, first) for first in firsts]
        except FileNotFoundError:  # trimmed, or compacted, in this moment
            continue
        if segment_offsets(topic) == firsts and not any(segment.is_gone() for segment in segments):
            return segments


def _before(segments: list[Segment], until: int | None) -> Iterator[tuple[Segment, int]]:
    """The segments with events before an offset, the last one first, each with the position where these end."""
    for segment in reversed(segments):
        end = segment.end_of_lines(segment.size())
        if until is None:
            yield segment, end
        elif segment.first < until:
            yield segment, segment.find_offset(end, until)


def _newest_between(segments: list[Segment], since: int, until: int | None, key: bytes | None) -> dict[bytes, bytes]:
    """The newest event of each key that has some from one offset up to another, the last one first."""
    found: dict[bytes, bytes] = {}
    for segment, end in _before(segments, until):
        for _, lines, known in keys.backwards(segment, end, segment.find_offset(end, since)):
            for text, one in zip(reversed(lines), reversed(known), strict=True):
                if one and (key is None or one == key) and one not in found:
                    found[one] = text + b"\n"
        if segment.first <= since:
            break
    return found


def _newest_of(segments: list[Segment], wanted: set[bytes], until: int | None) -> dict[bytes, bytes]:
    """The newest event before an offset of each of these keys that has one."""
    found: dict[bytes, bytes] = {}
    missing = set(wanted)
    for segment, end in _before(segments, until):
        for _, lines, known in keys.backwards(segment, end):
            if not missing:
                return found
            if missing.isdisjoint(known):
                continue
            for text, one in zip(reversed(lines), reversed(known), strict=True):
                if one in missing:
                    missing.discard(one)
                    found[one] = text + b"\n"
    return found

"""The state that a topic describes, out of the reader of any store: the newest event of each key, and what changed.

It answers as `evtool.log.state` does, which goes through files from the end backwards. A reader goes forwards, so that
all events are read. What counts is kept meanwhile: the newest line of each key, up to 64 MiB of them. If that is not
enough it is the key and about 120 bytes for each, and the lines are read once more. Whoever asks for one key gets by
with reading backwards, a piece at a time.
"""

from __future__ import annotations

from evtool.log import keys, line
from evtool.log.picked import in_blocks
from evtool.log.state import Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from evtool.stores.protocol import Topic

_MOST_KEPT = 64 << 20  # bytes of lines
_SHORTEST, _GROWTH = 1000, 8  # events that are read before the end at first, and by how much more the next time


def newest_of_each(topic: Topic, until: int | None = None) -> Iterator[bytes]:
    """The newest event before the offset `until` (or of all) of each key that is not deleted, in the order of the log.

    Given out as blocks of whole lines.
    """
    first, end = _span(topic, until)
    kept: dict[bytes, bytes] | None = {}
    newest: dict[bytes, int] = {}
    size = 0
    for offset, key, text in _keyed(topic, first, end):
        if kept is None:
            newest[key] = offset
            continue
        size += len(text) - len(kept.pop(key, b""))
        kept[key] = text
        if size > _MOST_KEPT:
            newest = {key: line.offset_of(text) for key, text in kept.items()}
            kept = None
    return _blocks(_again(topic, first, end, newest) if kept is None else kept.values())


def _again(topic: Topic, first: int, end: int, newest: dict[bytes, int]) -> Iterator[bytes]:
    """The lines with the newest offset of each key, read once more."""
    return (text for offset, key, text in _keyed(topic, first, end) if newest.get(key) == offset)


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that do not delete their key, in blocks of about 1 MiB."""
    return in_blocks(text for text in lines if not keys.deletes(text))


def newest_of(topic: Topic, key: bytes, until: int | None = None) -> bytes | None:
    """The newest event of a key (a JSON string) before the offset `until`, as a line; None if there is none, or a null.

    It looks about as far back as that.
    """
    first, end = _span(topic, until)
    found = _newest_before(topic, {key}, first, end).get(key)
    return None if found is None or keys.deletes(found) else found


def changes(topic: Topic, since: int, until: int | None = None, key: bytes | None = None) -> Iterator[Change]:
    """The keys whose state before the offset `until` (or now) is not what it was before the offset `since`.

    key: only this one. They come in the order in which they changed last. It takes memory for all events that are told.
    """
    first, end = _span(topic, until)
    after = _newest_between(topic, max(first, since), end, None if key is None else {key})
    before = _newest_before(topic, after, first, min(since, end))
    for changed, newer in after.items():
        old, new = (None if one is None or keys.deletes(one) else one for one in (before.get(changed), newer))
        if (old is None and new is None) or (old and new and line.data_of(old) == line.data_of(new)):
            continue
        yield Change(changed, old, new)


def _span(topic: Topic, until: int | None) -> tuple[int, int]:
    """The offset of the first event, and that before which all are wanted."""
    bounds = topic.bounds()
    return bounds.first, bounds.next if until is None else min(until, bounds.next)


def _newest_before(topic: Topic, wanted: Collection[bytes], first: int, end: int) -> dict[bytes, bytes]:
    """The newest line before an offset of each of these keys that has one.

    It goes backwards, by pieces that become longer.
    """
    found: dict[bytes, bytes] = {}
    missing, length = set(wanted), _SHORTEST
    while missing and end > first:
        start = max(first, end - length)
        piece = _newest_between(topic, start, end, missing)
        found |= piece
        missing -= piece.keys()
        end, length = start, length * _GROWTH
    return found


def _newest_between(topic: Topic, first: int, end: int, wanted: Collection[bytes] | None) -> dict[bytes, bytes]:
    """The newest line of each key, or of these, from one offset up to another, in the order of the log."""
    found: dict[bytes, bytes] = {}
    for _, key, text in _keyed(topic, first, end):
        if wanted is None or key in wanted:
            found.pop(key, None)
            found[key] = text
    return found


def _keyed(topic: Topic, first: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Offset, key and line of each event with a key, from one offset up to another."""
    if first >= end:
        return
    reader = topic.reader(first)
    while reader.next_offset < end and (block := reader.read()):
        for text in block.split(b"\n")[:-1]:
            if (offset := line.offset_of(text)) >= end:
                return
            if key := line.key_of(text):
                yield offset, _plain(key), text + b"\n"


def _plain(key: bytes) -> bytes:
    """A key as evtool writes it: equal keys are equal bytes, however others have escaped them."""
    if b"\\" not in key:
        return key
    import orjson

    return orjson.dumps(orjson.loads(key))

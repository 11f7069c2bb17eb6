"""The seals of a topic: the SHA-256 of every segment that is written no more, each chained to the one before.

They stand in `SHA256SUMS`, two lines a seal, which `sha256sum -c` checks as they are:

     1f0c…  00000000000000000000.jsonl
    # seal 9d2e…

The seal is the SHA-256 of the seal before it (64 zeros if there is none), a newline, and the line above it without its
first character. That character is a blank or, once the segment was removed or written anew, `#`: the one byte of the
file that ever changes, so that it can be changed on a full disk too. Who knows one seal can tell whether anything that
was sealed before it is as it was.

Repair notes in the same chain which offsets are gone for good, so that nobody looks for them again, and compaction
which segments went whole. Such a note has the
SHA-256 of ``FIRST-LAST`` and the name FIRST.gone, in as many digits as fit, and is no line for `sha256sum` from the
beginning:

    #5b1d…  000000000000000000030.gone
    # seal 77c0…

Whoever adds a seal looks at the last one only, and whoever retires some at none: it is `verify`, `repair` and `doctor`
that go through the chain. Who makes the seals, and when, stands in `evtool.log.sealing`.
"""

from __future__ import annotations

import fcntl
import os

from evtool.errors import CorruptionError, repair_hint
from evtool.log import files, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from evtool.log.files import Directory
    from evtool.log.segment import Segment

FILE_NAME = "SHA256SUMS"
NO_SEAL = "0" * 64  # what stands before the first one
_LIVE, _RETIRED = b" ", b"#"
_SEAL = b"# seal "
_ENTRY_LENGTH = 1 + 64 + 2 + names.SEGMENT_DIGITS + len(names.SEGMENT_SUFFIX) + 1 + len(_SEAL) + 64 + 1
_NAME = slice(67, 67 + names.SEGMENT_DIGITS + len(names.SEGMENT_SUFFIX))  # where in an entry the name stands
_BLOCK = 1 << 20
_GAP_SUFFIX = ".gone"
_GAP_DIGITS = names.SEGMENT_DIGITS + len(names.SEGMENT_SUFFIX) - len(_GAP_SUFFIX)


class Seal:
    """One seal. first: the first offset of the segment. is_live: whether the segment should still be like that.

    digest, chain: hexadecimal. is_gap: whether it is no segment's, but says that offsets from `first` on are gone.
    position: where in the file it begins.
    """

    __slots__ = ("chain", "digest", "first", "is_gap", "is_live", "position")

    def __init__(self, text: bytes, position: int) -> None:
        """Take one from its two lines. Raises ValueError if they are none."""
        entry, newline, seal = text.partition(b"\n")
        self.digest, self.first, self.is_gap, self.is_live = _parse_entry(entry)
        if not newline or not seal.startswith(_SEAL) or not seal.endswith(b"\n"):
            raise ValueError("this is no seal")
        self.chain = seal[len(_SEAL) : -1].decode()
        self.position = position

    @property
    def name(self) -> str:
        """What the seal is for, as it stands in the file."""
        return _gap_name(self.first) if self.is_gap else names.segment_name(self.first)


def _parse_entry(entry: bytes) -> tuple[str, int, bool, bool]:
    """Digest, first offset, and whether it is a gap or live, of the first of the two lines. Raises ValueError."""
    name = entry[_NAME.start :].decode("ascii", "replace")
    first = names.parse_segment(name)
    is_gap = first is None
    if first is None and len(name) == _GAP_DIGITS + len(_GAP_SUFFIX) and name.endswith(_GAP_SUFFIX):
        first = int(name[:_GAP_DIGITS])
    if first is None or entry[:1] not in (_LIVE, _RETIRED) or entry[65:67] != b"  ":
        raise ValueError("this is no seal")
    return entry[1:65].decode("ascii"), first, is_gap, entry[:1] == _LIVE and not is_gap


def _gap_name(first: int) -> str:
    return f"{first:0{_GAP_DIGITS}d}{_GAP_SUFFIX}"


class Gaps:
    """The offsets that are known to be gone: asked for a gap, it says whether it is one of these."""

    def __init__(self, known: list[Seal]) -> None:
        self._digests = {seal.digest for seal in known if seal.is_gap}

    def has(self, first: int, last: int) -> bool:
        """Whether just the offsets from `first` to `last` are known to be gone."""
        return bool(self._digests) and gap_digest(first, last) in self._digests


class Seals:
    """The seals of a topic as of one moment.

    entries: oldest first. broken_at: the byte at which the chain is broken, if it is. gaps: what is known to be gone.
    live: the digests that a segment should have, by its first offset; two while it is being written anew. digests: all
    that it ever had, each of which is in order: somebody may have been killed amid removing or replacing it. retired:
    the first offsets of segments that were removed or written anew; remade: of those that had several digests.

    checked: whether the chain is gone through, so that nothing counts from where it is broken on; else all that can be
    read is believed.
    """

    def __init__(self, topic: Directory, *, checked: bool = True) -> None:
        self.entries, self.broken_at = read(topic, checked=checked)
        self.gaps = Gaps(self.entries)
        self.live: dict[int, set[str]] = {}
        self.digests: dict[int, set[str]] = {}
        self.retired: set[int] = set()
        for seal in self.entries:
            if not seal.is_gap:
                self.digests.setdefault(seal.first, set()).add(seal.digest)
            if seal.is_live:
                self.live.setdefault(seal.first, set()).add(seal.digest)
            elif not seal.is_gap:
                self.retired.add(seal.first)
        again = {(seal.first, seal.digest) for seal in self.entries if not (seal.is_live or seal.is_gap)}
        self._going = {seal.first for seal in self.entries if seal.is_live and (seal.first, seal.digest) in again}
        self.doubles = [first for first, digests in self.live.items() if len(digests) > 1]
        self.remade = {first for first, digests in self.digests.items() if len(digests) > 1}

    def missing(self, there: Collection[int]) -> list[int]:
        """The segments that have a seal that counts and are not among those that are there, rising.

        One that got the seal again that it had lost was about to be removed in that moment, and is not missed.
        """
        return sorted(self.live.keys() - self._going.difference(there) - set(there))

    def unexplained(self, following: int, first: int) -> tuple[int, int] | None:
        """The offsets that are missing without a reason where `following` should be, and the segment `first` comes.

        From the first one on that was dropped whole, or is noted as gone, there is a reason.
        """
        if following >= first or following in self.retired:
            return None
        noted = self.retired.union(seal.first for seal in self.entries if seal.is_gap)
        end = min((one for one in noted if following < one < first), default=first)
        return None if self.gaps.has(following, end - 1) else (following, end - 1)


def gap_digest(first: int, last: int) -> str:
    """What stands in the place of a segment's SHA-256 for offsets that are gone."""
    from hashlib import sha256

    return sha256(f"{first}-{last}".encode()).hexdigest()


def read(topic: Directory, *, checked: bool = True) -> tuple[list[Seal], int | None]:
    """The seals of a topic, oldest first, and the byte at which the chain is broken, if it is; see `Seals`.

    A last one that is torn, or that a power cut left unwritten, does not count.
    """
    text = _read(topic)
    seals: list[Seal] = []
    chain = NO_SEAL
    for position in range(0, len(text) - _ENTRY_LENGTH + 1, _ENTRY_LENGTH):
        entry = text[position : position + _ENTRY_LENGTH]
        try:
            seal = Seal(entry, position)
        except ValueError:
            if not checked:
                continue
            is_last = position + 2 * _ENTRY_LENGTH > len(text)
            return seals, None if is_last and _is_unwritten(entry) else position
        if checked:
            chain = link(chain, seal.digest, seal.name)
            if seal.chain != chain:
                return seals, position
        seals.append(seal)
    return seals, None


def removed_or_remade(topic: Directory, since: int) -> list[int]:
    """The first offsets, rising, of segments that were removed or written anew, from the offset `since` on.

    Whoever appends waits for this look, so that it is one at the names alone.
    """
    text = _read(topic)
    lowest = names.segment_name(since).encode()
    seen: set[bytes] = set()
    found: set[bytes] = set()
    for position in range(0, len(text) - _ENTRY_LENGTH + 1, _ENTRY_LENGTH):
        name = text[position + _NAME.start : position + _NAME.stop]
        if name >= lowest:
            if name in seen or text[position : position + 1] == _RETIRED:
                found.add(name)
            seen.add(name)
    firsts = (names.parse_segment(name.decode("ascii", "replace")) for name in found)
    return sorted(first for first in firsts if first is not None)


def _read(topic: Directory) -> bytes:
    """The whole file, or nothing if there is none."""
    try:
        fd = topic.open(FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return _read_all(fd)
    except OSError as error:
        topic.fail(FILE_NAME, error)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _is_unwritten(entry: bytes) -> bool:
    """Whether a power cut may have left an entry like that: the file got its length on disk, but not all of its text.

    What lies in one block of the disk is NUL then, at the beginning of the entry or at its end. One flipped bit makes
    one NUL at most, and none at the end.
    """
    return entry.startswith(b"\0\0") or entry.endswith(b"\0")


def link(before: str, digest: str, name: str) -> str:
    """The seal that follows on the one before it for a segment with this digest and name."""
    from hashlib import sha256

    return sha256(f"{before}\n{digest}  {name}\n".encode()).hexdigest()


def digest(segment: Segment, progress: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a segment. progress: called with the number of bytes, again and again."""
    from hashlib import sha256

    hashed = sha256()
    buffer = bytearray(_BLOCK)
    position = 0
    while count := os.preadv(segment.fd, [buffer], position):
        hashed.update(memoryview(buffer)[:count])
        position += count
        if progress is not None:
            progress(count)
    return hashed.hexdigest()


class SealsFile:
    """The file of seals, open and locked as long as the `with` lasts, which is to be short: who trims waits for it.

    An OSError that ends the `with` becomes a StorageError that names the file.
    """

    def __init__(self, topic: Directory) -> None:
        self._topic = topic
        self._fd = -1

    def __enter__(self) -> SealsFile:
        try:
            self._fd = self._topic.open(FILE_NAME, os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            self.__exit__(None, error)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        if isinstance(error, OSError):
            self._topic.fail(FILE_NAME, error)

    def newest(self) -> Seal | None:
        """The last entry, or None if there is none. Raises CorruptionError if it cannot be read."""
        end = os.fstat(self._fd).st_size // _ENTRY_LENGTH * _ENTRY_LENGTH
        if end and _is_unwritten(self._entry(end)):
            end -= _ENTRY_LENGTH
        if not end:
            return None
        position = end - _ENTRY_LENGTH
        try:
            return Seal(self._entry(end), position)
        except ValueError:
            path = self._topic.path
            hint = repair_hint(path.rpartition("/")[2])
            raise CorruptionError(f"{path}/{FILE_NAME}", position, "this is no seal", hint=hint) from None

    def _entry(self, end: int) -> bytes:
        return os.pread(self._fd, _ENTRY_LENGTH, end - _ENTRY_LENGTH)

    def has(self, first: int) -> bool:
        """Whether the segment that begins with the offset `first` has a seal."""
        return any(True for _ in self._live([first]))

    def add(self, first: int, digest: str) -> None:
        """Seal the segment that begins with the offset `first`."""
        self._add(_LIVE.decode(), names.segment_name(first), digest)

    def add_gap(self, first: int, last: int) -> None:
        """Say that these offsets are gone, and that this is known."""
        state, name, digest = _RETIRED.decode(), _gap_name(first), gap_digest(first, last)
        if f"{state}{digest}  {name}\n".encode() not in _read_all(self._fd):
            self._add(state, name, digest)

    def _add(self, state: str, name: str, digest: str) -> None:
        newest = self.newest()
        before, end = (newest.chain, newest.position + _ENTRY_LENGTH) if newest else (NO_SEAL, 0)
        if newest:
            os.fsync(self._fd)  # so that a power cut can spoil none but the last
        if os.fstat(self._fd).st_size > end:
            os.ftruncate(self._fd, end)  # torn, by a kill or a power cut
        entry = f"{state}{digest}  {name}\n# seal {link(before, digest, name)}\n"
        files.write_all_at(self._fd, entry.encode(), end)

    def retire(self, firsts: Collection[int], *, but: str | None = None, only: str | None = None) -> bool:
        """Say that segments are no more what was sealed: in all seals, in all but one digest, or only in one.

        Returns whether there was anything to say.
        """
        retired = False
        for seal in self._live(firsts):
            if seal.digest != but and only in (None, seal.digest):
                files.write_all_at(self._fd, _RETIRED, seal.position)
                retired = True
        return retired

    def _live(self, firsts: Collection[int]) -> Iterator[Seal]:
        """The seals of these segments that count."""
        text = _read_all(self._fd)
        wanted = {names.segment_name(first).encode() for first in firsts}
        states = text[: len(text) // _ENTRY_LENGTH * _ENTRY_LENGTH : _ENTRY_LENGTH]
        number = states.find(_LIVE)  # nearly all are retired in a log that was trimmed for long
        while number >= 0:
            position = number * _ENTRY_LENGTH
            if text[position + _NAME.start : position + _NAME.stop] in wanted:
                try:
                    yield Seal(text[position : position + _ENTRY_LENGTH], position)
                except ValueError:  # unwritten, or damaged
                    pass
            number = states.find(_LIVE, number + 1)

    def mend(self) -> list[Seal]:
        """Forge the chain anew over all the entries that can still be read. Who knows an old seal will notice.

        Returns those that the chain did not vouch for before.
        """
        good = len(read(self._topic)[0])
        entries = []
        for text in _read_all(self._fd).split(b"\n"):
            try:
                entries.append(_parse_entry(text))
            except ValueError:
                continue
        os.ftruncate(self._fd, 0)
        for digest, first, is_gap, is_live in entries:
            name = _gap_name(first) if is_gap else names.segment_name(first)
            self._add((_LIVE if is_live else _RETIRED).decode(), name, digest)
        return read(self._topic)[0][good:]

    def sync(self) -> None:
        """Make what was said durable."""
        os.fsync(self._fd)


def retire(topic: Directory, firsts: Collection[int]) -> None:
    """Say, durably, that these segments are about to be removed. A topic without seals has nothing to say it in."""
    if not firsts or FILE_NAME not in topic.names():
        return
    with SealsFile(topic) as file:
        if file.retire(firsts):
            file.sync()

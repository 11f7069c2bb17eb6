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

Appending is not held up for it: a segment is sealed by a process of its own, unless it is small, and what was left
undone is made up for at the next roll. Only what is found to be in order gets a seal.
"""

from __future__ import annotations

import fcntl
import os
import sys

from evtool.errors import StorageError
from evtool.log import files, names
from evtool.log.segment import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from evtool.log.files import Directory

FILE_NAME = "SHA256SUMS"
FIRST = "0" * 64
_LIVE, _RETIRED = b" ", b"#"
_SEAL = b"# seal "
_ENTRY_LENGTH = 1 + 64 + 2 + names.SEGMENT_DIGITS + len(names.SEGMENT_SUFFIX) + 1 + len(_SEAL) + 64 + 1
_SMALL = 256 << 10  # bytes that are checked and hashed in 3 ms
_BLOCK = 1 << 20
_TURN_NAME = "seal.lock"
_TURN_FD = 3  # where the process that seals has its lock
_GAP_SUFFIX = ".gone"
_GAP_DIGITS = names.SEGMENT_DIGITS + len(names.SEGMENT_SUFFIX) - len(_GAP_SUFFIX)
_started: list[int] = []  # processes that have not been waited for


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
    name = entry[67:].decode("ascii", "replace")
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


class Known:
    """The seals of a topic as of one moment.

    all: oldest first. broken_at: the byte at which the chain is broken, if it is. gaps: what is known to be gone.
    live: the digests that a segment may have, by its first offset; two while it is being written anew. retired: the
    first offsets of segments that were removed or written anew; remade: of those that are still there.
    """

    def __init__(self, topic: Directory) -> None:
        self.all, self.broken_at = read(topic)
        self.gaps = Gaps(self.all)
        self.live: dict[int, set[str]] = {}
        self.retired: set[int] = set()
        for seal in self.all:
            if seal.is_live:
                self.live.setdefault(seal.first, set()).add(seal.digest)
            elif not seal.is_gap:
                self.retired.add(seal.first)
        self.doubles = [first for first, digests in self.live.items() if len(digests) > 1]
        self.remade = self.retired & self.live.keys() | set(self.doubles)

    def explain(self, following: int, first: int) -> bool:
        """Whether it is in order that the segment which begins with `first` comes where `following` should be."""
        return following == first or following in self.retired or self.gaps.has(following, first - 1)


def gap_digest(first: int, last: int) -> str:
    """What stands in the place of a segment's SHA-256 for offsets that are gone."""
    from hashlib import sha256

    return sha256(f"{first}-{last}".encode()).hexdigest()


def read(topic: Directory) -> tuple[list[Seal], int | None]:
    """The seals of a topic, oldest first, and the byte at which the chain is broken, if it is.

    A last one that is torn, or that a power cut left unwritten, does not count.
    """
    try:
        fd = topic.open(FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return [], None
    try:
        return _parse(_read_all(fd))
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _parse(text: bytes) -> tuple[list[Seal], int | None]:
    seals: list[Seal] = []
    chain = FIRST
    for position in range(0, len(text) - _ENTRY_LENGTH + 1, _ENTRY_LENGTH):
        is_last = position + 2 * _ENTRY_LENGTH > len(text)
        try:
            seal = Seal(text[position : position + _ENTRY_LENGTH], position)
        except ValueError:
            return seals, None if is_last else position
        chain = link(chain, seal.digest, seal.name)
        if seal.chain != chain:
            return seals, None if is_last else position
        seals.append(seal)
    return seals, None


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


class Sums:
    """The file of seals, open and locked as long as the `with` lasts, which is to be short: who trims waits for it."""

    def __init__(self, topic: Directory) -> None:
        self._topic = topic
        self._fd = -1

    def __enter__(self) -> Sums:
        self._fd = self._topic.open(FILE_NAME, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.seals, self.broken_at = _parse(_read_all(self._fd))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def add(self, first: int, digest: str) -> None:
        """Seal the segment that begins with the offset `first`. Raises OSError if there is no space."""
        self._add(_LIVE.decode(), names.segment_name(first), digest)

    def add_gap(self, first: int, last: int) -> None:
        """Say that these offsets are gone, and that this is known."""
        digest = gap_digest(first, last)
        if not any(seal.is_gap and seal.digest == digest for seal in self.seals):
            self._add(_RETIRED.decode(), _gap_name(first), digest)

    def _add(self, state: str, name: str, digest: str) -> None:
        whole = len(self.seals) * _ENTRY_LENGTH
        before = self.seals[-1].chain if self.seals else FIRST
        entry = f"{state}{digest}  {name}\n# seal {link(before, digest, name)}\n".encode()
        if self.seals:
            os.fsync(self._fd)  # so that a power cut can spoil none but the last
        if os.fstat(self._fd).st_size > whole:
            os.ftruncate(self._fd, whole)  # torn, by a kill or a power cut
        files.write_all_at(self._fd, entry, whole)
        self.seals.append(Seal(entry, whole))

    def retire(self, first: int, *, but: str | None = None, only: str | None = None) -> None:
        """Say that a segment is no more what was sealed: in all its seals, in all but one digest, or only in one."""
        for seal in self.seals:
            if seal.is_live and seal.first == first and seal.digest != but and only in (None, seal.digest):
                files.write_all_at(self._fd, _RETIRED, seal.position)
                seal.is_live = False

    def mend(self) -> None:
        """Forge the chain anew over all the entries that can still be read. Who knows an old seal will notice."""
        entries = []
        for text in _read_all(self._fd).split(b"\n"):
            try:
                entries.append(_parse_entry(text))
            except ValueError:
                continue
        os.ftruncate(self._fd, 0)
        self.seals, self.broken_at = [], None
        for digest, first, is_gap, is_live in entries:
            name = _gap_name(first) if is_gap else names.segment_name(first)
            self._add((_LIVE if is_live else _RETIRED).decode(), name, digest)

    def sync(self) -> None:
        """Make what was said durable."""
        os.fsync(self._fd)


def retire(topic: Directory, firsts: Collection[int]) -> None:
    """Say, durably, that these segments are about to be removed. A topic without seals has nothing to say it in.

    Whoever appends may be waiting, so the chain is not gone through for it.
    """
    if not firsts:
        return
    try:
        fd = topic.open(FILE_NAME, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        text = _read_all(fd)
        changed = False
        for first in firsts:
            at = text.find(f"  {names.segment_name(first)}\n".encode())
            while at >= 0:
                if text[at - 65 : at - 64] == _LIVE:
                    os.pwrite(fd, _RETIRED, at - 65)
                    changed = True
                at = text.find(f"  {names.segment_name(first)}\n".encode(), at + 1)
        if changed:
            os.fsync(fd)
    except OSError as error:
        topic.fail(FILE_NAME, error)
    finally:
        os.close(fd)


def seal_all(topic: Directory) -> int:
    """Seal every segment that is written no more and has no seal yet, and is in order; return how many.

    Raises OSError if there is no space for it.
    """
    known = Known(topic)
    settle(topic, known)
    gaps = known.gaps
    count = 0
    for first in list(unsealed(topic)):
        try:
            segment = Segment(topic, first)
        except FileNotFoundError:  # trimmed in this moment
            continue
        count += _seal(topic, segment, gaps)
    return count


def settle(topic: Directory, known: Known) -> None:
    """Retire the old seals of segments that were written anew by somebody who was killed before he came to it."""
    for first in known.doubles:
        try:
            there = digest(Segment(topic, first))
        except FileNotFoundError:
            continue
        if there in known.live[first]:
            with Sums(topic) as sums:
                sums.retire(first, but=there)


def _seal(topic: Directory, segment: Segment, gaps: Gaps) -> bool:
    from evtool.log import check

    if check.has_problem(segment, gaps):
        return False
    found = digest(segment)
    with Sums(topic) as sums:
        if sums.broken_at is not None or segment.is_gone():
            return False
        if any(seal.is_live and seal.first == segment.first for seal in sums.seals):  # another process was faster
            return False
        sums.add(segment.first, found)
    return True


def unsealed(topic: Directory) -> Iterator[int]:
    """The first offsets of the segments that are written no more and have no seal, rising."""
    from evtool.log.topic import segment_offsets

    sealed = {seal.first for seal in read(topic)[0] if seal.is_live}
    for first in segment_offsets(topic):
        if first not in sealed and _mode(topic, first) == files.SEALED_MODE:
            yield first


def _mode(topic: Directory, first: int) -> int:
    try:
        return os.lstat(names.segment_name(first), dir_fd=topic.fd).st_mode & 0o777
    except FileNotFoundError:
        return 0


def after_roll(topic: Directory, size: int = 0) -> None:
    """Seal what a roll has left: here if it is little, else in a process that nobody waits for.

    size: of the segment that was finished, if that is known: then a large one is not looked for.

    Sealing that fails is no failure of the append: it is made up for at the next roll.
    """
    try:
        waiting = size
        if size <= _SMALL:
            waiting = sum(os.lstat(names.segment_name(first), dir_fd=topic.fd).st_size for first in unsealed(topic))
        if waiting <= _SMALL:
            seal_all(topic)
        elif sys.executable:
            _start_sealer(topic)
    except (OSError, StorageError):
        pass


def _start_sealer(topic: Directory) -> None:
    """Let a process of its own seal, unless one is at it. It ends by itself, and nobody needs to wait for it.

    It is given the lock that says so; this process has closed it before the other one has even begun.
    """
    turn = topic.open(_TURN_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _started[:] = [pid for pid in _started if _is_running(pid)]
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, turn, _TURN_FD)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]  # type: ignore[misc]
        command = [sys.executable, "-P", "-m", "evtool.log.seals", topic.path]
        _started.append(os.posix_spawn(sys.executable, command, os.environ, file_actions=actions))
    except BlockingIOError:  # it looks again before it ends
        pass
    finally:
        os.close(turn)


def _is_running(pid: int) -> bool:
    """Whether a process that we started still has to be waited for."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:  # somebody else did
        return False


def main(path: str) -> None:
    """Seal in the background: a process whose parent does not wait for it, as a daemon is. It is given the lock."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.nice(10)
    topic = files.Directory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    while True:
        done = seal_all(topic)
        fcntl.flock(_TURN_FD, fcntl.LOCK_UN)
        if not done or not list(unsealed(topic)):  # whoever rolled while we had the lock relies on this look
            return
        try:
            fcntl.flock(_TURN_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (OSError, StorageError):
        os._exit(1)

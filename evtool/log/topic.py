"""The write side of a topic: append, heal, roll, sync. See DESIGN in the manual: evtool-log(5), "Appending"."""

from __future__ import annotations

import os
import time
from zlib import crc32

from evtool.errors import ConditionError, PartialAppendError, StorageError, SyncError, repair_hint
from evtool.log import files, line, names
from evtool.log.lock import holder, lock, unlock
from evtool.log.segment import Segment
from evtool.log.segment import segment_offsets as segment_offsets
from evtool.log.settings import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evtool.log.files import Directory
    from evtool.log.settings import Settings

LOCK_NAME = "lock"
_PACE = 8 << 20  # sync at least every so many bytes, so that nobody has to wait long for the sync of a roll
_MOST_UNSYNCED = 2  # segments that others have sealed since, which are kept open for their sync
_LITTLE = 4096
NEW_SUFFIX = ".new"


class TopicLog:
    """Appends to one topic. Not for several threads at once: each opens its own.

    directory: the topic's directory.
    notify: called with a sentence about what was found and mended on the way.
    """

    __slots__ = (
        "_active", "_carry", "_lock_fd", "_next", "_notify", "_pid", "_removed", "_rolled", "_settings", "_size",
        "_time", "_unsynced", "directory", "name",
    )  # fmt: skip

    def __init__(self, directory: Directory, name: str, notify: Callable[[str], None] | None = None) -> None:
        self.directory = directory
        self.name = name
        self._notify = notify
        self._settings: Settings | None = None
        self._lock_fd = -1
        self._pid = 0
        self._unsynced: list[Segment] = []
        self._rolled: tuple[int, int] | None = None  # first offset and size of what was finished under the lock
        self._removed: list[Segment] = []  # segments that were trimmed meanwhile: closing them frees their space
        # What the last append left, valid as long as the active segment has `_size` bytes and is not sealed:
        self._active: Segment | None = None
        self._size = 0
        self._next = 0
        self._time = b""
        self._carry = 0  # CRC-32 of the bytes since the last line that has one

    def __del__(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def settings(self) -> Settings:
        """The topic's settings, read again after each roll."""
        if self._settings is None:
            self._settings = load(self.directory)
        return self._settings

    # Appending

    def append(
        self,
        bodies: Sequence[bytes],
        common: bytes = b"",
        *,
        ids: Sequence[str | None] | None = None,
        tokens: Sequence[str] | None = None,  # noqa: ARG002
        expect: int | None = None,
        timeout: float | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Sequence[int]:
        """Store events, in order and next to each other, and return the offset of each. Not yet durable: see `sync`.

        bodies, common: the bodies of the lines, see `evtool.log.line`.
        ids: the id of each event, or None; one whose id is already in the log (within the topic's `dedupe` time) is not
            stored again, and the offset of the first is returned for it.
        tokens: of no use here: what a killed process has sent is in the log, or will never be.
        expect: store only if this is the next offset, else raise ConditionError.
        timeout: seconds to wait for the lock, then BusyError. on_wait: called once if the lock is taken.

        Raises PartialAppendError if only the first events fitted on the disk, CorruptionError if the log's last line
        is damaged, SyncError if an earlier sync failed.
        """
        if not bodies:
            return range(0)
        self.lock(timeout, on_wait)
        try:
            self._find_tail()
            before = self._size
            if expect is not None and expect != self._next:
                raise ConditionError(self.name, f"the next offset is {self._next}, not {expect}")
            offsets = self._store(bodies, common) if ids is None else self._store_new(bodies, common, ids)
        finally:
            self._unlock()
        if before // _PACE != self._size // _PACE or len(self._unsynced) > _MOST_UNSYNCED:
            self.sync()
        return offsets

    def append_whole(
        self,
        batches: Iterable[Sequence[bytes]],
        common: bytes = b"",
        *,
        expect: int | None = None,
        timeout: float | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> range:
        """Store all events of all batches or, whatever happens, none; return their offsets. Durable on return.

        They get a segment of their own, which is written under another name and renamed when all of it is on disk.
        Arguments and errors as in `append`; a full disk is a StorageError.
        """
        self.lock(timeout, on_wait)
        try:
            self._find_tail()
            first = self._next
            if expect is not None and expect != first:
                raise ConditionError(self.name, f"the next offset is {first}, not {expect}")
            self._write_segment(batches, common)
            return range(first, self._next)
        finally:
            self._unlock()

    def sync(self) -> None:
        """Make everything that this object appended durable. Raises SyncError; then the log takes no more events."""
        while self._unsynced:
            try:
                self._unsynced[-1].sync()
            except SyncError:
                self._unsynced.clear()
                self._active = None
                raise
            self._unsynced.pop()

    def settle(self) -> tuple[int, int]:
        """Make all that is in the log durable, whoever appended it; return the active segment's first offset and size.

        Raises SyncError, as `sync` does.
        """
        self.lock()
        try:
            self._find_tail()
            segment, size = self._active, self._size
            assert segment is not None
            if segment not in self._unsynced:
                self._unsynced.append(segment)
        finally:
            unlock(self._lock_fd)
        self.sync()
        return segment.first, size

    def next_offset(self) -> int:
        """The offset that the next event will get. Takes the lock, heals a torn tail and creates what is missing."""
        self.lock()
        try:
            self._find_tail()
            return self._next
        finally:
            unlock(self._lock_fd)

    def lock(self, timeout: float | None = None, on_wait: Callable[[], None] | None = None) -> None:
        """Take the topic's lock."""
        pid = os.getpid()
        if pid != self._pid:  # a fork shares its parent's open file, and with it the parent's lock
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
            self._lock_fd = self.directory.open(LOCK_NAME, os.O_RDWR | os.O_CREAT)
            self._pid = pid
        lock(self._lock_fd, self.name, timeout=timeout, on_wait=on_wait)

    def waits_for(self) -> str | None:
        """What an append waits for: the lock, and who holds it. None if that is not to be told, or not so any more."""
        pid = holder(self._lock_fd)
        if pid == os.getpid():
            return None
        return f"the lock, which {f'process {pid}' if pid else 'another process'} holds"

    @property
    def limit(self) -> int:
        """The most bytes that the data of one event may have."""
        return self.settings.max_event_bytes

    def takes(self, size: int) -> bool:
        """Whether the data of an event may have so many bytes."""
        return size <= self.limit

    def _unlock(self) -> None:
        """Give the lock back, and see to what a roll leaves to be done."""
        unlock(self._lock_fd)
        if self._rolled:
            from evtool.log import sealing

            (first, size), self._rolled = self._rolled, None
            self._removed = []
            sealing.after_roll(self.directory, first, size)

    # What follows is done under the lock.

    def _store(self, bodies: Sequence[bytes], common: bytes) -> range:
        first = self._next
        self._time = max(self._time, line.stamp(time.time_ns()))
        block = line.render(first, self._time, common, bodies, self._carry)
        if self._size and self._size + len(block) > self.settings.segment_bytes:
            self._roll()
            block = line.render(first, self._time, common, bodies, 0)
        self._write(block, len(bodies))
        self._size += len(block)
        self._next = first + len(bodies)
        self._carry = 0
        return range(first, self._next)

    def _store_new(self, bodies: Sequence[bytes], common: bytes, ids: Sequence[str | None]) -> list[int]:
        from evtool.log import dedupe

        offsets, fresh = dedupe.place(self.directory, ids, self._next, self.settings.dedupe)
        if fresh:
            self._store([bodies[index] for index in fresh], common)
        return offsets

    def _write(self, block: bytes, count: int) -> None:
        assert self._active is not None
        if self._active not in self._unsynced:
            self._unsynced.append(self._active)
        try:
            if os.write(self._active.fd, block) != len(block):
                self._write_rest(self._active, block)
        except OSError as error:
            stored = self._keep_whole_lines(block)
            raise PartialAppendError(
                self.name,
                files.reason(error),
                stored=stored,
                total=count,
                first=self._next,
                last=self._next + stored - 1,
            ) from error
        except BaseException:
            self._keep_whole_lines(block)
            raise

    def _write_rest(self, segment: Segment, block: bytes) -> None:
        """Go on after a write that took only a part, as it does on a disk that is filling up."""
        files.write_all(segment.fd, memoryview(block)[segment.size() - self._size :])

    def _keep_whole_lines(self, block: bytes) -> int:
        """After a write that stopped midway: cut the torn line, keep the others, return how many they are."""
        segment, start = self._active, self._size
        assert segment is not None
        self._active = None
        size = segment.size()
        end = max(start, segment.end_of_lines(size))
        if end < size:
            os.ftruncate(segment.fd, end)
        return block.count(b"\n", 0, end - start)

    def _find_tail(self) -> None:
        """Make the cached tail true: cheaply if nobody else wrote, from the file's last line otherwise."""
        if self._active is not None:
            status = os.fstat(self._active.fd)
            if status.st_mode & files.WRITABLE and status.st_nlink:
                if status.st_size != self._size and not self._catch_up(self._active, status.st_size):
                    self._read_tail(self._active, status.st_size, [])
                return
        self._open_active()

    def _catch_up(self, segment: Segment, size: int) -> bool:
        """Take the tail from what others appended since, if that is little and in good order; say whether it was."""
        if not 0 < size - self._size <= _LITTLE:
            return False
        found = line.parse_tail(os.pread(segment.fd, _LITTLE, self._size))
        if found is None:
            return False
        self._next, self._time = found[0] + 1, found[1]
        self._size, self._carry = size, 0
        return True

    def _open_active(self) -> None:
        self._active = None
        self._settings = None
        self._remove_unfinished()
        firsts = segment_offsets(self.directory)
        if not firsts:
            self._create_segment(0)
            return
        last = firsts.pop()
        segment = Segment(self.directory, last)
        status = os.fstat(segment.fd)
        if status.st_mode & files.WRITABLE:
            segment = Segment(self.directory, last, os.O_RDWR | os.O_APPEND)
            if status.st_size == 0:  # whoever made it may have died before its name was durable
                self.directory.sync()
            self._read_tail(segment, status.st_size, firsts)
        elif status.st_mode & 0o777 == files.SEALED_MODE:
            self._read_tail(segment, status.st_size, firsts)
            self._create_segment(self._next)
        else:
            raise SyncError(segment.path, "an earlier sync of this segment failed", hint=repair_hint(self.name))

    def _remove_unfinished(self) -> None:
        """Remove what an `append_whole` that was killed has left; nothing of it was ever in the log."""
        for name in self.directory.names():
            if name.endswith(names.SEGMENT_SUFFIX + NEW_SUFFIX):
                os.unlink(name, dir_fd=self.directory.fd)

    def _read_tail(self, segment: Segment, size: int, earlier: list[int]) -> None:
        """Take next offset, time and carry from the last line of `segment`, or of the one before if it is empty."""
        end = segment.end_of_lines(size)
        if end < size:
            self._heal(segment, end, size)
        if end:
            start, text = segment.last_line(end)
            self._next = line.offset_of(text) + 1
            self._time = line.time_of(text)
            self._carry = 0 if line.crc_of(text) else _carry(segment, start, end)
        else:
            self._next = segment.first
            self._carry = 0
            self._time = self._last_time(earlier)
        self._active = segment
        self._size = end

    def _last_time(self, firsts: list[int]) -> bytes:
        """The time of the last event in these segments; what is known of it if there is none."""
        for first in reversed(firsts):
            segment = Segment(self.directory, first)
            if end := segment.end_of_lines(segment.size()):
                return line.time_of(segment.last_line(end)[1])
        return self._time

    def _heal(self, segment: Segment, end: int, size: int) -> None:
        """Cut a torn last line, after its bytes have been put aside."""
        from evtool.log import damaged

        kept = damaged.put_aside(self.directory, segment, end, size)
        try:
            os.ftruncate(segment.fd, end)
        except OSError as error:
            raise StorageError(segment.path, f"cannot cut a torn line: {files.reason(error)}") from error
        segment.sync()
        if self._notify is not None:
            self._notify(f"{self.name}: cut {size - end} bytes of an append that was killed; they are kept in {kept}")

    # Segments

    def _create_segment(self, first: int) -> None:
        """Make the segment that starts at `first` the active one. Its name is durable before anything is in it."""
        if first == 0:
            for parent in self.directory.parents():
                parent.sync()
        try:
            self._active = Segment(self.directory, first, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        except FileNotFoundError as error:
            self.directory.fail(names.segment_name(first), error)
        self.directory.sync()
        self._size = 0
        self._next = first
        self._carry = 0

    def _roll(self) -> None:
        """Seal the active segment and begin the next."""
        self._seal()
        self._create_segment(self._next)
        self._enforce_limits()

    def _enforce_limits(self) -> None:
        """Read the settings anew and trim what they do not let the topic keep, as is done whenever a segment ends."""
        self._settings = None
        if self.settings.has_limits:
            from evtool.log import retention

            self._removed = retention.enforce(self.directory, self.settings)
            space = os.statvfs(self.directory.fd)
            if space.f_bavail * space.f_frsize < self.settings.segment_bytes:
                self._removed = []  # whoever waits for the lock waits for their space too

    def _seal(self) -> None:
        assert self._active is not None
        segment, self._active = self._active, None
        try:
            os.fsync(segment.fd)
        except OSError as error:
            raise segment.shut(error) from error
        os.fchmod(segment.fd, files.SEALED_MODE)
        self._rolled = segment.first, segment.size()
        if segment in self._unsynced:
            self._unsynced.remove(segment)

    def _write_segment(self, batches: Iterable[Sequence[bytes]], common: bytes) -> None:
        """Seal the active segment and put one with all events of the batches behind it, at once."""
        new = names.segment_name(self._next) + NEW_SUFFIX
        fd = self.directory.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._time = max(self._time, line.stamp(time.time_ns()))
            first = following = self._next
            size = 0
            for bodies in filter(None, batches):
                block = line.render(following, self._time, common, bodies, 0)
                files.write_all(fd, block)
                following += len(bodies)
                size += len(block)
            os.fsync(fd)
        except BaseException as error:
            os.unlink(new, dir_fd=self.directory.fd)
            if isinstance(error, OSError):
                raise StorageError(self.name, f"stored none of the events: {files.reason(error)}") from error
            raise
        finally:
            os.close(fd)
        if self._size:
            self._seal()
        self.directory.rename(new, names.segment_name(first))
        self.directory.sync()
        self._active = Segment(self.directory, first, os.O_RDWR | os.O_APPEND)
        self._size, self._next, self._carry = size, following, 0
        self._enforce_limits()


def _carry(segment: Segment, start: int, end: int) -> int:
    """The CRC-32 of all bytes before `end` that no line's crc covers; the last of these lines begins at `start`."""
    while start:
        previous, text = segment.last_line(start)
        if line.crc_of(text):
            break
        start = previous
    carry = 0
    for at in range(start, end, 1 << 20):
        carry = crc32(os.pread(segment.fd, min(1 << 20, end - at), at), carry)
    return carry

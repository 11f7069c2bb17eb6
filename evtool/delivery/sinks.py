"""Where a fan-out takes events in blocks: another topic, or a file. Each is a `deliver` for a consumer."""

from __future__ import annotations

import os
import stat
import time

from evtool.errors import StorageError
from evtool.log import files, line
from evtool.log.lock import lock, unlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.consumer import Handled
    from evtool.stores.protocol import Writer

BLOCK = 1 << 20  # of lines for a file
_LONGEST_TAIL = 2 << 20
_SYNC_SECONDS = 1.0
DATE = "{date}"


class TopicSink:
    """Appends to another topic: attributes and data as they are, offset and time anew."""

    def __init__(self, log: Writer) -> None:
        self._log = log

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Append these lines and make them durable. Those with an id that is there already are not stored again."""
        events = lines.split(b"\n")[:-1]
        ids = [line.attributes(text).get("id") for text in events] if b',"id":' in lines else None
        self._log.append([line.body_of(text + b"\n") for text in events], ids=ids)
        self._log.sync()
        handled(None)

    def settle(self) -> None:
        """Nothing is left to be done."""


class FileSink:
    """Appends the stored lines to a file that others may append to as well.

    They are handled when they are on disk, which is seen to about once a second, and by `settle`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.FILE_MODE)
        except OSError as error:
            raise StorageError(path, files.reason(error)) from error
        self._is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._synced = time.monotonic()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Write these lines; of lines that do not fit nothing is left."""
        try:
            if self._is_regular:
                self._append(lines)
            else:
                files.write_all(self._fd, lines)
        except OSError as error:
            raise StorageError(self._path, files.reason(error)) from error
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self.settle()
            handled(None)

    def settle(self) -> None:
        """Make all that was written durable."""
        try:
            if self._is_regular:
                files.sync_data(self._fd)
        except OSError as error:
            raise StorageError(self._path, f"cannot sync: {files.reason(error)}") from error
        self._synced = time.monotonic()

    def _append(self, lines: bytes) -> None:
        lock(self._fd, self._path)  # another sink may be at the same file
        try:
            end, lines = self._heal(lines, os.fstat(self._fd).st_size)
            try:
                files.write_all(self._fd, lines)
            except OSError:
                self._take_back(lines, end)
                raise
        finally:
            unlock(self._fd)

    def _heal(self, lines: bytes, end: int) -> tuple[int, bytes]:
        """If the file ends in the midst of a line, cut it if it is ours, else end it; return its end and what to write.

        Ours it is if it begins as an event does: whoever was killed in the midst of it has not acknowledged it, and
        writes it again.
        """
        if end == 0 or os.pread(self._fd, 1, end - 1) == b"\n":
            return end, lines
        tail = os.pread(self._fd, _LONGEST_TAIL, max(0, end - _LONGEST_TAIL))
        torn = tail[tail.rfind(b"\n") + 1 :]
        if line.START.startswith(torn[: len(line.START)]):
            os.ftruncate(self._fd, end - len(torn))
            return end - len(torn), lines
        return end, b"\n" + lines

    def _take_back(self, lines: bytes, end: int) -> None:
        """Cut off what a full disk has taken of these lines, unless somebody else has written behind it."""
        size = os.fstat(self._fd).st_size
        if lines.startswith(os.pread(self._fd, size - end, end)):
            os.ftruncate(self._fd, end)


class DatedFileSink:
    """Appends the stored lines to files with the date of each event (UTC) in their names, where `{date}` stands."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._date = b""
        self._file: FileSink | None = None

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Write these lines, each to the file of its day, and make them durable."""
        day: list[bytes] = []
        for text in lines.split(b"\n")[:-1]:
            date = line.time_of(text)[: len("2026-11-23")]
            if date != self._date:
                self._write(day, handled)
                self.settle()
                day = []
                self._date = date
                self._file = None
            day.append(text + b"\n")
        self._write(day, handled)

    def settle(self) -> None:
        """Make all that was written durable."""
        if self._file is not None:
            self._file.settle()

    def _write(self, day: list[bytes], handled: Handled) -> None:
        if not day:
            return
        if self._file is None:
            self._file = FileSink(self._path.replace(DATE, self._date.decode()))
        whole = b"".join(day)
        self._file.deliver(whole, lambda _: handled(whole))


def file_sink(path: str) -> FileSink | DatedFileSink:
    """The sink that this path, which may have `{date}` in it, names."""
    return DatedFileSink(path) if DATE in path else FileSink(path)

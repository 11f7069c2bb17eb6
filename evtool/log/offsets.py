"""A group's commit log: which events of a topic the group has handled.

    {"committed":81920,"time":"2026-11-23T22:25:32.123456Z"}

One line a commit, the last whole line counts. `committed` is the offset of the next event that the group will get. Only
the process that holds the group's lock writes it, anybody may read it.
"""

from __future__ import annotations

import os
import time

from evtool.errors import REPAIR_HINT, CorruptionError, StorageError
from evtool.log import files, line, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory

DIRECTORY_NAME = "consumers"
_START = b'{"committed":'
_TIME = b',"time":"'
_END = b'"}\n'
_LARGEST = 64 << 10


class Commit:
    """One commit: the offset of the group's next event, and when (27 bytes) that was said."""

    __slots__ = ("committed", "time")

    def __init__(self, committed: int, moment: bytes) -> None:
        self.committed = committed
        self.time = moment


def render(committed: int, moment: bytes) -> bytes:
    """One line of a commit log."""
    return _START + b"%d" % committed + _TIME + moment + _END


def parse(text: bytes) -> Commit | None:
    """The commit that a whole line says, or None if it says none."""
    digits, found, rest = text[len(_START) :].partition(b",")
    if not (text.startswith(_START) and found and digits.isdigit()):
        return None
    start = len(_TIME) - 1
    return Commit(int(digits), rest[start : start + line.TIME_LENGTH])


def read_commits(consumers: Directory, group: str) -> list[Commit]:
    """All commits that a group's file still holds, oldest first; none if there is no such group.

    Raises CorruptionError if there are whole lines and none of them is a commit.
    """
    try:
        fd = consumers.open(names.commits_name(group), os.O_RDONLY)
    except FileNotFoundError:
        return []
    try:
        text = _read_all(fd)
    finally:
        os.close(fd)
    lines = text.split(b"\n")[:-1]  # what is behind the last newline is torn
    commits = [commit for one in lines if (commit := parse(one)) is not None]
    if lines and not commits:
        path = f"{consumers.path}/{names.commits_name(group)}"
        raise CorruptionError(path, 0, "no line of it is a commit", hint=REPAIR_HINT)
    return commits


def group_names(consumers: Directory) -> list[str]:
    """The groups that have commits here, sorted."""
    return sorted(group for name in consumers.names() if (group := names.parse_commits(name)) is not None)


class Commits:
    """The write side of a group's commit log, for the one who holds the group's lock."""

    def __init__(self, consumers: Directory, group: str) -> None:
        """Open the commit log, made if it is missing. `committed` is None until something was committed."""
        self._fd = -1
        self._directory = consumers
        self._name = names.commits_name(group)
        known = read_commits(consumers, group)
        self.committed: int | None = known[-1].committed if known else None
        self._open()
        self._dirty = False
        self._is_suspect = False  # a sync of the file failed

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def commit(self, committed: int) -> None:
        """Say that everything before the offset `committed` is handled. One small write; durable after `sync`."""
        text = render(committed, line.stamp(time.time_ns()))
        if self._size + len(text) > _LARGEST or self._is_suspect:
            self._write_anew(text)
        else:
            self._write(text)
        self.committed = committed
        self._dirty = True

    def sync(self) -> None:
        """Make the commits durable. Raises StorageError; then the next commit goes to a new file."""
        if not self._dirty:
            return
        self._dirty = False  # a second sync of the same file proves nothing, so it is not asked for one
        try:
            files.sync_data(self._fd)
        except OSError as error:
            self._is_suspect = True
            raise StorageError(self._path, f"cannot sync: {files.reason(error)}") from error

    @property
    def _path(self) -> str:
        return f"{self._directory.path}/{self._name}"

    def _open(self) -> None:
        """Open the file and cut a torn last line."""
        try:
            self._fd = self._directory.open(self._name, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            self._fd = self._directory.open(self._name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            self._directory.sync()
        text = _read_all(self._fd)
        self._size = text.rfind(b"\n") + 1
        if self._size < len(text):
            os.ftruncate(self._fd, self._size)

    def _write(self, text: bytes) -> None:
        try:
            files.write_all(self._fd, text)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise StorageError(self._path, files.reason(error)) from error
        self._size += len(text)

    def _write_anew(self, text: bytes) -> None:
        """Replace the file by one with its newest lines and this one, which is durable before it takes the name."""
        kept = _newest(os.pread(self._fd, self._size, 0))
        new = f"{self._name}.new"
        fd = self._directory.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
        try:
            files.write_all(fd, kept + text)
            os.fsync(fd)
        except OSError as error:
            os.close(fd)
            os.unlink(new, dir_fd=self._directory.fd)
            raise StorageError(self._path, files.reason(error)) from error
        os.close(self._fd)
        self._fd = fd
        self._directory.rename(new, self._name)
        self._directory.sync()
        self._size = len(kept) + len(text)
        self._is_suspect = False


def _newest(text: bytes) -> bytes:
    """Some of the last commits, which tell how fast the group is."""
    return text[text.index(b"\n", len(text) * 3 // 4) + 1 :]


def _read_all(fd: int) -> bytes:
    """The whole file, which is never much larger than 64 KiB."""
    return os.pread(fd, os.fstat(fd).st_size, 0)

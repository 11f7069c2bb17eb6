"""Where a fan-out takes events: another topic, a file, a command. Each is a `deliver` for a consumer."""

from __future__ import annotations

import os
import stat
from zlib import crc32

from evtool.delivery.handler import Handler
from evtool.errors import StorageError, UsageError
from evtool.log import files, line, names
from evtool.log.lock import lock, unlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.consumer import Handled
    from evtool.delivery.stop import Stop
    from evtool.log.topic import TopicLog
    from evtool.stores.file import FileStore

_LONGEST_TAIL = 2 << 20
_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def group_name(address: str) -> str:
    """The group under which a sink remembers where it is: readable, and another one for every address."""
    kind, _, place = address.partition(":")
    if kind == "file":  # the same file from wherever it is named
        place = os.path.abspath(place)
    readable = "".join(one if one in _NAME_LETTERS else "-" for one in place.lower())
    while "--" in readable:
        readable = readable.replace("--", "-")
    return f"fanout.{kind}-{readable[-32:].strip('-')}.{crc32(os.fsencode(f'{kind}:{place}')):08x}"


def check_address(address: str, topic: str) -> tuple[str, str]:
    """The kind and the place that a sink's address names. Raises UsageError if there is no such sink for `topic`."""
    kind, _, place = address.partition(":")
    if kind not in ("topic", "file", "exec") or not place:
        raise UsageError(repr(address), "not a sink", hint="say topic:NAME, file:PATH or exec:COMMAND")
    if kind == "topic" and names.check_name("topic", place) == topic:
        raise UsageError(address, "is the topic that is read")
    return kind, place


def open_sink(address: str, store: FileStore, topic: str, stop: Stop) -> TopicSink | FileSink | CommandSink:
    """The sink at `address` for the events of `topic`."""
    kind, place = check_address(address, topic)
    if kind == "topic":
        return TopicSink(store.writer(place))
    if kind == "file":
        return FileSink(os.path.abspath(place))
    return CommandSink(place, topic, stop)


class TopicSink:
    """Appends to another topic: attributes and data as they are, offset and time anew."""

    def __init__(self, log: TopicLog) -> None:
        self._log = log

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Append these lines and make them durable. Those with an id that is there already are not stored again."""
        events = lines.split(b"\n")[:-1]
        ids = [line.attributes(text).get("id") for text in events] if b',"id":' in lines else None
        self._log.append([line.body_of(text + b"\n") for text in events], ids=ids)
        self._log.sync()
        handled(None)


class FileSink:
    """Appends the stored lines to a file that others may append to as well."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.FILE_MODE)
        except OSError as error:
            raise StorageError(path, files.reason(error)) from error
        self._is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Write these lines and make them durable; of lines that do not fit nothing is left."""
        try:
            if self._is_regular:
                self._append(lines)
            else:
                files.write_all(self._fd, lines)
        except OSError as error:
            raise StorageError(self._path, files.reason(error)) from error
        handled(None)

    def _append(self, lines: bytes) -> None:
        lock(self._fd, self._path)  # another sink may be at the same file
        try:
            end = os.fstat(self._fd).st_size
            lines = self._rest_of(lines, end)
            try:
                files.write_all(self._fd, lines)
            except OSError:
                self._take_back(lines, end)
                raise
        finally:
            unlock(self._fd)
        files.sync_data(self._fd)

    def _rest_of(self, lines: bytes, end: int) -> bytes:
        """What of these lines is still to be written, if the file ends in the midst of one: of ours or of another's."""
        tail = os.pread(self._fd, _LONGEST_TAIL, max(0, end - _LONGEST_TAIL))
        torn = tail[tail.rfind(b"\n") + 1 :]
        if lines.startswith(torn):
            return lines[len(torn) :]
        return b"\n" + lines

    def _take_back(self, lines: bytes, end: int) -> None:
        """Cut off what a full disk has taken of these lines, unless somebody else has written behind it."""
        size = os.fstat(self._fd).st_size
        if lines.startswith(os.pread(self._fd, size - end, end)):
            os.ftruncate(self._fd, end)


class CommandSink:
    """Runs a shell command for each event, as `subscribe -- CMD` does."""

    def __init__(self, command: str, topic: str, stop: Stop) -> None:
        self._handler = Handler(["/bin/sh", "-c", command], topic, stop, name="the command")

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Run the command for each of these lines."""
        self._handler.deliver(lines, handled)

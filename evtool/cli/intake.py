"""Standard input as events: split into lines, checked a chunk at a time, stored as they come, bad ones set aside."""

from __future__ import annotations

import gc
import os
import select
import sys
import time

from evtool.cli import border, home
from evtool.errors import DataError, StorageError
from evtool.log import files, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtool.cli.argv import Args
    from evtool.cli.commands.append import Appender

_CHUNK = 1 << 18
_SYNC_SECONDS = 1.0
_PAUSE_SECONDS = 0.01
_F_SETPIPE_SZ = 1031
_FEW = 8  # so many lines are not worth the import of orjson
_MOST_REPORTS = 10


def run(args: Args, appender: Appender) -> int:
    """Store the events of standard input; return 65 if any of them was refused, else 0."""
    gc.disable()  # a chunk's parsed values are many, die together and have no cycles
    refused = Refused(args.topic, args.rejects)
    source = Lines(0, b"\0" if args.null else b"\n", appender.log.limit, refused)
    checker = Checker(args.text, appender, refused, may_have_newlines=args.null)
    try:
        if args.atomic:
            _store_whole(source, checker, appender, refused)
        else:
            _store_as_it_comes(source, checker, appender)
    finally:
        refused.summarise()
        if args.verbose:
            home.note(appender.summary())
    return DataError.exit_code if refused.count else 0


def _store_as_it_comes(source: Lines, checker: Checker, appender: Appender) -> None:
    synced = time.monotonic()
    try:
        for first, lines in source.batches():
            bodies, ids = checker.check(first, lines)
            appender.store(bodies, ids)
            if time.monotonic() - synced >= _SYNC_SECONDS or not source.more_within(_PAUSE_SECONDS):
                appender.acknowledge()
                synced = time.monotonic()
    finally:
        if not isinstance(sys.exc_info()[1], StorageError):  # that one has acknowledged what could be
            appender.acknowledge()


def _store_whole(source: Lines, checker: Checker, appender: Appender, refused: Refused) -> None:
    """Check the whole input, kept in a file without a name, before any of it is stored."""
    import tempfile

    count = 0
    with tempfile.TemporaryFile() as spool:
        for first, lines in source.batches():
            bodies, _ = checker.check(first, lines)
            count += len(bodies)
            spool.write(b"".join(b"%b\n" % body for body in bodies))
        if refused.count:
            raise DataError(appender.log.name, "nothing was stored, as --atomic demands")
        if count > 1:
            appender.store_whole(_spooled(spool))
        else:  # stored whole or not at all anyway, and not worth a segment
            for bodies in _spooled(spool):
                appender.store(bodies, None)
    appender.acknowledge()


def _spooled(spool) -> Iterator[list[bytes]]:  # type: ignore[no-untyped-def]  # a private class of tempfile
    spool.seek(0)
    while lines := spool.readlines(_CHUNK):
        yield [one[:-1] for one in lines]


class Lines:
    """The lines of a descriptor, as many at a time as can be read at once, in bounded memory.

    limit: the most bytes of a line; a longer one is refused, and skipped as it is read.
    """

    def __init__(self, fd: int, delimiter: bytes, limit: int, refused: Refused) -> None:
        self._fd = fd
        self._delimiter = delimiter
        self._limit = limit
        self._refused = refused
        self._rest = b""
        self._number = 1
        self._skipping = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        _widen_pipe(fd)

    def batches(self) -> Iterator[tuple[int, list[bytes]]]:
        """Lists of lines, each with the number of its first. What stands behind the last delimiter is a line too."""
        while block := self._read():
            lines = (self._rest + block).split(self._delimiter)
            self._rest = lines.pop()
            if self._skipping:
                self._skip(lines)
            if lines:
                yield self._number, lines
                self._number += len(lines)
            if len(self._rest) > self._limit:
                self._begin_to_skip()
        if self._skipping:
            self._refused.set_aside(self._rest + b"\n")
        elif self._rest:
            yield self._number, [self._rest]

    def more_within(self, seconds: float) -> bool:
        """Whether there is something to read, or the end, within so many seconds."""
        return bool(self._poll.poll(seconds * 1000))

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, _CHUNK)
        except BlockingIOError:  # somebody else with the same pipe wants it so
            self._poll.poll()
            return self._read()
        except OSError as error:
            raise StorageError("standard input", files.reason(error)) from error

    def _begin_to_skip(self) -> None:
        if not self._skipping:
            self._refused.report(self._number, f"longer than {self._limit} bytes")
            self._skipping = True
        self._refused.set_aside(self._rest)
        self._rest = b""

    def _skip(self, lines: list[bytes]) -> None:
        """Take the end of a line that was too long off the front of `lines`, or go on skipping."""
        if lines:
            self._refused.set_aside(lines.pop(0) + b"\n")
            self._number += 1
            self._skipping = False
        elif self._rest:
            self._begin_to_skip()


def _widen_pipe(fd: int) -> None:
    """Let a pipe hold as much as we read at a time."""
    import fcntl

    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _CHUNK * 4)
    except OSError:  # not a pipe, or not Linux
        pass


class Checker:
    """Makes bodies of the lines that are events and refuses the others.

    may_have_newlines: whether what is called a line here ends with something else.
    """

    def __init__(self, text: bool, appender: Appender, refused: Refused, *, may_have_newlines: bool) -> None:
        self._is_text = text
        self._may_have_newlines = may_have_newlines
        self._appender = appender
        self._limit = appender.log.limit
        self._refused = refused
        self._is_plain = not text and not appender.takes_attributes and not appender.has_one_id
        self._found = 0

    def check(self, first: int, lines: list[bytes]) -> tuple[list[bytes], list[str | None] | None]:
        """The bodies and ids of the good ones among lines, the first of which has the number `first`."""
        if self._is_plain and len(lines) > _FEW:
            filled = [*filter(None, lines)]
            if self._all_short(filled) and payload.all_valid(filled):
                bodies = [*map(bytes.strip, filled)]
                return ([body.replace(b"\n", b" ") for body in bodies] if self._may_have_newlines else bodies), None
        return self._check_each(first, lines)

    def _all_short(self, lines: list[bytes]) -> bool:
        """Whether no line is too long. All but the first come from one read, and are no longer than that."""
        suspects = lines[:1] if self._limit >= _CHUNK else lines
        return all(len(one) <= self._limit for one in suspects)

    def _check_each(self, first: int, lines: list[bytes]) -> tuple[list[bytes], list[str | None] | None]:
        bodies: list[bytes] = []
        ids: list[str | None] = []
        for number, text in enumerate(lines, first):
            if not self._is_text and not text.strip(payload.BLANK):
                continue
            try:
                body, event_id = self._check_one(text)
            except DataError as error:
                self._refused.report(number, error.why, hint=_hint(text) if number == 1 else None)
                self._refused.set_aside(text + b"\n")
                continue
            bodies.append(body)
            ids.append(event_id)
        return bodies, self._appender.ids(ids)

    def _check_one(self, text: bytes) -> tuple[bytes, str | None]:
        if len(text) > self._limit:
            raise DataError("event", f"longer than {self._limit} bytes")
        if self._appender.has_one_id and self._found:
            raise DataError(
                "event", "--id is for one event, and there is one already; --id-from takes each event's own"
            )
        self._found += 1
        return self._appender.encode(text.decode("utf-8", "surrogateescape"))


def _hint(text: bytes) -> str | None:
    return "one event a line: put `jq -c .` before it" if text.strip()[-1:] in (b"{", b"[") else None


class Refused:
    """Tells which lines were refused and why, and keeps them in a file if there is one."""

    def __init__(self, topic: str, path: str | None) -> None:
        self.count = 0
        self._topic = topic
        self._fd = -1
        self._path = path or ""
        if path is not None:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise StorageError(path, files.reason(error)) from error

    def report(self, number: int, why: str, hint: str | None = None) -> None:
        """Say that the line with this number was refused."""
        self.count += 1
        if self.count <= _MOST_REPORTS:
            border.complain(f"{self._topic}: line {number}", why, hint)

    def set_aside(self, text: bytes) -> None:
        """Keep a refused line, or a part of one."""
        if self._fd < 0:
            return
        try:
            files.write_all(self._fd, text)
        except OSError as error:
            raise StorageError(self._path, files.reason(error)) from error

    def summarise(self) -> None:
        """Say how many there were, if not each was reported."""
        if self.count > _MOST_REPORTS:
            border.complain(self._topic, f"{self.count} lines were refused, the first {_MOST_REPORTS} are listed")

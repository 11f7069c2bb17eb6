"""Means of fault: what a run of the real program does to a directory, call by call, taken down by strace.

The calls become operations on paths relative to that directory. Of several processes only one may write at a time, as
the order of what they do is the order in which strace saw their calls end.
"""

from __future__ import annotations

import array
import fcntl
import os
import re
import subprocess
import tempfile
import termios
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from tests.program import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.program import Program

APPEND = -1  # the position of a write to a file that was opened for appending: its end
_CALLS = (
    "mkdir", "mkdirat", "open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "sendfile",
    "copy_file_range", "splice", "truncate", "ftruncate", "fallocate", "chmod", "fchmod", "fchmodat", "fsync",
    "fdatasync", "link", "linkat", "symlinkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir",
)  # fmt: skip
_CALL = re.compile(r"(?:[0-9]+ +)?([a-z0-9_]+)\((.*)\) += ([0-9]+)(?:<([^>]*)>)?")
_UNFINISHED = re.compile(r"([0-9]+) +([a-z0-9_]+\(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"([0-9]+) +<\.\.\. [a-z0-9_]+ resumed>(.*)")
_DESCRIPTOR = re.compile(r"(-?[0-9]+|AT_FDCWD)<([^>]*)>(\(deleted\))?")


class Operation(NamedTuple):
    """One thing that the program did.

    kind: create, write, truncate, chmod, mkdir, rename, link, unlink, sync, datasync; or told, when it wrote
        to standard output, or done, when a command ended well.
    path, other: relative to the directory; "" is itself. other: the new name. data: what was written.
    at: the position of a write (or APPEND), the size of a truncation, the mode, the number of the command.
    """

    kind: str
    path: str = ""
    at: int = 0
    data: bytes = b""
    other: str = ""

    def __str__(self) -> str:
        more = f" → {self.other}" if self.other else ""
        more += f" {self.at:o}" if self.kind == "chmod" else f" at {self.at}" if self.at else ""
        return f"{self.kind} {self.path}{more}" + (f" {len(self.data)} bytes: {self.data!r}" if self.data else "")


class Command(NamedTuple):
    """A command to be recorded.

    pieces: what it gets on standard input, a piece at a time; the next one comes when the one before was read. An
    empty one is a pause, until there are as many lines of output as there were of input.
    """

    arguments: Sequence[str]
    pieces: Sequence[str] = ()

    @property
    def syncs(self) -> bool:
        """Whether what it stores is durable when it has ended."""
        return "never" not in self.arguments


def record(program: Program, directory: Path, command: Command, number: int = 0) -> list[Operation]:
    """Run the program under strace, and return what it did to the directory. It must end well."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log")
        options = ["-f", "-y", "-xx", "-qq", "-s", "1048576", "-o", str(log)]
        options += ["-e", "trace=" + ",".join(f"?{one}" for one in _CALLS)]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                ["strace", *options, *program.command(*command.arguments)],
                env=program.environment({}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            _feed(process, command.pieces)
            process.communicate(timeout=PATIENCE)
            errors.seek(0)
            assert process.returncode == 0, (command, errors.read())
        return [*_Reading(str(directory)).operations(log.read_text()), Operation("done", at=number)]


def _feed(process: subprocess.Popen[bytes], pieces: Sequence[str]) -> None:
    """Give a process its input."""
    assert process.stdin is not None
    assert process.stdout is not None
    waiting = 0
    for piece in pieces:
        waiting += piece.count("\n")
        while waiting and not piece:
            assert process.stdout.readline(), "it has ended before it said all"
            waiting -= 1
        process.stdin.write(piece.encode())
        process.stdin.flush()
        wait_until(lambda: _unread(process.stdin) == 0 or process.poll() is not None)


def _unread(pipe: IO[bytes] | None) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)  # type: ignore[arg-type]
    return count[0]


class _Reading:
    """The way through a log of strace."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._positions: dict[str, int] = {}  # by descriptor, as far as they were opened in the directory

    def operations(self, log: str) -> Iterator[Operation]:
        """What the calls did."""
        for text in _whole_calls(log):
            match = _CALL.match(text)
            if match is None:  # it failed, or is no call
                continue
            name, arguments, result = match[1], match[2].split(", "), int(match[3])
            path = self._inside(_text(match[4]) if match[4] else self._target(name, arguments))
            if path is not None:
                yield from self._operation(name, arguments, result, path)
            elif name in ("write", "sendfile") and arguments[0].startswith("1<"):
                yield Operation("told", data=_text(arguments[1]).encode() if name == "write" else b"")

    def _operation(self, name: str, arguments: list[str], result: int, path: str) -> Iterator[Operation]:
        if name == "openat":
            yield from self._open(arguments, result, path)
        elif name in ("write", "pwrite64"):
            yield self._write(name, arguments, result, path)
        elif name in _SIMPLE:
            kind, place = _SIMPLE[name]
            yield Operation(kind, path, int(arguments[place], 8 if kind == "chmod" else 10) if place else 0)
        elif name in _NAMING:
            kind, place = _NAMING[name]
            other = self._inside(self._path(arguments[place:]))
            assert other is not None, f"to somewhere else: {arguments}"
            yield Operation(kind, path, other=other)
        else:
            raise AssertionError(f"the model knows no {name}: {arguments}")

    def _open(self, arguments: list[str], result: int, path: str) -> Iterator[Operation]:
        flags = arguments[2].split("|")
        self._positions[str(result)] = APPEND if "O_APPEND" in flags else 0
        if "O_CREAT" in flags:
            yield Operation("create", path, int(arguments[3], 8))
        if "O_TRUNC" in flags:
            yield Operation("truncate", path, 0)

    def _write(self, name: str, arguments: list[str], result: int, path: str) -> Operation:
        data = _bytes(arguments[1])[:result]
        if name == "pwrite64":
            return Operation("write", path, int(arguments[3]), data)
        fd = arguments[0].partition("<")[0]
        at = self._positions[fd]
        if at != APPEND:
            self._positions[fd] = at + len(data)
        return Operation("write", path, at, data)

    def _target(self, name: str, arguments: list[str]) -> str:
        """What a call is about; "" if it has been removed."""
        if name in ("sendfile", "splice", "copy_file_range"):
            arguments = arguments[0 if name == "sendfile" else 2 :]
        return self._path(arguments if name.endswith("at") or name == "renameat2" else arguments[:1])

    def _path(self, arguments: list[str]) -> str:
        """The path that a descriptor stands for, or a name, or both."""
        descriptor = _DESCRIPTOR.match(arguments[0])
        if descriptor is None:
            return _text(arguments[0])
        if descriptor[3]:
            return ""
        above = _text(descriptor[2])
        return os.path.join(above, _text(arguments[1])) if len(arguments) > 1 else above

    def _inside(self, path: str) -> str | None:
        """Relative to the directory, or None for what is outside."""
        if path == self._directory:
            return ""
        start = self._directory + "/"
        return path[len(start) :] if path.startswith(start) else None


_SIMPLE = {
    "mkdir": ("mkdir", 0), "mkdirat": ("mkdir", 0), "ftruncate": ("truncate", 1), "fchmod": ("chmod", 1),
    "fsync": ("sync", 0), "fdatasync": ("datasync", 0), "unlink": ("unlink", 0), "unlinkat": ("unlink", 0),
}  # fmt: skip
_NAMING = {"rename": ("rename", 1), "renameat": ("rename", 2), "renameat2": ("rename", 2), "linkat": ("link", 2)}


def _whole_calls(log: str) -> Iterator[str]:
    """The lines of a log, with calls that were interrupted by those of others where they ended."""
    begun: dict[str, str] = {}
    for text in log.splitlines():
        if match := _UNFINISHED.match(text):
            begun[match[1]] = match[2]
        elif match := _RESUMED.match(text):
            yield begun.pop(match[1]) + match[2]
        else:
            yield text


def _bytes(text: str) -> bytes:
    """The bytes of a string that strace shows in hexadecimal, with or without quotes."""
    assert not text.endswith("..."), "a string was cut short"
    return bytes.fromhex(text.strip('"').replace("\\x", ""))


def _text(text: str) -> str:
    return _bytes(text).decode("utf-8", "surrogateescape")

"""Events on standard output: which form they take there, and how they get there."""

from __future__ import annotations

import os
import stat

from evtool.cli import border
from evtool.delivery.source import first_lines
from evtool.errors import DataError, StorageError
from evtool.log import files, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.cli.argv import Args
    from evtool.delivery.consumer import Handled
    from evtool.delivery.stop import Stop

    Render = Callable[[bytes], bytes]  # one whole stored line to what is shown for it, without a delimiter

STANDARD_OUTPUT = 1
_PIECE = 4096  # what a pipe takes at once when it takes anything: PIPE_BUF of Linux
_SYNC_SECONDS = 1.0
_DIM, _BOLD, _CYAN, _PLAIN = b"\x1b[2m", b"\x1b[1m", b"\x1b[36m", b"\x1b[0m"


class Output:
    """Writes events to standard output in the form that was asked for.

    `is_verbatim`: whether stored lines are written just as they are, so that nobody needs to look at them.
    Given to a consumer, its `deliver` counts events as handled when all of their bytes are written.
    """

    def __init__(self, args: Args, stop: Stop | None = None) -> None:
        self._stop = None if stat.S_ISREG(os.fstat(STANDARD_OUTPUT).st_mode) else stop  # a file lets nobody wait
        self._delimiter = b"\0" if args.null else b"\n"
        self._render = _renderer(args, os.isatty(STANDARD_OUTPUT))
        self.is_verbatim = self._render is None and self._delimiter == b"\n"

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Write these lines. Raises BrokenPipeError, StorageError or, when told to stop in between, Stopped."""
        data = lines if self.is_verbatim else self._rendered(lines)
        rest: bytes | memoryview = data
        try:
            while (written := self._write(rest, handled)) < len(rest):
                rest = memoryview(rest)[written:]
        except BaseException as error:
            if not isinstance(error, BrokenPipeError):
                handled(first_lines(lines, self._count_whole(lines, len(data) - len(rest))))
            raise
        handled(None)

    def _count_whole(self, lines: bytes, written: int) -> int:
        """How many of these lines are whole in so many bytes of output."""
        count = 0
        for text in lines.split(b"\n")[:-1]:
            written -= len(text if self._render is None else self._render(text + b"\n")) + 1
            if written < 0:
                break
            count += 1
        return count

    def _write(self, data: bytes | memoryview, handled: Handled) -> int:
        """Write some of it. Who may be told to stop never waits for a reader inside a write, which would not end."""
        try:
            if self._stop is None:
                return files.write_some(STANDARD_OUTPUT, data)
            while not self._stop.wait_to_write(STANDARD_OUTPUT, _SYNC_SECONDS):
                handled(b"")  # time to make earlier commits durable
            return files.write_some(STANDARD_OUTPUT, data[:_PIECE])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise failure(error) from error

    def _rendered(self, lines: bytes) -> bytes:
        if self._render is None:
            return lines.replace(b"\n", self._delimiter)
        shown = [self._shown(self._render, text + b"\n") for text in lines.split(b"\n")[:-1]]
        return self._delimiter.join(shown) + self._delimiter

    @staticmethod
    def _shown(render: Render, text: bytes) -> bytes:
        """One line as it is shown. Raises DataError for one that is so damaged that nothing can be cut out of it."""
        try:
            return render(text)
        except ValueError as error:
            start = text[: line.HEAD_LENGTH].decode("utf-8", "backslashreplace")
            raise DataError(
                f"a stored line that begins with {start}", "is damaged", hint="see evtool verify"
            ) from error


def failure(error: OSError) -> StorageError:
    """The error that says that standard output takes no more."""
    return StorageError("standard output", files.reason(error))


def wants_color(args: Args) -> bool:
    """Whether to write colours to standard output."""
    if args.color == "auto":
        return os.isatty(STANDARD_OUTPUT) and not os.environ.get("NO_COLOR")
    return bool(args.color == "always")


def _renderer(args: Args, to_terminal: bool) -> Render | None:
    """What shows one line, or None if lines are shown as they are stored."""
    form = "data" if args.data else args.output
    if form == "auto":
        form = "pretty" if to_terminal else "line"
    if form == "pretty":
        return _Pretty(wants_color(args)).render
    if form == "line" and not to_terminal:
        return None
    plain = _plain_renderer(form)
    return (lambda text: _escaped(plain(text))) if to_terminal else plain


def _plain_renderer(form: str) -> Render:
    if form == "data":
        return line.data_of
    if form == "text":
        return _text
    if form == "cloudevents":
        from evtool.delivery.cloudevents import render

        return render
    return _stored


def _stored(text: bytes) -> bytes:
    return text[:-1]


def _text(text: bytes) -> bytes:
    """The data, strings without their quotes and escapes."""
    data = line.data_of(text)
    if not data.startswith(b'"'):
        return data
    import orjson

    return str(orjson.loads(data)).encode()


def _field(text: str) -> bytes:
    """An attribute, on one line: whoever chose it could else make one event look like two."""
    return border.printable(text).replace("\n", "\\n").encode()


def _escaped(part: bytes) -> bytes:
    """The same, with whatever a terminal would obey as an escape."""
    return border.printable(part.decode("utf-8", "backslashreplace")).encode()


class _Pretty:
    """For people: offset, time, the topic if there are several, key and type, then the data."""

    def __init__(self, color: bool) -> None:
        self._color = color

    def render(self, text: bytes) -> bytes:
        attributes = line.attributes(text)
        moment = line.time_of(text)
        fields = [
            self._in(_DIM, b"%6d" % line.offset_of(text)),
            self._in(_DIM, moment[:10] + b" " + moment[11:23] + b"Z"),
        ]
        for name, color in (("topic", _CYAN), ("key", _BOLD), ("type", _CYAN)):
            if name in attributes:
                fields.append(self._in(color, _field(attributes.pop(name))))
        fields += [self._in(_DIM, _field(f"{name}={value}")) for name, value in attributes.items()]
        return b"  ".join([*fields, _escaped(line.data_of(text))])

    def _in(self, color: bytes, field: bytes) -> bytes:
        return color + field + _PLAIN if self._color else field

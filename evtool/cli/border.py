"""The border of the program: runs a command, prints what went wrong, and knows with which code to exit."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal`, which is made of it, costs 6 ms
import os
import sys

from evtool.errors import EvtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evtool.cli.argv import Args

SIGINT, SIGPIPE, SIGTERM = 2, 13, 15


class Declined(Exception):
    """The user was asked, and does not want it. Nobody needs to be told."""

    exit_code = 1


class Ended(Exception):
    """A signal ended the command, in good order. The program then ends by that signal too, as its parent expects."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


_at_end: list[Callable[[], None]] = []


def at_end(call: Callable[[], None]) -> None:
    """Let this be done when the command has ended, however it did."""
    _at_end.append(call)


def interruption() -> int:
    """A descriptor that can be read once Ctrl-C was pressed, to be waited for beside what a wait is for.

    Without it one that comes just before the wait is heard only at its end, as Python calls handlers between its steps.
    """
    near, far = os.pipe()
    os.set_blocking(far, False)
    _signal.set_wakeup_fd(far, warn_on_full_buffer=False)
    return near


def run(args: Args) -> int:
    """Run a command and return its exit code, 128 + N if signal N ended it."""
    try:
        return _run(args)
    finally:
        while _at_end:
            _at_end.pop()()


def _run(args: Args) -> int:
    try:
        return int(_command(args.command)(args))
    except EvtoolError as error:
        complain(error.what, error.why, error.hint)
        return error.exit_code
    except Declined as declined:
        return declined.exit_code
    except BrokenPipeError:
        return 128 + SIGPIPE
    except KeyboardInterrupt:
        return 128 + SIGINT
    except Ended as ended:
        return 128 + ended.signal_number
    except OSError as error:
        if debugging():
            raise
        complain(str(error.filename or args.command), error.strerror or str(error))
        return 74
    except Exception as error:
        if debugging():
            raise
        complain(
            args.command, f"{type(error).__name__}: {error}", "this is a defect of evtool; EVTOOL_DEBUG=1 shows where"
        )
        return 1


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return bool(os.environ.get("EVTOOL_DEBUG"))


def complain(what: str, why: str, hint: str | None = None) -> None:
    """Say on standard error what is wrong and, in a second line, what helps."""
    text = f"evtool: {what}: {why}\n" + (f"hint: {hint}\n" if hint else "")
    say(text)


def say(text: str) -> None:
    """Write to standard error, whether or not anybody can read it."""
    try:
        os.write(2, printable(text).encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def printable(text: str) -> str:
    """The text with control and bidirectional characters, which could make a terminal lie, as escapes."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def leave(code: int) -> None:
    """End the program: by the signal itself if `code` says that one ended it, and without Python's slow farewell."""
    code = _flush(code)
    if code in (128 + SIGINT, 128 + SIGPIPE, 128 + SIGTERM):
        _signal.signal(code - 128, _signal.SIG_DFL)
        os.kill(os.getpid(), code - 128)
    os._exit(code)


def _flush(code: int) -> int:
    """Write out what Typer printed; return the exit code that follows from it."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError as error:
            return code or output_failed(error)
    return code


def output_failed(error: OSError) -> int:
    """Say that standard output takes no more, unless it is that nobody reads it; return the exit code."""
    if isinstance(error, BrokenPipeError):
        return 128 + SIGPIPE
    complain("standard output", error.strerror or str(error))
    return 74


def _command(name: str) -> Any:
    """The function that carries out a command, of which there is one in each module of `evtool.cli.commands`."""
    if name == "__complete":
        name = "complete"
    return __import__(f"evtool.cli.commands.{name}", fromlist=["run"]).run

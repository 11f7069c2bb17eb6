"""Where the program begins: recognise the command line, or hand it to Typer."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal`, which is made of it, costs 6 ms
import os
import sys

from evtool.cli import argv as quick
from evtool.cli import border

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run the program on sys.argv and end it with the right code."""
    if _signal.getsignal(border.SIGINT) is _signal.default_int_handler:  # else it is to be ignored
        _signal.signal(border.SIGINT, _on_interrupt)
    _open_standard_streams()
    try:
        code = answer(sys.argv[1:])
    except KeyboardInterrupt:
        code = 128 + border.SIGINT
    border.leave(code)


def answer(argv: list[str]) -> int:
    """Carry out a command line and return the exit code."""
    argv, handler = quick.split_handler(argv)
    recognised = quick.recognise(argv)
    if recognised is not None:
        return border.run(quick.Args(*recognised, handler))
    from evtool.cli import app

    return app.main(argv, handler)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    """Let Ctrl-C be KeyboardInterrupt, but not in the midst of an import: that may swallow it, or crash."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _signal.signal(number, _signal.SIG_DFL)
            os.kill(os.getpid(), number)
        frame = frame.f_back
    raise KeyboardInterrupt


def _open_standard_streams() -> None:
    """Fill the places of streams that were closed, or the log would be opened there and output written into it."""
    flags = getattr(os, "O_PATH", os.O_RDONLY)  # such a descriptor can be neither read nor written
    while (fd := os.open(os.devnull, flags)) <= 2:
        pass
    os.close(fd)


if __name__ == "__main__":
    main()

"""Means of fault: a clock on the wall that is wrong by so many seconds, for one run; the machine's own clock is right.

    python -m tests.faults.wrong_clock SECONDS MODULE ARGUMENT…

runs a module, such as evtool, under it. libfaketime does the same, but `time.sleep` fails under it when only one of
the clocks is to be wrong. Nothing of evtool knows of this.
"""

from __future__ import annotations

import runpy
import sys
import time
from typing import TYPE_CHECKING

from tests.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

YEAR = 365 * 86400


class Wrong(Program):
    """A program whose clock is wrong by so many seconds."""

    def __init__(self, program: Program, seconds: int) -> None:
        super().__init__(program.home)
        self._command: Callable[..., list[str | bytes]] = program.command
        self._seconds = seconds

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        python, _, *rest = self._command(*arguments)  # … -m MODULE ARGUMENT…
        return [python, "-m", "tests.faults.wrong_clock", str(self._seconds), *rest]


def main() -> None:
    """Set the clock and be the module."""
    seconds, module = int(sys.argv.pop(1)), sys.argv.pop(1)
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + seconds * 1_000_000_000
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

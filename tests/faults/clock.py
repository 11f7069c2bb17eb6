"""Means of fault: a clock that is wrong, for one run of the real program (libfaketime).

The library is loaded without the program `faketime`, which fails if one with its process id was killed before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARIES = [
    path
    for directory in ("/usr/lib", "/usr/lib64", "/usr/local/lib")
    for pattern in ("faketime", "*/faketime")
    for path in Path(directory).glob(f"{pattern}/libfaketimeMT.so.1")
]
needed = pytest.mark.skipif(not _LIBRARIES, reason="libfaketime is not installed")


def faked(**settings: str) -> dict[str, str]:
    """What gives a process another clock, as its environment. settings: `FAKETIME` and others of the library."""
    return {"LD_PRELOAD": str(_LIBRARIES[0]), **settings}


class Clocked(Program):
    """A program whose clock goes wrong by so much: `-1d`, `+90m`."""

    def __init__(self, program: Program, wrong: str) -> None:
        super().__init__(program.home)
        self._command: Callable[..., list[str | bytes]] = program.command
        self._wrong = wrong

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return self._command(*arguments)

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        return {**super().environment(options), **faked(FAKETIME=self._wrong)}

"""Means of fault: a clock that is wrong, for one run of the real program (libfaketime)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

needed = pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")


class Clocked(Program):
    """A program whose clock goes wrong by so much: `-1d`, `+90m`."""

    def __init__(self, program: Program, wrong: str) -> None:
        super().__init__(program.home)
        self._command: Callable[..., list[str | bytes]] = program.command
        self._wrong = wrong

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return ["faketime", "-f", self._wrong, *self._command(*arguments)]

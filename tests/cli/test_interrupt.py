"""Ctrl-C in the midst of an import: libraries in C crash of it, and Python may forget it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program

CODE = """
import importlib.abc, os, signal, sys
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "uuid":  # which the part of orjson that is in C needs
            open(os.environ["MARK"], "w").close()
            signal.raise_signal(signal.SIGINT)
from evtool.__main__ import main
sys.meta_path.insert(0, Interrupt())
main()
"""


COMMAND = ["replay", "t", "--where", "data == 1"]


def test_ctrl_c_within_an_import_ends_the_program(evtool: Program, tmp_path: Path) -> None:
    """By the signal and at once, with nothing said; the signal is seen to have come within an import."""
    assert evtool("append", "t", "1").code == 0
    mark = tmp_path / "mark"
    with Running(evtool, *COMMAND, code=CODE, env={"MARK": str(mark)}) as running:
        result = running.end()
    assert (result.code, result.err) == (-signal.SIGINT, "")
    assert mark.exists()


def test_one_that_is_to_be_ignored_is(evtool: Program, tmp_path: Path) -> None:
    """As a shell wants it of what it starts in the background."""
    mark = tmp_path / "mark"
    assert evtool("append", "t", "1").code == 0
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{CODE}"
    with Running(evtool, *COMMAND, code=code, env={"MARK": str(mark)}) as running:
        result = running.end()
    assert (result.code, result.err) == (0, "")
    assert mark.exists()

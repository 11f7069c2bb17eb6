"""Ctrl-C at bad moments: in the midst of an import, where libraries in C crash of it, and just before a wait."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.program import PATIENCE
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


LATE = """
import ctypes, operator, os, select, signal
from functools import partial
if os.environ.get("DEAF"):
    import _signal
    _signal.set_wakeup_fd = signal.set_wakeup_fd = lambda *_, **__: -1
call = operator.methodcaller("__call__")
interrupt = partial(getattr(ctypes.CDLL(None), "raise"), signal.SIGINT)
true_poll = select.poll
class Poll:
    was_late = False
    def __init__(self):
        poll = true_poll()
        self.register, self.unregister, self._poll = poll.register, poll.unregister, poll.poll
    def poll(self, timeout=None):
        if Poll.was_late or timeout == 0 or self._poll(0):
            return self._poll(timeout)
        Poll.was_late = True
        done = []
        try:
            done.extend(map(call, [interrupt, partial(self._poll, 500)]))  # in C: Python has no step in between
            return done[1]
        finally:
            with open(os.environ["MARK"], "w") as mark:
                mark.write("woken" if done[1] else "overslept")
select.poll = Poll
from evtool.__main__ import main
main()
"""
FOLLOWERS = [
    "tail t -f",
    "replay t -f",
    "subscribe t",
    "subscribe t -g g",
    "subscribe t -g g -- cat",
    "subscribe t -g g --share -- cat",
    "mirror . ./other --follow",
]


@pytest.mark.parametrize("command", FOLLOWERS)
def test_ctrl_c_in_the_instant_before_a_wait_ends_it(evtool: Program, tmp_path: Path, command: str) -> None:
    assert evtool("append", "t", "1").code == 0
    code, how = _interrupted_late(evtool, tmp_path, command, {})
    assert (code, how) == (-signal.SIGINT, "woken")


@pytest.mark.parametrize("command", FOLLOWERS)
def test_control_without_a_wakeup_it_is_heard_only_at_the_end_of_the_wait(
    evtool: Program, tmp_path: Path, command: str
) -> None:
    assert evtool("append", "t", "1").code == 0
    code, how = _interrupted_late(evtool, tmp_path, command, {"DEAF": "1"})
    assert (code, how) == (-signal.SIGINT, "overslept")


def _interrupted_late(evtool: Program, tmp_path: Path, command: str, env: dict[str, str]) -> tuple[int, str]:
    """How the program ends if Ctrl-C comes just before its first wait, and how that wait ended."""
    mark = tmp_path / "mark"
    arguments = command.replace(" . ", f" {evtool.home} ").replace(" ./", f" {tmp_path}/").split()
    with Running(evtool, *arguments, code=LATE, env={"MARK": str(mark), **env}) as running:
        running.process.wait(PATIENCE)
    return running.process.returncode, mark.read_text()

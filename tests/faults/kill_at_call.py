"""Means of fault: SIGKILL at one system call of the real program, before the call has any effect."""

from __future__ import annotations

import copy
import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.faults import strace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.strace import Call
    from tests.program import Program, Result


class Killed(NamedTuple):
    """A run that was killed at a call: the home that it left, and what it had said."""

    call: Call
    home: Path
    result: Result


def on(program: Program, home: Path) -> Program:
    """The same program on another home."""
    other = copy.copy(program)
    other.home = home
    return other


def kill_everywhere(program: Program, *arguments: str, input: str = "") -> Iterator[Killed]:
    """Run a command once to the end, to see the calls by which it changes something; then kill it at each of them.

    Each run gets a copy of the program's home, which itself stays as it is. The copy is gone when the next one runs.
    """
    place = program.home.with_name("killed")
    whole = on(program, copied(program.home, place))
    traced = strace.trace(whole, *arguments, input=input)
    assert traced.result.code == 0, traced
    calls = strace.changes(strace.parse(traced.log), place)
    assert calls, "it does nothing at all"
    for call in calls:
        victim = on(program, copied(program.home, place))
        yield Killed(call, place, kill(victim, call, *arguments, input=input))


def kill(program: Program, call: Call, *arguments: str, input: str = "") -> Result:
    """Run a command and kill it at this call. Fails if it never came to it."""
    inject = f"{call.name}:signal=KILL:when={call.when}"
    traced = strace.trace(program, *arguments, calls=(call.name,), inject=inject, input=input)
    assert "+++ killed by SIGKILL +++" in traced.log, f"was not killed at {call}: {traced}"
    assert strace.parse(traced.log)[-1].subject == call.subject, f"was killed elsewhere than at {call}: {traced}"
    assert traced.result.code == -9
    return traced.result


def copied(home: Path, place: Path) -> Path:
    """A fresh copy of a home at another place; nothing there if there is no home."""
    shutil.rmtree(place, ignore_errors=True)
    if home.exists():
        shutil.copytree(home, place)
    return place

"""Means of fault: one system call of the real program, or all of its kind from one on, is answered with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.faults import strace
from tests.faults.kill_at_call import copied, on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.strace import Call, Traced
    from tests.program import Program, Result


class Failed(NamedTuple):
    """A run in which a call failed, the home that it left, what it said, and its later calls of the same kind."""

    call: Call
    home: Path
    result: Result
    later: list[Call]


def fail(program: Program, name: str, error: str, when: str, *arguments: str, input: str = "") -> Traced:
    """Run a command in which a call, such as the `when`-th `fdatasync`, is answered with an error, such as EIO.

    Fails if it never came to that call.
    """
    calls = strace.SYNCS if name in strace.SYNCS else (name,)
    inject = f"{name}:error={error}:when={when}"
    traced = strace.trace(program, *arguments, calls=calls, inject=inject, input=input)
    assert "(INJECTED)" in traced.log, f"nothing failed: {traced}"
    return traced


def fail_everywhere(
    program: Program, error: str, names: tuple[str, ...], *arguments: str, input: str = ""
) -> Iterator[Failed]:
    """Run a command once to see its calls; then let each one of these names fail. Each run gets a copy of the home."""
    place = program.home.with_name("failed")
    traced = strace.trace(on(program, copied(program.home, place)), *arguments, input=input)
    assert traced.result.code == 0, traced
    calls = [one for one in strace.changes(strace.parse(traced.log), place) if one.name in names]
    for call in calls:
        victim = on(program, copied(program.home, place))
        traced = fail(victim, call.name, error, str(call.when), *arguments, input=input)
        after = traced.log[traced.log.index("(INJECTED)") :].partition("\n")[2]
        yield Failed(call, place, traced.result, strace.parse(after))

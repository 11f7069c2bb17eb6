"""Means of fault: one system call of the real program, or all of its kind from one on, is answered with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tests.faults import strace
from tests.faults.kill_at_call import copied, on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.strace import Call, Traced
    from tests.program import Program, Result

ATTEMPTS = 4


class Failed(NamedTuple):
    """A run in which a call failed, the home that it left, what it said, and its later calls of the same kind."""

    call: Call
    home: Path
    result: Result
    later: list[Call]


def fail(program: Program, name: str, error: str, when: str, *arguments: str, input: str = "") -> Traced:
    """Run a command in which a call, such as the `when`-th `fdatasync`, is answered with an error, such as EIO.

    `when` may end in `+`: all later calls of this name fail as well. Fails if it never came to that call.
    """
    calls = strace.SYNCS if name in strace.SYNCS else (name,)
    inject = f"{name}:error={error}:when={when}"
    traced = strace.trace(program, *arguments, calls=calls, inject=inject, input=input)
    assert "(INJECTED)" in traced.log, f"nothing failed: {traced}"
    return traced


def patiently(attempt: Callable[[], Any]) -> Any:
    """Try again what came to other calls than the first run, as a command may that was held up. Returns its result."""
    for _ in range(ATTEMPTS - 1):
        try:
            return attempt()
        except AssertionError:
            continue
    return attempt()


def fail_everywhere(
    program: Program,
    error: str,
    names: tuple[str, ...],
    *arguments: str,
    input: str = "",
    for_good: bool = False,
    choose: Callable[[list[Call]], list[Call]] = list,
    before: Callable[[Path], object] = lambda _: None,
) -> Iterator[Failed]:
    """Run a command once to see its calls; then let each one of these names fail. Each run gets a copy of the home.

    for_good: whether all later calls of the same name fail too. choose: says at which of the calls it is to happen.
    before: called with each copy of the home, before the command runs on it.
    """
    place = program.home.with_name("failed")
    traced = strace.trace(on(program, copied(program.home, place)), *arguments, calls=names, input=input)
    assert traced.result.code == 0, traced
    for call in choose(strace.changes(strace.parse(traced.log), place)):
        when = f"{call.when}{'+' if for_good else ''}"

        def attempt(call: Call = call, when: str = when) -> Traced:
            victim = on(program, copied(program.home, place))
            before(place)
            return fail(victim, call.name, error, when, *arguments, input=input)

        traced = patiently(attempt)
        after = traced.log[traced.log.index("(INJECTED)") :].partition("\n")[2]
        yield Failed(call, place, traced.result, strace.parse(after))

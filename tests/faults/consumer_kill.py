"""Row 9: a consumer killed at every system call, whatever way it hands events on: all is handled, little of it twice.

With several events at a time the calls come in another order in each run. So it is killed at the first call of a name,
at the second, and so on until there is none, and what was handled by then is asked of whoever handled it.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults import strace
from tests.faults.history import Violation
from tests.faults.kill_at_call import copied, on
from tests.faults.test_delivery_kill import CONSUME, FEW, NOTE, WORKER, check, handled
from tests.program import Program, finish
from tests.topics import committed

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

_KEYS = 3
_SLOWLY = [*NOTE[:-1], f"{NOTE[-1]}; sleep 0.1"]  # so that one of those who share does not get it all


class Mode(NamedTuple):
    """A way to hand events on, how many are in flight then, and whether another process does so at the same time."""

    arguments: list[str]
    in_flight: int
    is_shared: bool = False


MODES = {
    "plain": Mode([], FEW),
    "command": Mode(NOTE, 1),
    "jobs": Mode(["--jobs", "3", *NOTE], 3),
    "batch": Mode(["--batch", "3", "--", "sh", "-c", 'cat >>"$EVTOOL_HOME/lines"'], 3),
    "worker": Mode(["--worker", "--", sys.executable, "-c", WORKER], _KEYS),
    "share": Mode(["--share", "--lease", "1s", *_SLOWLY], 1, is_shared=True),
    "share alone": Mode(["--share", "--lease", "1s", *NOTE], 1),
    "share with jobs": Mode(["--share", "--lease", "1s", "--jobs", "2", *_SLOWLY], 2, is_shared=True),
}  # fmt: skip


def work(directory: Path, random: random.Random) -> Counter[str]:
    """Kill a consumer at some calls of some names."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    mode = random.choice([*MODES])
    program = Program(directory / "home")
    return Counter(points=check_kills(program, mode, lambda names: random.sample(names, min(4, len(names)))))


def check_kills(program: Program, name: str, choose: Callable[[list[str]], list[str]], stride: int = 1) -> int:
    """Kill a consumer at all calls of the names that are chosen of those it makes; return at how many it was killed.

    stride: the distance of the calls that are tried.
    """
    mode = MODES[name]
    lines = "".join(f'{{"k":"{number % _KEYS}"}}\n' for number in range(FEW))
    assert Program(program.home)("append", "t", "--key-from=.k", input=lines).code == 0
    firsts = _calls(program, mode)
    points = 0
    for call in choose(sorted(firsts)):
        when = firsts[call]
        while _kill(program, mode, call, when):
            points += 1
            when += stride
    return points


def _calls(program: Program, mode: Mode) -> dict[str, int]:
    """The names of the calls that a run makes once it has begun with the home, and the number of each one's first."""
    place = copied(program.home, program.home.with_name("killed"))
    traced = strace.trace(on(program, place), *CONSUME, *mode.arguments, calls=("all",))
    assert traced.result.code == 0, traced
    firsts: dict[str, int] = {}
    counts: Counter[str] = Counter()
    has_begun = False
    for call in re.findall(r"^([a-z0-9_]+)\((.*)", traced.log, re.MULTILINE):
        counts[call[0]] += 1
        has_begun = has_begun or str(place) in call[1]
        if has_begun and call[0] not in ("execve", "exit_group", "munmap", "mmap", "brk", "rt_sigaction"):
            firsts.setdefault(call[0], counts[call[0]])
    return firsts


def _kill(program: Program, mode: Mode, call: str, when: int) -> bool:
    """Kill a run at the `when`-th call of a name and let another come to the end; say whether it made that call."""
    place = copied(program.home, program.home.with_name("killed"))
    victim, other = on(program, place), on(Program(program.home), place)
    partners = [other.start(*CONSUME, *mode.arguments)] if mode.is_shared else []
    traced = strace.trace(victim, *CONSUME, *mode.arguments, calls=(call,), inject=f"{call}:signal=KILL:when={when}")
    was_killed = "+++ killed by SIGKILL +++" in traced.log
    results = [finish(one) for one in partners]
    try:
        _check_committed(place, traced.result.raw)
        results.append(other(*CONSUME, *mode.arguments))
        if failed := [one for one in results if one.code]:
            raise Violation(f"another consumer could not go on: {failed}")
        rows = handled(place) + _written(place, [traced.result.raw, *(one.raw for one in results)])
        check(rows, FEW, mode.in_flight if was_killed else 0)
    except Violation as violation:
        raise Violation(f"killed at {call} {when}, {mode.arguments[:4]}: {violation}") from violation
    return was_killed


def _written(place: Path, outputs: list[bytes]) -> list[tuple[str, int]]:
    """What was handed on as lines, on standard output or to a batch; without keys, as blocks may be repeated."""
    path = place / "lines"
    texts = [*outputs, path.read_bytes() if path.exists() else b""]
    return [("", int(text[10 : text.index(b",")])) for text in _lines(texts)]


def _lines(texts: list[bytes]) -> Iterator[bytes]:
    for text in texts:
        yield from text.split(b"\n")[:-1]


def _check_committed(place: Path, out: bytes) -> None:
    """Check that what is committed was handled, when the consumer is dead."""
    done = {offset for _, offset in handled(place) + _written(place, [out])}
    end = committed(Program(place)) or 0
    if ahead := set(range(end)) - done:
        raise Violation(f"committed {end}, but {sorted(ahead)} were never handled")

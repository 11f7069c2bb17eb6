"""SIGKILL at every call of what a log is cared for with: nothing is lost, and run again it comes to its end."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.faults import strace
from tests.faults.care import CARES, Care, unsealed
from tests.faults.failing_call import patiently
from tests.faults.history import Violation
from tests.faults.kill_at_call import kill
from tests.faults.scale import scaled, seeded
from tests.faults.trial import Follower, Trial, events, remove
from tests.faults.without import Without
from tests.program import Program

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.strace import Call

pytestmark = strace.needed


def check_kills(evtool: Program, care: Care, choose: Callable[[list[Call]], list[Call]] = list) -> int:
    """Kill a command at those of its calls that are chosen; return how many they were."""
    trial = Trial(evtool, care)
    place = evtool.home.with_name("killed")
    calls = choose(_calls(trial, place))
    for call in calls:
        follower, told = patiently(lambda call=call: _kill(trial, place, call))
        try:
            trial.check_cut(place, told)
            trial.check_again(place, told, follower)
        except AssertionError as error:
            raise Violation(f"killed at {call}: {error}") from error
    remove(place)
    return len(calls)


def _kill(trial: Trial, place: Path, call: Call) -> tuple[Follower, str]:
    """Kill a fresh run of the command; return a reader that was there before, and what the command had said."""
    victim = trial.victim(place)
    follower = Follower(place)
    return follower, kill(victim, call, *trial.care.arguments).out


def _calls(trial: Trial, place: Path) -> list[Call]:
    """The calls by which the command changes something."""
    traced = strace.trace(trial.victim(place), *trial.care.arguments)
    calls = strace.changes(strace.parse(traced.log), place)
    assert calls, "it does nothing at all"
    return calls


class Sealer(Program):
    """What seals in the background, though in the foreground: the topic's seals are its only work."""

    def command(self, *_arguments: str | bytes) -> list[str | bytes]:
        code = "import os, sys; os.fork = os.setsid = int; from evtool.log import sealing; sealing.main(sys.argv[1])"
        return [sys.executable, "-c", code, str(self.topic("t"))]


SEALING = Care(unsealed, ())


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One round: kill one of the commands at each of its calls."""
    name = random.choice(["seal", *CARES])
    program = Sealer if name == "seal" else Program
    return Counter(points=check_kills(program(directory / "home"), CARES.get(name, SEALING)))


@pytest.mark.parametrize("name", CARES)
def test_a_kill_at_any_call_loses_nothing_and_the_second_run_comes_to_its_end(evtool: Program, name: str) -> None:
    random = seeded()
    assert check_kills(evtool, CARES[name], lambda calls: random.sample(calls, min(len(calls), scaled(2)))) >= 2


def test_a_kill_of_what_seals_in_the_background_leaves_seals_that_are_right(evtool: Program) -> None:
    random = seeded()
    assert check_kills(Sealer(evtool.home), SEALING, lambda calls: random.sample(calls, scaled(2))) >= 2


@pytest.mark.parametrize(
    ("name", "protection", "at", "what"),
    [
        ("roll", "patience", "write", "lost: offset 8, which was acknowledged"),
        ("roll", "sealing-first", "fchmod", "verify finds something"),
        ("trim before", "retiring", "unlinkat", "verify finds something"),
        ("set", "renaming", "write", "comes? to its end"),
        ("repair torn", "keeping", "renameat", "the bytes .* are gone"),
        ("repair damaged", "renaming", "write", "lost: "),
        ("repair missing", "retiring", "flock", "verify finds something"),
        ("rm", "moving-away", "unlinkat", "done in part"),
        ("seek long", "renaming", "write", "come to its end"),
        ("compact", "renaming", "write", "lost: "),
    ],
)
def test_control_a_kill_shows_what_is_missing(evtool: Program, name: str, protection: str, at: str, what: str) -> None:
    crippled = Without(evtool.home, protection)
    with pytest.raises(Violation, match=what):
        check_kills(crippled, CARES[name], lambda calls: [one for one in calls if one.name == at])


def drop(home: Path) -> None:
    path = Program(home).segments("t")[-1]
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")


def invent(home: Path) -> None:
    path = Program(home).segments("t")[-1]
    path.write_bytes(path.read_bytes() + b'{"offset":8,"time":"2036-11-24T00:00:00.000000Z","data":1}\n')


def repeat(home: Path) -> None:
    path = Program(home).segments("t")[-1]
    path.write_bytes(path.read_bytes() * 2)


@pytest.mark.parametrize(("change", "what"), [(drop, "lost"), (invent, "invented"), (repeat, "do not rise")])
def test_control_a_log_that_was_tampered_with_shows(evtool: Program, change: Callable[[Path], None], what: str) -> None:
    trial = Trial(evtool, CARES["set"])
    victim = trial.victim(evtool.home.with_name("victim"))
    trial.check_cut(victim.home, "")
    change(victim.home)
    with pytest.raises(Violation, match=what):
        trial.check_cut(victim.home, "")


def test_control_a_reader_who_has_missed_or_seen_too_much_shows(evtool: Program) -> None:
    Trial(evtool, CARES["set"])
    follower = Follower(evtool.home)
    end = events(evtool.home)
    follower.check(end, end)
    with pytest.raises(Violation, match="has missed"):
        follower.check([*end, (8, "1")], end)
    with pytest.raises(Violation, match="never was"):
        follower.check(end, end[1:])

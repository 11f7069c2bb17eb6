"""A consumer of a group that is killed: every event is handled, and repeated are only those that were in flight."""

from __future__ import annotations

import pytest

from tests.faults import history, strace
from tests.faults.history import Violation
from tests.faults.kill_at_call import kill_everywhere, on
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without
from tests.program import Program
from tests.topics import append, committed, numbers, small_segments

CONSUME = ["subscribe", "t", "--group", "g", "--from", "earliest", "--drain"]
FEW = 20
EVENTS, LENGTH = 2000, 1000
IN_FLIGHT = (64 << 10) // LENGTH + 1  # what is read at once, and handed on before it is committed


def whole(out: bytes) -> bytes:
    """What a run has written without the line in which it was killed."""
    return out[: out.rfind(b"\n") + 1]


def check_kill_at_every_call(evtool: Program) -> int:
    """Kill a consumer at each call by which it changes something, and let another go on; return how many calls."""
    append(Program(evtool.home), "t", *numbers(1, FEW))
    points = 0
    for killed in kill_everywhere(evtool, *CONSUME):
        points += 1
        program = Program(killed.home)
        history.check_committed(committed(program), whole(killed.result.raw))
        second = on(evtool, killed.home)(*CONSUME)
        assert second.code == 0, second
        stored = history.read(killed.home / "topics/t")
        history.check_handled(stored, [whole(killed.result.raw), second.raw], in_flight=FEW)
    return points


@strace.needed
def test_a_consumer_killed_at_any_call_leaves_nothing_unhandled(evtool: Program) -> None:
    assert check_kill_at_every_call(evtool) >= 3


@strace.needed
def test_control_a_commit_before_the_event_shows(evtool: Program) -> None:
    with pytest.raises(Violation):
        check_kill_at_every_call(Without(evtool.home, "waiting-to-commit"))


def fill(evtool: Program) -> None:
    small_segments(Program(evtool.home), "t", 200_000)
    lines = "".join(f'"{number:0{LENGTH}}"\n' for number in range(EVENTS))
    assert Program(evtool.home)("append", "t", input=lines).code == 0


def check_random_kills(evtool: Program) -> int:
    """Kill one consumer after another somewhere on its way, the last comes to the end; return how many were killed."""
    fill(evtool)
    random = seeded()
    runs, kills = [], 0
    for _ in range(scaled(12)):
        with evtool.start(*CONSUME) as consumer:
            assert consumer.stdout is not None
            out = consumer.stdout.read(random.randrange(EVENTS * LENGTH // 8))  # a pipe lets it not run ahead
            consumer.kill()
            out += consumer.stdout.read()
        kills += consumer.returncode == -9
        runs.append(whole(out))
        history.check_committed(committed(evtool), b"".join(runs))
    runs.append(evtool(*CONSUME).raw)
    history.check_handled(history.read(evtool.topic("t")), runs, IN_FLIGHT)
    return kills


def test_random_kills_leave_nothing_unhandled(evtool: Program) -> None:
    assert check_random_kills(evtool) > 0


def test_control_a_consumer_that_commits_nothing_repeats_too_much(evtool: Program) -> None:
    with pytest.raises(Violation, match="events were repeated"):
        check_random_kills(Without(evtool.home, "commit"))

"""A sync that fails: the outcome is unknown, and is said to be; nobody asks a second time or builds on it."""

from __future__ import annotations

import pytest

from tests.faults import history, strace
from tests.faults.failing_call import fail_everywhere
from tests.faults.history import Producer, Violation
from tests.faults.test_kill import BEFORE, EVENTS, SCENARIOS, Scenario
from tests.faults.without import Without
from tests.program import Program

pytestmark = strace.needed


def check_failing_syncs(evtool: Program, scenario: Scenario) -> int:
    """Let each sync of a segment fail that an append makes; return how many there were."""
    scenario.prepare(Program(evtool.home))
    arguments = ["append", "t", "--offsets", *scenario.arguments]
    points = 0
    for failed in fail_everywhere(evtool, "EIO", strace.SYNCS, *arguments, input=scenario.input):
        if failed.result.code != 74 or failed.result.out:
            raise Violation(f"{failed.call} failed, and yet: {failed.result}")
        if again := [one for one in failed.later if one.subject == failed.call.subject]:
            raise Violation(f"synced again: {again}")
        if ".jsonl>" not in failed.call.subject or "damaged" in failed.call.subject:
            continue  # a directory, bytes put aside, or a segment that is not one yet
        points += 1
        assert "not known which of the last events are on disk" in failed.result.err
        assert "\nhint: " in failed.result.err
        _check_refusal(Program(failed.home), scenario)
    return points


def _check_refusal(evtool: Program, scenario: Scenario) -> None:
    """The log takes no more events, and says why; it can still be read."""
    before = evtool.log("t")
    further = evtool("append", "t", "--offsets", '{"by":"further"}')
    if further.code != 74 or further.out or evtool.log("t") != before:
        raise Violation(f"the log took another event: {further}")
    assert "earlier sync" in further.err
    assert "\nhint: " in further.err
    known = [Producer(BEFORE, "0\n1\n2\n" if scenario is not SCENARIOS["first"] else ""), Producer(EVENTS, "")]
    stored = history.check(evtool.topic("t"), known)
    assert evtool("replay", "t").raw == b"".join(one.line for one in stored)


@pytest.mark.parametrize(
    ("name", "syncs"), [("first", 1), ("one", 1), ("batch", 1), ("roll", 2), ("atomic", 1), ("id", 1), ("heal", 2)]
)
def test_a_failed_sync_is_an_unknown_outcome_and_shuts_the_log(evtool: Program, name: str, syncs: int) -> None:
    assert check_failing_syncs(evtool, SCENARIOS[name]) == syncs


@pytest.mark.parametrize(("protection", "what"), [("doubt", "and yet"), ("mark", "took another event")])
def test_control_a_failed_sync_that_is_believed_shows(evtool: Program, protection: str, what: str) -> None:
    with pytest.raises(Violation, match=what):
        check_failing_syncs(Without(evtool.home, protection), SCENARIOS["one"])

"""A clock that is set back or forward between appends: times never fall, and nothing is lost by it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.faults import clock, history
from tests.faults.clock import Clocked
from tests.faults.history import Producer, Violation
from tests.faults.without import Without
from tests.topics import small_segments, stored_lines

if TYPE_CHECKING:
    from tests.program import Program

pytestmark = clock.needed

SETTINGS = ["+0", "-1d", "+1h", "-30y", "+0", "+1d", "-1s", "+0"]


def check_clock(evtool: Program) -> list[str]:
    """Append with all of these settings and check; return the lines."""
    small_segments(evtool, "t", 300)
    producers = []
    for number, wrong in enumerate(SETTINGS):
        event = f'{{"n":{number}}}'
        result = Clocked(evtool, wrong)("append", "t", "--offsets", event)
        assert result.code == 0, result
        producers.append(Producer([event], result.out))
    history.check(evtool.topic("t"), producers)
    return stored_lines(evtool, "t")


def test_times_never_fall_whatever_the_clock_does(evtool: Program) -> None:
    lines = check_clock(evtool)
    times = [json.loads(line)["time"] for line in lines]
    assert len(set(times)) >= 3
    for moment in set(times):  # and so they can be found
        found = evtool("replay", "t", "--from", moment)
        assert found.out == "".join(lines[times.index(moment) :])


def test_control_a_clock_that_is_believed_shows(evtool: Program) -> None:
    with pytest.raises(Violation):
        check_clock(Without(evtool.home, "steady-clock"))


def test_an_id_keeps_the_second_out_though_the_clock_was_set_back(evtool: Program) -> None:
    for wrong in ("+0", "-1d", "-30y", "+1h"):
        result = Clocked(evtool, wrong)("append", "t", "--offsets", "--id", "a", "1")
        assert (result.code, result.out, result.err) == (0, "0\n", "")


def test_ages_are_never_below_zero(evtool: Program) -> None:
    assert Clocked(evtool, "+1d")("append", "t", "1").code == 0
    assert evtool("subscribe", "t", "--group", "g", "--from", "earliest", "--count", "0").code == 0
    (topic,) = evtool("topics", "--json").events
    assert topic["age_seconds"] == 0
    assert all(group["lag_seconds"] == 0 for group in evtool("groups", "--json").events)


def test_a_group_goes_on_though_the_clock_was_set_back(evtool: Program) -> None:
    arguments = ["subscribe", "t", "--group", "g", "--from", "earliest", "--drain", "--data"]
    for number, wrong in enumerate(SETTINGS):
        assert evtool("append", "t", str(number)).code == 0
        result = Clocked(evtool, wrong)(*arguments)
        assert (result.code, result.out, result.err) == (0, f"{number}\n", "")

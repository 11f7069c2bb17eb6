"""A clock that is set back or forward between appends: times never fall, and nothing is lost by it."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import evtool as api
from tests import topics
from tests.faults import clock, history
from tests.faults.clock import Clocked
from tests.faults.history import Producer, Violation
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without
from tests.faults.wrong_clock import YEAR, Wrong
from tests.program import Program, Result
from tests.topics import committed, small_segments, stored_lines, write_log

if TYPE_CHECKING:
    import random
    from pathlib import Path

SETTINGS = ["+0", "-1d", "+1h", "-30y", "+0", "+1d", "-1s", "+0"]
HOUR = 3600
JUMPS = [0, -HOUR, HOUR, -10 * YEAR, 10 * YEAR, -24 * HOUR, 2 * HOUR, 31 * 60]
CREEPING = [50 * number for number in range(8)]  # never by much at a time


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


@clock.needed
def test_times_never_fall_whatever_the_clock_does(evtool: Program) -> None:
    lines = check_clock(evtool)
    times = [json.loads(line)["time"] for line in lines]
    assert len(set(times)) >= 3
    for moment in set(times):  # and so they can be found
        found = evtool("replay", "t", "--from", moment)
        assert found.out == "".join(lines[times.index(moment) :])


@clock.needed
def test_control_a_clock_that_is_believed_shows(evtool: Program) -> None:
    with pytest.raises(Violation):
        check_clock(Without(evtool.home, "steady-clock"))


@clock.needed
def test_an_id_keeps_the_second_out_though_the_clock_was_set_back(evtool: Program) -> None:
    for wrong in ("+0", "-1d", "-30y", "+1h"):
        result = Clocked(evtool, wrong)("append", "t", "--offsets", "--id", "a", "1")
        assert (result.code, result.out, result.err) == (0, "0\n", "")


@clock.needed
def test_ages_are_never_below_zero(evtool: Program) -> None:
    assert Clocked(evtool, "+1d")("append", "t", "1").code == 0
    assert evtool("subscribe", "t", "--group", "g", "--from", "earliest", "--count", "0").code == 0
    (topic,) = evtool("topics", "--json").events
    assert topic["age_seconds"] == 0
    assert all(group["lag_seconds"] == 0 for group in evtool("groups", "--json").events)


@clock.needed
def test_a_group_goes_on_though_the_clock_was_set_back(evtool: Program) -> None:
    arguments = ["subscribe", "t", "--group", "g", "--from", "earliest", "--drain", "--data"]
    for number, wrong in enumerate(SETTINGS):
        assert evtool("append", "t", str(number)).code == 0
        result = Clocked(evtool, wrong)(*arguments)
        assert (result.code, result.out, result.err) == (0, f"{number}\n", "")


def at(evtool: Program, seconds: int, *arguments: str) -> Result:
    """Run a command while the clock on the wall is wrong by so much."""
    result = Wrong(evtool, seconds)(*arguments)
    if result.code != 0:
        raise Violation(f"with the clock at {seconds:+}: {result}")
    return result


def check_ages(evtool: Program, settings: list[int], age: str = "30m") -> int:
    """Append, roll and trim while the clock jumps: no event is of that age. Returns how many there were."""
    assert Program(evtool.home)("create", "-q", "t", "segment-bytes=200", f"max-age={age}").code == 0
    producers = []
    for number, wrong in enumerate(settings):
        events = [f'{{"n":{number},"part":{part}}}' for part in range(2)]
        producers.append(Producer(events, at(evtool, wrong, "append", "t", "--offsets", *events).out))
        at(evtool, wrong, "trim", "t")
        try:
            history.check(evtool.topic("t"), producers)
        except Violation as error:
            raise Violation(f"after the clock was at {settings[: number + 1]}: {error}") from error
    assert len(evtool.segments("t")) >= len(settings)
    return 2 * len(settings)


def check_consumed(evtool: Program, wrong: int) -> None:
    """A group that was there a moment ago still gets all, though the clock says that it was away for years."""
    assert Program(evtool.home)("create", "-q", "t", "segment-bytes=200", "retention=consumed").code == 0
    topic = api.open(evtool.home).topic("t")
    topic.append(f"{0:060}")
    consume = ["subscribe", "t", "--from", "earliest", "--drain", "--group"]
    assert Program(evtool.home)(*consume, "slow", "--count", "1").code == 0
    for number in range(1, 12):
        topic.append(f"{number:060}")
    at(evtool, wrong, *consume, "quick")
    assert committed(evtool, group="quick") == 12
    rest = Program(evtool.home)(*consume, "slow", "--data")
    if [int(line.strip('"')) for line in rest.lines] != list(range(1, 12)):
        raise Violation(f"with the clock at {wrong:+}, the group slow lost events: {rest}")


def check_old(evtool: Program, wrong: int) -> int:
    """What is older by any clock goes, if the clock runs evenly; return the first offset that is left."""
    now = time.time() + wrong
    times = [topics.moment(now - 10 * 86400 + number) for number in range(6)]
    for first in range(0, 6, 2):
        write_log(evtool, "t", times[first : first + 2], first=first)
        evtool.segments("t")[-1].chmod(0o444)
    at(evtool, wrong, "set", "t", "max-age=7d", "segment-bytes=200")
    at(evtool, wrong, "append", "t", '"new"')
    at(evtool, wrong, "trim", "t")
    return int(evtool.segments("t")[0].name[:20])


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One round: some jumps of the clock, with a topic that drops events by age and one that drops what is consumed."""
    settings = random.choices(JUMPS, k=60)
    events = check_ages(Program(directory / "ages"), settings)
    check_consumed(Program(directory / "consumed"), random.choice(JUMPS))
    return Counter(jumps=len(settings) + 1, events=events)


def test_nothing_is_too_old_whatever_the_clock_says(evtool: Program) -> None:
    random = seeded()
    check_ages(evtool, [*random.sample(JUMPS, len(JUMPS)), *random.choices(JUMPS, k=scaled(8) - 8)])


@pytest.mark.parametrize("wrong", [HOUR, 10 * YEAR, -HOUR, -10 * YEAR])
def test_a_jump_of_the_clock_takes_nothing_from_a_group(evtool: Program, wrong: int) -> None:
    check_consumed(evtool, wrong)


def test_a_clock_that_creeps_ahead_makes_nothing_old(evtool: Program) -> None:
    check_ages(evtool, CREEPING, "5m")


@pytest.mark.parametrize("wrong", [0, -10 * YEAR, 10 * YEAR])
def test_what_is_old_by_a_clock_that_runs_evenly_goes(evtool: Program, wrong: int) -> None:
    assert check_old(evtool, wrong) == 6


def test_control_a_clock_that_is_believed_makes_events_old(evtool: Program) -> None:
    with pytest.raises(Violation, match="after the clock was at"):
        check_ages(Without(evtool.home, "even-clock"), JUMPS)

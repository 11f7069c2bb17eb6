"""Handlers, workers and sharing processes whose consumer is killed: all is handled, in order by key, little twice."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults import strace
from tests.faults.history import Violation
from tests.faults.kill_at_call import kill_everywhere, on
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without
from tests.program import Program, finish, wait_until
from tests.topics import append, committed, numbers

if TYPE_CHECKING:
    from pathlib import Path

CONSUME = ["subscribe", "t", "--group", "g", "--from", "earliest", "--drain"]
NOTE = ["--", "sh", "-c", 'echo "$EVTOOL_KEY $EVTOOL_OFFSET" >>"$EVTOOL_HOME/out"']
FEW = 8
MANY, KEYS = 150, 6
WORKER = """
import os, sys
for line in sys.stdin:
    offset = line[10:line.index(",")]
    with open(os.environ["EVTOOL_HOME"] + "/out", "a") as out:
        out.write("- " + offset + "\\n")
    print(offset, flush=True)
"""


def handled(home: Path) -> list[tuple[str, int]]:
    """Key and offset of what the handlers have noted, in order."""
    path = home / "out"
    rows = [line.split(" ") for line in path.read_text().splitlines()] if path.exists() else []
    return [(key, int(offset)) for key, offset in rows]


def check(rows: list[tuple[str, int]], count: int, repeats: int) -> None:
    """Every event was handled, those of a key begin in order, and no more than so many were handled again."""
    offsets = [offset for _, offset in rows]
    if missing := set(range(count)) - set(offsets):
        raise Violation(f"never handled: {sorted(missing)}")
    if len(offsets) - count > repeats:
        raise Violation(f"{len(offsets) - count} events were repeated, and {repeats} were in flight")
    firsts: dict[str, list[int]] = {}
    for key, offset in rows:
        if key and offset not in firsts.setdefault(key, []):
            firsts[key].append(offset)
    for key, order in firsts.items():
        if order != sorted(order):
            raise Violation(f"the events of {key} came in the order {order}")


def check_kill_at_every_call(evtool: Program) -> int:
    """Kill a consumer at each call by which it changes something, and let another go on.

    One event at a time: with more, the order of the calls is another one in each run.
    """
    append(Program(evtool.home), "t", *numbers(1, FEW))
    points = 0
    for killed in kill_everywhere(evtool, *CONSUME, *NOTE):
        points += 1
        second = on(Program(evtool.home), killed.home)(*CONSUME, *NOTE)
        assert second.code == 0, second
        check(handled(killed.home), FEW, 1)
    return points


@strace.needed
def test_a_consumer_with_a_command_killed_at_any_call_leaves_nothing_unhandled(evtool: Program) -> None:
    assert check_kill_at_every_call(evtool) >= 3


@strace.needed
def test_control_an_acknowledgement_before_the_handler_has_ended_shows(evtool: Program) -> None:
    with pytest.raises(Violation, match="never handled"):
        check_kill_at_every_call(Without(evtool.home, "waiting-for-handlers"))


def fill(evtool: Program, keys: int = KEYS) -> None:
    lines = "".join(f'{{"k":"{number % keys}"}}\n' for number in range(MANY))
    assert Program(evtool.home)("append", "t", "--key-from=.k", input=lines).code == 0


def kill_until_done(evtool: Program, *command: str, in_flight: int) -> int:
    """Kill one consumer after another somewhere on its way; the last comes to the end. Returns how many were killed."""
    fill(evtool)
    random = seeded()
    kills = 0
    for _ in range(scaled(10)):
        before = len(handled(evtool.home))
        with evtool.start(*CONSUME, *command) as consumer:
            goal = min(before + random.randrange(1, 20), MANY)
            wait_until(lambda goal=goal, one=consumer: len(handled(evtool.home)) >= goal or one.poll() is not None)  # type: ignore[misc]
            consumer.kill()
        kills += consumer.returncode == -signal.SIGKILL
    last = evtool(*CONSUME, *command)
    assert last.code == 0, last
    assert committed(evtool) == MANY
    check(handled(evtool.home), MANY, kills * in_flight)
    return kills


def test_random_kills_of_a_consumer_with_jobs(evtool: Program) -> None:
    assert kill_until_done(evtool, "--jobs", "3", *NOTE, in_flight=3) > 0


def test_random_kills_of_a_consumer_with_a_worker(evtool: Program) -> None:
    """A worker is given events ahead, as many as have different keys: those are in flight."""
    assert kill_until_done(evtool, "--worker", "--", sys.executable, "-c", WORKER, in_flight=KEYS) > 0


def check_sharing(evtool: Program) -> int:
    """Kill sharing processes at random while others go on; return how many were killed."""
    fill(evtool)
    random = seeded()
    slow = [*NOTE[:-1], f"{NOTE[-1]}; sleep 0.005"]
    command = [*CONSUME, "--share", "--lease", "1s", *slow]
    kills = 0
    for _ in range(scaled(3)):
        before = len(handled(evtool.home))
        started = [evtool.start(*command) for _ in range(3)]
        goal = min(before + random.randrange(5, 30), MANY)
        wait_until(lambda goal=goal: len(handled(evtool.home)) >= goal)  # type: ignore[misc]
        victim = started.pop(random.randrange(3))
        victim.kill()
        kills += finish(victim).code == -signal.SIGKILL
        for other in started:
            other.send_signal(signal.SIGTERM)
            finish(other)
    results = [finish(one) for one in [evtool.start(*command) for _ in range(2)]]
    assert [result.code for result in results] == [0, 0], results
    assert committed(evtool) == MANY
    check(handled(evtool.home), MANY, kills)
    return kills


def test_random_kills_of_sharing_processes_keep_the_order_of_keys(evtool: Program) -> None:
    assert check_sharing(evtool) > 0


def test_control_without_looking_at_keys_their_order_breaks(evtool: Program) -> None:
    with pytest.raises(Violation, match="came in the order"):
        check_sharing(Without(evtool.home, "order-of-keys"))

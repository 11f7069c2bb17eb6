"""Producers killed at random: nothing acknowledged is lost, and whoever comes next heals what they left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import history
from tests.faults.alone import alone
from tests.faults.crowd import Crowd, twelve
from tests.faults.history import Producer, Violation
from tests.faults.random_kill import kill
from tests.faults.scale import scaled, seeded
from tests.running import linux
from tests.topics import small_segments

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program


def check_random_kills(evtool: Program) -> int:
    """Let producers be killed, then append once more and check; return how many were killed."""
    small_segments(evtool, "t", 100_000)
    crowd = Crowd(evtool, seeded())
    twelve(crowd, lambda: scaled(10), lambda: (scaled(6), 2000))
    last = evtool("append", "t", "--offsets", '"last"')
    if last.code != 0:
        raise Violation(f"the next producer could not go on: {last}")
    stored = history.check(evtool.topic("t"), [*crowd.producers, Producer(['"last"'], last.out)])
    assert len(stored) > 1
    return crowd.kills


def test_nothing_acknowledged_is_lost_by_random_kills(evtool: Program) -> None:
    assert check_random_kills(evtool) > scaled(20)


@linux
def test_nothing_acknowledged_is_lost_by_hundreds_of_kills(tmp_path: Path) -> None:
    assert alone(kill, tmp_path, seeded(), scaled(400))["kills"] == scaled(400)


@linux
@pytest.mark.parametrize(("protection", "what"), [("lock", "."), ("healing", "no event")])
def test_control_hundreds_of_kills_show_what_is_missing(tmp_path: Path, protection: str, what: str) -> None:
    with pytest.raises(Violation, match=what):
        alone(kill, tmp_path, seeded(), 1000, protection=protection)

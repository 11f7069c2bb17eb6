"""Rounds of rows whose checks stand in the test suite, which has a slice of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.faults import test_full_disk, test_kill, test_torn_write
from tests.program import Program

if TYPE_CHECKING:
    import random
    from pathlib import Path


def append_kills(directory: Path, random: random.Random) -> Counter[str]:
    """Row 1: kill one kind of append at each of its calls."""
    scenario = test_kill.SCENARIOS[random.choice([*test_kill.SCENARIOS])]
    return Counter(points=test_kill.check_kills(Program(directory / "home"), scenario))


def torn_writes(directory: Path, random: random.Random) -> Counter[str]:
    """Row 3: tear a batch at each byte."""
    counts = range(test_torn_write.length() + 1)
    for count in counts:
        test_torn_write.check_tear(Program(directory / "home"), count)
    return Counter(tears=len(counts))


def full_disks(directory: Path, random: random.Random) -> Counter[str]:
    """Row 7: let a batch find any room, from none to all but a byte of what it needs."""
    longest = sum(len(one) + 60 for one in test_full_disk.EVENTS)
    rooms = range(longest)
    for room in rooms:
        test_full_disk.check_limit(Program(directory / "home"), room)
    return Counter(rooms=len(rooms))

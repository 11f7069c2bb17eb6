"""evtool.log.clock: no event is taken for old because somebody set the clock."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from evtool.log import clock, line
from tests.topics import open_directory

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.log.files import Directory

NOW = 1_800_000_000.0
HOUR, YEAR = 3600.0, 365 * 86400.0


class Clocks:
    """The two clocks of a machine: the one that can be set, and the one that cannot."""

    def __init__(self) -> None:
        self.now, self.running, self.boot = NOW, 1000.0, "one"

    def go(self, seconds: float, ahead: float = 0.0) -> None:
        self.now += seconds + ahead
        self.running += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    there = Clocks()
    monkeypatch.setattr(time, "time", lambda: there.now)
    monkeypatch.setattr(clock, "_running", lambda: there.running)
    monkeypatch.setattr(clock, "_boot_id", lambda: there.boot)
    return there


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def stamp(seconds: float) -> bytes:
    return line.stamp(int(seconds * 1e9))


def test_what_is_older_than_that_is_told_by_the_clock(topic: Directory, clocks: Clocks) -> None:
    assert clock.cutoff(topic, HOUR, stamp(NOW - 5)) == stamp(NOW - HOUR)
    clocks.go(10 * YEAR)
    assert clock.cutoff(topic, HOUR, stamp(NOW)) == stamp(NOW + 10 * YEAR - HOUR)


def test_while_the_clock_reads_earlier_than_the_log_nothing_is_old(topic: Directory, clocks: Clocks) -> None:
    assert clock.cutoff(topic, HOUR, stamp(NOW + 1)) is None
    clocks.go(2)
    assert clock.cutoff(topic, HOUR, stamp(NOW + 1)) is not None


@pytest.mark.parametrize("ahead", [HOUR, 10 * YEAR])
def test_a_clock_set_ahead_makes_nothing_old_before_its_time(topic: Directory, clocks: Clocks, ahead: float) -> None:
    clock.begin(topic)
    clocks.go(60, ahead)
    assert clock.cutoff(topic, HOUR / 2, stamp(NOW)) is None
    clocks.go(HOUR / 2 - 1)
    assert clock.cutoff(topic, HOUR / 2, stamp(NOW)) is None
    clocks.go(2)
    assert clock.cutoff(topic, HOUR / 2, stamp(NOW)) == stamp(clocks.now - HOUR / 2)


def test_a_clock_set_back_again_does_not_stop_it_for_ever(topic: Directory, clocks: Clocks) -> None:
    clock.begin(topic)
    clocks.go(60, 10 * YEAR)
    assert clock.cutoff(topic, HOUR, stamp(NOW)) is None
    clocks.go(60, -10 * YEAR)
    assert clock.cutoff(topic, HOUR, stamp(NOW)) is None
    clocks.go(HOUR + 1)
    assert clock.cutoff(topic, HOUR, stamp(NOW)) is not None


def test_after_a_new_start_of_the_machine_the_clock_is_believed(topic: Directory, clocks: Clocks) -> None:
    clock.begin(topic)
    clocks.go(YEAR)
    clocks.boot, clocks.running = "two", 5.0
    assert clock.cutoff(topic, HOUR, stamp(NOW)) is not None


@pytest.mark.parametrize("text", ["", "one 5", "one x y z\n", "\0" * 40])
def test_a_torn_note_counts_as_none(topic: Directory, clocks: Clocks, text: str) -> None:
    with open(f"{topic.path}/clock", "w") as file:
        file.write(text)
    assert clock.cutoff(topic, HOUR, stamp(NOW - 5)) is not None


def test_a_clock_that_jumps_within_what_clocks_drift_is_believed(topic: Directory, clocks: Clocks) -> None:
    clock.begin(topic)
    clocks.go(0, ahead=clock._TOLERANCE)
    assert clock.cutoff(topic, 10, stamp(NOW)) == stamp(clocks.now - 10)
    clocks.go(100)
    assert clock.cutoff(topic, 10, stamp(NOW)) == stamp(clocks.now - 10)
    clocks.go(100, ahead=clock._TOLERANCE + 1)
    assert clock.cutoff(topic, 10, stamp(NOW)) is None


def test_a_jump_is_remembered_from_look_to_look(topic: Directory, clocks: Clocks) -> None:
    """Until all that was there has the age that it may have by the clock as it runs since."""
    clock.begin(topic)
    clocks.go(1, YEAR)
    for _ in range(9):
        assert clock.cutoff(topic, 10, stamp(NOW)) is None
        clocks.go(1)
    clocks.go(2)
    assert clock.cutoff(topic, 10, stamp(NOW)) == stamp(clocks.now - 10)


def test_nothing_is_older_than_the_epoch(topic: Directory, clocks: Clocks) -> None:
    assert clock.cutoff(topic, NOW, None) is None
    assert clock.cutoff(topic, NOW + YEAR, None) is None
    assert clock.cutoff(topic, NOW - 1, None) == stamp(1)


def test_what_was_seen_is_noted_in_one_line_that_replaces_the_last(topic: Directory, clocks: Clocks) -> None:
    with open(f"{topic.path}/clock", "w") as file:
        file.write("x" * 200)
    clock.begin(topic)
    with open(f"{topic.path}/clock") as file:
        assert file.read() == "one 1000.000 1800000000.000 0.000\n"


@pytest.mark.parametrize("call", ["open", "pwrite", "ftruncate"])
def test_where_nothing_can_be_noted_the_next_look_compares_with_an_older_one(
    topic: Directory, clocks: Clocks, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.begin(topic)
    clocks.go(HOUR, -YEAR)
    real = os.open

    def fail(*given: object, **where: object) -> int:
        if call == "open" and not given[1] & os.O_CREAT:  # type: ignore[operator]
            return real(*given, **where)  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    assert clock.cutoff(topic, 10, stamp(clocks.now)) == stamp(clocks.now - 10)
    monkeypatch.undo()
    monkeypatch.setattr(time, "time", lambda: clocks.now)
    monkeypatch.setattr(clock, "_running", lambda: clocks.running)
    monkeypatch.setattr(clock, "_boot_id", lambda: clocks.boot)
    clocks.go(1, 2 * YEAR)
    assert clock.cutoff(topic, 10, stamp(NOW)) is None


def test_where_the_system_has_no_name_for_a_start_it_is_told_by_the_running_clock(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(clock, "open", missing, raising=False)
    assert clock._boot_id() == "boot"
    monkeypatch.undo()
    if os.path.exists("/proc/sys/kernel/random/boot_id"):
        with open("/proc/sys/kernel/random/boot_id") as file:
            assert clock._boot_id() == file.read().strip()


def test_the_running_clock_counts_the_time_asleep_where_the_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    best = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    monkeypatch.setattr(time, "clock_gettime", lambda which: asked.append(which) or 5.0)
    assert clock._running() == 5.0
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert clock._running() == 5.0
    assert asked == [best, time.CLOCK_MONOTONIC]


def test_a_note_with_a_damaged_name_is_of_another_start_of_the_machine(topic: Directory, clocks: Clocks) -> None:
    """What it says of the clock's jumps still holds."""
    with open(f"{topic.path}/clock", "wb") as file:
        file.write(b"o\xffe 1000.000 %.3f %.3f\n" % (NOW, NOW - 5))
    assert clock.cutoff(topic, 10, stamp(NOW)) is None
    assert clock.cutoff(topic, 4, stamp(NOW)) == stamp(NOW - 4)


def test_the_real_clocks_run() -> None:
    assert clock._running() > 0
    assert clock._boot_id()

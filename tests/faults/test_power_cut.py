"""A power cut: what was acknowledged is there, and a group's commits stand on events that are there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.faults import history, outage, power_cut
from tests.faults.alone import alone
from tests.faults.crowd import Run, event
from tests.faults.history import Producer, Violation
from tests.faults.kill_at_call import on
from tests.faults.power_cut import DROP_ALL, FLUSH_JOURNAL, Disk
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without
from tests.program import Program, wait_until
from tests.topics import committed, small_segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = power_cut.needed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path) as there:
        yield there


def check_cuts(disk: Disk, evtool: Program, flag: int, cuts: int) -> None:
    """Cut the power while producers append, some of them as new segments begin; several times in one log."""
    evtool = on(evtool, disk.path / "home")
    small_segments(evtool, "t", 60_000)
    os.sync()  # the settings were written by the test, which does not sync
    known: list[Producer] = []
    for cut in range(cuts):
        runs = [Run(evtool, [event(f"{cut}-{one}", n) for n in range(4000)], stream=True) for one in range(3)]
        wait_until(lambda runs=runs: all(len(run.told) > 200 for run in runs), "each to have acknowledged some")
        known += [Producer(run.events, run.told) for run in runs]  # what was told before the cut
        disk.cut(flag)
        for run in runs:
            run.process.kill()
            run.end_in_any_way()
        disk.come_back()
        healed = Program(evtool.home)("append", "t", "--offsets", f'"after {cut}"')
        if healed.code != 0:
            raise Violation(f"the log cannot go on: {healed}")
        known.append(Producer([f'"after {cut}"'], healed.out))
        history.check(evtool.topic("t"), known)


@pytest.mark.parametrize("flag", [DROP_ALL, FLUSH_JOURNAL])
def test_no_acknowledged_event_is_lost(disk: Disk, evtool: Program, flag: int) -> None:
    check_cuts(disk, evtool, flag, scaled(2))


def test_control_without_syncs_acknowledged_events_are_lost(disk: Disk, evtool: Program) -> None:
    with pytest.raises(Violation):
        check_cuts(disk, Without(evtool.home, "sync"), DROP_ALL, 1)


def check_last_words(disk: Disk, evtool: Program, *options: str) -> None:
    """Cut the power right after an append has ended: as the first of its topic, and as one of several."""
    evtool = on(evtool, disk.path / "home")
    for number in range(3):
        events = [event(f"{number}", one) for one in range(5)]
        told = evtool("append", f"t{number}", "--offsets", *options, *events)
        more = evtool("append", "t", "--offsets", *options, *events)
        disk.cut(DROP_ALL)
        disk.come_back()
        history.check(evtool.topic(f"t{number}"), [Producer(events, told.out)])
        assert len(told.lines) == len(more.lines) == 5
        if len(evtool.log("t").splitlines()) != 5 * (number + 1):
            raise Violation("lost: the last append")


@pytest.mark.parametrize("options", [(), ("--atomic",)])
def test_an_append_that_has_ended_is_there(disk: Disk, evtool: Program, options: tuple[str, ...]) -> None:
    check_last_words(disk, evtool, *options)


@pytest.mark.parametrize(("options", "protection"), [((), "sync"), (("--atomic",), "directory-sync")])
def test_control_without_a_sync_the_last_append_is_lost(
    disk: Disk, evtool: Program, options: tuple[str, ...], protection: str
) -> None:
    with pytest.raises(Violation, match="lost"):
        check_last_words(disk, Without(evtool.home, protection), *options)


def check_commits(disk: Disk, evtool: Program) -> None:
    """Consume events that nobody has synced, and cut the power when the consumer has ended."""
    evtool = on(evtool, disk.path / "home")
    events = [event("unsynced", number) for number in range(300)]
    assert Program(evtool.home)("append", "t", "--sync", "never", *events).code == 0
    consumed = evtool("subscribe", "t", "--group", "g", "--from", "earliest", "--drain")
    assert (consumed.code, len(consumed.lines)) == (0, len(events))
    disk.cut(DROP_ALL)
    disk.come_back()
    if committed(evtool) != len(events):
        raise Violation(f"lost: the commit of {len(events)}, it is {committed(evtool)}")
    stored = history.read(evtool.topic("t"), torn_tail=True)
    if len(stored) < len(events):
        raise Violation(f"committed {len(events)}, but only {len(stored)} are on disk")


def test_a_commit_never_stands_on_events_that_are_not_on_disk(disk: Disk, evtool: Program) -> None:
    check_commits(disk, evtool)


@pytest.mark.parametrize(("protection", "what"), [("log-sync", "only 0 are on disk"), ("sync", "lost: the commit")])
def test_control_a_commit_without_a_sync_shows(disk: Disk, evtool: Program, protection: str, what: str) -> None:
    with pytest.raises(Violation, match=what):
        check_commits(disk, Without(evtool.home, protection))


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_outages_lose_nothing_acknowledged(tmp_path: Path, kind: str) -> None:
    if why := power_cut.why_not(kind):
        pytest.skip(why)
    assert alone(outage.cut, tmp_path, seeded(), outage.KINDS.index(kind), scaled(16))["cuts"] == scaled(16)


def test_control_outages_show_a_missing_sync(tmp_path: Path) -> None:
    with pytest.raises(Violation):
        alone(outage.cut, tmp_path, seeded(), outage.KINDS.index("ext4"), 20, protection="sync")

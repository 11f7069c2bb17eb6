"""Every state in which a power cut may leave a home: nothing promised is broken in it, and the log goes on."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import pytest

from evtool.log.topic import TopicLog
from tests.faults import strace
from tests.faults.crash_disk import Disk
from tests.faults.crash_states import SCENARIOS, make, replay, work
from tests.faults.crash_trace import Operation
from tests.faults.history import Violation
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.crash_disk import State
    from tests.faults.crash_states import Recording

    Recorded = Callable[[str], Recording]

pytestmark = strace.needed

STATES, REOPENED = 4000, 30


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_promise_is_broken_in_any_state(tmp_path: Path, name: str) -> None:
    recording = make(name, seeded().randrange(1 << 32), tmp_path)
    counts = replay(recording, states=scaled(STATES), reopened=scaled(REOPENED))
    assert counts["states"] > len(recording.operations) / 4
    assert counts["reopened"] > 0


# The program without a protection


@pytest.mark.parametrize(
    ("name", "protection", "what"),
    [
        ("several", "sync", "lost: offsets"),
        ("first", "directory-sync", "lost: all of the log"),
        ("first atomic", "directory-sync", "lost: all of the log"),
        ("heal", "healing", "lost: offsets"),
        ("heal", "keeping", "were not put aside"),
        ("group, unsynced events", "log-sync", "the log on disk ends before"),
    ],
)
def test_control_without_a_protection_a_state_breaks_a_promise(
    tmp_path: Path, name: str, protection: str, what: str
) -> None:
    recording = make(name, 1, tmp_path, lambda home: Without(home, protection))
    with pytest.raises(Violation, match=what):
        replay(recording, states=STATES, reopened=0)


def test_control_who_opens_a_state_without_healing_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = make("several", 1, tmp_path)
    monkeypatch.setattr(TopicLog, "_heal", lambda *_: None)
    with pytest.raises(Violation, match="the log cannot go on|verify finds|lost by going on|the offset"):
        replay(recording, states=STATES, reopened=STATES)


# Recordings in which something was left out, or done in another order


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Records a scenario, each once."""
    return functools.cache(lambda name: make(name, 1, tmp_path_factory.mktemp("recorded")))


def without(recording: Recording, pattern: str) -> Recording:
    """The same, but without these operations."""
    kept = [one for one in recording.operations if re.fullmatch(pattern, f"{one.kind} {one.path}") is None]
    assert len(kept) < len(recording.operations), "there is no such operation"
    return recording._replace(operations=kept)


@pytest.mark.parametrize(
    ("name", "pattern", "what"),
    [
        ("set", r"sync .*/topic\.json\.new", "the settings are"),
        ("set", r"sync .*/t", "the settings are"),
        ("create", r"sync .*", "the settings are"),
        ("atomic", r"sync .*\.jsonl\.new", "damaged|lost"),
        ("stream", r"sync .*/t/\d+\.jsonl", "is damaged or torn, and not the last one|comes after the offset"),
        ("stream", r"datasync .*/t/\d+\.jsonl", "lost: offsets"),
        ("stream", r"sync .*/t", "lost: offsets"),
        ("heal", r"sync .*/damaged/.*", "were not put aside"),
        ("heal", r"sync .*/damaged", "were not put aside"),
        ("repair", r"sync .*\.jsonl\.new", "lost|torn|damaged|seal says|comes after"),
        ("trim", r"sync .*/SHA256SUMS", "has a seal that counts, and is not there"),
        ("repair", r"sync .*/SHA256SUMS", "is not what its seal says"),
        ("group", r"datasync .*/g\.jsonl", "the group g"),
        ("group", r"sync .*/t", "lost: the group g"),
        ("group, events go when consumed", r"datasync .*/g\.jsonl", "the group g .* the log begins at"),
        ("commits written anew", r"sync .*/g\.jsonl\.new", "the group g"),
        ("compact", r"sync .*\.jsonl\.compacted", "lost|seal says|torn"),
    ],
)
def test_control_what_is_not_synced_shows(recorded: Recorded, name: str, pattern: str, what: str) -> None:
    with pytest.raises(Violation, match=what):
        replay(without(recorded(name), pattern), states=STATES, reopened=0)


def reversed_unlinks(operations: list[Operation]) -> list[Operation]:
    """The same, with what is unlinked in the opposite order."""
    unlinks = [one for one in operations if one.kind == "unlink"]
    return [unlinks.pop() if one.kind == "unlink" else one for one in operations]


def settings_in_place(operations: list[Operation]) -> list[Operation]:
    """The same, but the settings are written to their file at once."""
    path = "home/topics/t/topic.json"
    new = [one._replace(path=path) for one in operations if one.path.startswith(path) and one.kind != "rename"]
    return [*new, operations[-1]]


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("trim", reversed_unlinks, "comes after the offset"),
        ("set again", settings_in_place, "the settings are"),
    ],
)
def test_control_another_order_shows(
    recorded: Recorded, name: str, change: Callable[[list[Operation]], list[Operation]], what: str
) -> None:
    recording = recorded(name)
    with pytest.raises(Violation, match=what):
        replay(recording._replace(operations=change(recording.operations)), states=STATES, reopened=0)


# The model


def test_an_unsynced_write_is_there_missing_or_torn() -> None:
    """The model leaves of it any beginning, or NUL bytes in its place, and all of it after a sync."""
    disk = disk_with(Operation("create", "f"), Operation("sync", ""), Operation("write", "f", 0, b"ab"))
    assert contents(disk) == {b"", b"a", b"a\0", b"\0\0", b"ab"}  # and no block begins between the two
    disk.apply(Operation("datasync", "f"))
    assert contents(disk) == {b"ab"}


def test_an_unsynced_name_may_be_missing_though_the_file_is_synced() -> None:
    disk = disk_with(Operation("create", "f"), Operation("write", "f", 0, b"ab"), Operation("sync", "f"))
    assert contents(disk) == {None, b"ab"}
    disk.apply(Operation("rename", "f", other="g"))
    assert names(disk) == {(), ("f",), ("g",)}
    disk.apply(Operation("sync", ""))
    assert names(disk) == {("g",)}


def test_names_of_one_directory_come_in_order_those_of_two_in_any() -> None:
    disk = disk_with(Operation("mkdir", "d"), Operation("mkdir", "e"), Operation("sync", ""))
    for path in ("d/1", "d/2", "e/1"):
        disk.apply(Operation("create", path))
    d, e = [(), ("d/1",), ("d/1", "d/2")], [(), ("e/1",)]
    assert names(disk) == {one + other for one in d for other in e}


def test_a_name_that_is_moved_to_another_directory_is_never_in_neither() -> None:
    disk = disk_with(Operation("mkdir", "d"), Operation("create", "f"), Operation("sync", ""))
    disk.apply(Operation("rename", "f", other="d/f"))
    assert names(disk) == {("f",), ("d/f", "f"), ("d/f",)}


def test_each_state_comes_once() -> None:
    """After each operation come the states in which it is there, and no other; together they are all."""
    operations = [Operation("create", "f"), Operation("sync", ""), Operation("write", "f", 0, b"abc")]
    operations += [Operation("create", "g"), Operation("write", "g", 0, b"de"), Operation("chmod", "f", 0o444)]
    disk = Disk()
    found = [shape for one in operations for shape in shapes_after(disk, one)]
    assert len(found) == len(set(found))
    everything = {shape(state) for state in disk.states(seeded(), 10_000, all_of_them=True)}
    assert everything == set(found) - {()}


def shapes_after(disk: Disk, operation: Operation) -> list[tuple[object, ...]]:
    if not disk.apply(operation):
        return []
    return [shape(state) for state in disk.states(seeded(), 10_000, all_of_them=False)]


def shape(state: State) -> tuple[object, ...]:
    return tuple(sorted((path, file.data, file.mode) for path, file in state.files.items()))


def disk_with(*operations: Operation) -> Disk:
    disk = Disk()
    for one in operations:
        disk.apply(one)
    return disk


def contents(disk: Disk) -> set[bytes | None]:
    """What the file f may hold; None if it is not there."""
    states = disk.states(seeded(), 1000, all_of_them=True)
    return {state.files["f"].data if "f" in state.files else None for state in states}


def names(disk: Disk) -> set[tuple[str, ...]]:
    return {tuple(sorted(state.files)) for state in disk.states(seeded(), 1000, all_of_them=True)}


def test_a_round_of_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.crash_states.ROUND_SECONDS", 0.1)
    monkeypatch.setattr("tests.faults.crash_states.SCENARIOS", {"several": SCENARIOS["several"]})
    counts = work(tmp_path, seeded())
    assert counts["states"] > 100
    assert counts["reopened"] > 0

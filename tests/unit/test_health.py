"""evtool.stores.health: what only the inside shows - numbers, machines that lack something, and moments in between."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import ConfigurationError, StorageError
from evtool.log import files, line, offsets, seals, watch
from evtool.log.ranges import Ranges
from evtool.stores import health, standing, stuck
from evtool.stores.finding import ADVICE, PROBLEM, Finding
from evtool.stores.stuck import Lock, Process
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evtool.log.files import Directory
    from evtool.stores.file import FileStore


def append(store: FileStore, topic: str, count: int = 3) -> None:
    log = store.ensure_topic(topic).writer()
    log.append([b"%d" % n for n in range(count)], line.DATA)
    log.sync()


def findings(home: Path, **options: Any) -> list[Finding]:
    return health.look(str(home), **options).findings


def finding(home: Path, **options: Any) -> Finding:
    (found,) = findings(home, **options)
    return found


def test_a_report_counts_what_was_looked_at(store: FileStore, home: Path) -> None:
    for topic in ("a", "b"):
        append(store, topic)
        store.topic(topic).group("g")
        group = store.topic(topic).group("h")
        assert group.try_acquire()
        group.join(0)
    report = health.look(str(home))
    assert (report.topics, report.groups, report.findings) == (2, 2, [])


def test_a_home_that_is_not_there_is_no_finding(home: Path) -> None:
    with pytest.raises(FileNotFoundError):
        health.look(str(home))


def test_the_same_damage_seen_twice_is_found_once_and_problems_come_first() -> None:
    report = health.Report()
    report.add([Finding(ADVICE, "a", "b", "c"), Finding(PROBLEM, "d", "e", "f"), Finding(ADVICE, "a", "b", "other")])
    assert [str(one) for one in report.findings] == ["problem: d: e (f)", "advice: a: b (c)"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (ValueError("oops"), "makes no sense: oops"),
        (StorageError("lock", "broken"), "broken"),
    ],
)
def test_what_cannot_be_read_keeps_nothing_else_back(
    store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    append(store, "t")
    os.chmod(home / "topics" / "t", 0o750)
    (home / "topics" / "t" / "topic.json.new").touch(0o600)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(seals, "read", fail)
    assert {one.why for one in findings(home)} == {
        why,
        "others may read it",
        "left by a command that was killed; nothing needs it",
    }


# What the machine has


def disk(**changes: int) -> Callable[[int], Any]:
    """A disk of 1 TiB that is half full, and what is changed of that."""
    blocks = 1 << 28
    status = {"f_frsize": 4096, "f_blocks": blocks, "f_bavail": blocks // 2, "f_files": 1000, "f_favail": 500}
    return lambda _: SimpleNamespace(**(status | changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"f_files": 0, "f_favail": 0}, None),
        ({"f_favail": 9}, "9 of 1000 names for files (inodes) left"),
        ({"f_bavail": (1 << 28) // 128}, "8192.0 MiB free, less than 1%"),
        ({"f_bavail": 16000, "f_blocks": 16384}, "62.5 MiB free, less than the 64.0 MiB that a segment may have"),
        ({"f_bavail": 16384, "f_blocks": 16384}, None),
    ],
)
def test_how_full_a_disk_may_be(
    store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], why: str | None
) -> None:
    append(store, "t")
    monkeypatch.setattr(os, "fstatvfs", disk(**changes))
    assert [(one.severity, one.why) for one in findings(home)] == (
        [] if why is None else [(PROBLEM, f"the disk has only {why}")]
    )


def test_a_topic_whose_limits_remove_as_much_as_comes_in_fills_no_disk(
    store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, "t", 0)
    store.ensure_topic("t").writer().next_offset()
    store.topic("t").set({"segment-bytes": 100})
    for _ in range(50):
        append(store, "t")
    size = store.topic("t").bounds().size
    monkeypatch.setattr(os, "fstatvfs", disk(f_frsize=1, f_blocks=10 * size, f_bavail=3 * size))
    assert finding(home).why.startswith("the disk will be full in 3.0 days: ")
    store.topic("t").set({"max-bytes": size // 2})
    assert finding(home).severity == ADVICE  # nothing was removed yet
    store.topic("t").trim(None)
    assert findings(home) == []


def test_a_network_file_system_is_a_problem_or_advice_for_who_allows_it(
    store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, "t")

    def refuse(directory: Directory) -> None:
        raise ConfigurationError(directory.path, "is on a network file system (nfs4)")

    monkeypatch.setattr(files, "_refuse_network", refuse)
    found = finding(home)
    assert (found.severity, found.what, found.why) == (PROBLEM, str(home), "is on a network file system (nfs4)")
    assert finding(home, allow_network=True).severity == ADVICE


@pytest.mark.skipif(not os.path.isdir("/proc/sys/fs/inotify"), reason="this system never had inotify")
def test_a_system_without_watches_is_advice(store: FileStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(store, "t")
    monkeypatch.setattr(watch, "_inotify", lambda: -1)
    found = finding(home)
    assert found.severity == ADVICE
    assert "inotify" in found.mend


# Locks


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    directory = open_directory(tmp_path / "topic")
    (tmp_path / "topic" / "lock").touch()
    return Lock(directory, "lock", "t", f"{directory.path}/nothing")


@pytest.fixture
def busy(lock: Lock) -> Iterator[None]:
    """Another thread holds the lock most of the time, and gives it back again and again."""
    stop = threading.Event()
    held = threading.Event()

    def work() -> None:
        with open(lock.path) as file:
            while not stop.is_set():
                fcntl.flock(file, fcntl.LOCK_EX)
                held.set()
                stop.wait(0.01)
                fcntl.flock(file, fcntl.LOCK_UN)
                stop.wait(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("busy")
def test_a_lock_that_is_given_back_now_and_then_is_not_stuck(lock: Lock) -> None:
    assert list(stuck.findings([lock])) == []


@pytest.mark.usefixtures("busy")
def test_control_without_a_second_look_it_would_be(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "_PATIENCE", 0)
    looks = [list(stuck.findings([lock])) for _ in range(50)]
    assert any(looks)


def test_a_holder_that_cannot_be_seen_is_still_found(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in another container, whose processes the system does not tell of here."""
    monkeypatch.setattr(stuck, "holder", lambda _: None)
    with open(lock.path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (found,) = stuck.findings([lock])
    assert found.why == "a process that cannot be seen from here holds the lock; the last write was at an unknown time"
    assert found.mend == f"fuser -v {lock.path}"


def test_a_lock_that_was_never_taken_is_free(lock: Lock) -> None:
    os.unlink(lock.path)
    assert lock.holder() is None


def test_what_changes_between_two_looks_is_somebodys_work(lock: Lock) -> None:
    looks = iter([(1,), (2,), (3,), (3,)])
    assert lock.settled(lambda: next(looks)) == (3,)
    assert lock.settled(lambda: None) is None
    with open(lock.path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock.settled(lambda: (1,)) is None


def test_a_process_that_is_gone_has_only_a_number() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    assert not stuck.is_gone(pid)
    os.waitpid(pid, 0)
    assert stuck.is_gone(pid)
    process = Process(pid)
    assert (str(process), process.mend) == (f"process {pid}", f"ps -fp {pid}")
    assert stuck.is_gone(1 << 80)
    assert not stuck.is_gone(1)


# Groups


@pytest.mark.parametrize(
    ("fields", "first", "missed"),
    [
        ({}, 5, 0),
        ({}, 8, 3),
        ({"handled": "6-9"}, 8, 1),
        ({"again": "1-3"}, 3, 2),
        ({"again": "1-3"}, 8, 6),
        ({"handled": "6", "again": "6"}, 8, 3),
    ],
)
def test_missed_is_what_was_not_handled_or_is_to_come_again(fields: dict[str, str], first: int, missed: int) -> None:
    state = offsets.State()
    state.committed = 5
    state.handled = Ranges.parse(fields.get("handled", ""))
    state.again = Ranges.parse(fields.get("again", ""))
    assert standing._missed(state, 5, first) == missed


def test_leases_on_another_machine_are_stale_once_they_have_expired(store: FileStore, home: Path) -> None:
    append(store, "t")
    group = store.topic("t").group("g")
    found: list[list[Finding]] = []
    for seconds in (60, -1):
        assert group.try_acquire(offsets.SHARED)
        group.introduction["host"] = "elsewhere"
        group.join(0)
        group.say(lease="0-1", until=offsets.after(seconds))
        assert findings(home) == []  # somebody consumes
        group.release()
        found.append(findings(home))
    assert found[0] == []
    assert " on elsewhere left with 2 offsets leased" in found[1][0].why


def test_the_group_that_ticks_dead_letters_off_misses_nothing(store: FileStore, home: Path) -> None:
    """Nobody consumes for it, and to move it would let every letter wait again."""
    for topic in ("t", "t.dead"):
        append(store, topic)
        store.topic(topic).set({"segment-bytes": 1})
        append(store, topic)
        append(store, topic)
        group = store.topic(topic).group("redrive")
        assert group.try_acquire()
        group.commit(0)
        group.release()
        store.topic(topic).trim(6)
    assert [one.what for one in findings(home)] == ["t, group redrive"]

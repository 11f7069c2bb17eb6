"""evtool.log.watch: a change between two waits is never lost, with inotify and without."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING

import pytest

from evtool.log import watch
from evtool.log.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = 20.0  # seconds; a wait that lasts as long has failed
linux = pytest.mark.skipif(watch._inotify() < 0, reason="the system has no inotify")


def append(path: Path) -> None:
    with (path / "file").open("a") as file:
        file.write("x")


def rename_into(path: Path) -> None:
    (path.parent / "other").write_text("")
    (path.parent / "other").rename(path / "new")


def remove(path: Path) -> None:
    (path / "file").unlink()


def make(path: Path) -> None:
    (path / "sub").mkdir()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "d"
    path.mkdir()
    append(path)
    return path


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_inotify", lambda: -1)


@pytest.mark.parametrize("change", [append, rename_into, remove, make])
def test_a_change_before_the_wait_ends_it(directory: Path, change: Callable[[Path], None]) -> None:
    seen = Watch([str(directory)])
    change(directory)
    assert seen.wait(LONG)


@linux
def test_each_change_is_told_once_and_once_more_after_its_notes_are_gone(directory: Path) -> None:
    seen = Watch([str(directory)])
    append(directory)
    assert seen.wait(LONG)
    assert seen.wait(0)  # the notes of what has been read by now are gone: look again
    assert not seen.wait(0)
    append(directory)
    assert seen.wait(LONG)


@linux
def test_a_change_while_the_notes_are_taken_away_is_seen(directory: Path) -> None:
    """Whoever reads after every wait has read everything when a wait says that nothing happened."""
    seen = Watch([str(directory)])
    for _ in range(100):
        append(directory)
        size = -1
        while seen.wait(0):
            size = (directory / "file").stat().st_size
        assert size == (directory / "file").stat().st_size


@linux
def test_nothing_happens_elsewhere(directory: Path) -> None:
    seen = Watch([str(directory)])
    append(directory.parent)
    assert not seen.wait(0)
    seen.add(str(directory.parent))
    append(directory.parent)
    assert seen.wait(LONG)


def test_a_wait_ends_with_its_time(directory: Path) -> None:
    seen = Watch([str(directory)])
    begin = time.monotonic()
    assert not seen.wait(0.02)
    assert 0.015 < time.monotonic() - begin < LONG


@pytest.mark.parametrize("kind", ["inotify", "polling"])
def test_the_wake_descriptor_ends_a_wait_and_nothing_else_does(
    directory: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "polling":
        monkeypatch.setattr(watch, "_inotify", lambda: -1)
    near, far = socket.socketpair()
    seen = Watch([str(directory)], wake=near.fileno())
    assert not seen.wait(0)  # that it could be written to is nothing
    far.send(b"x")
    assert seen.wait(0)
    far.close()
    begin = time.monotonic()
    assert seen.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    near.close()


class Poll:
    """Notes how long it was to wait, in milliseconds, and waits for nothing."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        self.waits.append(milliseconds)
        return []

    def unregister(self, fd: int) -> None:
        pass


@linux
def test_it_waits_as_long_as_it_is_told(directory: Path) -> None:
    seen, poll = Watch([str(directory)]), Poll()
    seen._poll = poll  # type: ignore[assignment]
    assert not any(seen.wait(seconds) for seconds in (None, 0, -1, 0.25, 4))
    assert poll.waits == [None, 0, 0, 250, 4000]


def test_without_inotify_it_waits_no_longer_than_until_it_looks_again(directory: Path, polls: None) -> None:
    seen, poll = Watch([str(directory)]), Poll()
    seen._poll = poll  # type: ignore[assignment]
    step = watch._POLL_SECONDS
    assert [seen.wait(seconds) for seconds in (None, 4, step)] == [True] * 3
    assert [seen.wait(seconds) for seconds in (step / 2, 0, -1)] == [False] * 3
    assert poll.waits == [step * 1000] * 3 + [step * 500, 0, 0]


@linux
def test_the_descriptor_is_no_heritage_and_waits_for_nothing(directory: Path) -> None:
    seen = Watch([str(directory)])
    assert seen.fd is not None
    assert not os.get_inheritable(seen.fd)
    assert not os.get_blocking(seen.fd)


@linux
def test_it_works_with_the_descriptor_of_a_standard_input_that_was_closed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gives out the lowest number, which then is 0."""
    before, real = os.dup(0), watch._inotify()
    monkeypatch.setattr(watch, "_inotify", lambda: os.dup2(real, 0))
    seen = Watch([str(directory)])
    assert seen.fd == 0
    assert not seen.wait(0)
    append(directory)
    assert seen.wait(LONG)
    assert seen.wait(0)
    monkeypatch.setattr(watch, "_add_watch", lambda fd, path: False)
    seen.add(str(directory))
    assert seen.fd is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(0)
    os.dup2(before, 0)
    os.close(before)
    os.close(real)


def test_a_watch_that_cannot_be_made_closes_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    with pytest.raises(ValueError, match="file descriptor"):
        Watch([str(directory)], wake=-1)
    assert closed == []


def test_without_inotify_it_says_now_and_then_that_there_may_be_something(directory: Path, polls: None) -> None:
    seen = Watch([str(directory)])
    begin = time.monotonic()
    assert seen.wait()
    assert seen.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    assert not seen.wait(0.001)


def test_there_is_a_descriptor_to_wait_for_where_the_system_tells_of_changes(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Watch([str(directory)])
    if watch._inotify() >= 0:
        assert seen.fd is not None
        assert not select.select([seen.fd], [], [], 0)[0]
        append(directory)
        assert select.select([seen.fd], [], [], LONG)[0]
    monkeypatch.setattr(watch, "_inotify", lambda: -1)
    assert Watch([str(directory)]).fd is None


@linux
def test_where_no_more_watches_are_to_be_had_it_polls(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_add_watch", lambda fd, path: False)
    seen = Watch([str(directory)])
    assert seen.wait()  # of which nobody would ever tell by inotify
    seen.add(str(directory.parent))


@linux
def test_a_directory_that_is_not_there_cannot_be_watched(directory: Path) -> None:
    seen = Watch([str(directory / "none")])
    assert seen.wait()


def test_elsewhere_than_on_linux_there_is_no_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_libc", lambda: object())
    assert watch._inotify() == -1

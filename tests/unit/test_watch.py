"""evtool.log.watch: a change between two waits is never lost, with inotify and without."""

from __future__ import annotations

import os
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
def test_the_wake_descriptor_ends_a_wait(directory: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "polling":
        monkeypatch.setattr(watch, "_inotify", lambda: -1)
    near, far = os.pipe()
    seen = Watch([str(directory)], wake=near)
    os.close(far)
    begin = time.monotonic()
    assert seen.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    os.close(near)


def test_without_inotify_it_says_now_and_then_that_there_may_be_something(directory: Path, polls: None) -> None:
    seen = Watch([str(directory)])
    begin = time.monotonic()
    assert seen.wait()
    assert seen.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    assert not seen.wait(0.001)


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

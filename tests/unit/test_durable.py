"""evtool.log.durable: what is said to be on disk was synced, and is never asked for again after a failure."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from evtool.errors import SyncError
from evtool.log import durable, files, line
from evtool.log.durable import Durable
from evtool.log.topic import TopicLog, segment_offsets
from tests.topics import open_directory

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.log.files import Directory


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were synced."""
    names: list[str] = []
    monkeypatch.setattr(
        files, "sync_data", lambda fd: names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
    )
    return names


def append(topic: Directory, count: int = 1) -> None:
    TopicLog(topic, "t").append([b'"data":1'] * count)


def last_time(topic: Directory) -> bytes:
    with open(f"{topic.path}/{segment_offsets(topic)[-1]:020d}.jsonl", "rb") as file:
        return line.time_of(file.read().splitlines()[-1])


def test_a_topic_with_nothing_in_it_needs_no_sync(topic: Directory, synced: list[str]) -> None:
    known = Durable(topic)
    known.reach(1)
    assert (synced, known.time) == ([], b"")


def test_the_last_segment_is_synced_once_for_all_that_is_in_it(topic: Directory, synced: list[str]) -> None:
    append(topic, 3)
    known = Durable(topic)
    for offset in (1, 3, 2):
        known.reach(offset)
    assert synced == ["00000000000000000000.jsonl"]
    assert known.time == last_time(topic)
    append(topic)
    known.reach(4)
    assert len(synced) == 2
    assert known.time == last_time(topic)


def test_what_is_appended_during_the_sync_does_not_count(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    append(topic)
    syncs = []

    def sync(_: int) -> None:
        syncs.append(1)
        append(topic)

    monkeypatch.setattr(files, "sync_data", sync)
    known = Durable(topic)
    known.reach(1)
    known.reach(2)
    assert len(syncs) == 2


def test_behind_a_roll_the_time_is_that_of_the_segment_before(topic: Directory, synced: list[str]) -> None:
    append(topic)
    moment = last_time(topic)
    os.chmod(f"{topic.path}/{0:020d}.jsonl", files.SEALED_MODE)
    TopicLog(topic, "t").next_offset()
    known = Durable(topic)
    known.reach(1)
    assert known.time == moment


def test_a_sync_that_fails_shuts_the_log_and_is_not_asked_for_again(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(topic)
    asked = []

    def fail(_: int) -> None:
        asked.append(1)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_data", fail)
    known = Durable(topic)
    for one in (known, known, Durable(topic)):
        with pytest.raises(SyncError) as caught:
            one.reach(1)
        assert caught.value.hint == "evtool repair t --dry-run says what can be done"
    assert asked == [1]
    with pytest.raises(SyncError):
        append(topic)


def test_a_segment_that_is_trimmed_in_this_moment_is_looked_for_anew(
    topic: Directory, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    append(topic)
    listed = iter([[7]])
    monkeypatch.setattr(durable, "segment_offsets", lambda place: next(listed, None) or segment_offsets(place))
    Durable(topic).reach(1)
    assert len(synced) == 1
    monkeypatch.setattr(durable, "segment_offsets", lambda _: [7])
    os.rename(topic.path, topic.path + ".away")
    with pytest.raises(FileNotFoundError):
        Durable(topic).reach(1)

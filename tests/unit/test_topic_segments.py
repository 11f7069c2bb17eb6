"""evtool.log.topic: how segments are healed, begun, sealed and made durable."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from evtool.errors import StorageError, SyncError
from evtool.log import files, line, sealing, topic
from evtool.log.files import Directory
from evtool.log.lock import unlock
from evtool.log.topic import TopicLog, segment_offsets
from tests.topics import open_directory
from tests.unit.test_segment import uncovered_lines
from tests.unit.test_topic import Full, content, fail_syncs, log, other, room, segments

__all__ = ["log", "other", "room"]  # the fixtures


def test_a_roll_seals_and_the_modes_are_private(log: TopicLog, tmp_path: Path) -> None:
    log.directory.open("topic.json", os.O_CREAT | os.O_WRONLY)
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":300}')
    for _ in range(8):
        log.append([b'"%b"' % (b"x" * 50)], line.DATA)
    *sealed, active = segments(tmp_path)
    assert len(sealed) >= 2
    assert {path.stat().st_mode & 0o777 for path in sealed} == {0o444}
    assert active.stat().st_mode & 0o777 == 0o600
    assert all(path.stat().st_size <= 300 for path in [*sealed, active])
    assert segment_offsets(log.directory) == [int(path.name[:20]) for path in [*sealed, active]]


def test_an_append_larger_than_a_segment_is_not_split(log: TopicLog, tmp_path: Path) -> None:
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":300}')
    log.append([b"1"], line.DATA)
    log.append([b'"%b"' % (b"x" * 90)] * 10, line.DATA)
    assert [path.read_bytes().count(b"\n") for path in segments(tmp_path)] == [1, 10]


def test_what_does_not_fit_whole_is_not_stored_at_all(log: TopicLog, tmp_path: Path, room: Full) -> None:
    log.append([b'"before"'], line.DATA)
    before = sorted(os.listdir(tmp_path / "t")), content(tmp_path)
    room.room = 100
    with pytest.raises(StorageError, match="stored none of the events: No space left on device"):
        log.append_whole([[b'"%b"' % (b"x" * 80)] * 3], line.DATA)
    assert (sorted(os.listdir(tmp_path / "t")), content(tmp_path)) == before


def test_a_sync_that_fails_while_a_torn_line_is_cut_shuts_the_log_too(
    log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([b"1"], line.DATA)
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"offset":1')
    fail_syncs(monkeypatch)
    with pytest.raises(SyncError):
        log.append([b"2"], line.DATA)
    assert segments(tmp_path)[0].stat().st_mode & 0o777 == files.UNSYNCED_MODE


def test_healing_says_what_was_cut_and_where_it_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    log = TopicLog(open_directory(tmp_path / "t"), "t", said.append)
    log.append([b"1"], line.DATA)
    torn = b'{"offset":1,"time":"2026'
    with segments(tmp_path)[0].open("ab") as file:
        file.write(torn)
    assert log.next_offset() == 1
    (kept,) = (tmp_path / "t" / "damaged").iterdir()
    assert kept.read_bytes() == torn
    assert said == [f"t: cut {len(torn)} bytes of an append that was killed; they are kept in {kept}"]


def test_what_everybody_appended_is_durable_once_it_is_settled(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log.settle() == (0, 0)
    other.append([b"1"], line.DATA)
    synced: list[int] = []
    sync = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda fd: (synced.append(os.fstat(fd).st_ino), sync(fd)))
    assert log.settle() == (0, len(content(tmp_path)))
    assert synced == [segments(tmp_path)[0].stat().st_ino]
    log.append([b"2"], line.DATA)
    assert log.settle() == (0, len(content(tmp_path)))
    assert len(synced) == 2  # and not twice for one file
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":1}')
    log.append_whole([[b"3"]], line.DATA)
    log.append([b"4"], line.DATA)
    assert log.settle() == (3, segments(tmp_path)[-1].stat().st_size)
    fail_syncs(monkeypatch)
    with pytest.raises(SyncError):
        log.settle()
    with pytest.raises(SyncError, match="an earlier sync"):
        log.settle()


def test_a_torn_line_that_cannot_be_cut_is_told(log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append([b"1"], line.DATA)
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"torn")
    before = content(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(StorageError) as caught:
        log.append([b"2"], line.DATA)
    assert caught.value.file == str(segments(tmp_path)[0])
    assert caught.value.why == "cannot cut a torn line: Input/output error"
    monkeypatch.undo()
    assert content(tmp_path) == before
    assert list(log.append([b"2"], line.DATA)) == [1]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_nothing_is_cut_that_could_not_be_put_aside(
    log: TopicLog, tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([b"1"], line.DATA)
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"torn")
    before = content(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=r"damaged/0{20}\.jsonl@\d+\.\d+: No space left on device$"):
        log.append([b"2"], line.DATA)
    monkeypatch.undo()
    assert content(tmp_path) == before


def test_a_long_torn_line_is_put_aside_whole(tmp_path: Path) -> None:
    log = TopicLog(open_directory(tmp_path / "t"), "t")
    log.append([b"1"], line.DATA)
    end = len(content(tmp_path))
    torn = b'{"offset":1,"time":"' + bytes(range(11, 256)) * 13_000
    with segments(tmp_path)[0].open("ab") as file:
        file.write(torn)
    log.append([b"2"], line.DATA)
    (kept,) = (tmp_path / "t" / "damaged").iterdir()
    assert kept.read_bytes() == torn
    assert kept.name.startswith(f"{0:020d}.jsonl@{end}.")


def test_after_an_empty_segment_the_time_is_that_of_the_last_event_before_it(
    log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([b"1"], line.DATA)
    stamped = line.time_of(content(tmp_path))
    segments(tmp_path)[0].chmod(0o444)
    for first in (1, 5):
        (tmp_path / "t" / f"{first:020d}.jsonl").touch(0o444 if first == 1 else 0o600)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert list(TopicLog(log.directory, "t").append([b"2"], line.DATA)) == [5]
    assert [line.time_of(text) for text in content(tmp_path).splitlines(keepends=True)] == [stamped] * 2
    assert uncovered_lines(segments(tmp_path)[-1].read_bytes()) == 0


def test_after_a_sealed_segment_a_new_one_is_begun(log: TopicLog, tmp_path: Path) -> None:
    """Such as when who rolled was killed in between."""
    log.append([b"1"], line.DATA)
    segments(tmp_path)[0].chmod(0o444)
    assert list(log.append([b"2"], line.DATA)) == [1]
    assert [path.name for path in segments(tmp_path)] == [f"{first:020d}.jsonl" for first in (0, 1)]


def test_what_a_killed_append_of_a_whole_left_is_removed(log: TopicLog, tmp_path: Path) -> None:
    log.append([b"1"], line.DATA)
    left = tmp_path / "t" / f"{1:020d}.jsonl.new"
    left.write_bytes(b"x")
    other = tmp_path / "t" / "topic.json.new"
    other.write_bytes(b"x")
    TopicLog(log.directory, "t").append([b"2"], line.DATA)
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("count", [0, 3])
def test_what_is_appended_whole_is_one_segment_behind_a_sealed_one(
    log: TopicLog, other: TopicLog, tmp_path: Path, count: int
) -> None:
    for number in range(count):
        log.append([b"%d" % number], line.DATA)
    offsets = log.append_whole(iter([[b"1", b"2"], [], [b"3"]]), line.DATA)
    assert list(offsets) == [*range(count, count + 3)]
    assert [path.read_bytes().count(b"\n") for path in segments(tmp_path)] == ([3, 3] if count else [3])
    modes = [path.stat().st_mode & 0o777 for path in segments(tmp_path)]
    assert modes == ([0o444, 0o600] if count else [0o600])
    assert sorted(path.name for path in (tmp_path / "t").iterdir() if path.name.endswith(".new")) == []
    for producer, offset in ((other, count + 3), (log, count + 4)):
        assert list(producer.append([b"5"], line.DATA)) == [offset]
    assert uncovered_lines(segments(tmp_path)[-1].read_bytes()) == 0


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_an_append_of_a_whole_that_fails_leaves_nothing(
    log: TopicLog, tmp_path: Path, call: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([b"1"], line.DATA)
    before = sorted(os.listdir(tmp_path / "t")), content(tmp_path)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
        log.append_whole([[b"2"]], line.DATA)
    monkeypatch.undo()
    if isinstance(failure, OSError):
        assert str(caught.value) == "t: stored none of the events: Input/output error"
    assert (sorted(os.listdir(tmp_path / "t")), content(tmp_path)) == before
    assert list(log.append([b"2"], line.DATA)) == [1]


def test_a_sync_that_fails_while_a_segment_is_sealed_shuts_the_log(
    log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":150}')
    log.append([b"1"], line.DATA)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SyncError, match="cannot sync: Input/output error"):
        log.append([b'"%b"' % (b"x" * 90)], line.DATA)
    monkeypatch.undo()
    assert segments(tmp_path)[0].stat().st_mode & 0o777 == files.UNSYNCED_MODE
    assert len(segments(tmp_path)) == 1
    with pytest.raises(SyncError) as caught:
        log.append([b"2"], line.DATA)
    assert caught.value.file == str(segments(tmp_path)[0])
    assert caught.value.hint == "evtool repair t --dry-run says what can be done"


def test_the_names_of_a_new_topic_are_durable_before_anything_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of all the directories that it was opened through too; those of later segments in its own alone."""
    home = open_directory(tmp_path / "home")
    place = home.subdirectory("topics", create=True).subdirectory("t", create=True)
    log = TopicLog(place, "t")
    done: list[str] = []
    sync, write = Directory.sync, os.write
    monkeypatch.setattr(Directory, "sync", lambda self: (done.append(self.path), sync(self)))
    monkeypatch.setattr(os, "write", lambda fd, data: (done.append("write"), write(fd, data))[1])
    log.append([b"1"], line.DATA)
    assert done == [f"{home.path}/topics", home.path, place.path, "write"]
    done.clear()
    Path(place.path, "topic.json").write_text('{"segment-bytes":10}')
    TopicLog(place, "t").append([b"2"], line.DATA)
    assert done[:2] == [place.path, "write"]
    done.clear()
    log.append([b"3"], line.DATA)
    assert home.path not in done


def test_the_name_of_an_empty_segment_is_made_durable_by_who_finds_it(
    log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t" / f"{7:020d}.jsonl").touch(0o600)
    synced: list[str] = []
    monkeypatch.setattr(Directory, "sync", lambda self: synced.append(self.path))
    assert log.next_offset() == 7
    assert synced == [log.directory.path]
    log.append([b"1"], line.DATA)
    TopicLog(log.directory, "t").append([b"1"], line.DATA)
    assert synced == [log.directory.path]


def test_not_many_segments_that_others_sealed_are_kept_open(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda fd: (synced.append(os.fstat(fd).st_ino), sync(fd)))
    expected: list[int] = []
    for round_ in range(5):
        log.append([b'"mine"'], line.DATA)
        expected.append(segments(tmp_path)[-1].stat().st_ino)
        assert set(synced) == set(expected[: round_ + 1] if round_ >= topic._MOST_UNSYNCED else [])
        if round_ >= topic._MOST_UNSYNCED:
            break
        other.append_whole([[b'"theirs"']], line.DATA)


def test_a_segment_is_full_when_the_next_lines_would_not_fit(log: TopicLog, tmp_path: Path) -> None:
    each = len(line.render(0, line.stamp(0), line.DATA, [b"1"], 0))
    (tmp_path / "t" / "topic.json").write_text(f'{{"segment-bytes":{3 * each}}}')
    for _ in range(7):
        log.append([b"1"], line.DATA)
    assert [path.stat().st_size for path in segments(tmp_path)] == [3 * each, 3 * each, each]


def test_what_is_left_to_do_after_a_roll_is_done_once_and_without_the_lock(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def see_to_it(directory: Directory, first: int, size: int) -> None:
        other.lock(timeout=0.01)
        unlock(other._lock_fd)
        done.append(directory.path)
        assert os.stat(f"{directory.path}/{first:020d}.jsonl").st_size == size

    monkeypatch.setattr(sealing, "after_roll", see_to_it)
    log.append([b"1"], line.DATA)
    log.append([b"1"], line.DATA)
    assert done == []
    log.append_whole([[b"2"]], line.DATA)
    assert done == [log.directory.path]
    log.append([b"1"], line.DATA)
    assert len(done) == 1
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":1}')
    log = TopicLog(log.directory, "t")
    log.append([b"1"], line.DATA)
    assert len(done) == 2
    log.next_offset()
    assert len(done) == 2


def test_a_segment_of_which_another_left_nothing_goes_on_with_its_name(log: TopicLog, tmp_path: Path) -> None:
    """As one that cut a torn first line does."""
    (tmp_path / "t" / f"{7:020d}.jsonl").touch(0o600)
    log.append([b"1"], line.DATA)
    stamped = line.time_of(content(tmp_path))
    os.truncate(segments(tmp_path)[0], 0)
    assert list(log.append([b"2"], line.DATA)) == [7]
    assert line.time_of(content(tmp_path)) >= stamped


def test_limits_are_enforced_where_a_segment_ends(log: TopicLog, tmp_path: Path) -> None:
    log.append([b"1"], line.DATA)
    assert log.settings.segment_bytes == 64 << 20
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":1,"max-events":2}')
    log.append([b"2"], line.DATA)
    assert segment_offsets(log.directory) == [0]  # they are read anew where a segment ends
    log.append_whole([[b"3"]], line.DATA)
    assert log.settings.max_events == 2
    for number in range(4, 9):
        log.append([b"%d" % number], line.DATA)
        assert segment_offsets(log.directory) == [max(0, number - 3) if number > 4 else 0, number - 2, number - 1]
    log.append_whole([[b"9"]], line.DATA)
    assert segment_offsets(log.directory) == [7, 8]


def test_segments_that_others_sealed_are_synced_too(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this producer wrote is durable after its sync, though the segment was sealed by another since."""
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":300}')
    synced: list[int] = []
    log.append([b'"mine"'], line.DATA)
    first = segments(tmp_path)[0].stat().st_ino
    while len(segments(tmp_path)) < 2:
        other.append([b'"theirs"'], line.DATA)
    log.append([b'"mine"'], line.DATA)
    sync = files.sync_data
    monkeypatch.setattr(files, "sync_data", lambda fd: (synced.append(os.fstat(fd).st_ino), sync(fd)))
    log.sync()
    assert set(synced) == {first, segments(tmp_path)[-1].stat().st_ino}
    log.sync()
    assert len(synced) == 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not tell what is open")
@pytest.mark.parametrize(("free", "held"), [(100, True), (99, False)])
def test_where_space_is_short_what_was_trimmed_is_given_back_at_once(
    log: TopicLog, tmp_path: Path, free: int, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else after the lock was given back, for a file system may take its time for it."""
    for number in range(2):
        log.append_whole([[b"%d" % number]], line.DATA)
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":1000,"max-events":1}')
    removed = segments(tmp_path)[0].stat().st_ino
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=10))
    seen: list[bool] = []
    unlock_ = topic.unlock
    monkeypatch.setattr(topic, "unlock", lambda fd: (seen.append(removed in open_files()), unlock_(fd))[1])
    log.append_whole([[b"2"]], line.DATA)
    assert segment_offsets(log.directory) == [2]
    assert seen == [held]
    assert removed not in open_files()


def open_files() -> set[int]:
    """The files that this process has open."""
    paths = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return {path.stat().st_ino for path in paths if path.exists()}

"""evtool.log.topic: what an append promises, one promise at a time; test_machine has them in any order."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from evtool.errors import BusyError, ConditionError, PartialAppendError, StorageError, SyncError
from evtool.log import files, line, topic
from evtool.log.lock import holder
from evtool.log.segment import Segment
from evtool.log.topic import TopicLog
from tests.topics import open_directory
from tests.unit.test_segment import uncovered_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> TopicLog:
    return TopicLog(open_directory(tmp_path / "t"), "t")


@pytest.fixture
def other(tmp_path: Path, log: TopicLog) -> TopicLog:
    """Another producer on the same topic."""
    return TopicLog(open_directory(tmp_path / "t"), "t")


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "t").glob("*.jsonl"))


def content(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in segments(tmp_path))


def test_offsets_follow_each_other_whoever_appends(log: TopicLog, other: TopicLog) -> None:
    assert list(log.append([b"1", b"2"], line.DATA)) == [0, 1]
    assert list(other.append([b"3"], line.DATA)) == [2]
    assert list(log.append([b"%d" % number for number in range(200)], line.DATA)) == [*range(3, 203)]
    assert list(other.append([b"4"], line.DATA)) == [203]  # more than it would catch up with by looking at the end
    assert (log.next_offset(), other.next_offset()) == (204, 204)


def test_what_others_appended_is_caught_up_with_by_one_small_look(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one's own by none; only where it is much, or in no good order, the end of the file is gone through."""
    log.append([b"1"], line.DATA)
    other.append([b"2"], line.DATA)
    searched: list[int] = []
    last_line = Segment.last_line
    monkeypatch.setattr(Segment, "last_line", lambda self, end: (searched.append(end), last_line(self, end))[1])
    for _ in range(3):
        log.append([b"3"], line.DATA)
        other.append([b"4"], line.DATA)
        log.append([b"5"], line.DATA)
    overhead = len(line.render(11, line.stamp(0), line.DATA, [b'""'], 0))
    assert searched == []
    for length, looks in ((4096, 0), (4097, 1), (10_000, 1)):
        other.append([b'"%b"' % (b"x" * (length - overhead))], line.DATA)
        log.next_offset()
        assert (len(searched), other.next_offset()) == (looks, log.next_offset())
        searched.clear()
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"offset":70,"time":"%b","data":1}\n' % line.stamp(2**62))
    assert log.next_offset() == 71
    assert len(searched) == 2  # it has no checksum, so the one before it is looked for


def test_every_checksum_is_right_whatever_was_done(log: TopicLog, other: TopicLog, tmp_path: Path) -> None:
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":400}')
    for number in range(8):
        log.append([b"%d" % number, b"1"], line.DATA)
        other.append([b"%d" % number], line.DATA)
        TopicLog(log.directory, "t").append([b"2"], line.DATA)
        if number % 3 == 2:
            other.append_whole([[b"1", b"2"], [b"3"]], line.DATA)
            other.append([b"4"], line.DATA)
    assert len(segments(tmp_path)) > 4
    assert [uncovered_lines(path.read_bytes()) for path in segments(tmp_path)] == [0] * len(segments(tmp_path))


def test_lines_without_a_checksum_are_covered_by_the_next_however_many_they_are(log: TopicLog, tmp_path: Path) -> None:
    log.append([b"1"], line.DATA)
    long = b"x" * 100_000
    with segments(tmp_path)[0].open("ab") as file:
        for number in range(1, 34):
            file.write(b'{"offset":%d,"time":"%b","data":"%b"}\n' % (number, line.stamp(2**62), long))
    assert list(TopicLog(log.directory, "t").append([b"2"], line.DATA)) == [34]
    assert uncovered_lines(content(tmp_path)) == 0


def test_bodies_need_not_share_anything(log: TopicLog, tmp_path: Path) -> None:
    log.append([b'"data":1'])
    log.append_whole([[b'"data":2']])
    assert [line.data_of(text) for text in content(tmp_path).splitlines(keepends=True)] == [b"1", b"2"]


def test_nothing_to_append_does_nothing(log: TopicLog, tmp_path: Path) -> None:
    assert list(log.append([], line.DATA)) == []
    assert os.listdir(tmp_path / "t") == []


@pytest.mark.parametrize("wrong", [0, 2, 10**9])
def test_an_expectation_that_does_not_hold_stores_nothing(log: TopicLog, tmp_path: Path, wrong: int) -> None:
    log.append([b"1"], line.DATA, expect=0)
    before = content(tmp_path)
    with pytest.raises(ConditionError, match=f"^t: the next offset is 1, not {wrong}$"):
        log.append([b"2"], line.DATA, expect=wrong)
    with pytest.raises(ConditionError, match=f"^t: the next offset is 1, not {wrong}$"):
        log.append_whole([[b"2", b"3"]], line.DATA, expect=wrong)
    assert content(tmp_path) == before
    assert list(log.append_whole([[b"2"], [], [b"3"]], line.DATA, expect=1)) == [1, 2]


def test_of_events_with_ids_those_that_are_new_are_stored(log: TopicLog, tmp_path: Path) -> None:
    bodies = [b'"id":"%b","data":1' % name for name in (b"a", b"b", b"a", b"c")]
    assert list(log.append(bodies[:2], ids=["a", "b"])) == [0, 1]
    assert list(log.append(bodies[2:], ids=["a", "c"])) == [0, 2]
    before = content(tmp_path)
    assert list(log.append(bodies, ids=["a", "b", "a", "c"])) == [0, 1, 0, 2]
    assert content(tmp_path) == before
    assert [line.body_of(text) for text in before.splitlines(keepends=True)] == [bodies[0], bodies[1], bodies[3]]
    common = [b'1,"id":"x"}', b'2,"id":"y"}']
    assert list(log.append(common, b'"data":{"n":', ids=[None, None])) == [3, 4]
    (tmp_path / "t" / "topic.json").write_text('{"dedupe":1e-9}')
    other = TopicLog(log.directory, "t")
    assert list(other.append(bodies[:1], ids=["a"])) == [5]


@pytest.mark.parametrize("name", ["append", "append_whole"])
def test_a_lock_that_is_held_is_waited_for_so_long(log: TopicLog, other: TopicLog, name: str) -> None:
    log.lock()
    waits: list[None] = []
    with pytest.raises(BusyError) as caught:
        getattr(other, name)([[b"1"]], line.DATA, timeout=0.01, on_wait=lambda: waits.append(None))
    assert str(caught.value) == f"t: process {os.getpid()} holds the lock; gave up after 0.01 s"
    assert caught.value.pid == holder(other._lock_fd) == os.getpid()
    assert len(waits) == 1


def test_the_lock_is_closed_with_the_log_and_only_once(log: TopicLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its number is; and where a fork has one of its own, the parent's is closed there."""
    real: Any = log
    monkeypatch.setattr(topic, "lock", lambda *_, **__: None)
    log.lock()
    closed: list[int] = []
    fd, close = real._lock_fd, os.close
    monkeypatch.setattr(os, "close", closed.append)
    real._pid = -1
    log.lock()
    assert closed == [fd]
    for number in (real._lock_fd, 0):
        real._lock_fd = number
        real.__del__()
        real.__del__()
        assert closed.pop() == number
    assert closed == [fd]
    real._lock_fd, real._pid = 0, -1
    log.lock()
    assert closed == [fd, 0]
    monkeypatch.undo()
    close(fd)


def test_a_fork_has_a_lock_of_its_own(log: TopicLog) -> None:
    """A child that inherits an open log must not pass through the lock that its parent holds."""
    log.append([b"1"], line.DATA)
    log.lock()
    child = os.fork()
    if child == 0:
        try:
            log.append([b"2"], line.DATA, timeout=0.01)
        except BusyError:
            os._exit(75)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75


class Full:
    """os.write on a disk that takes so many bytes more, and then none."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        taken = min(self.room, len(data))
        if data and not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= taken
        return self._write(fd, data[:taken])


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Full]:
    full = Full(1 << 40)
    monkeypatch.setattr(os, "write", full)
    yield full
    monkeypatch.undo()


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_of_a_batch_that_does_not_fit_whole_lines_are_kept(
    log: TopicLog, other: TopicLog, tmp_path: Path, room: Full, whole: int
) -> None:
    log.append([b'"before"'], line.DATA)
    before = content(tmp_path)
    batch = [b'"%d"' % number for number in range(3)]
    one = len(line.render(1, line.stamp(0), line.DATA, [*batch[:1], b"0"], 0).splitlines(keepends=True)[0])
    room.room = whole * one + 7
    with pytest.raises(PartialAppendError) as caught:
        log.append(batch, line.DATA)
    error = caught.value
    stored = f"stored {whole} of 3 events" + (f", offsets 1 to {whole}" if whole else "")
    assert str(error) == f"t: {stored}: No space left on device"
    assert (error.stored, error.total, error.first, error.last) == (whole, 3, 1, whole)
    kept = content(tmp_path)
    assert kept.startswith(before)
    assert [line.offset_of(text) for text in kept.splitlines(keepends=True)] == [*range(whole + 1)]
    room.room = 1 << 40
    assert list(other.append([b'"after"'], line.DATA)) == [whole + 1]
    assert list(log.append([b'"after"'], line.DATA)) == [whole + 2]


def test_a_write_that_takes_a_part_is_gone_on_with(
    log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:11]))
    assert list(log.append([b"1", b"2"], line.DATA)) == [0, 1]
    assert list(log.append([b"3"], line.DATA)) == [2]
    monkeypatch.undo()
    assert uncovered_lines(content(tmp_path)) == 0
    assert [line.data_of(text) for text in content(tmp_path).splitlines(keepends=True)] == [b"1", b"2", b"3"]


def test_the_next_append_answers_for_the_lines_of_one_cut_short(
    log: TopicLog, other: TopicLog, tmp_path: Path, room: Full
) -> None:
    """Lines that a full disk left without a checksum are covered by the next one, whoever writes it."""
    log.append([b'"before"'], line.DATA)
    room.room = 200
    with pytest.raises(PartialAppendError) as caught:
        log.append([b'"%d"' % number for number in range(9)], line.DATA)
    assert caught.value.stored
    room.room = 1 << 40
    other.append([b'"after"'], line.DATA)
    lines = content(tmp_path).splitlines(keepends=True)
    told = [line.crc_of(text) for text in lines]
    assert told[1:-1] == [None] * caught.value.stored
    covered = b"".join(lines[1:-1]) + line.without_crc(lines[-1])
    assert told[-1] == b"%08x" % crc32(covered)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_append_that_is_interrupted_leaves_no_torn_line(
    log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    log.append([b'"before"'], line.DATA)
    before = content(tmp_path)
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        write(fd, data[: len(data) - 5])
        raise interruption

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(interruption):
        log.append([b'"torn"'], line.DATA)
    monkeypatch.undo()
    assert content(tmp_path) == before
    assert list(log.append([b'"after"'], line.DATA)) == [1]


def fail_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_data", fail)


def test_after_a_sync_that_failed_the_log_takes_nothing_more(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([b"1"], line.DATA)
    fail_syncs(monkeypatch)
    with pytest.raises(SyncError, match="cannot sync: Input/output error"):
        log.sync()
    monkeypatch.undo()
    assert segments(tmp_path)[0].stat().st_mode & 0o777 == files.UNSYNCED_MODE
    before = content(tmp_path)
    for producer in (log, other):
        with pytest.raises(SyncError, match=r"\.jsonl: an earlier sync of this segment failed$"):
            producer.append([b"2"], line.DATA)
    log.sync()  # nothing is left to sync
    assert content(tmp_path) == before


def test_times_never_fall_though_the_clock_does(
    log: TopicLog, other: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever appends, and over a roll, after which the active segment is empty."""
    (tmp_path / "t" / "topic.json").write_text('{"segment-bytes":150}')
    now = [2_000_000_000 * 10**9]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    for producer in (log, other, log, TopicLog(log.directory, "t"), other):
        producer.append([b"1", b"2"], line.DATA)
        now[0] -= 10**9
        producer.append_whole([[b"3"]], line.DATA)
        now[0] -= 10**9
    times = {line.time_of(text) for text in content(tmp_path).splitlines(keepends=True)}
    assert times == {line.stamp(2_000_000_000 * 10**9)}


def test_a_topic_that_was_removed_takes_nothing_more(log: TopicLog, tmp_path: Path) -> None:
    log.append([b"1"], line.DATA)
    for path in (tmp_path / "t").iterdir():
        path.unlink()
    (tmp_path / "t").rmdir()
    with pytest.raises(StorageError) as caught:
        log.append([b"2"], line.DATA)
    assert caught.value.file == f"{tmp_path}/t/{0:020d}.jsonl"
    assert caught.value.why == "No such file or directory"


def test_a_long_stream_is_synced_now_and_then(log: TopicLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it passes a multiple of so many bytes, so that nobody waits long for the sync of a roll."""
    synced: list[int] = []
    monkeypatch.setattr(topic, "_PACE", 1000)
    monkeypatch.setattr(files, "sync_data", lambda fd: synced.append(os.fstat(fd).st_size))
    size = 0
    for _ in range(40):
        log.append([b'"%b"' % (b"x" * 60)], line.DATA)
        before, size = size, segments(tmp_path)[0].stat().st_size
        assert (synced[-1:] == [size]) == (before // 1000 < size // 1000)
    assert synced

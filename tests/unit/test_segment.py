"""evtool.log.segment: one file of lines, in which bisecting finds what a linear scan would."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import CorruptionError, SyncError
from evtool.log import files, line
from evtool.log.segment import Segment, segment_offsets
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evtool.log.files import Directory

NOON = 1_800_000_000_000_000_000  # nanoseconds
MODERATE, LONG, VERY_LONG = 700, 5000, 70_000  # bytes: more than one step forward, one step back, one count back

quick = settings(deadline=None, max_examples=80)


class Stored:
    """An event that stands in a file: its offset, time and line."""

    def __init__(self, offset: int, nanoseconds: int, length: int) -> None:
        self.offset = offset
        self.time = line.stamp(nanoseconds)
        self.line = line.render(offset, self.time, line.DATA, [b'"%b"' % (b"x" * length)], 0)

    def __repr__(self) -> str:
        return f"Stored({self.offset}, {self.time!r}, {len(self.line)} bytes)"


@st.composite
def stored_events(draw: st.DrawFn, largest: int = 14) -> list[Stored]:
    """Events as a log may have them: with gaps between offsets, several at the same time, and long lines."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, 2, 9, 1000]),
                st.sampled_from([0, 0, 1000, 10**6, 10**10]),
                st.sampled_from([0, 0, 20, MODERATE, LONG, VERY_LONG]),
            ),
            max_size=largest,
        )
    )
    events = []
    offset, moment = draw(st.sampled_from([0, 0, 77, 10**15])), NOON
    for gap, later, length in steps:
        moment += later
        events.append(Stored(offset, moment, length))
        offset += gap
    return events


def write_segment(directory: Directory, first: int, text: bytes, mode: int = 0o600) -> Segment:
    """Write a segment as it stands and open it."""
    path = Path(directory.path, f"{first:020d}.jsonl")
    path.write_bytes(text)
    path.chmod(mode)
    return Segment(directory, first)


def text_of(events: Sequence[Stored]) -> bytes:
    return b"".join(event.line for event in events)


def segment_files(directory: Directory) -> list[Path]:
    """The segments of a topic, in order."""
    return sorted(Path(directory.path).glob("*.jsonl"))


def uncovered_lines(text: bytes) -> int:
    """Check every checksum in the bytes of a segment in the plainest way; return how many lines follow the last one."""
    import json

    covered = b""
    count = 0
    for one in text.split(b"\n")[:-1]:
        crc = json.loads(one).get("crc")
        count += 1
        if crc is None:
            covered += one + b"\n"
            continue
        own = one.replace(b'"crc":"%b"' % crc.encode(), b'"crc":"00000000"', 1) + b"\n"
        assert int(crc, 16) == crc32(covered + own), f"the checksum of {one[:100]!r} does not match"
        covered = b""
        count = 0
    return count


class Scratch:
    """A segment of these bytes in a directory of its own, to be used in a `with`."""

    def __init__(self, text: bytes, first: int = 0) -> None:
        self._text = text
        self._first = first

    def __enter__(self) -> Segment:
        self._temporary = tempfile.TemporaryDirectory()
        return write_segment(open_directory(Path(self._temporary.name)), self._first, self._text)

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()


# Where lines end


@given(stored_events(), st.binary(max_size=9000).map(lambda torn: torn.replace(b"\n", b"")))
@quick
def test_what_is_behind_the_last_newline_does_not_count(events: list[Stored], torn: bytes) -> None:
    text = text_of(events)
    with Scratch(text + torn) as segment:
        assert segment.size() == len(text) + len(torn)
        assert segment.end_of_lines(segment.size()) == len(text)


scraps = st.lists(st.sampled_from([b"\n", b"\n", b"x", b"y" * 60, b"z" * LONG]), max_size=12).map(b"".join)


@given(scraps, st.data())
@quick
def test_lines_end_at_the_last_newline_of_those_bytes_that_are_looked_at(text: bytes, data: st.DataObject) -> None:
    """Whatever stands behind them by now, and whatever the lines are."""
    size = data.draw(st.one_of(st.just(len(text)), st.integers(0, len(text))))
    behind = data.draw(st.sampled_from([b"", b"\n", b"\n" * 9000]))
    with Scratch(text[:size] + (text[size:] or behind)) as segment:
        assert segment.end_of_lines(size) == text.rfind(b"\n", 0, size) + 1


@given(scraps, stored_events().filter(bool))
@quick
def test_the_last_line_is_found_behind_whatever_lines(before: bytes, events: list[Stored]) -> None:
    before += b"\n"
    with Scratch(before + events[0].line) as segment:
        assert segment.last_line(segment.size()) == (len(before), events[0].line)


@given(stored_events().filter(bool), st.data())
@quick
def test_the_last_line_before_any_end_is_found(events: list[Stored], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(events)))
    end = len(text_of(events[:count]))
    with Scratch(text_of(events)) as segment:
        assert segment.last_line(end) == (end - len(events[count - 1].line), events[count - 1].line)


@given(stored_events())
@quick
def test_the_head_of_the_first_line_tells_its_offset_and_time(events: list[Stored]) -> None:
    with Scratch(text_of(events)) as segment:
        head = segment.first_head()
        if not events:
            assert head == b""
        else:
            assert (line.offset_of(head), line.time_of(head)) == (events[0].offset, events[0].time)


@pytest.mark.parametrize("length", [0, 10, LONG, VERY_LONG])
def test_a_segment_that_has_only_a_torn_line_has_no_first_line(length: int) -> None:
    with Scratch(Stored(0, NOON, length).line[:-1]) as segment:
        assert segment.first_head() == b""
        assert segment.end_of_lines(segment.size()) == 0


# Bisecting


@given(stored_events(), st.data())
@quick
def test_bisecting_for_an_offset_finds_what_a_linear_scan_finds(events: list[Stored], data: st.DataObject) -> None:
    near = [event.offset + step for event in events for step in (-1, 0, 1)]
    wanted = data.draw(st.sampled_from([*near, 0, 10**17]))
    text = text_of(events)
    expected = next((text.index(event.line) for event in events if event.offset >= wanted), len(text))
    with Scratch(text + b'{"offset":1') as segment:
        assert segment.find_offset(len(text), wanted) == expected


@given(stored_events(), st.data())
@quick
def test_bisecting_for_a_time_finds_what_a_linear_scan_finds(events: list[Stored], data: st.DataObject) -> None:
    near = [event.time[:-1] + end for event in events for end in (b"Z", b"Y", b"[")]
    wanted = data.draw(st.sampled_from([*near, line.stamp(0), line.stamp(2 * NOON)]))
    text = text_of(events)
    expected = next((text.index(event.line) for event in events if event.time >= wanted), len(text))
    with Scratch(text + b'{"offset":1') as segment:
        assert segment.find_time(len(text), wanted) == expected


@given(stored_events(), st.data())
@quick
def test_the_next_start_of_a_line_is_found_from_everywhere(events: list[Stored], data: st.DataObject) -> None:
    text = text_of(events)
    position = data.draw(st.integers(0, len(text)))
    limit = data.draw(st.integers(position, len(text)))
    starts = [0, *(at + 1 for at, byte in enumerate(text) if byte == 10)] if text else [0]
    expected = next((start for start in starts if start >= position), limit)
    with Scratch(text) as segment:
        found = segment.next_start(position, limit)
    assert found == expected if expected < limit or position == 0 else found >= limit


@given(stored_events(), st.integers(1, 20))
@quick
def test_counting_back_finds_the_last_lines(events: list[Stored], count: int) -> None:
    text = text_of(events)
    kept = events[-count:]
    with Scratch(text + b"torn") as segment:
        assert segment.count_back(len(text), count) == (len(text) - len(text_of(kept)), len(kept))


def test_a_long_segment_is_counted_back_over_many_blocks() -> None:
    events = [Stored(number, NOON, 100) for number in range(3000)]
    text = text_of(events)
    with Scratch(text) as segment:
        for count in (1, 400, 2999, 3000, 3001):
            kept = events[-count:]
            assert segment.count_back(len(text), count) == (len(text) - len(text_of(kept)), len(kept))


@pytest.mark.parametrize("length", [254, 255, 256])
def test_counting_back_ends_where_it_should_when_a_block_begins_with_a_newline(length: int) -> None:
    """257 lines of 255 bytes and the newline before them are one block of 65,536 bytes."""
    events = [Stored(number + 100, NOON, length - len(Stored(100, NOON, 0).line)) for number in range(400)]
    assert {len(event.line) for event in events} == {length}
    text = text_of(events)
    with Scratch(text) as segment:
        for count in (255, 256, 257, 258, 259):
            assert segment.count_back(len(text), count) == (len(text) - count * length, count)
        assert segment.count_back(0, 5) == (0, 0)


def test_bisecting_reads_a_few_small_blocks_and_not_the_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """About twice the binary logarithm of the size, which is what makes an index needless."""
    events = [Stored(number, NOON + number * 1000, 100) for number in range(20_000)]
    text = text_of(events)
    read: list[int] = []
    pread = os.pread

    def count(fd: int, size: int, position: int) -> bytes:
        read.append(size)
        return pread(fd, size, position)

    with Scratch(text) as segment:
        monkeypatch.setattr("os.pread", count)
        assert segment.find_offset(len(text), 12_345) == len(text_of(events[:12_345]))
        monkeypatch.undo()
    assert len(read) < 60
    assert sum(read) < 60 * 512


# What is damaged


def test_a_damaged_line_is_named_by_its_file_and_byte() -> None:
    good = Stored(0, NOON, 10).line
    with Scratch(good + b"\0" * 50 + b"\n") as segment:
        with pytest.raises(CorruptionError) as caught:
            segment.last_line(segment.size())
        assert (caught.value.file, caught.value.position) == (segment.path, len(good))
        assert caught.value.why == "this line is no event"
        assert caught.value.hint == f"evtool repair {Path(segment.path).parent.name} --dry-run says what can be done"
        with pytest.raises(CorruptionError) as caught:
            segment.find_offset(segment.size(), 5)
        assert caught.value.position == len(good)


@pytest.mark.parametrize("last", [b"\n", b"x\n", b"}\n", b"\0" * LONG + b"\n"])
def test_a_last_line_that_is_no_event_is_damaged_where_it_begins(last: bytes) -> None:
    good = text_of([Stored(0, NOON, 10), Stored(1, NOON, LONG)])
    for before in (b"", good):
        with Scratch(before + last) as segment:
            with pytest.raises(CorruptionError) as caught:
                segment.last_line(segment.size())
            assert caught.value.position == len(before)


# Durability


def test_a_sync_that_failed_shuts_the_segment_and_says_what_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = open_directory(tmp_path / "orders")
    segment = write_segment(directory, 0, Stored(0, NOON, 0).line)
    segment.sync()
    assert segment.is_active()

    def fail(fd: int) -> None:
        assert fd == segment.fd
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_data", fail)
    with pytest.raises(SyncError) as caught:
        segment.sync()
    assert (caught.value.file, caught.value.hint) == (
        segment.path,
        "evtool repair orders --dry-run says what can be done",
    )
    assert caught.value.why == ("cannot sync: Input/output error; it is not known which of the last events are on disk")
    assert os.fstat(segment.fd).st_mode & 0o777 == files.UNSYNCED_MODE
    assert not segment.is_active()


def test_a_sync_that_failed_is_told_though_the_segment_cannot_be_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    segment = write_segment(open_directory(tmp_path), 0, b"")
    monkeypatch.setattr(files, "sync_data", fail)
    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(SyncError, match="Read-only file system"):
        segment.sync()


# The file itself


def test_a_segment_knows_whether_it_is_active_or_gone(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    segment = write_segment(directory, 0, b"")
    assert segment.is_active()
    assert not segment.is_gone()
    Path(segment.path).chmod(0o444)
    assert not segment.is_active()
    Path(segment.path).chmod(0o600)
    Path(segment.path).unlink()
    assert not segment.is_active()
    assert segment.is_gone()


def test_a_missing_segment_is_not_made_and_nothing_is_closed_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Segment(open_directory(tmp_path), 5)
    assert list(tmp_path.iterdir()) == []


def test_a_descriptor_is_closed_with_its_segment_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment: Any = write_segment(open_directory(tmp_path), 0, b"")
    closed: list[int] = []
    fd, close = segment.fd, os.close
    monkeypatch.setattr("os.close", closed.append)
    segment.__del__()
    segment.__del__()
    del segment
    assert closed == [fd]
    close(fd)


def test_a_descriptor_may_have_any_number_and_none_is_closed_that_was_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment: Any = write_segment(open_directory(tmp_path), 7, b"")
    assert segment.first == 7
    closed: list[int] = []
    fd, close = segment.fd, os.close
    monkeypatch.setattr("os.close", closed.append)
    segment.fd = 0
    segment.__del__()
    assert closed == [0]
    with pytest.raises(FileNotFoundError):
        Segment(open_directory(tmp_path), 5)
    gc.collect()
    assert 1 not in closed
    monkeypatch.undo()
    close(fd)


def test_the_segments_of_a_topic_are_listed_in_order(tmp_path: Path) -> None:
    for name in (f"{30:020d}.jsonl", f"{4:020d}.jsonl", f"{100:020d}.jsonl", "lock", f"{5:020d}.jsonl.new", "5.jsonl"):
        (tmp_path / name).touch()
    assert segment_offsets(open_directory(tmp_path)) == [4, 30, 100]


def test_a_link_in_the_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    from evtool.errors import StorageError

    (tmp_path / "elsewhere").write_bytes(Stored(0, NOON, 0).line)
    directory = open_directory(tmp_path / "t")
    Path(directory.path, f"{0:020d}.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="symbolic link"):
        Segment(directory, 0)

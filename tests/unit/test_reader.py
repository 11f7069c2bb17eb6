"""evtool.log.reader: complete lines in their order, from segment to segment, whatever producers do meanwhile."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evtool.log.reader
from evtool.errors import CorruptionError
from evtool.log import files, line, seals
from evtool.log.reader import Reader
from evtool.log.segment import Segment
from evtool.log.topic import TopicLog, segment_offsets
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtool.log.files import Directory

batches = st.lists(st.lists(st.sampled_from([1, 90, 3000]), min_size=1, max_size=5), max_size=8)
quick = settings(deadline=None, max_examples=60)


def fill(path: Path, sizes: list[list[int]], segment_bytes: int = 400) -> list[bytes]:
    """Append a batch of events of these sizes after the other; the lines that there are then."""
    directory = open_directory(path)
    (path / "topic.json").write_text(f'{{"segment-bytes":{segment_bytes}}}')
    log = TopicLog(directory, "t")
    for batch in sizes:
        log.append([b'"%b"' % (b"x" * size) for size in batch], line.DATA)
    return lines_of(path)


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.jsonl"))


def lines_of(path: Path) -> list[bytes]:
    return b"".join(segment.read_bytes() for segment in segments(path)).splitlines(keepends=True)


def blocks(reader: Reader, limit: int = 1 << 16) -> Iterator[bytes]:
    while block := reader.read(limit):
        yield block


def exhaust(reader: Reader, out: int, until: int | None = None) -> int:
    """Send all that there is, and return how many bytes that were."""
    total = 0
    while count := reader.send(out, until):
        total += count
    return total


def sent(reader: Reader, until: int | None = None) -> bytes:
    """All that `send` copies into a file."""
    with tempfile.TemporaryFile(buffering=0) as file:
        total = exhaust(reader, file.fileno(), until)
        file.seek(0)
        given = file.read()
    assert len(given) == total
    return given


@given(batches, st.integers(0, 45), st.sampled_from([1, 60, 1000, 1 << 16]))
@quick
def test_it_reads_from_any_offset_to_the_end(sizes: list[list[int]], offset: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as where:
        lines = fill(Path(where), sizes)
        reader = Reader(open_directory(Path(where)), offset)
        given = list(blocks(reader, limit))
        assert b"".join(given) == b"".join(lines[offset:])
        assert all(block.endswith(b"\n") for block in given)
        assert reader.next_offset == max(offset, len(lines))


@given(batches, st.integers(0, 45), st.one_of(st.none(), st.integers(0, 45)))
@quick
def test_it_sends_what_it_would_read(sizes: list[list[int]], offset: int, until: int | None) -> None:
    with tempfile.TemporaryDirectory() as where:
        lines = fill(Path(where), sizes)
        reader = Reader(open_directory(Path(where)), offset)
        end = len(lines) if until is None else max(min(until, len(lines)), offset)
        assert sent(reader, until) == b"".join(lines[offset:end])


@given(batches.filter(bool), st.data())
@quick
def test_a_torn_line_is_never_given_out(sizes: list[list[int]], data: st.DataObject) -> None:
    """Neither by reading nor by sending, and what is written in its place is."""
    with tempfile.TemporaryDirectory() as where:
        path = Path(where)
        lines = fill(path, sizes, 1 << 20)
        whole = b"".join(lines)
        cut = data.draw(st.integers(1, len(whole) - 1))
        (segment,) = segments(path)
        os.truncate(segment, cut)
        complete = whole[: whole.rfind(b"\n", 0, cut) + 1]
        reader, sender = Reader(open_directory(path), 0), Reader(open_directory(path), 0)
        assert b"".join(blocks(reader)) == sent(sender) == complete
        TopicLog(open_directory(path), "t").append([b'"another"'], line.DATA)
        mended = segment.read_bytes()
        assert b"".join(blocks(reader)) == sent(sender) == mended[len(complete) :]
        assert b'"another"' in mended[len(complete) :]


def test_it_goes_on_over_rolls_while_it_reads(tmp_path: Path) -> None:
    lines = fill(tmp_path, [[90]])
    reader = Reader(open_directory(tmp_path), 0)
    log = TopicLog(open_directory(tmp_path), "t")
    given = list(blocks(reader))
    for _ in range(20):
        log.append([b'"%b"' % (b"y" * 90)], line.DATA)
        given += blocks(reader)
    lines = lines_of(tmp_path)
    assert len(segments(tmp_path)) > 3
    assert given == lines


def test_what_was_trimmed_before_it_was_read_is_told(tmp_path: Path) -> None:
    lines = fill(tmp_path, [[90]] * 12)
    told: list[tuple[int, int]] = []
    reader = Reader(open_directory(tmp_path), 0, lambda first, last: told.append((first, last)))
    assert reader.read(1) == lines[0]
    later = segments(tmp_path)[3]
    first = int(later.name[:20])
    opened = segments(tmp_path)[0]
    held = opened.read_bytes().count(b"\n")
    for segment in segments(tmp_path)[:3]:
        segment.unlink()
    assert b"".join(blocks(reader)) == b"".join(lines[1:held] + lines[first:])
    assert told == [(held, first - 1)]
    behind = Reader(open_directory(tmp_path), 2, lambda first, last: told.append((first, last)))
    assert b"".join(blocks(behind)) == b"".join(lines[first:])
    assert told[1:] == [(2, first - 1)]


def test_a_topic_without_segments_is_at_its_end(tmp_path: Path) -> None:
    reader = Reader(open_directory(tmp_path), 3)
    assert reader.read() == b""
    assert sent(reader) == b""
    assert reader.next_offset == 3
    fill(tmp_path, [[1]] * 5)
    assert b"".join(blocks(reader)) == b"".join(lines_of(tmp_path)[3:])


def test_an_empty_segment_that_is_replaced_is_opened_anew(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    log = TopicLog(directory, "t")
    assert log.next_offset() == 0
    reader = Reader(directory, 0)
    assert reader.read() == b""
    log.append_whole([[b"1", b"2"]], line.DATA)
    assert b"".join(blocks(reader)) == b"".join(lines_of(tmp_path))


def test_a_segment_that_is_trimmed_while_it_is_looked_for_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = fill(tmp_path, [[90]] * 12)
    firsts = segment_offsets(open_directory(tmp_path))
    told: list[tuple[int, int]] = []
    one, other = (Reader(open_directory(tmp_path), 0, lambda *missed: told.append(missed)) for _ in range(2))
    assert one.read(1) == lines[0]
    for segment in segments(tmp_path)[:3]:
        segment.unlink()
    listed = [firsts, firsts]
    monkeypatch.setattr(
        evtool.log.reader, "segment_offsets", lambda place: listed.pop() if listed else segment_offsets(place)
    )
    held = firsts[1]
    assert b"".join(blocks(one)) == b"".join(lines[1:held] + lines[firsts[3] :])
    listed.append(firsts)
    assert sent(other) == b"".join(lines[firsts[3] :])
    assert told == [(held, firsts[3] - 1), (0, firsts[3] - 1)]


def test_nobody_need_be_told_what_was_trimmed(tmp_path: Path) -> None:
    lines = fill(tmp_path, [[90]] * 12)
    segments(tmp_path)[0].unlink()
    first = int(segments(tmp_path)[0].name[:20])
    assert b"".join(blocks(Reader(open_directory(tmp_path), 0))) == b"".join(lines[first:])


def test_what_was_superseded_is_no_event_that_was_missed(tmp_path: Path) -> None:
    """Compaction may take whole segments from the middle, whereas trimming takes the earliest."""
    lines = fill(tmp_path, [[90]] * 12)
    told: list[tuple[int, int]] = []
    one = Reader(open_directory(tmp_path), 0, lambda *missed: told.append(missed))
    firsts = segment_offsets(open_directory(tmp_path))
    assert b"".join(one.read(1) for _ in range(firsts[1] + 1)) == b"".join(lines[: firsts[1] + 1])
    for segment in segments(tmp_path)[1:3]:
        segment.unlink()
    assert b"".join(blocks(one)) == b"".join(lines[firsts[1] + 1 : firsts[2]] + lines[firsts[3] :])
    assert told == []


def test_lines_written_between_two_looks_are_read_before_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer appends and rolls after the reader has seen the end of the segment and before it sees the next."""
    for give_out in (lambda one: b"".join(blocks(one)), sent):
        path = tmp_path / give_out.__name__.strip("<>")
        fill(path, [[90]])
        log = TopicLog(open_directory(path), "t")
        one = Reader(open_directory(path), 0)
        before = give_out(one)

        def look(place: Directory, log: TopicLog = log) -> list[int]:
            monkeypatch.undo()
            while len(segment_offsets(place)) < 2:
                log.append([b'"%b"' % (b"y" * 90)], line.DATA)
            return segment_offsets(place)

        monkeypatch.setattr(Segment, "is_active", lambda self: False)
        monkeypatch.setattr(evtool.log.reader, "segment_offsets", look)
        assert before + give_out(one) == b"".join(lines_of(path))
        assert len(segments(path)) == 2


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EAGAIN])
def test_where_the_kernel_does_not_copy_it_is_done_by_hand(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = fill(tmp_path, [[3000]] * 50, 1 << 20)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", refuse)
    assert sent(Reader(open_directory(tmp_path), 3)) == b"".join(lines[3:])


def test_any_other_failure_of_the_output_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [[1]])

    def refuse(*_: object) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(os, "sendfile", refuse)
    one = Reader(open_directory(tmp_path), 0)
    with pytest.raises(BrokenPipeError):
        one.send(1)
    assert one.next_offset == 0


@pytest.mark.parametrize("damage", [b"nonsense\n", b"\n", b"}\n"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_damaged_line_is_told_with_its_place(tmp_path: Path, damage: bytes, count: int) -> None:
    """By reading and by sending, be it the first, and however short it is."""
    before = b"".join(fill(tmp_path, [[1], [1]], 1 << 20)[:count])
    (segment,) = segments(tmp_path)
    segment.write_bytes(before + damage)
    for give_out in (Reader.read, sent):
        with pytest.raises(CorruptionError) as caught:
            give_out(Reader(open_directory(tmp_path), 0))
        assert (caught.value.file, caught.value.position) == (str(segment), len(before))
        assert caught.value.hint


def test_who_follows_looks_at_the_directory_only_where_a_segment_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An active segment has none behind it, so at its end a reader that has looked once need not look again."""
    fill(tmp_path, [[90]], 1 << 20)
    log = TopicLog(open_directory(tmp_path), "t")
    looks: list[str] = []
    listed = evtool.log.reader.segment_offsets
    monkeypatch.setattr(
        evtool.log.reader, "segment_offsets", lambda place: (looks.append(place.path), listed(place))[1]
    )
    one = Reader(open_directory(tmp_path), 0)
    assert b"".join(blocks(one)) == b"".join(lines_of(tmp_path))
    assert len(looks) == 2  # for the segment to begin with, and for one behind it
    for give_out in (lambda: b"".join(blocks(one)), lambda: sent(one)):
        log.append([b"1"], line.DATA)
        assert give_out() == lines_of(tmp_path)[-1]
        assert give_out() == b""
    assert len(looks) == 2
    log.append_whole([[b"2"]], line.DATA)
    assert b"".join(blocks(one)) == lines_of(tmp_path)[-1]
    assert b"".join(blocks(one)) == b""
    assert len(looks) == 4


def test_a_reader_that_begins_with_an_offset_opens_the_segment_that_has_it(tmp_path: Path) -> None:
    lines = fill(tmp_path, [[90]] * 12)
    firsts = segment_offsets(open_directory(tmp_path))
    for first in firsts[1:]:
        one = Reader(open_directory(tmp_path), first)
        assert one.read(1) == lines[first]
        assert one._segment is not None
        assert one._segment.first == first


def test_the_torn_end_of_a_segment_keeps_nobody_from_the_next(tmp_path: Path) -> None:
    """Nor does a last one that is sealed keep anybody waiting for more."""
    lines = fill(tmp_path, [[90]] * 6)
    first, *_, last = segments(tmp_path)
    first.chmod(0o600)
    with first.open("ab") as file:
        file.write(b'{"offset":')
    last.chmod(0o444)
    assert b"".join(blocks(Reader(open_directory(tmp_path), 0))) == b"".join(lines)
    assert sent(Reader(open_directory(tmp_path), 0)) == b"".join(lines)


def test_no_segment_is_opened_that_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [[90]] * 12)
    firsts = segment_offsets(open_directory(tmp_path))
    opened: list[int] = []
    monkeypatch.setattr(
        evtool.log.reader, "Segment", lambda place, first: (opened.append(first), Segment(place, first))[1]
    )
    for number, first in enumerate(firsts):
        opened.clear()
        assert list(blocks(Reader(open_directory(tmp_path), first)))
        assert opened == firsts[number:]


def test_no_more_is_sent_than_lines_and_no_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces that end with a line where they can, and with a longer line in more than one piece."""
    for largest in (1, 200, 700, 1 << 20):
        path = tmp_path / str(largest)
        lines = fill(path, [[90, 300], [1], [90] * 4], 1 << 20)
        with segments(path)[0].open("ab") as file:
            file.write(b"torn")
        monkeypatch.setattr(evtool.log.reader, "_LARGEST_SEND", largest)
        assert sent(Reader(open_directory(path), 0)) == b"".join(lines)
        assert sent(Reader(open_directory(path), 0), until=3) == b"".join(lines[:3])


def test_what_an_output_did_not_take_is_not_behind_the_cursor(tmp_path: Path) -> None:
    """An output that is full in the middle of a line: the line comes again."""
    lines = fill(tmp_path / "t", [[3000]] * 100, 1 << 20)
    reader = Reader(open_directory(tmp_path / "t"), 0)
    room = 100_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "out").open("wb", buffering=0) as out:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                exhaust(reader, out.fileno())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    whole = b"".join(lines)[:room].count(b"\n")
    assert 0 < whole < len(lines)
    assert reader.next_offset == whole
    assert b"".join(blocks(reader)) == b"".join(lines[whole:])


def test_a_segment_that_was_replaced_while_it_was_empty_is_read_all_the_same(tmp_path: Path) -> None:
    topic = open_directory(tmp_path / "t")
    log = TopicLog(topic, "t")
    log.append([b'"data":0'])
    os.chmod(f"{topic.path}/{0:020d}.jsonl", files.SEALED_MODE)  # a producer was killed amid its roll
    TopicLog(topic, "t").next_offset()
    reader = Reader(topic, 0)
    assert [line.offset_of(text) for text in drained(reader)] == [0]
    for number in (1, 2):
        TopicLog(topic, "t").append_whole([[b'"data":%d' % number]])
    assert [line.offset_of(text) for text in drained(reader)] == [1, 2]


def drained(reader: Reader) -> list[bytes]:
    found: list[bytes] = []
    while block := reader.read():
        found += block.splitlines(keepends=True)
    return found


def test_a_hole_that_nothing_explains_is_told_and_one_that_is_noted_is_not(tmp_path: Path) -> None:
    fill(tmp_path, [[90]] * 9, segment_bytes=400)
    topic = open_directory(tmp_path)
    firsts = segment_offsets(topic)
    os.unlink(f"{topic.path}/{firsts[1]:020d}.jsonl")
    gap = (firsts[1], firsts[2] - 1)
    missed: list[tuple[int, int]] = []
    drained(Reader(topic, 0, lambda first, last: missed.append((first, last))))
    assert missed == [gap]
    with seals.SealsFile(topic) as file:
        file.add_gap(*gap)
    drained(Reader(topic, 0, lambda first, last: missed.append((first, last))))
    assert missed == [gap]

"""evtool.log.reader: complete lines in their order, from segment to segment, whatever producers do meanwhile."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import CorruptionError
from evtool.log import line
from evtool.log.reader import Reader
from evtool.log.topic import TopicLog
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    reader.sync()  # there is nothing to sync, and that is no error
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


def test_a_damaged_line_is_told_with_its_place(tmp_path: Path) -> None:
    lines = fill(tmp_path, [[1], [1]], 1 << 20)
    (segment,) = segments(tmp_path)
    segment.write_bytes(lines[0] + b"nonsense\n")
    reader = Reader(open_directory(tmp_path), 0)
    with pytest.raises(CorruptionError) as caught:
        reader.read()
    assert (caught.value.file, caught.value.position) == (str(segment), len(lines[0]))


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

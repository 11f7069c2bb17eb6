"""evtool.log.dedupe: an id is found as long as its time lasts, whatever became of the cache that helps to find it."""

from __future__ import annotations

import os
import shutil
import struct
import time
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtool.errors import StorageError
from evtool.log import dedupe, line
from evtool.log.topic import TopicLog
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ids = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c", 'q"uote\\', "é", ""])), min_size=1, max_size=6)


def topic(path: Path, **said: int) -> TopicLog:
    """A log there, with these settings."""
    made = open_directory(path)
    if said:
        text = ",".join(f'"{name.replace("_", "-")}":{value}' for name, value in said.items())
        (path / "topic.json").write_text("{" + text + "}")
    return TopicLog(made, "t")


def append(log: TopicLog, names: Sequence[str | None]) -> list[int]:
    """Append an event for each of these ids; the offsets that were answered."""
    bodies = [line_body(name) for name in names]
    return list(log.append(bodies, ids=names))


def line_body(name: str | None) -> bytes:
    from evtool.log import payload

    return payload.encode_attributes({} if name is None else {"id": name}) + line.DATA + b"1"


def stored(path: Path) -> int:
    return sum(segment.read_bytes().count(b"\n") for segment in path.glob("*.jsonl"))


@given(st.lists(ids, max_size=12), st.sampled_from([1 << 20, 300]))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_answers_as_a_dictionary_would(tmp_path: Path, batches: list[list[str | None]], segment_bytes: int) -> None:
    """Over batches, ids repeated in one batch, several segments, and a log opened anew for every batch."""
    path = tmp_path / "t"
    shutil.rmtree(path, ignore_errors=True)
    known: dict[str, int] = {}
    following = 0
    for batch in batches:
        expected = []
        for name in batch:
            if name is not None and name in known:
                expected.append(known[name])
                continue
            expected.append(following)
            if name is not None:
                known[name] = following
            following += 1
        assert append(topic(path, segment_bytes=segment_bytes), batch) == expected
    assert stored(path) == following if batches else True


def test_an_id_counts_only_as_long_as_its_time_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = topic(tmp_path / "t", dedupe=60)
    now = time.time_ns()
    assert append(log, ["a"]) == [0]
    monkeypatch.setattr(time, "time_ns", lambda: now + 59 * 10**9)
    assert append(log, ["a"]) == [0]
    monkeypatch.setattr(time, "time_ns", lambda: now + 62 * 10**9)
    assert append(log, ["a"]) == [1]
    assert append(log, ["a"]) == [1]


def test_an_id_in_the_data_is_none(tmp_path: Path) -> None:
    log = topic(tmp_path / "t")
    log.append([b'{"x":1,"id":"a"}'], line.DATA)
    assert append(log, ["a"]) == [1]


SPOILT = (
    "missing", "empty", "foreign", "torn", "header only", "zeros for records", "of another log", "ahead of the log",
    "stale",
)  # fmt: skip


def spoil(kind: str, cache: Path, log: Path) -> None:
    """Do something to the cache that must not matter."""
    data = bytearray(cache.read_bytes())
    if kind == "missing":
        cache.unlink()
    elif kind == "empty":
        cache.write_bytes(b"")
    elif kind == "foreign":
        cache.write_bytes(b"something else entirely, and long enough to be read")
    elif kind == "torn":
        cache.write_bytes(data[:-3])
    elif kind == "header only":
        cache.write_bytes(data[:48])
    elif kind == "of another log":
        data[16] ^= 1
        cache.write_bytes(data)
    elif kind == "ahead of the log":
        data[10] += 1
        cache.write_bytes(data)
    elif kind == "zeros for records":
        cache.write_bytes(data[:48] + bytes(len(data) - 48))
    elif kind == "stale":
        with log.open("ab") as file:
            file.write(line.render(3, line.stamp(time.time_ns()), b"", [line_body("d")], 0))


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "foreign",
        "torn",
        "header only",
        "zeros for records",
        "of another log",
        "ahead of the log",
        "stale",
    ],
)
def test_the_cache_is_only_a_help(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t"
    assert append(topic(path), ["a", "b", "c"]) == [0, 1, 2]
    append(topic(path), ["a"])
    (cache,) = (path / "ids").iterdir()
    (segment,) = path.glob("*.jsonl")
    spoil(kind, cache, segment)
    new = 4 if kind == "stale" else 3
    assert append(topic(path), ["c", "b", "new", "a"]) == [2, 1, new, 0]
    if kind == "stale":
        assert append(topic(path), ["d"]) == [3]


def test_two_ids_with_one_checksum_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "crc32", lambda data, *_: 7)
    log = topic(tmp_path / "t")
    assert append(log, ["a", "b"]) == [0, 1]
    assert append(log, ["b", "c", "a"]) == [1, 2, 0]


def test_ids_with_one_checksum_are_told_apart_among_many_sorted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedupe, "_LARGEST_TAIL", 0)
    monkeypatch.setattr(dedupe, "crc32", lambda data, *_: 0 if len(data) != 3 else 7 if data < b'"d"' else 9)
    path = tmp_path / "t"
    for name in "adbec":
        append(topic(path), [name])
    assert append(topic(path), ["a", "b", "c", "d", "e", "f"]) == [0, 2, 4, 1, 3, 5]


def test_the_stored_line_is_believed_and_not_the_cache(tmp_path: Path) -> None:
    """Such as when somebody has changed it far from the end, where the cache does not look for changes."""
    path = tmp_path / "t"
    assert append(topic(path), ["a", *(f"b{number}" for number in range(200))])[0] == 0
    (segment,) = path.glob("*.jsonl")
    for old, new in ((b'"id":"a"', b'"ix":"a"'), (b'"id":"b0"', b'"id":"b9"')):
        with segment.open("r+b") as file:
            at = file.read().index(old)
            file.seek(at)
            file.write(new)
    assert append(topic(path), ["a", "b0", "b1"]) == [201, 202, 2]


def test_a_cache_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    log = topic(tmp_path / "t")
    append(log, ["a"])
    (cache,) = (tmp_path / "t" / "ids").iterdir()
    cache.unlink()
    cache.mkdir()
    with pytest.raises(StorageError, match=f"^{cache}: "):
        append(log, ["b"])
    assert stored(tmp_path / "t") == 1


def test_many_ids_are_sorted_in_and_all_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "_LARGEST_TAIL", 16)
    path = tmp_path / "t"
    for number in range(0, 100, 7):
        append(topic(path), [f"e{n}" for n in range(number, min(100, number + 7))])
    names = [f"e{n}" for n in range(100)]
    assert append(topic(path), names) == list(range(100))
    assert [one.name for one in (path / "ids").iterdir()] == [f"{0:020d}"]


def test_long_lines_are_scanned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "_CHUNK", 64)
    log = topic(tmp_path / "t")
    append(log, ["a", None, "b"])
    shutil.rmtree(tmp_path / "t" / "ids")
    assert append(log, ["b", "a"]) == [2, 0]


@pytest.mark.parametrize("chunk", [1 << 20, 700, 150, 64])
@pytest.mark.parametrize("tail", [0, 3, 1000])
def test_whatever_the_sizes_of_its_steps_every_id_is_found_at_its_newest_event(
    tmp_path: Path, chunk: int, tail: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines longer and shorter than a chunk, ids in the data that are none, and a cache lost in between."""
    monkeypatch.setattr(dedupe, "_CHUNK", chunk)
    monkeypatch.setattr(dedupe, "_LARGEST_TAIL", tail)
    path = tmp_path / "t"
    log = topic(path, segment_bytes=4000)
    known: dict[str, int] = {}
    for number in range(60):
        following = log.next_offset()
        if number % 3 == 0:
            long = b"x" * (400 if number % 4 else 10)
            log.append([b'{"a":"%b","id":"n%d"}' % (long, number + 1)], line.DATA)
            following += 1
        name = f"n{number}"
        assert append(log, [name, f"n{number // 2}"]) == [following, known.get(f"n{number // 2}", following)]
        known[name] = following
        if number == 40:
            shutil.rmtree(path / "ids")
    assert append(topic(path), list(known)) == list(known.values())
    assert append(topic(path), ["new"]) == [log.next_offset() - 1]


def test_a_cache_is_read_again_only_from_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t"
    append(topic(path), [f"a{number}" for number in range(100)])
    append(topic(path), ["b"])
    (segment,) = path.glob("*.jsonl")
    read: list[int] = []
    scan = dedupe._SegmentIds._scan
    monkeypatch.setattr(dedupe._SegmentIds, "_scan", lambda self, at: read.append(at) or scan(self, at))
    before = segment.stat().st_size
    append(topic(path), ["c"])
    append(topic(path), ["c"])
    append(topic(path), ["c"])
    assert len(read) == 2
    assert read[1] == before


def test_an_id_in_an_old_segment_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the first segment that begins before the ids' time no older one is opened."""
    path = tmp_path / "t"
    log = topic(path, segment_bytes=200, dedupe=60)
    now = time.time_ns()
    for number in range(6):
        monkeypatch.setattr(time, "time_ns", lambda number=number: now + number * 50 * 10**9)
        append(log, [f"n{number}"])
        log.append_whole([[b"1"]], line.DATA)
    shutil.rmtree(path / "ids")
    append(log, ["n5"])
    firsts = sorted(int(one.name) for one in (path / "ids").iterdir())
    segments = sorted(int(one.name[:20]) for one in path.glob("*.jsonl"))
    assert firsts == segments[-len(firsts) :]
    assert 0 < len(firsts) < len(segments)
    assert append(log, ["n5", "n4", "n3"]) == [10, 8, log.next_offset() - 1]


def test_the_cache_says_how_much_of_the_segment_it_covers_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "t"
    append(topic(path), ["a", "b"])
    append(topic(path), ["c"])
    assert stored(path) == 3
    (cache,) = (path / "ids").iterdir()
    assert cache.stat().st_mode & 0o777 == 0o600
    magic, covered, _, count, more, check = struct.unpack("=8s5Q", cache.read_bytes()[:48])
    (segment,) = path.glob("*.jsonl")
    assert (magic, count + more) == (b"evtids2\n", 2)
    assert segment.read_bytes()[:covered].endswith(b'"id":"b","data":1}\n')
    assert check == crc32(cache.read_bytes()[48 + 8 * count :])


def test_control_without_the_look_at_the_line_checksums_alone_would_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shows that the test above can fail: an index that believes the checksum gives the wrong answer."""
    monkeypatch.setattr(dedupe, "crc32", lambda data, *_: 7)
    monkeypatch.setattr(dedupe, "_id_of", lambda text: b'"c"')
    log = topic(tmp_path / "t")
    append(log, ["a", "b"])
    assert append(log, ["c"]) != [2]


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = topic(tmp_path / "t")

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(StorageError, match="ids: No space left on device"):
        append(log, ["a"])
    monkeypatch.undo()
    assert append(log, ["a"]) == [0]

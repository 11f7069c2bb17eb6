"""evtool.log.bounds: where a topic begins and ends, and which offset stands where, over all its segments."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import CorruptionError
from evtool.log import bounds, line
from evtool.log.topic import TopicLog, segment_offsets
from tests.unit.test_segment import NOON, Stored, open_directory, stored_events, text_of, write_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.files import Directory

quick = settings(deadline=None, max_examples=100)


class Log:
    """Events in several segments, the last of which may be empty or torn, to be used in a `with`."""

    def __init__(self, events: list[Stored], cuts: set[int], fresh: bool, torn: bytes) -> None:
        self.events = events
        self.torn = torn
        self.starts = sorted({0, *(cut for cut in cuts if cut < len(events))}) if events else []
        self.fresh = fresh

    @property
    def next(self) -> int:
        return self.events[-1].offset + 1 if self.events else 0

    def __enter__(self) -> Directory:
        self._temporary = tempfile.TemporaryDirectory()
        directory = open_directory(Path(self._temporary.name))
        for number, start in enumerate(self.starts):
            stop = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.events)
            is_last = number + 1 == len(self.starts) and not self.fresh
            text = text_of(self.events[start:stop]) + (self.torn if is_last else b"")
            write_segment(directory, self.events[start].offset, text, 0o600 if is_last else 0o444)
        if self.fresh:
            write_segment(directory, self.next, self.torn)
        return directory

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def __repr__(self) -> str:
        return f"Log({self.events}, {self.starts}, fresh={self.fresh}, torn={self.torn!r})"


logs = st.builds(
    Log,
    stored_events(largest=10),
    st.sets(st.integers(0, 10), max_size=4),
    st.booleans(),
    st.sampled_from([b"", b"{", b'{"offset":12,"time":"', b"x" * 5000]),
)


@given(logs)
@quick
def test_the_bounds_are_those_of_the_events(log: Log) -> None:
    with log as directory:
        found = bounds.Bounds(directory)
        size = sum(path.stat().st_size for path in Path(directory.path).glob("*.jsonl"))
        assert found.first == bounds.first_offset(directory) == (log.events[0].offset if log.events else 0)
        assert found.next == bounds.next_offset(directory) == log.next
        assert found.last_time == (log.events[-1].time if log.events else None)
        assert found.size == size


@given(logs, st.data())
@quick
def test_the_offset_at_a_time_is_that_of_the_first_event_from_then_on(log: Log, data: st.DataObject) -> None:
    near = [event.time[:-1] + end for event in log.events for end in (b"Z", b"Y", b"[")]
    moment = data.draw(st.sampled_from([*near, line.stamp(0), line.stamp(2 * NOON)]))
    expected = next((event.offset for event in log.events if event.time >= moment), log.next)
    with log as directory:
        assert bounds.offset_at(directory, moment) == expected


@given(logs, st.integers(0, 12))
@quick
def test_so_many_events_before_the_end(log: Log, count: int) -> None:
    kept = log.events[-count:] if count else []
    with log as directory:
        assert bounds.offset_back(directory, count) == (kept[0].offset if kept else log.next)


@given(logs, st.data())
@quick
def test_the_time_at_an_offset_is_that_of_the_first_event_from_there_on(log: Log, data: st.DataObject) -> None:
    near = [event.offset + step for event in log.events for step in (-1, 0, 1)]
    offset = data.draw(st.sampled_from([*near, 0, 10**17]))
    expected = next((event.time for event in log.events if event.offset >= offset), None)
    with log as directory:
        assert bounds.time_at(directory, offset) == expected


@pytest.mark.parametrize("torn", [b"", b'{"offset":10'], ids=["empty", "torn"])
def test_the_next_offset_is_the_same_for_readers_and_writers_when_the_last_events_are_gone(
    tmp_path: Path, torn: bytes
) -> None:
    """A log from which compaction took the end of a sealed segment goes on with the name of the active one."""
    directory = open_directory(tmp_path)
    write_segment(directory, 0, text_of([Stored(0, NOON, 5), Stored(5, NOON, 5)]), 0o444)
    write_segment(directory, 10, torn)
    told = bounds.Bounds(directory)
    assert told.last_time == line.stamp(NOON)
    assert told.next == TopicLog(directory, "t").next_offset() == 10


def test_a_segment_that_is_trimmed_meanwhile_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = open_directory(tmp_path)
    text = text_of([Stored(7, NOON, 5)])
    write_segment(directory, 7, text)
    monkeypatch.setattr(bounds, "segment_offsets", lambda _: [0, 7])
    found = bounds.Bounds(directory)
    assert (found.size, found.next) == (len(text), 8)


@pytest.mark.parametrize(
    "look",
    [
        lambda directory: bounds.next_offset(directory),
        lambda directory: bounds.offset_at(directory, line.stamp(NOON)),
        lambda directory: bounds.offset_back(directory, 1) + 1,
        lambda directory: bounds.time_at(directory, 7) and 8,
    ],
    ids=["next", "at", "back", "time"],
)
def test_who_meets_a_segment_that_is_trimmed_in_this_moment_looks_again(
    tmp_path: Path, look: Callable[[Directory], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tells that the topic is gone only if it is."""
    directory = open_directory(tmp_path / "t")
    write_segment(directory, 7, text_of([Stored(7, NOON, 5)]))
    listed = iter([[3, 9]])
    monkeypatch.setattr(bounds, "segment_offsets", lambda place: next(listed, None) or segment_offsets(place))
    assert look(directory) in (7, 8)
    assert next(listed, None) is None
    monkeypatch.setattr(bounds, "segment_offsets", lambda _: [3])
    os.rename(directory.path, directory.path + ".away")
    with pytest.raises(FileNotFoundError):
        look(directory)


@pytest.mark.parametrize("damage", [b"\0" * 60 + b"\n", b"}\n", b"{" * 5000 + b"\n"], ids=["zeros", "short", "long"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_damage_is_reported_as_such_wherever_it_is_met(tmp_path: Path, damage: bytes, place: int) -> None:
    """The first line of one of three segments is no event."""
    directory = open_directory(tmp_path)
    for number in range(3):
        text = damage if number == place else text_of([Stored(number * 10, NOON + number * 10**9, 5)])
        write_segment(directory, number * 10, text)
    for look in (
        lambda: bounds.offset_at(directory, line.stamp(NOON + place * 10**9)),
        lambda: bounds.time_at(directory, place * 10),
    ):
        with pytest.raises(CorruptionError, match="this line is no event") as caught:
            look()
        assert (caught.value.file, caught.value.position) == (f"{tmp_path}/{place * 10:020d}.jsonl", 0)


def test_the_offset_of_a_damaged_line_before_the_end_is_reported_as_damage(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    write_segment(directory, 0, b"\0" * 60 + b"\n" + Stored(1, NOON, 5).line)
    assert bounds.offset_back(directory, 1) == 1
    with pytest.raises(CorruptionError) as caught:
        bounds.offset_back(directory, 2)
    assert caught.value.position == 0

"""evtool.log.compaction and state: what stays is the newest of each key, as it was; nothing else changes the state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtool.errors import BusyError, CorruptionError, StorageError, SyncError
from evtool.log import compaction, files, line, seals
from evtool.log.compaction import Compaction, Policy, active_of, compact
from evtool.log.reader import Reader
from evtool.log.state import changes, newest, state
from evtool.log.topic import TopicLog
from evtool.log.verify import verify
from tests.topics import open_directory

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.log.files import Directory

ALL, NONE = b"9999", b""  # a time after, and one before, all events
Event = tuple[str, bytes]  # key and data
BIG = 1 << 40


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def write(topic: Directory, events: list[Event], *, at_once: int = 1, segment_bytes: int = 400, more: str = "") -> None:
    with open(f"{topic.path}/topic.json", "w") as file:
        file.write(f'{{"segment-bytes":{segment_bytes}}}')
    log = TopicLog(topic, "t")
    bodies = [(f'"key":"{key}",{more}' if key else "").encode() + b'"data":' + data for key, data in events]
    for start in range(0, len(bodies), at_once):
        log.append(bodies[start : start + at_once])


def some(count: int) -> list[Event]:
    """Events of which two thirds will be superseded, and some in each segment will not."""
    return [(f"own-{number}" if number % 3 == 0 else "ab"[number % 2], b"%d" % number) for number in range(count)]


def do_compact(topic: Directory, policy: Policy | None = None, **options: int | bool) -> Compaction:
    active = TopicLog(topic, "t").settle()
    return compact(topic, active, policy or Policy(ALL, ALL), **options)  # type: ignore[arg-type]


def lines(topic: Directory) -> list[bytes]:
    found = []
    for name in sorted(topic.names()):
        if name.endswith(".jsonl"):
            with open(f"{topic.path}/{name}", "rb") as file:
                found += file.read().splitlines(keepends=True)
    return found


def model(stored: list[bytes]) -> dict[bytes, bytes]:
    """The newest line of each key that is not deleted, by an independent way."""
    found: dict[bytes, bytes] = {}
    for text in stored:
        key = line.key_of(text)
        if key is not None:
            found.pop(key, None)
            if line.data_of(text) != b"null":
                found[key] = text
    return found


def state_of(topic: Directory, until: int = BIG) -> list[bytes]:
    return b"".join(state(topic, until)).splitlines(keepends=True)


def active_lines(topic: Directory) -> list[bytes]:
    first, size = active_of(topic)
    with open(f"{topic.path}/{first:020d}.jsonl", "rb") as file:
        return file.read(size).splitlines(keepends=True)


events = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.sampled_from([b"1", b"null", b'{"x":null}', b'"y"'])),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=events, at_once=st.integers(1, 5), most_keys=st.sampled_from([2, 1000]), graves=st.sampled_from([ALL, NONE])
)
def test_the_newest_of_each_key_stays_as_it_was_and_what_is_superseded_goes(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], at_once: int, most_keys: int, graves: bytes
) -> None:
    topic = open_directory(tmp_path_factory.mktemp("t") / "t")
    write(topic, events, at_once=at_once)
    before = lines(topic)
    active = active_lines(topic) if before else []
    whole = model(before)
    preview = do_compact(topic, Policy(graves, ALL), dry_run=True)
    assert lines(topic) == before
    found = do_compact(topic, Policy(graves, ALL), most_keys=most_keys)
    after = lines(topic)
    assert (preview.removed, preview.freed, preview.events, preview.size) == (
        found.removed, found.freed, found.events, found.size,
    )  # fmt: skip
    assert found.removed == len(before) - len(after)
    assert found.freed == sum(map(len, before)) - sum(map(len, after))
    assert model(after) == whole
    assert sorted(state_of(topic)) == sorted(whole.values())
    last = {line.key_of(text): text for text in before}
    wanted = []
    for text in before:
        key = line.key_of(text)
        is_null = line.data_of(text) == b"null" and graves == ALL
        if text in active or key is None or (last[key] == text and not is_null):
            wanted.append(text)
    assert after == wanted
    assert verify(topic).problems == []
    assert do_compact(topic, Policy(graves, ALL)).removed == 0
    assert TopicLog(topic, "t").append([b'"data":1'])[0] == len(events)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events, before=st.integers(0, 40))
def test_what_stands_behind_a_place_neither_supersedes_nor_goes_so_that_states_from_there_on_stay(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], before: int
) -> None:
    topic = open_directory(tmp_path_factory.mktemp("t") / "t")
    write(topic, events, at_once=2)
    stored = lines(topic)
    preview = do_compact(topic, before=before, dry_run=True)
    found = do_compact(topic, before=before)
    assert preview.removed == found.removed == len(stored) - len(lines(topic))
    assert [text for text in stored if line.offset_of(text) >= before] == [
        text for text in lines(topic) if line.offset_of(text) >= before
    ]
    for until in range(before, len(events) + 1):
        assert sorted(state_of(topic, until)) == sorted(model(stored[:until]).values())
    assert verify(topic).problems == []


def test_a_dry_run_leaves_not_even_a_lock(topic: Directory) -> None:
    write(topic, some(30))
    before = sorted(topic.names())
    assert do_compact(topic, dry_run=True).removed
    assert sorted(topic.names()) == before


def test_a_null_stays_for_its_grace_and_what_it_deletes_goes_at_once(topic: Directory) -> None:
    write(topic, [("a", b"1"), ("b", b"2"), ("a", b"null"), *[("c", b"%d" % number) for number in range(9)]])
    do_compact(topic, Policy(NONE, ALL))
    assert [(line.key_of(text), line.data_of(text)) for text in lines(topic)][:2] == [(b'"b"', b"2"), (b'"a"', b"null")]
    do_compact(topic, Policy(ALL, ALL))
    assert line.key_of(lines(topic)[1]) == b'"c"'
    assert model(lines(topic)).keys() == {b'"b"', b'"c"'}


def test_an_event_whose_id_still_keeps_others_out_stays_and_so_does_the_null_above_it(topic: Directory) -> None:
    write(topic, [("a", b"1"), ("a", b"null"), *[("c", b"%d" % number) for number in range(9)]], more='"id":"x",')
    before = lines(topic)
    assert do_compact(topic, Policy(ALL, NONE)).removed == 0
    assert lines(topic) == before
    assert do_compact(topic, Policy(ALL, ALL)).removed > 2


def test_a_reader_goes_on_reading_what_was_replaced_under_it(topic: Directory) -> None:
    write(topic, [("a", b"%d" % number) for number in range(30)])
    missed: list[tuple[int, int]] = []
    reader = Reader(topic, 0, lambda first, last: missed.append((first, last)))
    seen = reader.read(100).splitlines(keepends=True)
    do_compact(topic)
    while block := reader.read():
        seen += block.splitlines(keepends=True)
    offsets = [line.offset_of(text) for text in seen]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] == 29


def test_a_reader_behind_a_hole_is_told_of_no_loss_as_long_as_there_is_something_before_it(topic: Directory) -> None:
    write(topic, [("keep", b"0"), *[("a", b"%d" % number) for number in range(30)]])
    missed: list[tuple[int, int]] = []
    reader = Reader(topic, 0, lambda first, last: missed.append((first, last)))
    reader.read(10)
    assert do_compact(topic).dropped > 2
    while reader.read():
        pass
    assert missed == []


def test_a_compacted_topic_is_checked_by_its_seals(topic: Directory) -> None:
    write(topic, some(30), at_once=3)
    do_compact(topic)
    report = verify(topic)
    assert report.problems == []
    assert report.sealed == report.segments - 1
    assert report.events == len(lines(topic))
    name = min(one for one in topic.names() if one.endswith(".jsonl"))
    os.chmod(f"{topic.path}/{name}", 0o600)
    with open(f"{topic.path}/{name}", "r+b") as file:
        text = file.read()
        file.seek(text.index(b'"data":') + 7)
        file.write(b"7" if text[text.index(b'"data":') + 7 :][:1] != b"7" else b"8")
    os.chmod(f"{topic.path}/{name}", files.SEALED_MODE)
    assert [problem.kind for _, problem in verify(topic).problems] == ["altered"]


def test_a_damaged_segment_is_not_vouched_for_by_a_new_seal(topic: Directory) -> None:
    write(topic, [("a", b"%d" % number) for number in range(10, 30)])
    name = min(one for one in topic.names() if one.endswith(".jsonl"))
    os.chmod(f"{topic.path}/{name}", 0o600)
    with open(f"{topic.path}/{name}", "r+b") as file:
        text = file.read()
        file.seek(text.index(b'"data":1') + 7)
        file.write(b"7")
    os.chmod(f"{topic.path}/{name}", files.SEALED_MODE)
    with pytest.raises(CorruptionError, match="not as it was"):
        do_compact(topic)
    assert len([problem for _, problem in verify(topic).problems]) >= 1


def test_two_do_not_compact_at_once(topic: Directory) -> None:
    import fcntl

    write(topic, [("a", b"1"), ("a", b"2")])
    fd = topic.open(compaction.TURN_NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(BusyError, match="another process compacts it"):
            do_compact(topic)
    finally:
        os.close(fd)


def test_what_a_killed_compaction_left_is_removed_and_no_append_minds_it(topic: Directory) -> None:
    write(topic, [("a", b"%d" % number) for number in range(20)])
    rest = f"{topic.path}/{0:020d}.jsonl{compaction.SUFFIX}"
    with open(rest, "w") as file:
        file.write("half a line")
    TopicLog(topic, "t").append([b'"data":1'])
    assert os.path.exists(rest)
    assert verify(topic).problems == []
    do_compact(topic)
    assert not os.path.exists(rest)


def test_a_full_disk_leaves_everything_as_it_was(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    write(topic, some(30))
    before = lines(topic)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", fail)
        with pytest.raises(StorageError, match="No space left"):
            do_compact(topic)
    assert lines(topic) == before
    assert verify(topic).problems == []
    assert not any(name.endswith(compaction.SUFFIX) for name in topic.names())


def test_a_segment_that_is_trimmed_or_repaired_meanwhile_is_left_alone(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(topic, some(30))
    digest = seals.digest

    def trim_first(segment: object) -> str:
        found = digest(segment)  # type: ignore[arg-type]
        os.unlink(segment.path)  # type: ignore[attr-defined]
        return found

    with monkeypatch.context() as patch:
        patch.setattr(seals, "digest", trim_first)
        do_compact(topic)
    assert len(lines(topic)) == len(active_lines(topic))
    assert not any(name.endswith(compaction.SUFFIX) for name in topic.names())


def test_nothing_is_superseded_by_what_is_not_on_disk(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    write(topic, [("a", b"%d" % number) for number in range(20)])
    before = lines(topic)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_data", fail)
        with pytest.raises(SyncError):
            do_compact(topic)
    assert lines(topic) == before


@given(events=events, since=st.integers(0, 40), until=st.integers(0, 40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_state_and_changes_are_those_of_the_model(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], since: int, until: int
) -> None:
    topic = open_directory(tmp_path_factory.mktemp("t") / "t")
    write(topic, events, at_once=3)
    stored = lines(topic)
    since, until = min(since, until), max(since, until)
    old, new = model(stored[:since]), model(stored[:until])
    assert state_of(topic, until) == [text for text in stored if text in new.values()]
    for key in (b'"a"', b'"b"', b'"none"'):
        assert newest(topic, key, until) == new.get(key)
    wanted = {
        key: (old.get(key), new.get(key))
        for key in old.keys() | new.keys()
        if (key in old) != (key in new) or line.data_of(old[key]) != line.data_of(new[key])
    }
    found = list(changes(topic, since, until))
    assert {change.key: (change.before, change.after) for change in found} == wanted
    only = [change.key for change in changes(topic, since, until, b'"b"')]
    assert only == [key for key in wanted if key == b'"b"']

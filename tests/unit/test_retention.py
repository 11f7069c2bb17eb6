"""evtool.log.retention: what every group has handled may go, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtool.errors import StorageError
from evtool.log import line, lock, offsets, retention
from evtool.log.bounds import Bounds
from evtool.log.ranges import Ranges
from evtool.log.settings import Settings
from evtool.log.topic import segment_offsets
from tests.topics import append, commits_file, moment, numbers, open_directory, small_segments, write_commit
from tests.unit.test_segment import NOON, Stored, text_of, write_segment

if TYPE_CHECKING:
    from evtool.log.files import Directory
    from tests.program import Program


@pytest.fixture
def topic(evtool: Program) -> Directory:
    small_segments(evtool, "t")
    settings(evtool, retention="consumed")
    for number in numbers(0, 19):
        append(evtool, "t", number)
    return open_directory(evtool.topic("t"))


def settings(evtool: Program, **chosen: object) -> None:
    given = {"segment-bytes": 200} | {name.replace("_", "-"): value for name, value in chosen.items()}
    (evtool.topic("t") / "topic.json").write_text(json.dumps(given))


def commit(evtool: Program, group: str, offset: int, age: float = 0.0) -> None:
    write_commit(evtool, offset, group=group)
    path = commits_file(evtool, group=group)
    path.write_text(f'{{"committed":{offset},"time":"{moment(time.time() - age)}"}}\n')


def earliest(evtool: Program) -> int:
    return line.offset_of(evtool.segments("t")[0].read_bytes())


def test_what_all_groups_have_handled_goes_and_no_event_that_one_needs(evtool: Program, topic: Directory) -> None:
    commit(evtool, "a", 15)
    commit(evtool, "b", 9)
    assert retention.drop_consumed(topic) > 0
    assert 0 < earliest(evtool) <= 9
    assert retention.drop_consumed(topic) == 0
    assert evtool("replay", "t", "--from=9", "--data").lines == numbers(9, 19)


def test_the_active_segment_stays_whatever_is_handled(evtool: Program, topic: Directory) -> None:
    commit(evtool, "a", 20)
    retention.drop_consumed(topic)
    assert len(evtool.segments("t")) == 1
    append(evtool, "t", "20")
    assert evtool("tail", "t", "-n1").events[0]["offset"] == 20


def test_without_a_group_or_by_default_nothing_goes(evtool: Program, topic: Directory) -> None:
    assert retention.drop_consumed(topic) == 0
    commit(evtool, "a", 20)
    settings(evtool)
    assert retention.drop_consumed(topic) == 0


def test_a_group_that_has_not_come_back_holds_nothing_back(evtool: Program, topic: Directory) -> None:
    settings(evtool, retention="consumed", group_ttl=3600)
    commit(evtool, "a", 20)
    commit(evtool, "old", 0, age=3500)
    assert retention.drop_consumed(topic) == 0
    commit(evtool, "old", 0, age=3700)
    assert retention.has_lapsed(topic, "old")
    assert not retention.has_lapsed(topic, "a")
    assert retention.drop_consumed(topic) > 0


def test_what_comes_again_is_kept(evtool: Program, topic: Directory) -> None:
    commit(evtool, "a", 20)
    with commits_file(evtool, group="a").open("a") as file:
        file.write(f'{{"committed":20,"time":"{moment(4e9)}","again":"7"}}\n')
    retention.drop_consumed(topic)
    assert earliest(evtool) <= 7


def test_a_consumer_drops_what_it_was_the_last_to_handle_and_a_late_one_is_told(
    evtool: Program, topic: Directory
) -> None:
    settings(evtool, retention="consumed", group_ttl=60)
    commit(evtool, "late", 0, age=100)
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "--data")
    assert (result.code, result.lines, result.err) == (0, numbers(0, 19), "")
    assert len(evtool.segments("t")) == 1
    result = evtool("subscribe", "t", "-g", "late", "--drain", "--data")
    assert result.lines == numbers(earliest(evtool), 19)
    assert "group late was away for longer than the topic's group-ttl" in result.err
    assert "trimmed" in result.err


def test_nothing_else_is_a_retention(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    settings(evtool, retention="forever")
    result = evtool("append", "t", "2")
    assert (result.code, "'retention' is neither 'keep' nor 'consumed'" in result.err) == (78, True)


# Which segments go, held against a list of them


class Log:
    """A topic of segments with so many events each, the last of which is active, to be used in a `with`."""

    def __init__(self, counts: list[int]) -> None:
        self.events = [Stored(number, NOON + number * 10**9, 20) for number in range(sum(counts))]
        self.firsts = [sum(counts[:number]) for number in range(len(counts))]
        self.ends = [*self.firsts[1:], len(self.events)]
        self.sizes = [self.size(*of) for of in zip(self.firsts, self.ends, strict=True)]

    def size(self, first: int, end: int) -> int:
        return len(text_of(self.events[first:end]))

    def __enter__(self) -> Directory:
        self._temporary = tempfile.TemporaryDirectory()
        directory = open_directory(Path(self._temporary.name, "t"))
        for first, end in zip(self.firsts, self.ends, strict=True):
            mode = 0o600 if first == self.firsts[-1] else 0o444
            write_segment(directory, first, text_of(self.events[first:end]), mode)
        return directory

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def __repr__(self) -> str:
        return f"Log({self.firsts}, {self.ends})"


logs = st.lists(st.integers(1, 4), min_size=1, max_size=6).map(Log)
quick = hypothesis.settings(deadline=None, max_examples=80)


@given(logs, st.integers(0, 30))
@quick
def test_the_segments_that_lie_before_an_offset_go_and_that_is_told_beforehand(log: Log, before: int) -> None:
    dropped = [end for end in log.ends[:-1] if end <= before]
    with log as directory:
        for look in (retention.plan, retention.trim):
            found = look(directory, before)
            assert (found.first, found.end, found.segments) == (0, max(dropped, default=0), len(dropped))
            assert found.size == sum(log.sizes[: len(dropped)])
        assert segment_offsets(directory) == log.firsts[len(dropped) :]
        assert Bounds(directory).size == sum(log.sizes[len(dropped) :])
        assert retention.plan(directory, before).segments == 0


def test_a_topic_without_segments_has_nothing_to_trim(tmp_path: Path) -> None:
    directory = open_directory(tmp_path / "t")
    found = retention.trim(directory, 10)
    assert (found.first, found.end, found.segments, found.size) == (0, 0, 0, 0)
    assert retention.surplus(directory, Settings({"max-events": 1, "max-bytes": 1})) == 0
    assert retention.losers(directory, 10) == {}
    assert os.listdir(directory.path) == []


@given(logs, st.integers(1, 25))
@quick
def test_of_the_events_at_least_so_many_are_kept_and_no_segment_more(log: Log, most: int) -> None:
    with log as directory:
        before = retention.surplus(directory, Settings({"max-events": most}))
        retention.trim(directory, before)
        left = segment_offsets(directory)
        assert len(log.events) - left[0] >= min(most, len(log.events))
        assert left[1:] == [] or len(log.events) - left[1] < most


@given(logs, st.integers(1, 12), st.data())
@quick
def test_so_many_events_are_kept_where_compaction_has_left_gaps(log: Log, most: int, data: st.DataObject) -> None:
    """Events are counted and not offsets, in the segments that were written anew."""
    with log as directory:
        left: list[int] = []
        remade = data.draw(st.sets(st.sampled_from(log.firsts[:-1]))) if log.firsts[1:] else set()
        for first, end in zip(log.firsts, log.ends, strict=True):
            kept = range(first, end, 2 if first in remade else 1)
            left += kept
            if first in remade:
                os.unlink(f"{directory.path}/{first:020d}.jsonl")
                write_segment(directory, first, text_of([log.events[offset] for offset in kept]), 0o444)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retention.seals, "removed_or_remade", lambda *_: sorted(remade))
            retention.trim(directory, retention.surplus(directory, Settings({"max-events": most})))
        firsts = segment_offsets(directory)
        assert len([offset for offset in left if offset >= firsts[0]]) >= min(most, len(left))
        assert firsts[1:] == [] or len([offset for offset in left if offset >= firsts[1]]) < most


@given(logs, st.data())
@quick
def test_of_the_bytes_at_most_so_many_are_kept_and_no_segment_less(log: Log, data: st.DataObject) -> None:
    near = [sum(log.sizes[number:]) + step for number in range(len(log.sizes)) for step in (-1, 0, 1)]
    most = data.draw(st.sampled_from(near))
    with log as directory:
        retention.trim(directory, retention.surplus(directory, Settings({"max-bytes": most})))
        left = segment_offsets(directory)
        assert Bounds(directory).size <= most or len(left) == 1
        gone = log.firsts.index(left[0])
        assert gone == 0 or sum(log.sizes[gone - 1 :]) > most


@given(logs, st.integers(-2, 25), st.sampled_from([0, 1]))
@quick
def test_what_is_older_than_its_age_goes(log: Log, old: int, more: int) -> None:
    """Event number N is N seconds younger than the first; the clock stands a minute after the last."""
    with log as directory, pytest.MonkeyPatch.context() as patch:
        now = NOON / 1e9 + len(log.events) + 60
        patch.setattr(time, "time", lambda: now)
        age = now - NOON / 1e9 - old + more / 2
        before = retention.surplus(directory, Settings({"max-age": age}))
        assert before == min(max(0, old), len(log.events))


@given(logs, st.integers(1, 25), st.integers(1, 2000))
@quick
def test_of_several_limits_each_is_kept(log: Log, events: int, size: int) -> None:
    with log as directory:
        each = [retention.surplus(directory, Settings(one)) for one in ({"max-events": events}, {"max-bytes": size})]
        assert retention.surplus(directory, Settings({"max-events": events, "max-bytes": size})) == max(each)
        assert retention.surplus(directory, Settings()) == 0


def test_a_trim_lets_others_have_the_lock_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock in which every segment takes as long as the lock may be held."""
    now, held, rests = [0.0], [], []
    unlink, lock_ = os.unlink, retention.lock

    def remove(name: str, **where: int) -> None:
        now[0] += retention._HOLD_SECONDS
        unlink(name, **where)

    def take(fd: int, what: str) -> None:
        held.append(what)
        lock_(fd, what)

    def rest(seconds: float) -> None:
        fd = os.open(f"{held[-1]}/lock", os.O_RDWR)
        assert lock.try_lock(fd)
        os.close(fd)
        rests.append(seconds)

    with Log([1, 1, 1, 1, 1]) as directory:
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        monkeypatch.setattr(time, "sleep", rest)
        monkeypatch.setattr(os, "unlink", remove)
        monkeypatch.setattr(retention, "lock", take)
        assert retention.trim(directory, 3).segments == 3
        assert segment_offsets(directory) == [3, 4]
    assert held == [directory.path] * 3
    assert rests == [retention._REST_SECONDS] * 2


def test_the_limits_are_enforced_as_far_as_the_time_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at least; the rest goes at the next roll."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    unlink = os.unlink

    def remove(name: str, **where: int) -> None:
        now[0] += retention._HOLD_SECONDS / 2
        unlink(name, **where)

    with Log([1] * 8) as directory:
        monkeypatch.setattr(os, "unlink", remove)
        limits = Settings({"max-events": 2})
        for left in ([2, 3, 4, 5, 6, 7], [4, 5, 6, 7], [6, 7], [6, 7]):
            retention.enforce(directory, limits)
            assert segment_offsets(directory) == left


def test_what_is_not_sealed_stays_with_all_behind_it() -> None:
    with Log([1, 1, 1, 1]) as directory:
        os.chmod(f"{directory.path}/{1:020d}.jsonl", 0o600)
        found = retention.trim(directory, 4)
        assert (found.end, found.segments) == (1, 1)
        assert segment_offsets(directory) == [1, 2, 3]


def test_a_segment_that_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with Log([1, 1]) as directory:
        monkeypatch.setattr(os, "unlink", refuse)
        with pytest.raises(StorageError) as caught:
            retention.trim(directory, 1)
        monkeypatch.undo()
        assert caught.value.file == f"{directory.path}/{0:020d}.jsonl"
        assert caught.value.why == "Operation not permitted"
        assert retention.trim(directory, 1).segments == 1  # the lock was given back


def test_what_another_trims_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Log([1, 1, 1]) as directory:
        os.unlink(f"{directory.path}/{0:020d}.jsonl")
        monkeypatch.setattr(retention, "segment_offsets", lambda _: [0, 1, 2])
        found = retention.plan(directory, 2)
        assert (found.end, found.segments, found.size) == (2, 2, len(Stored(1, NOON, 20).line))
        monkeypatch.setattr(retention.seals, "removed_or_remade", lambda *_: [0])
        assert retention._first_with(directory, 2, 3) == 1
        assert retention._first_with(directory, 3, 3) == 0


# Which groups lose something


@given(
    logs,
    st.lists(
        st.tuples(st.integers(0, 22), st.sets(st.integers(0, 22), max_size=5), st.sets(st.integers(0, 22), max_size=3)),
        max_size=3,
    ),
    st.integers(0, 24),
    st.integers(0, 3),
)
@quick
def test_each_group_is_told_to_lose_what_it_has_not_handled(
    log: Log, groups: list[tuple[int, set[int], set[int]]], before: int, gone: int
) -> None:
    """Of what is left, and of what comes again below its committed offset."""
    with log as directory:
        for first in log.firsts[: min(gone, len(log.firsts) - 1)]:
            os.unlink(f"{directory.path}/{first:020d}.jsonl")
        before = min(before, len(log.events))
        present = set(range(min(segment_offsets(directory)), before))
        consumers = directory.subdirectory("consumers", create=True)
        open(f"{consumers.path}/none.jsonl", "w").close()
        expected = {}
        for number, (committed, handled, again) in enumerate(groups):
            again = {offset for offset in again if offset < committed}
            said = {"handled": str(Ranges.of(sorted(handled))), "again": str(Ranges.of(sorted(again)))}
            with offsets.Commits(consumers, f"g{number}") as commits:
                commits.write(committed, {name: text for name, text in said.items() if text})
            lost = {offset for offset in present if offset >= committed} - handled | present & again
            if lost:
                expected[f"g{number}"] = len(lost)
        assert retention.losers(directory, before) == expected


def test_a_group_of_which_nobody_knows_what_it_has_handled_loses_all() -> None:
    with Log([2, 2, 2]) as directory:
        consumers = directory.subdirectory("consumers", create=True)
        with open(f"{consumers.path}/g.jsonl", "w") as file:
            file.write("what?\n")
        os.unlink(f"{directory.path}/{0:020d}.jsonl")
        assert retention.losers(directory, 5) == {"g": 3}


def test_a_group_that_somebody_serves_holds_back_what_it_waits_for_however_long_ago_it_committed() -> None:
    with Log([1, 1, 1]) as directory:
        Path(directory.path, "topic.json").write_text('{"retention":"consumed","group-ttl":1}')
        assert retention.drop_consumed(directory) == 0
        consumers = directory.subdirectory("consumers", create=True)
        assert retention.drop_consumed(directory) == 0
        for group, committed in (("new", 2), ("old", 1)):
            with open(f"{consumers.path}/{group}.jsonl", "wb") as file:
                moment = line.stamp(time.time_ns() if group == "new" else 0)
                file.write(offsets.render(committed, moment))
        served = os.open(f"{consumers.path}/old.lock", os.O_RDWR | os.O_CREAT)
        assert lock.try_lock(served)
        assert retention.drop_consumed(directory) == 1
        assert retention.drop_consumed(directory) == 0
        lock.unlock(served)
        assert retention.drop_consumed(directory) == 1
        os.close(served)


def test_only_where_what_is_consumed_goes_has_a_group_been_away_too_long() -> None:
    with Log([1, 1]) as directory:
        consumers = directory.subdirectory("consumers", create=True)
        with open(f"{consumers.path}/g.jsonl", "wb") as file:
            file.write(offsets.render(1, line.stamp(0)))
        assert not retention.has_lapsed(directory, "g")
        Path(directory.path, "topic.json").write_text('{"retention":"consumed"}')
        assert retention.has_lapsed(directory, "g")
        assert not retention.has_lapsed(directory, "none")

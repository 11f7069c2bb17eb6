"""evtool.log.offsets: the commit log of a group, in which the last whole line counts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import CorruptionError, StorageError
from evtool.log import files, offsets
from evtool.log.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

NOW = b"2026-11-23T22:25:32.123456Z"
quick = settings(deadline=None, max_examples=200)


@pytest.fixture
def consumers(tmp_path: Path) -> Directory:
    path = tmp_path / "consumers"
    path.mkdir(mode=0o700)
    return Directory(str(path), os.open(path, os.O_RDONLY))


def file_of(consumers: Directory) -> str:
    return f"{consumers.path}/g.jsonl"


def write(consumers: Directory, text: bytes) -> None:
    with open(file_of(consumers), "wb") as file:
        file.write(text)


def commit(commits: offsets.Commits, offset: int) -> None:
    with commits:
        commits.write(offset)


def committed(consumers: Directory) -> int | None:
    known = offsets.read_commits(consumers, "g")
    return known[-1].committed if known else None


@given(st.integers(0, 10**18))
@quick
def test_a_commit_read_back_is_the_same(offset: int) -> None:
    text = offsets.render(offset, NOW)
    assert text.endswith(b"\n")
    found = offsets.parse(text[:-1])
    assert found is not None
    assert (found.committed, found.time) == (offset, NOW)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"committed":x,"time":""}', b'{"committed":5', b"\0" * 40])
def test_what_is_no_commit_is_none(text: bytes) -> None:
    assert offsets.parse(text) is None


def test_the_last_whole_line_counts_wherever_the_file_is_torn(consumers: Directory) -> None:
    text = b"".join(offsets.render(n, NOW) for n in (3, 14, 159))
    for size in range(len(text) + 1):
        write(consumers, text[:size])
        expected = [3, 14, 159][: text[:size].count(b"\n")]
        assert committed(consumers) == (expected[-1] if expected else None), size


def test_one_who_commits_cuts_a_torn_line_and_goes_on(consumers: Directory) -> None:
    write(consumers, offsets.render(3, NOW) + offsets.render(14, NOW)[:20])
    commits = offsets.Commits(consumers, "g")
    assert commits.committed == 3
    commit(commits, 15)
    commits.sync()
    assert [one.committed for one in offsets.read_commits(consumers, "g")] == [3, 15]


def test_a_file_of_whole_lines_that_are_no_commits_is_damaged(consumers: Directory) -> None:
    write(consumers, b"no\nno\n")
    with pytest.raises(CorruptionError, match="no line of it is a commit"):
        offsets.read_commits(consumers, "g")


def test_a_damaged_line_among_good_ones_is_passed_over(consumers: Directory) -> None:
    write(consumers, offsets.render(3, NOW) + b"\0\0\0\n")
    assert committed(consumers) == 3


def test_a_long_file_is_replaced_by_one_with_its_newest_lines(consumers: Directory) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 0)
    before = os.stat(file_of(consumers)).st_ino
    number = 0
    while os.stat(file_of(consumers)).st_ino == before:
        number += 1
        commit(commits, number)
        assert number < 5000
    assert os.stat(file_of(consumers)).st_size < 32768
    known = [one.committed for one in offsets.read_commits(consumers, "g")]
    assert known == list(range(known[0], number + 1))
    assert len(known) > 100
    commit(commits, number + 1)
    assert committed(consumers) == number + 1
    assert sorted(os.listdir(consumers.path)) == ["g.jsonl", "g.turn"]


def test_a_full_disk_while_the_file_is_replaced_leaves_the_old_one(
    consumers: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(consumers, offsets.render(1, NOW) * 1200)
    commits = offsets.Commits(consumers, "g")
    monkeypatch.setattr(files, "write_all", _fail)
    with pytest.raises(StorageError, match="No space left"):
        commit(commits, 2)
    monkeypatch.undo()
    assert committed(consumers) == 1
    assert sorted(os.listdir(consumers.path)) == ["g.jsonl", "g.turn"]
    commit(commits, 3)
    assert committed(consumers) == 3


def test_a_full_disk_leaves_no_part_of_a_commit(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 1)

    def write_a_part(fd: int, data: bytes) -> None:
        os.write(fd, data[:7])
        _fail()

    monkeypatch.setattr(files, "write_all", write_a_part)
    with pytest.raises(StorageError, match="No space left"):
        commit(commits, 2)
    monkeypatch.undo()
    commit(commits, 3)
    with open(file_of(consumers), "rb") as file:
        assert [offsets.parse(one) is not None for one in file.read().split(b"\n")[:-1]] == [True, True]


def test_after_a_failed_sync_the_next_commit_goes_to_a_new_file(
    consumers: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 1)
    before = os.stat(file_of(consumers)).st_ino
    monkeypatch.setattr(files, "sync_data", _fail)
    with pytest.raises(StorageError, match="cannot sync"):
        commits.sync()
    monkeypatch.setattr(files, "sync_data", _never)
    commits.sync()  # asks the system for nothing: its answer would prove nothing
    monkeypatch.undo()
    commit(commits, 2)
    commits.sync()
    assert os.stat(file_of(consumers)).st_ino != before
    assert committed(consumers) == 2


def test_a_sync_with_nothing_to_sync_asks_for_none(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = offsets.Commits(consumers, "g")
    monkeypatch.setattr(files, "sync_data", _never)
    commits.sync()


def test_the_groups_are_those_with_a_commit_log(consumers: Directory) -> None:
    for name in ("b.jsonl", "a.jsonl", "a.lock", "c.jsonl.new", "UP.jsonl", "..jsonl"):
        with open(f"{consumers.path}/{name}", "w"):
            pass
    assert offsets.group_names(consumers) == ["a", "b"]


def _fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def _never(*_: object) -> None:
    raise AssertionError("not to be called")

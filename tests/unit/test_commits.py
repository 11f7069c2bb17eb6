"""evtool.log.offsets: the file of a group's commits, to which one process at a time writes and which any may read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from evtool.errors import CorruptionError, StorageError
from evtool.log import files, lock, offsets
from evtool.log.files import Directory
from evtool.log.ranges import Ranges
from tests.unit.test_offsets import NOW, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


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
    for look in (offsets.read_commits, offsets.Commits):
        with pytest.raises(CorruptionError) as caught:
            look(consumers, "g")
        assert (caught.value.file, caught.value.position) == (file_of(consumers), 0)
        assert caught.value.why == "no line of it is a commit"
        topic = consumers.path.split("/")[-2]
        assert caught.value.hint == f"evtool repair {topic} --dry-run says what can be done"
    write(consumers, offsets.render(3, NOW))
    assert offsets.Commits(consumers, "g").committed == 3  # nobody was left holding the turn


GOOD = offsets.render(14, NOW, {"member": "m1", "lease": "3-5"})


@pytest.mark.parametrize("good", [offsets.render(14, NOW), GOOD], ids=["plain", "fields"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b"14", b"1x"),
        lambda text: text.replace(b"14", b""),
        lambda text: text.replace(b"committed", b"comitted"),
        lambda text: text.replace(b"time", b"tide"),
        lambda text: text.replace(NOW, NOW[:-1] + b"z"),
        lambda text: text.replace(NOW, NOW[:-1]),
        lambda text: text.replace(b'"}', b'"'),
        lambda text: text.replace(b'"}', b"}"),
        lambda text: text.replace(NOW + b'"', NOW + b"'"),
        lambda text: text.replace(b'"}', b'\0"}'),
    ],
    ids=["digit", "none", "start", "name", "moment", "short", "brace", "quote", "end", "zero"],
)
def test_a_line_with_a_byte_that_is_wrong_is_no_commit(
    consumers: Directory, good: bytes, spoil: Callable[[bytes], bytes]
) -> None:
    write(consumers, offsets.render(3, NOW) + good)
    assert committed(consumers) == 14
    write(consumers, offsets.render(3, NOW) + spoil(good))
    assert committed(consumers) == 3


def test_a_damaged_line_among_good_ones_is_passed_over(consumers: Directory) -> None:
    write(consumers, offsets.render(3, NOW) + b"\0\0\0\n")
    assert committed(consumers) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"handled": "x"},
        {"again": "1-x"},
        {"member": "m", "lease": "1,,2"},
        {"member": "m", "free": "-"},
        {"member": "m", "pid": "x", "host": "h", "mode": "alone"},
        {"member": "m", "pid": "1", "mode": "alone"},
        {"member": "m", "pid": "1", "host": "h"},
        {"member": "m", "until": "b:x"},
        {"member": "m", "given": "x"},
        {"seek": "x"},
    ],
)
def test_a_line_that_is_damaged_inside_is_passed_over(consumers: Directory, fields: dict[str, str]) -> None:
    write(consumers, offsets.render(3, NOW) + offsets.render(9, NOW, fields))
    assert [one.committed for one in offsets.read_commits(consumers, "g")] == [3]
    assert offsets.Commits(consumers, "g").committed == 3


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
    write(consumers, offsets.render(1, NOW) * (offsets._LARGEST // len(offsets.render(1, NOW))))
    commits = offsets.Commits(consumers, "g")
    before = os.stat(file_of(consumers))
    monkeypatch.setattr(files, "write_all", _fail)
    with pytest.raises(StorageError) as caught:
        commit(commits, 2)
    assert (caught.value.file, caught.value.why) == (file_of(consumers), "No space left on device")
    monkeypatch.undo()
    assert committed(consumers) == 1
    assert sorted(os.listdir(consumers.path)) == ["g.jsonl", "g.turn"]
    after = os.stat(file_of(consumers))
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    commit(commits, 3)
    assert committed(consumers) == 3
    assert os.stat(file_of(consumers)).st_ino != before.st_ino  # so it was to be replaced indeed


def test_a_full_disk_leaves_no_part_of_a_commit(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 1)

    def write_a_part(fd: int, data: bytes) -> None:
        os.write(fd, data[:7])
        _fail()

    monkeypatch.setattr(files, "write_all", write_a_part)
    with pytest.raises(StorageError) as caught:
        commit(commits, 2)
    assert (caught.value.file, caught.value.why) == (file_of(consumers), "No space left on device")
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
    with pytest.raises(StorageError) as caught:
        commits.sync()
    assert caught.value.file == file_of(consumers)
    assert caught.value.why == "cannot sync: No space left on device"
    monkeypatch.setattr(files, "sync_data", _never)
    commits.sync()  # asks the system for nothing: its answer would prove nothing
    monkeypatch.undo()
    commit(commits, 2)
    commits.sync()
    after = os.stat(file_of(consumers)).st_ino
    assert after != before
    assert committed(consumers) == 2
    commit(commits, 3)
    assert os.stat(file_of(consumers)).st_ino == after  # which is as good as any


def test_those_who_take_turns_see_what_each_other_wrote(consumers: Directory) -> None:
    one, other = offsets.Commits(consumers, "g"), offsets.Commits(consumers, "g")
    for number in range(6):
        writer, reader = (one, other) if number % 2 else (other, one)
        commit(writer, number)
        with reader:
            assert reader.committed == number
    assert [commit.committed for commit in offsets.read_commits(consumers, "g")] == [*range(6)]


def test_only_one_has_the_turn_and_gives_it_back(consumers: Directory) -> None:
    one, turn = offsets.Commits(consumers, "g"), os.open(f"{consumers.path}/g.turn", os.O_RDWR)
    with one:
        assert not lock.try_lock(turn)
    assert lock.try_lock(turn)
    lock.unlock(turn)
    with pytest.raises(KeyError), one:
        raise KeyError
    assert lock.try_lock(turn)


def test_a_torn_line_that_another_left_is_cut_before_the_next_is_written(consumers: Directory) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 3)
    with open(file_of(consumers), "ab") as file:
        file.write(offsets.render(4, NOW) + offsets.render(5, NOW)[:9])
    commit(commits, 6)
    assert [commit.committed for commit in offsets.read_commits(consumers, "g")] == [3, 4, 6]


@pytest.mark.parametrize("again", [b"", offsets.render(1, NOW)], ids=["removed", "replaced"])
def test_a_file_that_was_removed_or_replaced_is_not_written_to(consumers: Directory, again: bytes) -> None:
    """Such as by `seek` or `rm --group`: what counts is what has the name."""
    commits = offsets.Commits(consumers, "g")
    commit(commits, 3)
    os.unlink(file_of(consumers))
    if again:
        write(consumers, again)
    with commits:
        assert commits.committed == (1 if again else None)
    commit(commits, 4)
    assert [commit.committed for commit in offsets.read_commits(consumers, "g")] == ([1, 4] if again else [4])


def test_a_file_that_became_shorter_is_read_from_its_beginning(consumers: Directory) -> None:
    commits = offsets.Commits(consumers, "g")
    for number in (10, 11, 12):
        commit(commits, number)
    os.truncate(file_of(consumers), len(offsets.render(10, NOW)))
    with commits:
        assert commits.committed == 10


def test_the_name_of_a_new_file_is_durable(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the directory that it is in, and that one's in the topic's."""
    topic = Directory(f"{consumers.path}/..", os.open(f"{consumers.path}/..", os.O_RDONLY))
    inner = topic.subdirectory("consumers")
    synced: list[str] = []
    monkeypatch.setattr(Directory, "sync", lambda self: synced.append(self.path))
    commits = offsets.Commits(inner, "g")
    assert synced == []
    commit(commits, 1)
    assert sorted(synced) == sorted([inner.path, topic.path])
    commit(commits, 2)
    assert len(synced) == 2


def test_what_is_handled_in_turn_is_a_plain_commit_and_what_is_ahead_is_remembered(consumers: Directory) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 0)
    for handled, expected in (
        ("0", (1, None)),
        ("3-4", (1, "3-4")),
        ("1", (2, None)),
        ("2", (5, None)),
        ("5-6", (7, None)),
    ):
        with commits:
            commits.handle(Ranges.parse(handled))
        last = offsets.read_commits(consumers, "g")[-1]
        assert (commits.committed, (last.fields or {}).get("handled")) == expected
    with commits:
        commits.handle(Ranges.parse("9"), {"member": "m", "free": "9"})
    assert offsets.read_commits(consumers, "g")[-1].fields == {"handled": "9", "member": "m", "free": "9"}


def test_what_came_again_and_is_handled_does_not_come_once_more(consumers: Directory) -> None:
    commits = offsets.Commits(consumers, "g")
    with commits:
        commits.write(9, {"again": "2-4,7"})
        commits.handle(Ranges.parse("3,7"))
        assert (commits.committed, str(commits.state.again)) == (9, "2,4")
    assert told(offsets.state_of(offsets.read_commits(consumers, "g"))) == told(commits.state)


@pytest.mark.parametrize("start", [1, 2])
def test_what_could_not_be_said_to_be_handled_is_not(
    consumers: Directory, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 1)
    monkeypatch.setattr(files, "write_all", _fail)
    with pytest.raises(StorageError), commits:
        commits.handle(Ranges([(start, 5)]))
    monkeypatch.undo()
    with commits:
        assert (commits.committed, str(commits.state.handled)) == (1, "")


def test_descriptors_may_have_any_number_and_are_closed_once(
    consumers: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: Any = offsets.Commits(consumers, "g")
    commit(commits, 1)
    descriptors, close = [commits._fd, commits._turn_fd], os.close
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    for numbers in (descriptors, [0, 9]):
        commits._fd, commits._turn_fd = numbers
        commits.__del__()
        commits.__del__()
        assert closed == numbers
        closed.clear()
    monkeypatch.undo()
    for fd in descriptors:
        close(fd)


def test_an_empty_file_is_no_damage(consumers: Directory) -> None:
    """Whoever made it may have died before the first commit."""
    write(consumers, b"")
    commits = offsets.Commits(consumers, "g")
    assert commits.committed is None
    assert offsets.read_commits(consumers, "g") == []
    commit(commits, 5)
    assert committed(consumers) == 5


def test_what_cannot_be_said_twice_is_told_twice(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = offsets.Commits(consumers, "g")
    commit(commits, 1)
    monkeypatch.setattr(files, "write_all", _fail)
    with commits:
        for _ in range(2):
            with pytest.raises(StorageError, match="No space left"):
                commits.handle(Ranges([(1, 2)]))
            monkeypatch.setattr(Directory, "open", lambda self, name, *_: self.fail(name, OSError(28, "No space left")))
    monkeypatch.undo()
    with commits:
        assert commits.committed == 1


def test_a_sync_with_nothing_to_sync_asks_for_none(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = offsets.Commits(consumers, "g")
    monkeypatch.setattr(files, "sync_data", _never)
    commits.sync()


def test_the_groups_are_those_with_commits(consumers: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever died before the first one has left an empty file."""
    for name in ("b.jsonl", "a.jsonl", "a.lock", "c.jsonl.new", "UP.jsonl", "..jsonl"):
        with open(f"{consumers.path}/{name}", "wb") as file:
            file.write(offsets.render(1, NOW))
    with open(f"{consumers.path}/empty.jsonl", "wb"):
        pass
    assert offsets.group_names(consumers) == ["a", "b"]
    names = consumers.names()
    os.unlink(f"{consumers.path}/a.jsonl")
    monkeypatch.setattr(Directory, "names", lambda _: names)
    assert offsets.group_names(consumers) == ["b"]


def _fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def _never(*_: object) -> None:
    raise AssertionError("not to be called")

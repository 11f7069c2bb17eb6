"""evtool.log.sealing: what is written no more is sealed, and nobody who appends waits for it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evtool.errors import CorruptionError, StorageError
from evtool.log import line, sealing, seals
from evtool.log.segment import Segment
from evtool.log.topic import TopicLog, segment_offsets
from tests.program import wait_until
from tests.topics import open_directory
from tests.unit.test_seals import apply, text_of_seals
from tests.unit.test_segment import NOON, Stored, write_segment

if TYPE_CHECKING:
    from evtool.log.files import Directory


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def sealed(directory: Directory, count: int) -> None:
    """Segments of one event each that are written no more, but for the last one."""
    for number in range(count + 1):
        write_segment(directory, number, Stored(number, NOON, 5).line, 0o600 if number == count else 0o444)


def last_sealed(directory: Directory) -> tuple[int, int]:
    """First offset and size of the segment that a roll would have finished by now."""
    first = segment_offsets(directory)[-2]
    return first, os.stat(f"{directory.path}/{first:020d}.jsonl").st_size


def firsts_sealed(directory: Directory) -> list[int]:
    return [seal.first for seal in seals.read(directory)[0]]


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_the_digest_is_that_of_the_file(topic: Directory, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "_BLOCK", block)
    text = Stored(0, NOON, 500).line
    segment = write_segment(topic, 0, text)
    seen: list[int] = []
    assert seals.digest(segment, seen.append) == seals.digest(segment) == hashlib.sha256(text).hexdigest()
    assert (sum(seen), max(seen)) == (len(text), min(block, len(text)))


def test_each_segment_that_is_written_no_more_is_sealed_once(topic: Directory) -> None:
    sealed(topic, 3)
    assert list(sealing.without_seal(topic)) == [0, 1, 2]
    assert sealing.seal_all(topic) == 3
    assert [seal.digest for seal in seals.read(topic)[0]] == [seals.digest(Segment(topic, first)) for first in range(3)]
    assert list(sealing.without_seal(topic)) == []
    assert sealing.seal_all(topic) == 0


def test_a_segment_that_is_trimmed_meanwhile_is_not_sealed(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(topic, 3)
    monkeypatch.setattr(sealing, "without_seal", lambda _: iter([0, 1, 2]))
    os.unlink(f"{topic.path}/{1:020d}.jsonl")
    assert sealing._mode(topic, 1) == 0
    assert sealing.seal_all(topic) == 2


def test_who_comes_too_late_adds_nothing(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(topic, 2)
    monkeypatch.setattr(sealing, "without_seal", lambda _: iter([0]))
    assert sealing.seal_all(topic) == 1
    assert sealing.seal_all(topic) == 0  # another process was faster
    other = Segment(topic, 1)
    os.unlink(other.path)
    assert not sealing._seal(topic, other, seals.Gaps([]), (), lambda _: True)
    assert firsts_sealed(topic) == [0]


def test_who_cannot_read_the_last_seal_adds_nothing(topic: Directory) -> None:
    sealed(topic, 2)
    apply(topic, [("add", 0, "a" * 64)])
    text = text_of_seals(topic).replace(b"# seal", b"# soul")
    Path(topic.path, "SHA256SUMS").write_bytes(text)
    with pytest.raises(CorruptionError, match="this is no seal"):
        sealing.seal_all(topic)
    sealing.after_roll(topic, *last_sealed(topic))
    assert text_of_seals(topic) == text


def test_of_two_seals_that_a_kill_has_left_for_one_segment_the_right_one_stays(topic: Directory) -> None:
    """While a segment is written anew, it may be as it was or as it will be."""
    sealed(topic, 2)
    right = seals.digest(Segment(topic, 0))
    apply(topic, [("add", 0, "a" * 64), ("add", 0, right), ("add", 1, "b" * 64), ("add", 1, "c" * 64)])
    apply(topic, [("add", 9, "a" * 64), ("add", 9, "b" * 64)])
    sealing.seal_all(topic)
    live = {(seal.first, seal.digest) for seal in seals.read(topic)[0] if seal.is_live}
    assert live == {(0, right), (1, "b" * 64), (1, "c" * 64), (9, "a" * 64), (9, "b" * 64)}


# After a roll


def test_little_is_sealed_at_once(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(topic, 3)
    size = sum(os.lstat(f"{topic.path}/{first:020d}.jsonl").st_size for first in range(3))
    monkeypatch.setattr(sealing, "_start_sealer", lambda _: None)
    monkeypatch.setattr(sealing, "_SMALL", size - 1)
    sealing.after_roll(topic, *last_sealed(topic))
    assert len(seals.read(topic)[0]) == 0
    monkeypatch.setattr(sealing, "_SMALL", size)
    sealing.after_roll(topic, *last_sealed(topic))
    assert len(seals.read(topic)[0]) == 3


def test_a_roll_seals_what_it_has_finished_and_looks_for_more_only_if_there_is_more(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up: list[int] = []
    make_up = sealing._make_up
    monkeypatch.setattr(sealing, "_make_up", lambda directory: (made_up.append(1), make_up(directory)))

    def finish(count: int) -> None:
        sealed(topic, count)
        sealing.after_roll(topic, *last_sealed(topic))

    for count in range(1, 4):
        finish(count)
    assert (firsts_sealed(topic), made_up) == ([0, 1, 2], [])
    sealed(topic, 4)  # and whoever finished that one was killed
    finish(5)
    assert (firsts_sealed(topic), made_up) == ([0, 1, 2, 3, 4], [1])
    seals.retire(topic, range(5))
    for first in range(5):
        os.unlink(f"{topic.path}/{first:020d}.jsonl")  # so that it has none before it
    write_segment(topic, 5, Stored(5, NOON, 5).line, 0o444)
    write_segment(topic, 6, Stored(6, NOON, 5).line, 0o600)
    sealing.after_roll(topic, *last_sealed(topic))
    assert (firsts_sealed(topic)[5:], made_up) == ([5], [1])
    sealing.after_roll(topic, *last_sealed(topic))  # another process was faster
    assert (firsts_sealed(topic)[5:], made_up) == ([5], [1, 1])


def test_a_segment_with_a_known_gap_is_sealed(topic: Directory) -> None:
    """Repair has left it in the last segment, which is written on."""
    sealed(topic, 1)
    apply(topic, [("add", 0, seals.digest(Segment(topic, 0))), ("gap", 2, 3)])
    write_segment(topic, 1, Stored(1, NOON, 5).line + Stored(4, NOON, 5).line, 0o444)
    write_segment(topic, 5, b"")
    sealing.after_roll(topic, *last_sealed(topic))
    assert firsts_sealed(topic) == [0, 2, 1]


@pytest.mark.parametrize("limits", ["", ',"max-events":5'])
def test_what_a_roll_does_about_seals_does_not_grow_with_the_segments(
    topic: Directory, limits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links of the chain, and bytes read of the file. (Who trims reads all of it, but hashes nothing.)"""
    Path(topic.path, "topic.json").write_text('{"segment-bytes":1' + limits + "}")
    log = TopicLog(topic, "t")
    linked: list[str] = []
    read: list[int] = []
    link, pread = seals.link, os.pread

    def count(fd: int, length: int, position: int) -> bytes:
        text = pread(fd, length, position)
        if os.path.samestat(os.fstat(fd), os.stat(f"{topic.path}/SHA256SUMS")):
            read.append(len(text))
        return text

    def roll() -> tuple[int, int]:
        linked.clear()
        read.clear()
        log.append([b"1"], line.DATA)
        return len(linked), sum(read)

    log.append([b"1"], line.DATA)
    log.append([b"1"], line.DATA)
    monkeypatch.setattr(os, "pread", count)
    monkeypatch.setattr(seals, "link", lambda *words: (linked.append(words[0]), link(*words))[1])
    costs = [roll() for _ in range(40)]
    assert {links for links, _ in costs} == {1}
    if not limits:
        assert len({size for _, size in costs}) == 1
    assert len(segment_offsets(topic)) == (6 if limits else 42)
    assert (len(firsts_sealed(topic)), seals.read(topic)[1]) == (41, None)


@pytest.mark.parametrize(
    "program", [("/opt/app/app", True), ("/usr/sbin/uwsgi", False), ("", False), ("/usr/bin/python3", True)]
)
def test_a_program_that_is_not_python_is_not_started_again(
    topic: Directory, program: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python is frozen into it, or embedded: it seals by itself."""

    def start(*_: object, **__: object) -> int:
        raise AssertionError("started")

    monkeypatch.setattr(os, "posix_spawn", start)
    monkeypatch.setattr(sealing, "_SMALL", 0)
    monkeypatch.setattr(sys, "executable", program[0])
    monkeypatch.setattr(sys, "frozen", program[1], raising=False)
    sealed(topic, 1)
    sealing.after_roll(topic, *last_sealed(topic))
    assert firsts_sealed(topic) == [0]
    sealed(topic, 3)
    sealing.after_roll(topic, *last_sealed(topic))
    assert firsts_sealed(topic) == [0, 1, 2]
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.13")
    monkeypatch.setattr(sys, "frozen", False)
    sealed(topic, 4)
    with pytest.raises(AssertionError, match="started"):
        sealing.after_roll(topic, *last_sealed(topic))


def test_much_is_sealed_by_another_process_and_nobody_waits_for_it(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(topic.path, "topic.json").write_text('{"segment-bytes":1}')
    monkeypatch.setattr(sealing, "_SMALL", 0)
    log = TopicLog(topic, "t")
    for number in range(4):
        log.append([b"%d" % number], line.DATA)
        wait_until(lambda: not list(sealing.without_seal(topic)))
    assert [seal.first for seal in seals.read(topic)[0]] == segment_offsets(topic)[:-1]
    turn = os.open(f"{topic.path}/seal.lock", os.O_RDWR)
    wait_until(lambda: not fcntl.flock(turn, fcntl.LOCK_EX))  # no sealer is left behind
    wait_until(lambda: not any(map(sealing._is_running, sealing._started)))
    os.close(turn)


def test_there_is_one_sealer_at_a_time(topic: Directory) -> None:
    sealed(topic, 1)
    turn = os.open(f"{topic.path}/seal.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(turn, fcntl.LOCK_EX)
    before = list(sealing._started)
    sealing._start_sealer(topic)
    assert sealing._started == before
    os.close(turn)


def test_a_sealer_looks_again_before_it_ends(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rolls while it has the turn starts none, and relies on that."""
    sealed(topic, 1)
    turn = os.open(f"{topic.path}/seal.lock", os.O_RDWR | os.O_CREAT)
    other = os.open(f"{topic.path}/seal.lock", os.O_RDWR)
    monkeypatch.setattr(sealing, "_TURN_FD", turn)
    for name in ("fork", "setsid"):
        monkeypatch.setattr(os, name, lambda: 0)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    come = [2, 1]
    seal_all, without_seal = sealing.seal_all, sealing.without_seal

    def look(directory: Directory) -> list[int]:
        if come:
            count = come.pop()
            os.chmod(f"{directory.path}/{count:020d}.jsonl", 0o444)
            write_segment(directory, count + 1, Stored(count + 1, NOON, 5).line)
        return list(without_seal(directory))

    looks: list[int] = []

    def seal(directory: Directory) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sealing, "without_seal", without_seal)
            looks.append(seal_all(directory))
        return looks[-1]

    monkeypatch.setattr(sealing, "without_seal", look)
    monkeypatch.setattr(sealing, "seal_all", seal)
    fcntl.flock(turn, fcntl.LOCK_EX)
    sealing.main(topic.path)
    assert looks == [1, 1, 1]
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it has given the turn back
    come.append(3)
    os.chmod(f"{topic.path}/{3:020d}.jsonl", 0o444)
    write_segment(topic, 4, Stored(4, NOON, 5).line)
    come[:] = [4]
    looks.clear()
    sealing.main(topic.path)
    assert looks == [1]  # another one has the turn by now, and sees to the rest
    os.close(other)
    os.close(turn)


def test_a_sealer_is_left_by_who_started_it(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(BaseException):
        pass

    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "fork", lambda: 17)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Left, match="0"):
        sealing.main(topic.path)
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    with pytest.raises(Left, match="1"):
        sealing.run(f"{topic.path}/none")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), StorageError("x", "y")])
def test_sealing_that_fails_is_no_failure_of_the_append(
    topic: Directory, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(topic, 1)
    rolled = last_sealed(topic)

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "digest", fail)
        sealing.after_roll(topic, *rolled)
        patch.setattr(sealing, "_start_sealer", fail)
        patch.setattr(sealing, "_SMALL", 0)
        sealing.after_roll(topic, *rolled)
        assert firsts_sealed(topic) == []
    sealing.after_roll(topic, *rolled)
    assert firsts_sealed(topic) == [0]


def test_a_process_that_somebody_else_waited_for_is_none_of_ours() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert not sealing._is_running(child)
    near, far = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(far)
        os.read(near, 1)
        os._exit(0)
    assert sealing._is_running(child)
    os.close(far)
    os.close(near)
    wait_until(lambda: not sealing._is_running(child))

"""evtool.log.seals: what is written no more is sealed, and nobody who appends waits for it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evtool.errors import StorageError
from evtool.log import line, seals
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
    assert list(seals.unsealed(topic)) == [0, 1, 2]
    assert seals.seal_all(topic) == 3
    assert [seal.digest for seal in seals.read(topic)[0]] == [seals.digest(Segment(topic, first)) for first in range(3)]
    assert list(seals.unsealed(topic)) == []
    assert seals.seal_all(topic) == 0


def test_a_segment_that_is_trimmed_meanwhile_is_not_sealed(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(topic, 3)
    monkeypatch.setattr(seals, "unsealed", lambda _: iter([0, 1, 2]))
    os.unlink(f"{topic.path}/{1:020d}.jsonl")
    assert seals._mode(topic, 1) == 0
    assert seals.seal_all(topic) == 2


def test_who_comes_too_late_or_finds_the_chain_broken_adds_nothing(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(topic, 2)
    segment, gaps = Segment(topic, 0), seals.Gaps([])
    assert seals._seal(topic, segment, gaps)
    assert not seals._seal(topic, segment, gaps)  # another process was faster
    other = Segment(topic, 1)
    os.unlink(other.path)
    assert not seals._seal(topic, other, gaps)
    sealed(topic, 2)
    text = text_of_seals(topic)
    Path(topic.path, "SHA256SUMS").write_bytes(text.replace(b"# seal", b"# soul") * 2)
    assert not seals._seal(topic, Segment(topic, 1), gaps)


def test_of_two_seals_that_a_kill_has_left_for_one_segment_the_right_one_stays(topic: Directory) -> None:
    """While a segment is written anew, it may be as it was or as it will be."""
    sealed(topic, 2)
    right = seals.digest(Segment(topic, 0))
    apply(topic, [("add", 0, "a" * 64), ("add", 0, right), ("add", 1, "b" * 64), ("add", 1, "c" * 64)])
    apply(topic, [("add", 9, "a" * 64), ("add", 9, "b" * 64)])
    seals.seal_all(topic)
    live = {(seal.first, seal.digest) for seal in seals.read(topic)[0] if seal.is_live}
    assert live == {(0, right), (1, "b" * 64), (1, "c" * 64), (9, "a" * 64), (9, "b" * 64)}


# After a roll


def test_little_is_sealed_at_once(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(topic, 3)
    size = sum(os.lstat(f"{topic.path}/{first:020d}.jsonl").st_size for first in range(3))
    monkeypatch.setattr(seals, "_start_sealer", lambda _: None)
    monkeypatch.setattr(seals, "_SMALL", size - 1)
    seals.after_roll(topic)
    assert len(seals.read(topic)[0]) == 0
    monkeypatch.setattr(seals, "_SMALL", size)
    seals.after_roll(topic)
    assert len(seals.read(topic)[0]) == 3


def test_much_is_sealed_by_another_process_and_nobody_waits_for_it(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(topic.path, "topic.json").write_text('{"segment-bytes":1}')
    monkeypatch.setattr(seals, "_SMALL", 0)
    log = TopicLog(topic, "t")
    for number in range(4):
        log.append([b"%d" % number], line.DATA)
        wait_until(lambda: not list(seals.unsealed(topic)))
    assert [seal.first for seal in seals.read(topic)[0]] == segment_offsets(topic)[:-1]
    turn = os.open(f"{topic.path}/seal.lock", os.O_RDWR)
    wait_until(lambda: not fcntl.flock(turn, fcntl.LOCK_EX))  # no sealer is left behind
    wait_until(lambda: not any(map(seals._is_running, seals._started)))
    os.close(turn)


def test_there_is_one_sealer_at_a_time(topic: Directory) -> None:
    sealed(topic, 1)
    turn = os.open(f"{topic.path}/seal.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(turn, fcntl.LOCK_EX)
    before = list(seals._started)
    seals._start_sealer(topic)
    assert seals._started == before
    os.close(turn)


def test_a_sealer_looks_again_before_it_ends(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rolls while it has the turn starts none, and relies on that."""
    sealed(topic, 1)
    turn = os.open(f"{topic.path}/seal.lock", os.O_RDWR | os.O_CREAT)
    other = os.open(f"{topic.path}/seal.lock", os.O_RDWR)
    monkeypatch.setattr(seals, "_TURN_FD", turn)
    for name in ("fork", "setsid"):
        monkeypatch.setattr(os, name, lambda: 0)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    come = [2, 1]
    seal_all, unsealed = seals.seal_all, seals.unsealed

    def look(directory: Directory) -> list[int]:
        if come:
            count = come.pop()
            os.chmod(f"{directory.path}/{count:020d}.jsonl", 0o444)
            write_segment(directory, count + 1, Stored(count + 1, NOON, 5).line)
        return list(unsealed(directory))

    looks: list[int] = []

    def seal(directory: Directory) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(seals, "unsealed", unsealed)
            looks.append(seal_all(directory))
        return looks[-1]

    monkeypatch.setattr(seals, "unsealed", look)
    monkeypatch.setattr(seals, "seal_all", seal)
    fcntl.flock(turn, fcntl.LOCK_EX)
    seals.main(topic.path)
    assert looks == [1, 1, 1]
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it has given the turn back
    come.append(3)
    os.chmod(f"{topic.path}/{3:020d}.jsonl", 0o444)
    write_segment(topic, 4, Stored(4, NOON, 5).line)
    come[:] = [4]
    looks.clear()
    seals.main(topic.path)
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
        seals.main(topic.path)
    monkeypatch.setattr(sys, "argv", ["seals", f"{topic.path}/none"])
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.delitem(sys.modules, "evtool.log.seals")
    with pytest.raises(Left, match="1"):
        runpy.run_module("evtool.log.seals", run_name="__main__")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), StorageError("x", "y")])
def test_sealing_that_fails_is_no_failure_of_the_append(
    topic: Directory, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(topic, 1)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(seals, "seal_all", fail)
    seals.after_roll(topic)
    monkeypatch.setattr(seals, "_start_sealer", fail)
    monkeypatch.setattr(seals, "_SMALL", 0)
    seals.after_roll(topic)
    monkeypatch.setattr(sys, "executable", "")
    seals.after_roll(topic)
    monkeypatch.undo()
    seals.after_roll(topic)
    assert len(seals.read(topic)[0]) == 1


def test_a_process_that_somebody_else_waited_for_is_none_of_ours() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert not seals._is_running(child)
    near, far = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(far)
        os.read(near, 1)
        os._exit(0)
    assert seals._is_running(child)
    os.close(far)
    os.close(near)
    wait_until(lambda: not seals._is_running(child))

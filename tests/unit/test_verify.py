"""evtool.log.verify and check: whatever is not as it was written is found, and said where; what is in order passes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from evtool.errors import BusyError, ConditionError
from evtool.log import check, files, sealing, seals
from evtool.log.check import Course, problems
from evtool.log.segment import Segment
from evtool.log.topic import TopicLog
from evtool.log.verify import verify
from tests.topics import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evtool.log.files import Directory

BODIES = [b'"data":%d' % number for number in range(1, 8)]


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def write(topic: Directory, events: int, *, segment_bytes: int = 1000, at_once: int = 1) -> None:
    path = f"{topic.path}/topic.json"
    with open(path, "w") as file:
        file.write(f'{{"segment-bytes":{segment_bytes}}}')
    log = TopicLog(topic, "t")
    for start in range(0, events, at_once):
        log.append([b'"key":"k","data":{"n":%d}' % n for n in range(start, min(events, start + at_once))])


def kinds(topic: Directory, since: str | None = None) -> list[str]:
    return [problem.kind for _, problem in verify(topic, since=since).problems]


def segments(topic: Directory) -> list[str]:
    return sorted(name for name in topic.names() if name.endswith(".jsonl"))


def change(topic: Directory, name: str, old: bytes, new: bytes) -> None:
    """Alter the bytes of a segment, whatever its mode."""
    path = f"{topic.path}/{name}"
    with open(path, "rb") as file:
        text = file.read()
    assert old in text
    mode = os.stat(path).st_mode
    os.chmod(path, 0o600)
    with open(path, "wb") as file:
        file.write(text.replace(old, new, 1))
    os.chmod(path, mode)


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_what_was_appended_is_in_order_and_counted(topic: Directory, at_once: int) -> None:
    write(topic, 100, at_once=at_once)
    report = verify(topic)
    assert report.problems == []
    assert (report.events, report.segments, report.next) == (100, len(segments(topic)), 100)
    assert report.sealed == report.segments - 1
    assert report.size == sum(os.path.getsize(f"{topic.path}/{name}") for name in segments(topic))


def test_a_topic_with_nothing_in_it_is_in_order(topic: Directory) -> None:
    assert verify(topic).problems == []
    TopicLog(topic, "t").next_offset()
    assert kinds(topic) == []


def flips(text: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    for bit in range(0, len(text) * 8, step):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(flipped)


@pytest.mark.parametrize("at_once", [1, 40])
def test_every_flipped_bit_of_a_segment_without_a_seal_is_found(topic: Directory, at_once: int) -> None:
    write(topic, 40, segment_bytes=1 << 20, at_once=at_once)
    (name,) = segments(topic)
    path = f"{topic.path}/{name}"
    with open(path, "rb") as file:
        text = file.read()
    for bit, flipped in flips(text, 7):
        with open(path, "wb") as file:
            file.write(flipped)
        assert kinds(topic), f"bit {bit} is flipped and nothing is found"


def test_every_flipped_bit_of_a_sealed_segment_is_found_and_its_line_is_named(topic: Directory) -> None:
    write(topic, 40, segment_bytes=900, at_once=3)
    name = segments(topic)[1]
    path = f"{topic.path}/{name}"
    with open(path, "rb") as file:
        text = file.read()
    os.chmod(path, 0o644)
    for bit, flipped in flips(text, 61):
        with open(path, "wb") as file:
            file.write(flipped)
        found = [problem for where, problem in verify(topic).problems if where == path and problem.length]
        assert found, f"bit {bit} is flipped and nothing is found"
        assert any(one.position <= bit // 8 < one.position + one.length for one in found if one.kind != "unsealed")


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b'{"offset":2', b'{"offset":9', check.MISSING),
        (b'{"offset":2', b'{"offset":1', check.REPEATED),
        (b'"offset"', b'"OFFSET"', check.MALFORMED),
        (b'"data":3}', b'"data":3', check.MALFORMED),
        (b'"data":3}', b'"data":3,"x":1}', check.MALFORMED),
        (b'"data":3}', b'"data":{"a":1}', check.MALFORMED),
        (b'"data":3}', b'"data":4}', check.UNSOUND),
        (b'"data":3}', b'"data":"\xff"}', check.MALFORMED),
        (b'"data":7}\n', b'"data":7}', check.TORN),
        (b'"data":7}\n', b'"data":7}\n\0\0\0\0', check.TORN),
        (b'"data":7}\n', b'"data":7}\n\0\0\0\0\n', check.MALFORMED),
    ],
)
@pytest.mark.parametrize("at_once", [1, 7])
def test_each_kind_of_damage_is_called_by_its_name(
    topic: Directory, old: bytes, new: bytes, kind: str, at_once: int
) -> None:
    log = TopicLog(topic, "t")
    for start in range(0, len(BODIES), at_once):
        log.append(BODIES[start : start + at_once])
    change(topic, segments(topic)[0], old, new)
    assert kind in kinds(topic)


def test_lines_at_the_end_that_no_checksum_covers_are_told(topic: Directory) -> None:
    log = TopicLog(topic, "t")
    log.append(BODIES)
    path = f"{topic.path}/{segments(topic)[0]}"
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    with open(path, "wb") as file:
        file.write(b"".join(lines[:5]))
    ((_, problem),) = verify(topic).problems
    assert (problem.kind, problem.offsets, problem.number) == (check.UNCOVERED, (0, 4), 1)
    TopicLog(topic, "t").append(BODIES)
    assert kinds(topic) == []


def test_a_time_that_falls_is_found(topic: Directory) -> None:
    TopicLog(topic, "t").append(BODIES)
    change(topic, segments(topic)[0], b'"time":"20', b'"time":"30')
    assert check.FALLING in kinds(topic)


def test_a_missing_segment_is_found_and_a_trimmed_one_is_not_missed(topic: Directory) -> None:
    write(topic, 40)
    second, third = segments(topic)[1:3]
    os.unlink(f"{topic.path}/{third}")
    assert set(kinds(topic)) == {"absent", check.MISSING}
    seals.retire(topic, [int(third[:20])])
    assert kinds(topic) == []
    os.unlink(f"{topic.path}/{second}")
    assert "absent" in kinds(topic)


def test_a_segment_in_the_wrong_state_is_found(topic: Directory) -> None:
    write(topic, 40)
    os.chmod(f"{topic.path}/{segments(topic)[0]}", 0o600)
    assert kinds(topic) == ["unsealed"]
    os.chmod(f"{topic.path}/{segments(topic)[0]}", files.UNSYNCED_MODE)
    assert kinds(topic) == ["shut"]


def test_a_copy_of_a_segment_under_another_name_is_found(topic: Directory) -> None:
    write(topic, 40)
    last = segments(topic)[-1]
    subprocess.run(["cp", "-p", f"{topic.path}/{last}", f"{topic.path}/{60:020d}.jsonl"], check=True)
    assert check.REPEATED in kinds(topic)


def test_sha256sum_checks_the_seals_as_they_are(topic: Directory) -> None:
    write(topic, 40)
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=topic.path, check=False).returncode == 0
    change(topic, segments(topic)[0], b'"n":1', b'"n":2')
    assert subprocess.run(command, cwd=topic.path, capture_output=True, check=False).returncode != 0


def test_nobody_alters_what_is_sealed_and_its_seal_unnoticed(topic: Directory) -> None:
    write(topic, 40)
    known = verify(topic).seal
    assert known is not None
    write(topic, 40)
    assert kinds(topic, known) == []
    change(topic, segments(topic)[0], b'"n":1', b'"n":2')
    os.unlink(f"{topic.path}/SHA256SUMS")
    # Who may write to the files can seal them anew, but not so that they have the seal that somebody else knows.
    for name in segments(topic)[:-1]:
        segment = Segment(topic, int(name[:20]))
        with seals.SealsFile(topic) as sums:
            sums.add(segment.first, seals.digest(segment))
    assert "altered" not in kinds(topic)
    with pytest.raises(ConditionError, match="none of its seals"):
        verify(topic, since=known)


def test_a_broken_chain_is_found(topic: Directory) -> None:
    write(topic, 40)
    with open(f"{topic.path}/SHA256SUMS", "r+b") as file:
        text = file.read()
        file.seek(text.index(b"# seal ") + 7)
        file.write(b"0" * 64)
    assert "broken" in kinds(topic)


def test_a_torn_seal_is_written_again(topic: Directory) -> None:
    write(topic, 40)
    path = f"{topic.path}/SHA256SUMS"
    whole = os.path.getsize(path)
    os.truncate(path, whole - 30)
    assert kinds(topic) == []
    assert sealing.seal_all(topic) == 1
    assert os.path.getsize(path) == whole
    assert kinds(topic) == []


def test_what_is_damaged_before_it_is_sealed_gets_no_seal(topic: Directory) -> None:
    write(topic, 40)
    os.unlink(f"{topic.path}/SHA256SUMS")
    change(topic, segments(topic)[1], b'"n":', b'"m":')
    assert sealing.seal_all(topic) == len(segments(topic)) - 2
    assert kinds(topic) == [check.UNSOUND]


def test_a_group_beyond_the_end_and_a_damaged_commit_log_are_found(topic: Directory) -> None:
    write(topic, 10)
    consumers = topic.subdirectory("consumers", create=True)
    for group, text in (("g", '{"committed":50,"time":"2026-11-23T22:25:32.123456Z"}\n'), ("h", "what?\n")):
        with open(f"{consumers.path}/{group}.jsonl", "w") as file:
            file.write(text)
    assert sorted(kinds(topic)) == ["beyond", check.MALFORMED]


def test_a_log_that_is_being_written_to_is_waited_for_but_not_for_ever(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evtool.log.verify._PATIENCE", 0.05)
    log = TopicLog(topic, "t")
    log.append(BODIES)
    log.lock()
    with pytest.raises(BusyError):
        verify(topic)


def test_the_two_ways_of_looking_agree(topic: Directory) -> None:
    """What is found in order at a glance is so line by line too, and the course is the same behind it."""
    write(topic, 100, segment_bytes=1 << 20, at_once=7)
    segment = Segment(topic, 0)
    quick, slow = Course(0), Course(0)
    assert not list(problems(segment, segment.size(), quick, sealed=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_is_sound", lambda *_: False)
        assert not list(problems(segment, segment.size(), slow, sealed=False))
    for name in Course.__slots__:
        assert getattr(quick, name) == getattr(slow, name), name


def test_a_segment_that_should_long_have_had_its_seal_is_told(
    topic: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever takes the seals away takes the proof away unnoticed. A fresh one may be without for a bit."""
    write(topic, 40)
    os.unlink(f"{topic.path}/SHA256SUMS")
    assert kinds(topic) == []
    monkeypatch.setattr("evtool.log.verify._SEALED_WITHIN", -1.0)
    assert kinds(topic) == ["without seal"] * (len(segments(topic)) - 1)

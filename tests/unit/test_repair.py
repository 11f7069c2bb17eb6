"""evtool.log.repair: no good line is lost, each byte taken out is kept, no offset used again, all is in order."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evtool.log import files, line, mend, repair
from evtool.log.segment import Segment
from evtool.log.topic import TopicLog
from evtool.log.verify import verify
from tests.topics import open_directory
from tests.unit.test_verify import change, kinds, segments, write

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.log.files import Directory


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def lines(topic: Directory) -> list[bytes]:
    found = []
    for name in segments(topic):
        with open(f"{topic.path}/{name}", "rb") as file:
            found += file.read().splitlines(keepends=True)
    return found


def bodies(topic: Directory) -> dict[int, bytes]:
    """What each offset holds, but for the checksum, which may change when a neighbour is gone."""
    return {line.offset_of(text): line.time_of(text) + line.body_of(text) for text in lines(topic)}


def kept(topic: Directory) -> bytes:
    directory = f"{topic.path}/damaged"
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        with open(f"{directory}/{name}", "rb") as file:
            found.append(file.read())
    return b"".join(found)


def path_of(topic: Directory, number: int) -> str:
    return f"{topic.path}/{segments(topic)[number]}"


def gone(steps: list[repair.Step]) -> list[tuple[int, int]]:
    return [step.gone for step in steps if step.gone is not None]


def test_there_is_nothing_to_repair_where_all_is_in_order(topic: Directory) -> None:
    write(topic, 100, at_once=3)
    before = lines(topic)
    assert repair.repair(topic) == []
    assert lines(topic) == before


@pytest.mark.parametrize("at_once", [1, 3, 40])
def test_one_flipped_bit_is_put_right_wherever_it_is(topic: Directory, at_once: int) -> None:
    write(topic, 40, segment_bytes=1 << 20, at_once=at_once)
    path = path_of(topic, 0)
    with open(path, "rb") as file:
        text = file.read()
    chance = random.Random(at_once)
    for bit in chance.sample(range(len(text) * 8), 60):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        with open(path, "wb") as file:
            file.write(flipped)
        steps = repair.repair(topic)
        with open(path, "rb") as file:
            assert file.read() == text, f"bit {bit}: {[step.what for step in steps]}"
        assert kinds(topic) == []


def test_a_line_that_cannot_be_mended_is_taken_out_and_kept(topic: Directory) -> None:
    write(topic, 20, segment_bytes=1 << 20)
    before = bodies(topic)
    change(topic, segments(topic)[0], b'{"n":7}', b"{??7!!")
    steps = repair.repair(topic)
    assert gone(steps) == [(7, 7)]
    assert kinds(topic) == []
    del before[7]
    assert bodies(topic) == before
    assert b"{??7!!" in kept(topic)


def test_of_lines_that_one_checksum_covers_the_good_ones_stay(topic: Directory) -> None:
    write(topic, 20, segment_bytes=1 << 20, at_once=5)
    before = bodies(topic)
    change(topic, segments(topic)[0], b'{"n":7}', b"{??7!!")
    steps = repair.repair(topic)
    assert gone(steps) == [(7, 7)]
    assert any("no checksum vouches for offsets 5 to 9" in step.what for step in steps)
    del before[7]
    assert bodies(topic) == before
    assert kinds(topic) == []


def test_a_dry_run_says_the_same_and_changes_nothing(topic: Directory) -> None:
    write(topic, 20, at_once=5)
    change(topic, segments(topic)[1], b'"n"', b'n"n')
    before = {name: os.stat(f"{topic.path}/{name}").st_mtime_ns for name in topic.names()}
    said = [step.what for step in repair.repair(topic, dry_run=True)]
    assert said
    assert {name: os.stat(f"{topic.path}/{name}").st_mtime_ns for name in topic.names()} == before
    assert [step.what for step in repair.repair(topic)] == said
    assert repair.repair(topic) == []


@pytest.mark.parametrize("tail", [b'{"offset":20,"ti', b"\0" * 5000, b"\0" * 10 + b"\n", b"what?\n"])
def test_a_bad_tail_is_cut_and_no_offset_is_used_twice(topic: Directory, tail: bytes) -> None:
    write(topic, 20, segment_bytes=1 << 20)
    with open(path_of(topic, 0), "ab") as file:
        file.write(tail)
    before = bodies_of_whole(topic, 20)
    repair.repair(topic)
    assert bodies(topic) == before
    assert kept(topic) == tail
    assert kinds(topic) == []
    following = TopicLog(topic, "t").append([b'"data":1'])[0]
    assert following == (21 if tail.endswith(b"\n") else 20)
    assert kinds(topic) == []


def bodies_of_whole(topic: Directory, count: int) -> dict[int, bytes]:
    return {line.offset_of(text): line.time_of(text) + line.body_of(text) for text in lines(topic)[:count]}


@pytest.mark.parametrize("garbage", [b"\0" * 100, b'{"offset":5,"time":"20'])
def test_an_event_behind_torn_or_nul_bytes_is_freed(topic: Directory, garbage: bytes) -> None:
    write(topic, 20, segment_bytes=1 << 20)
    before = bodies(topic)
    change(topic, segments(topic)[0], b'{"offset":5,', garbage + b'{"offset":5,')
    assert gone(repair.repair(topic)) == []
    assert bodies(topic) == before
    assert kept(topic).startswith(garbage)
    assert kinds(topic) == []


def test_a_missing_segment_is_said_to_be_gone_once(topic: Directory) -> None:
    write(topic, 60)
    second, third = (int(name[:20]) for name in segments(topic)[1:3])
    os.unlink(path_of(topic, 1))
    assert gone(repair.repair(topic)) == [(second, third - 1)]
    assert kinds(topic) == []
    assert repair.repair(topic) == []


def test_a_segment_that_stands_there_twice_goes_once(topic: Directory) -> None:
    write(topic, 60)
    before = bodies(topic)
    last = segments(topic)[-1]
    copy = f"{topic.path}/{70:020d}.jsonl"
    subprocess.run(["cp", "-p", f"{topic.path}/{last}", copy], check=True)
    repair.repair(topic)
    assert not os.path.exists(copy)
    assert bodies(topic) == before
    assert kinds(topic) == []
    assert TopicLog(topic, "t").append([b'"data":1'])[0] >= 60


def test_a_segment_whose_sync_failed_is_copied_and_the_log_goes_on(topic: Directory) -> None:
    write(topic, 20)
    before = bodies(topic)
    inode = os.stat(path_of(topic, -1)).st_ino
    os.chmod(path_of(topic, -1), files.UNSYNCED_MODE)
    repair.repair(topic)
    assert os.stat(path_of(topic, -1)).st_ino != inode
    assert kinds(topic) == []
    assert bodies(topic) == before
    assert TopicLog(topic, "t").append([b'"data":1'])[0] == 20


def test_a_segment_that_was_not_sealed_is_sealed(topic: Directory) -> None:
    write(topic, 20)
    os.chmod(path_of(topic, 0), 0o600)
    repair.repair(topic)
    assert kinds(topic) == []


def test_a_broken_chain_is_forged_anew(topic: Directory) -> None:
    write(topic, 60)
    with open(f"{topic.path}/SHA256SUMS", "r+b") as file:
        file.seek(200)
        file.write(b"x")
    assert "broken" in kinds(topic)
    repair.repair(topic)
    assert kinds(topic) == []
    assert verify(topic).sealed == len(segments(topic)) - 1


def test_a_commit_log_that_says_nothing_lets_its_group_begin_anew_and_skip_nothing(topic: Directory) -> None:
    write(topic, 20)
    consumers = topic.subdirectory("consumers", create=True)
    with open(f"{consumers.path}/g.jsonl", "w") as file:
        file.write("what?\n")
    repair.repair(topic)
    assert kinds(topic) == []
    with open(f"{consumers.path}/g.jsonl") as file:
        assert file.read().startswith('{"committed":0,')
    assert kept(topic) == b"what?\n"


def test_no_offset_that_a_group_has_handled_is_given_to_another_event(topic: Directory) -> None:
    write(topic, 20, segment_bytes=1 << 20)
    consumers = topic.subdirectory("consumers", create=True)
    with open(f"{consumers.path}/g.jsonl", "w") as file:
        file.write('{"committed":50,"time":"2026-11-23T22:25:32.123456Z"}\n')
    repair.repair(topic)
    assert kinds(topic) == []
    assert TopicLog(topic, "t").append([b'"data":1'])[0] == 50
    assert kinds(topic) == []


damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "zero", "cut", "insert", "overwrite", "nines"]),
        st.integers(0, 1 << 30),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=3,
)


def do_damage(text: bytes, kind: str, at: int, length: int) -> tuple[bytes, range]:
    """The text with a damage, and which of its bytes are not as they were."""
    at %= len(text)
    end = min(len(text), at + length)
    if kind == "flip":
        changed = bytearray(text)
        changed[at] ^= 1 << length % 8
        return bytes(changed), range(at, at + 1)
    if kind == "cut":
        return text[:at] + text[end:], range(at, end)
    if kind == "insert":
        return text[:at] + b"\0" * length + text[at:], range(at, at)
    byte = {"zero": b"\0", "nines": b"9"}.get(kind, b"x")
    return text[:at] + byte * (end - at) + text[end:], range(at, end)


def test_a_line_that_says_an_offset_far_ahead_does_not_push_out_those_behind_it(topic: Directory) -> None:
    write(topic, 20, segment_bytes=1 << 20, at_once=20)
    before = bodies(topic)
    change(topic, segments(topic)[0], b'{"offset":5,', b'{"offset":500,')
    repair.repair(topic)
    del before[5]
    assert bodies(topic) == before
    assert kinds(topic) == []


def test_an_event_that_is_freed_from_damage_does_not_push_out_one_that_was_acknowledged(topic: Directory) -> None:
    write(topic, 2, segment_bytes=1 << 20)
    change(topic, segments(topic)[0], b'}\n{"offset":1', b'}\0{"offset":1')
    stray = b'{"offset":0,"time":"2099-11-25T14:00:00.000000Z","data":1}'
    with open(f"{topic.path}/{2:020d}.jsonl", "w") as file:  # as a program without our caution would go on
        file.write(stray.decode().replace(":0,", ":1,") + "\n")
    os.rename(f"{topic.path}/{2:020d}.jsonl", f"{topic.path}/{1:020d}.jsonl")
    os.chmod(f"{topic.path}/{0:020d}.jsonl", files.SEALED_MODE)
    repair.repair(topic)
    assert [line.data_of(text) for text in lines(topic)] == [b'{"n":0}', b"1"]
    assert kinds(topic) == []


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_flipped_bit_in_the_name_of_the_last_checksum_of_a_sealed_segment_is_put_right(
    topic: Directory, at_once: int
) -> None:
    write(topic, 42, at_once=at_once)
    path = path_of(topic, 0)
    with open(path, "rb") as file:
        text = file.read()
    head, _, tail = text.rpartition(b'"crc"')
    os.chmod(path, 0o600)
    with open(path, "wb") as file:
        file.write(head + b'"arc"' + tail)
    os.chmod(path, files.SEALED_MODE)
    repair.repair(topic)
    with open(path, "rb") as file:
        assert file.read() == text
    assert kinds(topic) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=damages, at_once=st.sampled_from([1, 2, 7]), number=st.integers(0, 3))
def test_whatever_the_damage_good_lines_stay_and_all_is_in_order_after_it(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[str, int, int]], at_once: int, number: int
) -> None:
    topic = open_directory(tmp_path_factory.mktemp("t") / "t")
    write(topic, 42, at_once=at_once)
    before = bodies(topic)
    path = path_of(topic, min(number, len(segments(topic)) - 1))
    with open(path, "rb") as file:
        original = text = file.read()
    mode = os.stat(path).st_mode
    for kind, at, length in damages:
        text, _ = do_damage(text, kind, at, length)
    os.chmod(path, 0o600)
    with open(path, "wb") as file:
        file.write(text)
    os.chmod(path, mode)
    steps = repair.repair(topic)
    assert kinds(topic) == []
    assert repair.repair(topic, dry_run=True) == []
    after = bodies(topic)
    unvouched = any("no checksum vouches" in step.what for step in steps)  # a line that lost the word "crc" may stay
    surviving = set(text.splitlines(keepends=True)) & set(original.splitlines(keepends=True))
    inside = {line.offset_of(one) for one in original.splitlines(keepends=True)}
    damaged_offsets = inside - {line.offset_of(one) for one in surviving}
    for offset, body in before.items():
        if offset not in damaged_offsets and (at_once == 1 or offset not in inside):
            assert after.get(offset) == body, f"offset {offset} was good"
        elif offset in after and at_once == 1 and not unvouched:
            assert after[offset] == body, f"offset {offset} is not what it was"
    assert TopicLog(topic, "t").append([b'"data":1'])[0] >= 42 - len(damaged_offsets)


def test_the_difference_of_two_checksums_tells_the_flipped_bit() -> None:
    from zlib import crc32

    text = bytes(range(256)) * 40
    for at in (0, 1, 777, len(text) - 1):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[at] ^= 1 << bit
            assert mend._locate(crc32(text) ^ crc32(flipped), len(text)) == (at, 1 << bit)
    assert mend._locate(crc32(text) ^ crc32(text[::-1]), 100) is None


def test_a_new_checksum_is_right(topic: Directory) -> None:
    write(topic, 3, segment_bytes=1 << 20)
    texts = lines(topic)
    assert mend.with_crc([texts[0]]) == texts[0]
    assert mend.is_sound(mend.with_crc([texts[0]]), 0)
    assert Segment(topic, 0).size() == sum(map(len, texts))


def test_settings_that_make_no_sense_are_moved_away_and_kept(topic: Directory) -> None:
    write(topic, 5)
    with open(f"{topic.path}/topic.json", "w") as file:
        file.write('{"max_age": 3}')
    (step,) = repair.repair(topic)
    assert "'max_age' is not a setting" in step.what
    assert kinds(topic) == []
    assert kept(topic) == b'{"max_age": 3}'
    TopicLog(topic, "t").append([b'"data":1'])

"""evtool.log.keys: the newest event of each key is known, in a bounded table too, and lines come from the end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtool.errors import CorruptionError
from evtool.log import keys
from evtool.log.keys import KEYLESS, NEWEST, OLDER, Keys
from evtool.log.segment import Segment
from evtool.log.topic import TopicLog
from tests.topics import open_directory

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.log.files import Directory

some_keys = st.lists(st.sampled_from([b"", *(b'"%d"' % number for number in range(8))]), max_size=60)


@pytest.fixture
def topic(tmp_path: Path) -> Directory:
    return open_directory(tmp_path / "t")


def expected(known: list[bytes]) -> list[int]:
    flags = []
    for at, key in enumerate(known):
        flags.append(KEYLESS if not key else OLDER if key in known[at + 1 :] else NEWEST)
    return flags


@given(some_keys, st.integers(1, 61))
def test_the_last_line_of_each_key_is_the_newest(known: list[bytes], at_once: int) -> None:
    seen = Keys()
    flags: list[int] = []
    for end in range(len(known), 0, -at_once):
        flags[:0] = seen.look(known[max(0, end - at_once) : end])
    assert flags == expected(known)


def test_a_table_grows_with_the_keys() -> None:
    known = [b'"%d"' % number for number in range(5000)]
    seen = Keys(most=None)
    assert seen.look(known + known) == bytes(5000) + bytes([NEWEST]) * 5000
    assert seen.modulus == 1


def test_with_too_many_keys_every_part_of_them_is_found_by_beginning_anew() -> None:
    chance = random.Random(7)
    known = [b'"%d"' % chance.randrange(900) for _ in range(3000)]
    truth = expected(known)
    found = [NEWEST] * len(known)
    parts, looks = [(1, 0)], 0
    while parts:
        modulus, rest = parts.pop()
        seen = Keys(100, (modulus, rest))
        looks += 1
        for at, flag in enumerate(seen.look(known)):
            if flag == OLDER:
                assert truth[at] == OLDER, "an event is taken for superseded that is the newest of its key"
                found[at] = OLDER
        assert seen.modulus > modulus or looks > 1
        while modulus < seen.modulus:
            parts.append((2 * modulus, rest + modulus))
            modulus *= 2
    assert found == truth
    assert looks >= 9


def write(topic: Directory, bodies: list[bytes]) -> Segment:
    log = TopicLog(topic, "t")
    for start in range(0, len(bodies), 3):
        log.append(bodies[start : start + 3])
    return Segment(topic, 0)


@pytest.mark.parametrize("chunk", [1, 100, 250, 1 << 20])
def test_lines_come_from_the_end_with_their_keys(topic: Directory, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    bodies = [
        b'"key":"a","data":1',
        b'"type":"x","key":"b","data":2',
        b'"data":{"key":"c"}',
        b'"source":"q\\"w","key":"d\\n","data":",\\"key\\":\\"e\\""',
        b'"type":"y","data":{"a":null,"key":"z"}',
        b'"key":"\\u0061","data":null',
        b'"key":"","data":[%b]' % b",".join([b"7"] * 90),
    ]
    segment = write(topic, bodies)
    monkeypatch.setattr(keys, "_CHUNK", chunk)
    lines: list[bytes] = []
    known: list[bytes] = []
    position = segment.size()
    for start, some, their_keys in keys.backwards(segment, segment.size()):
        assert start + sum(len(text) + 1 for text in some) == position
        position = start
        lines, known = some + lines, their_keys + known
    assert position == 0
    assert known == [b'"a"', b'"b"', b"", b'"d\\n"', b"", b'"a"', b'""']
    with open(segment.path, "rb") as file:
        assert b"".join(text + b"\n" for text in lines) == file.read()
    assert [keys.deletes(text) for text in lines] == [False] * 5 + [True, False]
    assert keys.deletes(lines[5] + b"\n")


def test_a_part_of_a_segment_is_looked_at_too(topic: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = write(topic, [b'"key":"%d","data":0' % number for number in range(30)])
    monkeypatch.setattr(keys, "_CHUNK", 200)
    begin, end = (segment.find_offset(segment.size(), offset) for offset in (5, 20))
    found = [key for _, _, known in keys.backwards(segment, end, begin) for key in reversed(known)]
    assert found == [b'"%d"' % number for number in range(19, 4, -1)]


def test_a_damaged_line_is_told_by_its_place(topic: Directory) -> None:
    segment = write(topic, [b'"key":"%d","data":0' % number for number in range(9)])
    with open(segment.path, "r+b") as file:
        text = file.read()
        place = text.index(b'{"offset":4')
        file.seek(place + 2)
        file.write(b"X")
    with pytest.raises(CorruptionError) as caught:
        list(keys.backwards(segment, segment.size()))
    assert caught.value.position == place

"""evtool.log.line: an event as one line, written and read."""

from __future__ import annotations

import json
import re
import string
from datetime import UTC, datetime, timedelta
from zlib import crc32

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.log import line, payload

NOW = b"2026-11-23T22:25:32.123456Z"
KEYED = b'"key":"u1","type":"t","data":'
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
quick = settings(deadline=None, max_examples=150)

offsets = st.integers(0, line.LIMIT - 1)
moments = st.integers(0, 253402300799_999_999_999)  # nanoseconds; the last one of the year 9999
own_names = st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).filter(
    lambda name: name not in line.RESERVED_ATTRIBUTES
)
tricky = st.sampled_from(['","data":', '"}\n{"offset":', "\\", '\\"', "\u2028", "\x85", ',"id":"', "%b%%", "}\n"])
texts = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), tricky)
heads = st.dictionaries(own_names, texts, max_size=4)
bodies = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
).map(orjson.dumps)
batches = st.lists(bodies, min_size=1, max_size=6)


def split(block: bytes) -> list[bytes]:
    """The lines, each with its newline."""
    return [one + b"\n" for one in block.split(b"\n")[:-1]]


def stored(body: bytes, crc: bool) -> bytes:
    """A line with this body, with a crc as on the last line of an append or without one."""
    return split(line.render(0, NOW, b"", [body, body], 0))[1 if crc else 0]


# Times


@given(moments)
@quick
def test_a_stamp_is_the_moment_in_utc_with_six_digits(nanoseconds: int) -> None:
    expected = EPOCH + timedelta(microseconds=nanoseconds // 1000)
    assert line.stamp(nanoseconds).decode() == f"{expected:%Y}".zfill(4) + f"{expected:-%m-%dT%H:%M:%S.%fZ}"


@given(moments, moments)
@quick
def test_stamps_sort_as_the_moments_do(one: int, other: int) -> None:
    assert (one // 1000 < other // 1000) == (line.stamp(one) < line.stamp(other))


def test_stamps_of_one_second_and_of_the_next_do_not_mix() -> None:
    assert [line.stamp(second * 10**9 + 5_000) for second in (7, 7, 8, 7)] == [
        b"1970-01-01T00:00:07.000005Z",
        b"1970-01-01T00:00:07.000005Z",
        b"1970-01-01T00:00:08.000005Z",
        b"1970-01-01T00:00:07.000005Z",
    ]


# A batch and back


@given(offsets, moments, heads, batches, st.integers(0, 2**32 - 1))
@quick
def test_every_part_of_a_rendered_line_is_read_back(
    first: int, moment: int, head: dict[str, str], batch: list[bytes], carry: int
) -> None:
    first = min(first, line.LIMIT - len(batch))
    stamped = line.stamp(moment)
    common = payload.encode_attributes(head) + line.DATA
    lines = split(line.render(first, stamped, common, batch, carry))
    assert len(lines) == len(batch)
    for position, (text, body) in enumerate(zip(lines, batch, strict=True)):
        assert line.is_event(text)
        assert line.offset_of(text[: line.HEAD_LENGTH]) == line.offset_of(text) == first + position
        assert line.time_of(text[: line.HEAD_LENGTH]) == line.time_of(text) == stamped
        assert line.data_of(text) == body
        assert line.body_of(text) == common + body
        assert line.attributes(text) == head
        parsed = json.loads(text)
        assert list(parsed)[:2] == ["offset", "time"]
        assert list(parsed)[-1] == "data"
        assert line.head_of(text) == text[: text.index(b',"data":')] + b"}"
        assert {**json.loads(line.head_of(text)), "data": parsed["data"]} == parsed


@given(batches, st.binary(max_size=50))
@quick
def test_only_the_last_line_of_an_append_has_a_crc_and_it_is_over_all_since_the_one_before(
    batch: list[bytes], before: bytes
) -> None:
    lines = split(line.render(5, NOW, KEYED, batch, crc32(before)))
    assert [line.crc_of(text) for text in lines[:-1]] == [None] * (len(batch) - 1)
    crc = line.crc_of(lines[-1])
    assert crc is not None
    zeroed = lines[-1].replace(b'"crc":"' + crc, b'"crc":"00000000', 1)
    assert line.without_crc(lines[-1]) == zeroed
    assert int(crc, 16) == crc32(before + b"".join(lines[:-1]) + zeroed)
    assert crc == crc.lower()
    assert len(crc) == 8


@given(batches)
@quick
def test_bodies_may_share_their_beginning_or_not(batch: list[bytes]) -> None:
    whole = [KEYED + body for body in batch]
    assert line.render(3, NOW, b"", whole, 9) == line.render(3, NOW, KEYED, batch, 9)


# What is an event


@given(batches, st.data())
@quick
def test_no_part_of_an_event_is_an_event(batch: list[bytes], data: st.DataObject) -> None:
    text = split(line.render(1, NOW, KEYED, batch, 0))[-1]
    cut = data.draw(st.integers(1, len(text) - 1))
    assert not line.is_event(text[cut:])
    assert not line.is_event(text[:-1])
    assert not line.is_event(text[:cut] + b"\n") or text[:cut].endswith(b"}")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"}\n",
        b"\0" * 100 + b"\n",
        b'{"a":1}\n',
        b'{"offset":1}\n',
        b'{"offset":,"time":"%b","data":1}\n' % NOW,
        b'{"offset":1x,"time":"%b","data":1}\n' % NOW,
        b'{"offset":-1,"time":"%b","data":1}\n' % NOW,
        b'{"offset":%d,"time":"%b","data":1}\n' % (10**20, NOW),
        b'{"offset":1,"date":"%b","data":1}\n' % NOW,
        b'{"offset":1,"time":"%b","data":1}\n' % NOW[:-1],
        b'{"offset":1,"time":"%b","data":1}\n' % NOW.replace(b"T", b" "),
        b'{"offset":1,"time":"%b","data":1}\n' % NOW.replace(b"-", b"/"),
        b'{"offset":1,"time":"%b","data":1}\n' % NOW.replace(b"Z", b"z"),
        b'{"offset":1,"time":"%b"}\n' % NOW,
        b'{"offset":1,"time":"%b","other":1}\n' % NOW,
        b'{"offset":1,"time":"%b","data":1\n' % NOW,
        b'{"offset":1,"time":"%b","data":1}' % NOW,
        b' {"offset":1,"time":"%b","data":1}\n' % NOW,
    ],
)
def test_a_line_of_another_form_is_no_event(text: bytes) -> None:
    assert not line.is_event(text)


@given(bodies)
@quick
def test_data_that_look_like_a_line_make_an_event_and_two_lines_in_one_make_none(body: bytes) -> None:
    one, two = split(line.render(1, NOW, KEYED, [body, body], 0))
    for data in (one[:-1], b"[" + two[:-1] + b"," + one[:-1] + b"]"):
        assert line.is_event(stored(line.DATA + data, True))
    for joined in (one[:-1] + two, one[:-1] + b" " + two, one[:-2] + two):
        assert not line.is_event(joined)
    assert not line.is_event(one.replace(b"u1", b"u\0"))


@pytest.mark.parametrize("broken", [b'"\xff"', b"1,", b'{"a":}'])
def test_data_that_look_like_a_line_and_are_no_json_make_no_event(broken: bytes) -> None:
    assert not line.is_event(stored(b'"data":[{"offset":1},' + broken + b"]", True))


def test_the_largest_offset_is_that_of_a_signed_integer_of_64_bits() -> None:
    for offset, fits in ((2**63 - 1, True), (2**63, False), (10**20 - 1, False), (10**20, False)):
        text = line.render(offset, NOW, line.DATA, [b"1"], 0)
        assert line.is_event(text) is fits
    text = line.render(2**63 - 1, NOW, line.DATA, [b"1"], 0)
    assert line.offset_of(text[: line.HEAD_LENGTH]) == 2**63 - 1
    assert line.time_of(text[: line.HEAD_LENGTH]) == NOW


@pytest.mark.parametrize("zeros", [20, 21, 30, 200])
def test_an_offset_has_at_most_twenty_digits_be_they_zeros(zeros: int) -> None:
    text = stored(b'"data":1', True)
    assert line.is_event(text.replace(b'{"offset":1,', b'{"offset":%b,' % (b"0" * zeros))) is (zeros == 20)


def test_data_are_parsed_only_where_they_look_like_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take too long for every line; that they are JSON was seen to when they came in."""
    asked: list[str] = []
    monkeypatch.setattr(payload, "check", asked.append)
    for crc in (False, True):
        assert line.is_event(stored(b'"key":"k","data":{"a":1,"offset":2}', crc))
    assert asked == []
    assert line.is_event(stored(b'"data":{"offset":1}', True))
    assert len(asked) == 1


# The tail as others left it


@given(st.lists(batches, min_size=1, max_size=4))
@quick
def test_the_tail_of_whole_appends_tells_the_last_offset_and_time(appends: list[list[bytes]]) -> None:
    block = b""
    following = 41
    for batch in appends:
        block += line.render(following, NOW, KEYED, batch, 0)
        following += len(batch)
    assert line.parse_tail(block) == (following - 1, NOW)
    assert line.parse_tail(b"\n" + block) == (following - 1, NOW)


@given(batches, st.data())
@quick
def test_a_tail_that_does_not_end_an_append_tells_nothing(batch: list[bytes], data: st.DataObject) -> None:
    block = line.render(7, NOW, KEYED, batch, 0)
    cut = data.draw(st.integers(0, len(block) - 1))
    assert line.parse_tail(block[:cut]) is None
    assert line.parse_tail(block + b"\n") is None
    assert line.parse_tail(re.sub(rb'"crc":"[0-9a-f]{8}",', b"", block)) is None
    last = block.rindex(line.START)
    assert line.parse_tail(block[:last] + block[last:].replace(b"{", b"[", 1)) is None
    assert line.parse_tail(block + block[last:].replace(b"{", b"[", 1)) is None
    assert line.parse_tail(b'{"offset":x,"time":"%b","crc":"00000000","data":1}\n' % NOW) is None


# Attributes


@given(heads, batches)
@quick
def test_a_topic_is_put_among_the_attributes_and_changes_nothing_else(head: dict[str, str], batch: list[bytes]) -> None:
    common = payload.encode_attributes(head) + line.DATA
    for text in split(line.render(0, NOW, common, batch, 0)):
        marked = line.with_topic(text, b"orders")
        assert line.attributes(marked) == {"topic": "orders", **line.attributes(text)}
        assert line.data_of(marked) == line.data_of(text)
        assert line.offset_of(marked) == line.offset_of(text)


@given(heads, bodies, own_names, texts)
@quick
def test_a_needle_found_in_the_head_is_an_attribute_and_one_in_the_data_is_none(
    head: dict[str, str], body: bytes, name: str, value: str
) -> None:
    text = line.render(0, NOW, payload.encode_attributes(head) + line.DATA, [body], 0)
    needle = line.attribute_needle(name, payload.encode_string(value))
    block = b"x\n" + text
    found = block.find(needle)
    stands = found >= 0 and line.stands_in_head(block, 2, found)
    assert stands == (head.get(name) == value)


@given(heads, st.one_of(st.none(), texts), bodies, st.booleans())
@quick
def test_the_key_is_the_json_string_that_stands_in_the_head(
    head: dict[str, str], key: str | None, body: bytes, crc: bool
) -> None:
    """Whatever is in it, such as quotes and backslashes, and whatever the data say that look like a key."""
    attributes = head if key is None else {**head, "key": key, "last": "\\"}
    text = stored(
        payload.encode_attributes(attributes) + line.DATA + b'{"a":0,"key":"of the data","b":' + body + b"}", crc
    )
    assert line.key_of(text) == (None if key is None else payload.encode_string(key))


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("key", [b"", b"u1", rb"\\", rb"\"", rb"\\\"", rb"a\"b\"", rb"\"\\", rb"\u005c"])
def test_a_quote_with_a_backslash_of_its_own_does_not_end_a_key(key: bytes, crc: bool) -> None:
    text = stored(b'"key":"%b","id":"7","data":1' % key, crc)
    assert line.key_of(text) == b'"%b"' % key


@given(heads, bodies, st.booleans())
@quick
def test_a_line_without_attributes_is_known_by_its_head_alone(head: dict[str, str], body: bytes, crc: bool) -> None:
    text = stored(payload.encode_attributes(head) + line.DATA + body, crc)
    assert line.has_no_attributes(text) == (not head)


@given(heads, bodies, st.booleans(), st.sampled_from(["orders", "a", "x.y-z_1"]))
@quick
def test_the_topic_said_in_a_line_is_read_back_and_taken_out_again(
    head: dict[str, str], body: bytes, crc: bool, topic: str
) -> None:
    text = stored(payload.encode_attributes(head) + line.DATA + body, crc)
    marked = line.with_topic(text, topic.encode())
    assert line.topic_of(marked) == topic
    assert line.without_topic(marked) == line.without_topic(text) == text
    assert json.loads(marked) == {**json.loads(text), "topic": topic}


@given(heads, bodies, st.booleans())
@quick
def test_a_line_says_which_member_of_which_group_has_got_it_and_keeps_all_else(
    head: dict[str, str], body: bytes, crc: bool
) -> None:
    text = stored(payload.encode_attributes(head) + line.DATA + body, crc)
    given_out = line.with_group(text, "orders", "billing", "m1")
    said = {"topic": "orders", "evgroup": "billing", "evmember": "m1"}
    assert line.attributes(given_out) == {**said, **head}
    assert json.loads(given_out) == {**json.loads(text), **said}
    assert line.topic_of(given_out) == "orders"


SEVERAL = b'{"a":{"b":0,"data":1,"key":"k","topic":"t"},"data":{"a":1,"data":2}}'


@pytest.mark.parametrize("crc", [False, True])
def test_data_that_look_like_parts_of_a_line_are_data(crc: bool) -> None:
    text = stored(b'"type":"x","data":' + SEVERAL, crc)
    assert line.data_of(text) == SEVERAL
    assert line.attributes(text) == {"type": "x"}
    assert line.key_of(text) is None
    marked = line.with_topic(text, b"orders")
    assert line.topic_of(marked) == "orders"
    assert line.without_topic(marked) == text
    assert json.loads(line.head_of(text)).keys() - {"crc"} == {"offset", "time", "type"}


def test_the_head_of_a_line_begins_where_the_line_does() -> None:
    before = stored(line.DATA + SEVERAL, False)
    text = stored(b'"type":"x","data":1', False)
    block = before + text
    found = block.index(line.attribute_needle("type", b'"x"'))
    assert line.stands_in_head(block, len(before), found)
    assert not line.stands_in_head(block, 0, found)


def test_an_attribute_in_the_data_does_not_stand_in_the_head() -> None:
    text = line.render(0, NOW, line.DATA, [b'{"a":0,"key":"u1"}'], 0)
    found = text.find(line.attribute_needle("key", b'"u1"'))
    assert found > 0
    assert not line.stands_in_head(text, 0, found)


@given(st.text(string.ascii_letters + string.digits + "_-é²Ⅷ", max_size=22))
@settings(deadline=None, max_examples=300)
def test_attribute_names_are_those_of_cloudevents(name: str) -> None:
    import re

    assert line.is_attribute_name(name) == bool(re.fullmatch(r"[a-z][a-z0-9]{0,19}", name))


@pytest.mark.parametrize(
    ("name", "valid"),
    [("a", True), ("a" * 20, True), ("a" * 21, False), ("", False), ("1a", False), ("aB", False), ("a1", True)],
)
def test_the_limits_of_attribute_names(name: str, valid: bool) -> None:
    assert line.is_attribute_name(name) is valid

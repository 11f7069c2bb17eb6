"""evtool.stores.nats.message: an event as a message of JetStream, written and read."""

from __future__ import annotations

import base64
import hashlib

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evtool.log import line, payload
from evtool.stores.nats import message

quick = settings(deadline=None, max_examples=300)

sequences = st.integers(1, line.LIMIT - 1)
moments = st.integers(0, 253402300799_999_999_999)  # nanoseconds; the last one of the year 9999
own_names = st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True).filter(
    lambda name: name not in line.RESERVED_ATTRIBUTES
)
tricky = st.sampled_from(
    ['","data":', '"}\n{"offset":', "\\", '\\"', "\u2028", "\x85", ',"id":"', "%b%%", "}\n", "\x7f"]
)
texts = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), tricky)
heads = st.lists(st.tuples(own_names, texts), max_size=4)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
data_texts = st.one_of(
    values.map(orjson.dumps),
    st.sampled_from([
        b'{"a":1,"data":2}', b'{"b":{"x":1,"data":2},"a":1}', b'[1 ,\t2]', b'{"a":1,"a":2}',
        b'{"offset":1,"time":"x"}', b'"\\u2028\\/"', b"1E40", b"1.0000000000000000000001", b'"\xc3\xa9"', b"[\r]",
    ]),
)  # fmt: skip
foreign = st.one_of(
    st.binary(max_size=60),
    data_texts,
    st.tuples(st.binary(max_size=8), data_texts, st.binary(max_size=8)).map(b"".join),
    st.sampled_from([
        b"", b"\n", b"{}", b'{"data":1,"data":2}', b'{"data":}', b'{"data":1}\n', b' {"data":1}', b'{"data":1\n}',
        b'{"offset":5,"data":1}', b'{"time":"","data":1}', b'{"crc":"00000000","data":1}', b'{"topic":"t","data":1}',
        b'{"key":1,"data":1}', b'{"key":"\\ud800","data":1}', b'{"key":"\xff","data":1}', b'{"key":"a" ,"data":1}',
        b'{"key":"a","data":1,"x":2}', b'{"Key":"a","data":1}', b'{"data":1}}', b'{"data":"\xff"}', b'{"data":1',
        b'{"key":"a\\/","data":1}', b'{"key":"\x01","data":1}', b"\xef\xbb\xbf1", b"\0", b'{"data":NaN}',
    ]),
)  # fmt: skip


def reply(seq: int, ns: int, *, delivered: int = 1, consumer_seq: int = 3, pending: int = 0) -> str:
    """The subject to which a consumer's message is acknowledged."""
    return f"$JS.ACK.evtool_orders=eu.billing=eu.{delivered}.{seq}.{consumer_seq}.{ns}.{pending}"


def with_domain(of: str, token: str = ".xYz1") -> str:
    """The same as a server writes it that says its domain and the account."""
    return of.replace("$JS.ACK.", "$JS.ACK.hub.AbCdEf.") + token


# Places


@given(sequences, moments, st.integers(1, 99), sequences, st.integers(0, 2**40))
@quick
def test_a_place_is_read_off_the_reply_with_and_without_a_domain(
    seq: int, ns: int, delivered: int, consumer_seq: int, pending: int
) -> None:
    short = reply(seq, ns, delivered=delivered, consumer_seq=consumer_seq, pending=pending)
    for one in (short, with_domain(short), with_domain(short, "")):
        place = message.place_of(one)
        assert (place.delivered, place.stream_seq, place.consumer_seq) == (delivered, seq, consumer_seq)
        assert (place.time_ns, place.pending) == (ns, pending)


# Our own


@given(sequences, moments, heads, data_texts)
@quick
@example(1, 0, [("key", "u1"), ("key", "u2")], b"1")  # --type and a CloudEvent may both say it
def test_an_event_comes_back_with_its_attributes_and_its_data_byte_for_byte(
    seq: int, ns: int, head: list[tuple[str, str]], data: bytes
) -> None:
    common = b"".join(payload.encode_attributes({name: text}) for name, text in head)
    stored = message.encode(common + line.DATA, data)
    text = message.line_of(reply(seq, ns), stored)
    assert line.is_event(text)
    assert line.offset_of(text) == seq - 1
    assert line.time_of(text) == line.stamp(ns)
    assert line.data_of(text) == data
    assert line.attributes(text) == dict(head)
    assert line.body_of(text) == common + line.DATA + data
    assert text == message.line_of(with_domain(reply(seq, ns)), stored) == message.line_at(seq, ns, stored)


@given(heads, data_texts, st.integers(0, 3))
@quick
def test_where_the_common_beginning_ends_makes_no_difference(
    head: list[tuple[str, str]], data: bytes, cut: int
) -> None:
    body = payload.encode_attributes(dict(head)) + line.DATA + data
    assert message.encode(body[:cut], body[cut:]) == message.encode(b"", body) == b"{" + body + b"}"


# Ids

any_ids = st.one_of(
    st.text(max_size=30), st.text("a %\\r\\n%61é\ud800", max_size=6), st.text("ab", min_size=190, max_size=300)
)


@given(any_ids)
@quick
@example("")
@example("x" * message.LONGEST_ID)
@example("x" * (message.LONGEST_ID + 1))
@example("é" * 70)
def test_an_id_is_fit_for_a_header(event_id: str) -> None:
    """It cannot end the header, and no blank is there to be stripped; a plain one stays as it is."""
    found = message.message_id(event_id)
    assert 0 < len(found) <= message.LONGEST_ID
    assert all("!" <= letter <= "~" for letter in found)
    if event_id.isalnum() and event_id.isascii() and len(event_id) <= message.LONGEST_ID:
        assert found == event_id


@given(any_ids, any_ids)
@quick
@example("%61", "a")
@example("a ", "a")
@example("", "%")
@example("x" * 201, "%%" + hashlib.sha256(b"x" * 201).hexdigest())
def test_different_ids_stay_different(one: str, other: str) -> None:
    assert (message.message_id(one) == message.message_id(other)) == (one == other)


# Those of others


@given(foreign)
@quick
@example(b'{"key":"u1","data":{"a":[1,2]}}')
def test_whatever_somebody_publishes_is_one_event(stored: bytes) -> None:
    text = message.line_of(reply(8, 10**18), stored)
    assert line.is_event(text)
    assert line.offset_of(text) == 7
    assert text.count(b"\n") == 1
    whole = orjson.loads(text)
    assert isinstance(whole, dict)
    assert orjson.loads(line.data_of(text)) == whole["data"]
    assert line.attributes(text) == {name: whole[name] for name in whole if name not in ("offset", "time", "data")}
    assert all(line.is_attribute_name(name) for name in whole)


@given(foreign)
@quick
def test_only_what_is_not_of_our_form_is_called_foreign(stored: bytes) -> None:
    """An own message stands in its line as it is; of any other the payload can be had back."""
    text = message.line_of(reply(8, 10**18), stored)
    if line.attributes(text).get("foreign") != "nats":
        assert message.encode(b"", line.body_of(text)) == stored
        return
    data = line.data_of(text)
    value = orjson.loads(data)
    if data == stored.strip().replace(b"\n", b" "):
        assert value == orjson.loads(stored)
    elif isinstance(value, str):
        assert value.encode() == stored
    else:
        assert base64.b64decode(value["base64"]) == stored


@pytest.mark.parametrize(
    ("stored", "data"),
    [
        (b"42", b"42"),
        (b' {"a": 1} ', b'{"a": 1}'),
        (b'{"a":\n1}', b'{"a": 1}'),
        (b"hello\n", b'"hello\\n"'),
        (b"", b'""'),
        (b"\xff\x00", b'{"base64":"/wA="}'),
        (b'{"data":1,"data":2}', b'{"data":1,"data":2}'),
        (b'{"offset":"9","data":1}', b'{"offset":"9","data":1}'),
    ],
)
def test_a_payload_that_is_no_event_becomes_the_data_of_one(stored: bytes, data: bytes) -> None:
    text = message.line_at(1, 0, stored)
    assert text == b'{"offset":0,"time":"1970-01-01T00:00:00.000000Z","foreign":"nats","data":' + data + b"}\n"


# Times of the server


@pytest.mark.parametrize(
    ("moment", "stamp"),
    [
        ("2026-11-23T22:25:32.123456789Z", b"2026-11-23T22:25:32.123456Z"),
        ("2026-11-23T22:25:32.1Z", b"2026-11-23T22:25:32.100000Z"),
        ("2026-11-23T22:25:32Z", b"2026-11-23T22:25:32.000000Z"),
    ],
)
def test_a_time_of_the_server_becomes_that_of_a_line(moment: str, stamp: bytes) -> None:
    assert message.stamp_of(moment) == stamp
    assert line.is_time(message.stamp_of(moment))

"""One event as one message of JetStream, written and read in this module and nowhere else.

    {"key":"u1","data":{"amount":9.5}}

That is the line of the event (see `evtool.log.line`) without what the store gives it: the offset is the sequence of the
message minus 1, the time is the server's. There is no crc, for JetStream has its own. What stands in the stream and is
not of this form, somebody else has published: it is shown as an event with the attribute ``"foreign":"nats"``, whose
data are the payload if that is JSON, else a JSON string, else ``{"base64":"…"}``.
"""

from __future__ import annotations

import re

import orjson

from evtool.errors import DataError
from evtool.log import line, payload

_ACK_TOKENS = 9
_NAME = b"(?!(?:" + "|".join(sorted(line.RESERVED_ATTRIBUTES)).encode() + b')")[a-z][a-z0-9]{0,19}'
_TEXT = rb'(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00[01][0-9a-f])*'
# What stands before the data of a message of ours, as far as can be seen without looking whether it is UTF-8.
head = re.compile(rb'\{(?:"' + _NAME + rb'":"' + _TEXT + rb'",)*"data":').match
LONGEST_ID = 200  # characters of a message id
_PLAIN = frozenset(map(chr, range(0x21, 0x7F))) - {"%"}
_FOREIGN = b'{"foreign":"nats","data":%b}'


class Place:
    """Where a delivered message stands: sequences from 1 in the stream and among the consumer's deliveries.

    delivered: how often it has been delivered by now. time_ns: when it was stored, since the epoch. pending: how many
    the consumer has yet to deliver.
    """

    __slots__ = ("consumer_seq", "delivered", "pending", "stream_seq", "time_ns")

    def __init__(self, delivered: int, stream_seq: int, consumer_seq: int, time_ns: int, pending: int) -> None:
        self.delivered = delivered
        self.stream_seq = stream_seq
        self.consumer_seq = consumer_seq
        self.time_ns = time_ns
        self.pending = pending


def place_of(reply: str) -> Place:
    """The place of a message, out of the subject on which it is to be acknowledged.

    ``$JS.ACK.STREAM.CONSUMER.DELIVERED.SSEQ.DSEQ.NANOSECONDS.PENDING``, with domain and account before STREAM and one
    token more at the end where the server says the domain.
    """
    tokens = reply.split(".")
    start = 4 if len(tokens) == _ACK_TOKENS else 6
    return Place(*map(int, tokens[start : start + 5]))


def encode(common: bytes, body: bytes) -> bytes:
    """The message of an event, whose body is `common` and `body` together (see `evtool.log.line`)."""
    return b"{%b%b}" % (common, body)


def message_id(event_id: str) -> str:
    """The id of an event as a header may have it: visible ASCII, not too long, and different for different ids."""
    if len(event_id) <= LONGEST_ID and _PLAIN.issuperset(event_id) and event_id:
        return event_id
    text = event_id.encode("utf-8", "surrogatepass")
    encoded = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02x}" for byte in text)
    if 0 < len(encoded) <= LONGEST_ID:
        return encoded
    import hashlib

    return f"%%{hashlib.sha256(text).hexdigest()}"


def line_of(reply: str, message: bytes) -> bytes:
    """The line, newline included, of a message that a consumer delivered with this `reply`."""
    place = place_of(reply)
    return line_at(place.stream_seq, place.time_ns, message)


def line_at(stream_seq: int, time_ns: int, message: bytes) -> bytes:
    """The line of the message with this sequence, stored so many nanoseconds after the epoch."""
    return stamped_line(stream_seq, line.stamp(time_ns), message)


def stamped_line(stream_seq: int, stamp: bytes, message: bytes) -> bytes:
    """The line of the message with this sequence, stored at this time (27 bytes)."""
    if not _is_ours(message):
        message = _FOREIGN % _as_json(message)
    return b'{"offset":%d,"time":"%b",%b\n' % (stream_seq - 1, stamp, message[1:])


def stamp_of(moment: str) -> bytes:
    """A time as the server writes it (``2026-11-23T22:25:32.1234567Z``, or with fewer digits) as that of a line."""
    seconds, _, fraction = moment.rstrip("Z").partition(".")
    return f"{seconds}.{fraction[:6]:0<6}Z".encode()


def _is_ours(message: bytes) -> bool:
    """Whether a message has the form that `encode` gives it."""
    start = head(message)
    if start is None or not message.endswith(b"}") or b"\n" in message:
        return False
    try:
        if not message.isascii():
            message[: start.end()].decode()
        orjson.loads(message[start.end() : -1])
    except ValueError:  # of which the errors of both are
        return False
    return True


def _as_json(message: bytes) -> bytes:
    """The payload of a message of somebody else as a JSON value without a newline."""
    try:
        return payload.check_bytes(message)
    except DataError:
        pass
    try:
        return orjson.dumps(message.decode())
    except UnicodeDecodeError:
        from base64 import b64encode

        return b'{"base64":"%b"}' % b64encode(message)

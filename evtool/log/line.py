"""One event as one line of a segment, written and read in this module and nowhere else.

    {"offset":81920,"time":"2026-11-23T22:25:32.123456Z","crc":"5f2a90c1","key":"u1","data":{"amount":9.5}}

`offset`, then `time`, then `crc` on the last line of an append, then the other attributes, then `data`. Everything
before `data` is a flat string or a number, so the parts are cut out of the bytes without a JSON parser:
``,"data":`` cannot stand unescaped inside a JSON string.

What follows the time (and the crc) up to the newline is called the *body* here: ``"key":"u1","data":{"amount":9.5}``.
A batch is a list of them, or of their differing ends together with the beginning that they share.
"""

from __future__ import annotations

import time
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

START = b'{"offset":'
END = b"}\n"
DATA = b'"data":'
_TIME = b',"time":"'
_CRC = b',"crc":"'
_KEY = b',"key":"'
_TOPIC = b',"topic":"'
_NO_CRC = b"00000000"
_DIGITS = b"0123456789"
_AFTER_TIME = b'",'
_BEFORE_DATA = b"," + DATA
TIME_LENGTH = 27
OFFSET_DIGITS = 20
LIMIT = 1 << 63  # above all offsets
HEAD_LENGTH = len(START) + OFFSET_DIGITS + len(_TIME) + TIME_LENGTH + len(_AFTER_TIME)  # offset and time stand in here
KNOWN_ATTRIBUTES = ("key", "type", "source", "id")
RESERVED_ATTRIBUTES = frozenset(("offset", "time", "crc", "data", "topic", "evgroup", "evmember"))

_latest_second = (-1, b"")  # since the next stamp is mostly of the same second


def stamp(nanoseconds: int) -> bytes:
    """A moment since the epoch as the `time` of a line: UTC, RFC 3339, six digits of a second, 27 bytes."""
    global _latest_second
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    second, prefix = _latest_second
    if second != seconds:
        prefix = b"%04d-%02d-%02dT%02d:%02d:%02d." % time.gmtime(seconds)[:6]
        _latest_second = seconds, prefix
    return b"%b%06dZ" % (prefix, rest // 1000)


def render(first: int, stamped: bytes, common: bytes, bodies: Sequence[bytes], carry: int) -> bytes:
    """Make the lines of one append.

    first: offset of the first event.
    stamped: the time of all, 27 bytes.
    common: the beginning that all bodies share, such as ``"data":``; may be empty.
    bodies: the differing end of each body, at least one.
    carry: CRC-32 of the bytes since the last line with a crc (0 if there are none).

    Returns the lines, the last one with the crc over `carry` and all of them.
    """
    last = first + len(bodies) - 1
    lines = b""
    if last > first:
        pattern = START + b"%d" + _TIME + stamped + _AFTER_TIME + common.replace(b"%", b"%%") + b"%b" + END
        lines = b"".join(map(pattern.__mod__, zip(range(first, last), bodies, strict=False)))
        carry = crc32(lines, carry)
    before = b'{"offset":%d,"time":"%b","crc":"' % (last, stamped)
    after = b'",%b%b}\n' % (common, bodies[-1])
    return b"%b%b%08x%b" % (lines, before, crc32(after, crc32(_NO_CRC, crc32(before, carry))), after)


def is_event(text: bytes) -> bool:
    """Whether one complete line, newline included, has the form of an event."""
    head = len(START)
    comma = text.find(b",", head, head + OFFSET_DIGITS + 1)
    return (
        text.startswith(START)
        and text.endswith(END)
        and text[head:comma].isdigit()
        and int(text[head:comma]) < LIMIT
        and text.startswith(_TIME, comma)
        and is_time(time_of(text))
        and text.startswith(_AFTER_TIME, comma + len(_TIME) + TIME_LENGTH)
        and _BEFORE_DATA in text
        and b"\0" not in text
        and (text.find(START, head) < 0 or _is_json(text))  # two that have become one, or data that look like it
    )


def _is_json(text: bytes) -> bool:
    from evtool.errors import DataError
    from evtool.log import payload

    try:
        payload.check(text[:-1].decode("utf-8", "surrogateescape"))
    except DataError:
        return False
    return True


def is_time(text: bytes) -> bool:
    """Whether these 27 bytes have the form of a time."""
    return len(text) == TIME_LENGTH and text.translate(None, _DIGITS) == b"--T::.Z" and text[4:5] == b"-" == text[7:8]


def parse_tail(text: bytes) -> tuple[int, bytes] | None:
    """Offset and time of the last one of these whole lines, if that ends an append; None if anything is unusual.

    It is what every append does that finds another one before it, so it looks at no more than it must.
    """
    start = text.rfind(b"\n", 0, -1) + 1
    comma = text.find(b",", start)
    moment = comma + len(_TIME)
    end = moment + TIME_LENGTH
    if not (text.startswith(START, start) and text.startswith(b'","crc":"', end) and text.endswith(END)):
        return None
    digits = text[start + len(START) : comma]
    return (int(digits), text[moment:end]) if digits.isdigit() else None


def offset_of(text: bytes) -> int:
    """The offset of a line, of which the first HEAD_LENGTH bytes are enough."""
    return int(text[len(START) : text.index(b",", len(START))])


def time_of(text: bytes) -> bytes:
    """The time of a line, of which the first HEAD_LENGTH bytes are enough: 27 bytes that sort as time does."""
    start = text.index(b",", len(START)) + len(_TIME)
    return text[start : start + TIME_LENGTH]


def crc_of(text: bytes) -> bytes | None:
    """The eight hexadecimal digits of a line's crc, or None if it has none."""
    start = _after_time(text)
    return text[start + len(_CRC) : start + len(_CRC) + 8] if text.startswith(_CRC, start) else None


def without_crc(text: bytes) -> bytes:
    """The line with the digits of its crc as zeros, which is how the checksum saw it. It must have one."""
    start = _after_time(text) + len(_CRC)
    return text[:start] + _NO_CRC + text[start + 8 :]


def data_of(text: bytes) -> bytes:
    """The data of a line, byte for byte as the producer gave them."""
    return text[text.index(_BEFORE_DATA) + len(_BEFORE_DATA) : -len(END)]


def body_of(text: bytes) -> bytes:
    """The body of a line: its attributes and data, without what the log gave it."""
    start = _after_time(text)
    if text.startswith(_CRC, start):
        start += len(_CRC) + 9
    return text[start + 1 : -len(END)]


def key_of(text: bytes) -> bytes | None:
    """The key of a line as the JSON string that it is there, quotes included, or None if it has none."""
    start = text.find(_KEY)
    if start < 0 or text.find(_BEFORE_DATA, 0, start) >= 0:
        return None
    start += len(_KEY) - 1
    end = text.index(b'"', start + 1)
    while text[end - 1] == 92 and _is_escaped(text, end):
        end = text.index(b'"', end + 1)
    return text[start : end + 1]


def _is_escaped(text: bytes, at: int) -> bool:
    """Whether the quote at this place has an odd number of backslashes before it."""
    before = text[:at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def head_of(text: bytes) -> bytes:
    """All of a line before its data, made into a JSON object: offset, time and attributes."""
    return text[: text.index(_BEFORE_DATA)] + b"}"


def attributes(text: bytes) -> dict[str, str]:
    """The attributes of a line by name, without offset, time and crc."""
    import orjson

    head: dict[str, str] = orjson.loads(head_of(text))
    for name in ("offset", "time", "crc"):
        head.pop(name, None)
    return head


def has_no_attributes(text: bytes) -> bool:
    """Whether the line has nothing but offset, time and maybe a crc before its data."""
    start = _after_time(text)
    if text.startswith(_CRC, start):
        start += len(_CRC) + 9
    return text.startswith(_BEFORE_DATA, start)


def with_topic(text: bytes, topic: bytes) -> bytes:
    """The line with an attribute that says which topic it comes from, for output that mixes several."""
    start = _after_time(text)
    return text[:start] + _TOPIC + topic + b'"' + text[start:]


def with_group(text: bytes, topic: str, group: str, member: str) -> bytes:
    """The line with attributes that say which member of which group has got it from which topic."""
    start = _after_time(text)
    said = f',"topic":"{topic}","evgroup":"{group}","evmember":"{member}"'
    return text[:start] + said.encode() + text[start:]


def without_topic(text: bytes) -> bytes:
    """The line as it is stored, whether or not `with_topic` was done to it."""
    start = _after_time(text)
    if not text.startswith(_TOPIC, start):
        return text
    return text[:start] + text[text.index(b'"', start + len(_TOPIC)) + 1 :]


def topic_of(text: bytes) -> str:
    """The topic of a line that says it, after `with_topic`."""
    start = text.index(_TOPIC) + len(_TOPIC)
    return text[start : text.index(b'"', start)].decode()


def _after_time(text: bytes) -> int:
    """Where the quote that ends a line's time has been passed."""
    return text.index(b",", len(START)) + len(_TIME) + TIME_LENGTH + 1


def attribute_needle(name: str, value: bytes) -> bytes:
    """The bytes that stand in every line whose attribute `name` has this JSON-encoded value, quotes included."""
    return b',"' + name.encode() + b'":' + value


def stands_in_head(text: bytes, start: int, needle_at: int) -> bool:
    """Whether what was found at `needle_at` belongs to the attributes of the line that starts at `start`."""
    return text.find(_BEFORE_DATA, start, needle_at + 1) < 0


def is_attribute_name(name: str) -> bool:
    """Whether an event may have an attribute of this name: ``[a-z][a-z0-9]{0,19}``, as in CloudEvents."""
    return len(name) <= 20 and name.isascii() and name.isalnum() and name.islower() and name[0].isalpha()

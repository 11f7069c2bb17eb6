"""The data of events: what is valid JSON (that which orjson accepts), one value at a time or a whole chunk at once.

orjson takes longer to import than an append may last, so one value is first tried with the standard library's C
scanner, made as strict as orjson; what that refuses is put before orjson, which decides.
"""

from __future__ import annotations

import os

from evtool.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

BLANK = b" \t\n\r"  # what JSON allows around a value
_QUICK_LENGTH = 4096  # characters; a nesting deeper than orjson's 1,024 does not fit in without being counted
_QUICK_DEPTH = 500
_DEEP = 5_000  # calls within each other
_LONGEST_ATTRIBUTE = 1 << 16  # a handler gets some in its environment, where Linux allows 128 KiB a variable
_ESCAPED = frozenset(chr(code) for code in (*range(0x20), ord('"'), ord("\\")))


def check(text: str) -> bytes:
    """The bytes of one JSON value given as text, without the blanks around it and with no newline in it.

    Newlines between its parts become blanks; nothing else of it changes. Raises DataError if it is not JSON.
    """
    text = text.strip(BLANK.decode())
    if not _is_surely_json(text):
        _ask_orjson(text.encode("utf-8", "surrogateescape"))
    return text.replace("\n", " ").encode("utf-8", "surrogateescape")


def check_bytes(data: bytes) -> bytes:
    """The same of a value given as bytes."""
    _ask_orjson(data)
    return data.strip().replace(b"\n", b" ")


def all_valid(values: Sequence[bytes]) -> bool:
    """Whether each of these is one JSON value, found out with a single call of the parser.

    They are joined into one array with a random string between each two. The array has that string in every second
    place, and the right length, only if each value stood for itself: one that closes a bracket it did not open would
    have to guess the string.
    """
    import orjson

    between = os.urandom(12).hex()
    try:
        parsed = orjson.loads(b"[" + (b',"%b",' % between.encode()).join(values) + b"]")
    except orjson.JSONDecodeError:
        return False
    count = len(values)
    return len(parsed) == 2 * count - 1 and parsed[1::2].count(between) == count - 1


def encode(value: Any) -> bytes:
    """The JSON of a value that was JSON, however deep it is: orjson reads 1,024 levels, and writes 254."""
    import orjson

    try:
        return orjson.dumps(value)
    except TypeError:
        import json
        import sys

        sys.setrecursionlimit(max(sys.getrecursionlimit(), _DEEP))
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encode_string(text: str) -> bytes:
    """`text` as a JSON string in UTF-8 with as few escapes as there may be, quotes included.

    Raises DataError for a lone surrogate, which is how bytes that are not UTF-8 arrive in arguments.
    """
    if _ESCAPED.isdisjoint(text):
        try:
            return b'"' + text.encode() + b'"'
        except UnicodeEncodeError:
            raise DataError("text", "not UTF-8") from None
    import orjson

    try:
        return orjson.dumps(text)
    except TypeError:
        raise DataError("text", "not UTF-8") from None


def encode_attributes(attributes: Mapping[str, str]) -> bytes:
    """Attributes as the beginning of a line's body: ``"key":"u1","type":"order.paid",``. Raises DataError."""
    encoded = {name: encode_string(text) for name, text in attributes.items()}
    for name, value in encoded.items():
        if len(value) > _LONGEST_ATTRIBUTE:
            raise DataError(name, f"longer than {_LONGEST_ATTRIBUTE} bytes")
    return b"".join(b'"%b":%b,' % (name.encode(), value) for name, value in encoded.items())


def end_of_string(text: bytes, start: int) -> int:
    """The position after the quote that closes the JSON string whose opening quote is at `start`."""
    position = start + 1
    while True:
        quote = text.index(b'"', position)
        slashes = quote
        while text[slashes - 1] == 0x5C:
            slashes -= 1
        if (quote - slashes) % 2 == 0:
            return quote + 1
        position = quote + 1


class _Strict:
    """What the standard library's scanner is to do, as it reads it off the attributes of an object."""

    strict = True
    object_hook = None
    object_pairs_hook = None

    @staticmethod
    def parse_float(digits: str) -> float:
        number = float(digits)
        if number - number != 0:
            raise ValueError(digits)
        return number

    parse_int = parse_float

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        raise ValueError(name)


def _is_surely_json(text: str) -> bool:
    if len(text) > _QUICK_LENGTH or "\\u" in text or text.count("[") + text.count("{") > _QUICK_DEPTH:
        return False
    try:
        text.encode()
        return _scan(text)
    except (ValueError, StopIteration, RecursionError):
        return False
    except SystemError:  # what the scanner raises for an error whose class, in json.decoder, was never imported
        return False


def _scan(text: str) -> bool:
    from _json import make_scanner

    scanner: Any = make_scanner(_Strict)  # type: ignore[arg-type]  # any object with these attributes will do
    _, end = scanner(text, 0)
    return bool(end == len(text))


def _ask_orjson(data: bytes) -> None:
    """Raise the DataError that says why these bytes are not JSON, if they are not."""
    import orjson

    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DataError("event", why_not(data, error)) from None


def why_not(data: bytes, error: ValueError) -> str:
    """Why a value is refused, in the words of a message of ours: ``not JSON: …, at character N``."""
    message, _, place = str(error).partition(": line ")
    if not data.strip():
        return "not JSON: nothing there"
    if message.startswith("str is not valid UTF-8") or not _is_utf8(data):
        return "not UTF-8"
    position = place.partition("(char ")[2].rstrip(")")
    where = f", at character {int(position) + 1}" if position.isdigit() else ""
    return f"not JSON: {message}{where}"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

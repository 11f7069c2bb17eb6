"""Lines that are to be events, most of which are none: what may come through a pipe, by chance or in bad faith."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# What a parser may stumble over; also what could break out of the array in which whole chunks are checked.
_EVIL = (
    b"\0", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80",
    b"\xff", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x1b[2J", b"\xe2\x80\xae", b"%s", b"%", b"'", b"/*", b"//", b"#",
    b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\n", b"\\x",
    b",", b",,", b"],[", b"}", b"{", b"[", b"]", b":", b"1,2", b'"a","b"', b"true", b"nul",
    b"NaN", b"-Infinity", b"1e400", b"-0", b"01", b"1.", b".5", b"1e", b"9" * 400,
    b'{"offset":0,', b',"data":', b',"crc":"00000000"',
)  # fmt: skip
_WORDS = ("k", "id", "user", "data", "time", "specversion", "type", "source", "subject", "ä", "\u2028", "\x7f", "")
_TAME = 'ab"\\/\n\r\t\0\x1f\x7fé\u2028\u0085😀}{,:'
_DEPTHS = (1, 100, 499, 501, 1022, 1023, 1024, 1025, 5000, 50_000)


class Lines:
    """A source of lines.

    delimiter: what is in none of them. limit: near which lengths they are now and then. bad: the share of those of
    which anything may be wrong; the others are JSON.
    """

    def __init__(self, random: random.Random, delimiter: bytes, limit: int, bad: float) -> None:
        self._random = random
        self._delimiter = delimiter
        self._limit = limit
        self._bad = bad
        self._apart = (",", ":") if delimiter == b"\n" else (",\n", ":")
        self._characters = _TAME
        self._kinds: list[Callable[[], bytes]] = [self._bytes, self._blank, self._evil, self._row]
        self._kinds += [self._value, self._mutated] * 12 + [self._event] * 6

    def take(self, count: int) -> list[bytes]:
        """So many lines."""
        return [self._one().replace(self._delimiter, b"?") for _ in range(count)]

    def _one(self) -> bytes:
        self._characters = _TAME
        if self._random.random() >= self._bad:
            return self._random.choice((self._value, self._value, self._event))()
        self._characters = _TAME + "\ud800"
        number = self._random.randrange(1000)
        if number < 3:
            return self._long()
        if number < 5:
            return self._deep()
        return self._random.choice(self._kinds)()

    def _value(self) -> bytes:
        separators = self._random.choice(((",", ":"), (", ", ": "), (" ,\t", "\r:"), self._apart))
        ascii = self._random.random() < 0.5
        text = json.dumps(self._any(3), ensure_ascii=ascii, separators=separators).encode("utf-8", "surrogatepass")
        return self._random.choice((b"", b" ", b"\t")) + text + self._random.choice((b"", b"", b"\r", b" "))

    def _any(self, depth: int) -> Any:
        random = self._random
        kind = random.randrange(8 if depth else 5)
        if kind == 0:
            return random.choice((None, True, False, 0, -1, 1.5, 1e300, 2**53 + 1, 2**64, -(2**63), 10**40))
        if kind == 1:
            return random.randrange(1000)
        if kind < 5:
            return self._text()
        if kind == 5:
            return [self._any(depth - 1) for _ in range(random.randrange(4))]
        return {random.choice(_WORDS): self._any(depth - 1) for _ in range(random.randrange(4))}

    def _text(self) -> str:
        characters = self._random.choices(self._characters, k=self._random.randrange(12))
        return "".join(characters)

    def _event(self) -> bytes:
        """One with a key, an id, and most that a CloudEvent needs."""
        event: dict[str, Any] = {
            "specversion": self._random.choice(("1.0", "1.0", "1.0", "0.3", 1.0, None)),
            "id": self._random.choice((f"{self._random.randrange(5000)}", self._random.randrange(5000), self._any(1))),
            "k": self._any(1),
            "source": self._random.choice(
                ("s", "é", "\ud800", "x" * self._random.choice((10, 65_533, 65_534, 65_535)))
            ),
            "type": "t",
        }
        for _ in range(self._random.randrange(3)):
            name = self._random.choice(
                ("subject", "partitionkey", "time", "ext", "Ext", "offset", "data", "data_base64")
            )
            event[name] = self._any(2)
        return json.dumps(event).encode()

    def _mutated(self) -> bytes:
        random = self._random
        text = bytearray(random.choice((self._value, self._event))())
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            at = random.randrange(len(text) + 1)
            change = random.randrange(5)
            if change == 0:
                text[at:at] = random.choice(_EVIL)
            elif change == 1:
                del text[at : at + random.randrange(1, 5)]
            elif change == 2 and at < len(text):
                text[at] ^= 1 << random.randrange(8)
            elif change == 3:
                del text[at:]
            else:
                text[at:at] = text[: random.randrange(40)]
        return bytes(text)

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randrange(1, 60))

    def _blank(self) -> bytes:
        return self._random.choice((b"", b" ", b"\t\r ", b"\0", b"\x0b", b"\xa0"))

    def _evil(self) -> bytes:
        return b"".join(self._random.choices(_EVIL, k=self._random.randrange(1, 4)))

    def _row(self) -> bytes:
        return b",".join(self._value() for _ in range(3))

    def _long(self) -> bytes:
        length = max(2, self._random.choice((self._limit, self._limit, 2 * self._limit)) + self._random.randint(-3, 3))
        return self._random.choice((b'"' + b"x" * (length - 2) + b'"', b"1" * length, b" " * (length - 1) + b"1"))

    def _deep(self) -> bytes:
        depth = self._random.choice(_DEPTHS)
        return self._random.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))

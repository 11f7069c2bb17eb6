"""Events that say who sent them and as the how manieth, so that millions of them can be checked without being kept."""

from __future__ import annotations

import re

_PAD = b"x" * (1 << 19)
# A stored line of one: offset, time, crc, by, n, text.
LINE = re.compile(
    rb'\{"offset":(0|[1-9][0-9]*)'
    rb',"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"'
    rb'(?:,"crc":"([0-9a-f]{8})")?'
    rb',"data":\{"by":(0|[1-9][0-9]*),"n":(0|[1-9][0-9]*),"text":"(x*)"\}\}\n'
)


def event(by: int, n: int, large: int) -> bytes:
    """The data of the `n`-th event of a producer. Every `large`-th or so is so large that its write can be torn."""
    return b'{"by":%d,"n":%d,"text":"%b"}' % (by, n, _PAD[: size(by, n, large)])


def size(by: int, n: int, large: int) -> int:
    """How long the text of an event is."""
    return 20_000 + (n * 7919 + by) % 60_000 if (n + by) % large == large - 1 else (n * 37 + by) % 90

"""WHERE in a topic: the words for a position, and the offset that they mean.

earliest  latest  42  -10  2026-11-23T22:25:32Z  2h  '2h ago'  today  'yesterday 14:00'  @1700000000  group:billing
"""

from __future__ import annotations

import time

from evtool.errors import ConditionError, UsageError
from evtool.log import line, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.stores.protocol import Topic

WORDS = ("earliest", "latest", "today", "yesterday", "now")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_HINT = (
    "say earliest, latest, an offset, -N, a time (2026-11-23T22:25:32Z, 2h, 'yesterday 14:00', @SECONDS) or group:NAME"
)
_MOST_DIGITS = 18
_DAYS_TO_EPOCH = 719469  # from 1 March of the year 0, of a calendar that was always ours
_LATEST_SECOND = 253402300799  # the last one of the year 9999


class Where:
    """A position that was said. `kind` is one of earliest, latest, offset, back, time, group; `value` belongs to it:

    offset and back: a number; time: 27 bytes as in a line; group: its name; the others: None.
    """

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: int | bytes | str | None = None) -> None:
        self.kind = kind
        self.value = value

    def resolve(self, topic: Topic) -> int:
        """The offset that this means in a topic now. Raises NotFoundError for a group that is missing."""
        value = self.value
        if isinstance(value, bytes):
            return topic.offset_at(value)
        if isinstance(value, str):
            return topic.standing(value).committed
        if value is None:
            bounds = topic.bounds()
            return bounds.first if self.kind == "earliest" else bounds.next
        return value if self.kind == "offset" else topic.offset_back(value)

    def begin(self, topic: Topic) -> int:
        """The same, as a place to begin at. Raises ConditionError beyond the end of the log, which may have lost it."""
        offset = self.resolve(topic)
        if offset and self.kind != "latest" and offset > (end := topic.bounds().next):
            raise ConditionError(topic.name, f"there is no offset {offset} yet, the next is {end}")
        return offset


EARLIEST = Where("earliest")
LATEST = Where("latest")


def parse(text: str, now: float | None = None) -> Where:
    """Read a WHERE. `now` is what times in words are reckoned from: seconds since the epoch. Raises UsageError."""
    said = text.strip().lower()
    if said in ("earliest", "latest"):
        return Where(said)
    if said.isascii() and said.isdigit() and len(said) <= _MOST_DIGITS:
        return Where("offset", int(said))
    if said[:1] == "-" and said[1:].isdigit() and said.isascii() and len(said) <= _MOST_DIGITS:
        return Where("back", int(said[1:]))
    if said.startswith("group:"):
        return Where("group", names.check_name("group", text.strip()[len("group:") :]))
    moment = _moment(said, time.time() if now is None else now)
    if moment is None or not 0 <= moment <= _LATEST_SECOND:
        raise UsageError(repr(text), "not a position in a topic", hint=_HINT)
    return Where("time", line.stamp(round(moment * 1_000_000) * 1000))


def seconds_of(moment: bytes) -> float:
    """A time of 27 bytes, as in a line, in seconds since the epoch."""
    year, month, day = int(moment[:4]), int(moment[5:7]), int(moment[8:10])
    if month < 3:  # years that begin in March end with the day that not all of them have
        year, month = year - 1, month + 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - _DAYS_TO_EPOCH
    seconds = int(moment[11:13]) * 3600 + int(moment[14:16]) * 60 + int(moment[17:19])
    return days * 86400 + seconds + int(moment[20:26]) / 1e6


def duration(text: str) -> float:
    """Read a duration such as ``90s``, ``1h30m`` or ``250ms`` as seconds. Raises UsageError."""
    seconds = _duration(text.strip().lower())
    if seconds is None:
        raise UsageError(repr(text), "not a duration", hint="say for example 250ms, 90s, 5m, 1h30m, 2d")
    return seconds


def _duration(said: str) -> float | None:
    """The seconds that a row of numbers with units makes, or None if it is none."""
    total = 0.0
    rest = said
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :].lstrip(" ")
        unit = rest[: len(rest) - len(rest.lstrip("mshdw"))]
        rest = rest[len(unit) :].lstrip(" ")
        if unit not in _UNITS or not digits.replace(".", "", 1).isdigit() or len(digits) > _MOST_DIGITS:
            return None
        total += float(digits) * _UNITS[unit]
    return total if said else None


def _moment(said: str, now: float) -> float | None:
    """The moment that these words mean in seconds since the epoch, or None if they mean none."""
    if said == "now":
        return now
    if said.startswith("@"):
        return float(said[1:]) if said[1:].replace(".", "", 1).isdigit() and said.isascii() else None
    ago = _duration(said.removesuffix("ago").rstrip())
    return now - ago if ago is not None else _calendar(said, now)


def _calendar(said: str, now: float) -> float | None:
    """The same for dates and times of day; those without a zone are local."""
    from datetime import datetime, timedelta

    word, _, clock = said.partition(" ")
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    days = {"today": today, "yesterday": today - timedelta(days=1)}
    if word in days:
        said = f"{days[word]:%Y-%m-%d} {clock or '00:00'}"
    elif ":" in word and "-" not in word:
        said = f"{today:%Y-%m-%d} {said}"
    elif "-" not in said:  # the library would take 20261123 for a date, and we take it for an offset
        return None
    try:
        return datetime.fromisoformat(said.upper()).timestamp()
    except (ValueError, OverflowError):
        return None

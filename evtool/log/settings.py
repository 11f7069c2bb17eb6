"""A topic's own settings, from its `topic.json`; a topic without one has the defaults."""

from __future__ import annotations

import os

from evtool.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from evtool.log.files import Directory

FILE_NAME = "topic.json"
KEEP, CONSUMED = "keep", "consumed"
BYTES, COUNT, SECONDS = "bytes", "count", "seconds"
# Every setting: what its value is (a unit, or the words that it may be), and the default; None is no limit.
KNOWN: dict[str, tuple[str | tuple[str, ...], float | str | None]] = {
    "segment-bytes": (BYTES, 64 << 20),
    "max-event-bytes": (BYTES, 1 << 20),
    "dedupe": (SECONDS, 24 * 3600.0),
    "retention": ((KEEP, CONSUMED), KEEP),
    "group-ttl": (SECONDS, 7 * 24 * 3600.0),
    "max-age": (SECONDS, None),
    "max-bytes": (BYTES, None),
    "max-events": (COUNT, None),
}
_LARGEST_FILE = 1 << 20
_TOO_LARGE = 1 << 62


class Settings:
    """What may differ from topic to topic. Every attribute is a setting of `KNOWN`, with `_` for `-`.

    segment_bytes: a segment that would grow past this many bytes is sealed and a new one begun.
    max_event_bytes: the most bytes that the data of one event may have.
    dedupe: for how many seconds an event's id keeps another one with the same id out.
    retention: KEEP all events, or only those that some group has not handled (CONSUMED).
    group_ttl: after how many seconds without a commit a group holds no event back any more.
    max_age: the oldest segments go once all their events are older than so many seconds.
    max_bytes: they go until the rest has at most so many bytes.
    max_events: they go as long as the rest has at least so many events.
    """

    __slots__ = (
        "dedupe", "group_ttl", "max_age", "max_bytes", "max_event_bytes", "max_events", "retention", "segment_bytes",
    )  # fmt: skip

    dedupe: float
    group_ttl: float
    max_age: float | None
    max_bytes: int | None
    max_event_bytes: int
    max_events: int | None
    retention: str
    segment_bytes: int

    def __init__(self, chosen: Mapping[str, Any] | None = None) -> None:
        """The defaults, but for what was chosen: values as `check` gives them back, by the names of `KNOWN`."""
        for name, (_, default) in KNOWN.items():
            setattr(self, name.replace("-", "_"), (chosen or {}).get(name, default))

    @property
    def has_limits(self) -> bool:
        """Whether events go by their age or number, or because there are too many bytes."""
        return not self.max_age is self.max_bytes is self.max_events is None

    def values(self) -> dict[str, Any]:
        """All settings by their names."""
        return {name: getattr(self, name.replace("-", "_")) for name in KNOWN}


def load(directory: Directory) -> Settings:
    """Read the settings of the topic in this directory. Raises ConfigurationError, which names file and setting."""
    return Settings(load_chosen(directory))


def load_chosen(directory: Directory, but: Collection[str] = ()) -> dict[str, Any]:
    """Those settings that the topic in this directory has chosen, by name. Raises ConfigurationError.

    but: names of settings to leave out, be their values right or wrong.
    """
    try:
        fd = directory.open(FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        text = os.read(fd, _LARGEST_FILE)
    finally:
        os.close(fd)
    path = f"{directory.path}/{FILE_NAME}"
    return {name: check(path, name, value) for name, value in _parse(path, text).items() if name not in but}


def save(directory: Directory, chosen: Mapping[str, Any]) -> None:
    """Replace the settings of the topic in this directory, at once and durably. Its lock must be held.

    Raises ConfigurationError for what is no setting, StorageError if the disk does not take it.
    """
    import orjson

    for name, value in chosen.items():
        check(directory.path, name, value)
    directory.write_anew(FILE_NAME, orjson.dumps(dict(chosen)) + b"\n")


def check(where: str, name: str, value: object) -> Any:
    """The value of a setting as it is used. Raises ConfigurationError, which says what is wrong in `where`."""
    if name not in KNOWN:
        raise ConfigurationError(where, f"{name!r} is not a setting", hint=f"settings are {', '.join(KNOWN)}")
    return check_value(where, name, value, KNOWN[name][0])


def check_value(where: str, name: str, value: object, unit: str | tuple[str, ...]) -> Any:
    """The same for a setting of this unit, or one that is some of these words, be it one of ours or not."""
    if isinstance(unit, tuple):
        if value not in unit:
            raise ConfigurationError(where, f"{name!r} is neither {unit[0]!r} nor {unit[1]!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(where, f"{name!r} is not a number above 0")
    if value >= _TOO_LARGE:
        raise ConfigurationError(where, f"{name!r} is too large")
    if unit == SECONDS:
        return float(value)
    if value < 1 or value != int(value):
        raise ConfigurationError(where, f"{name!r} is not a whole number above 0")
    return int(value)


def _parse(path: str, text: bytes) -> dict[str, Any]:
    import orjson

    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(path, f"not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigurationError(path, "not a JSON object")
    return given

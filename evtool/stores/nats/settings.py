"""A topic's own settings, as the configuration of its stream says them.

    replicas  max-event-bytes  dedupe  retention  max-age  max-bytes  max-events

The server counts ids and events by limits of its own making, which are the same thing by other names. What it has no
name for, or may not keep as it was said, stands in the metadata of the stream.
"""

from __future__ import annotations

from evtool.errors import ConfigurationError
from evtool.log import settings as of_files
from evtool.log.settings import BYTES, CONSUMED, COUNT, KEEP, SECONDS
from evtool.stores.nats.names import topic_of_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DEDUPE = 120.0  # seconds: the server keeps all ids of that time in memory
KNOWN: dict[str, tuple[str | tuple[str, ...], float | str | None]] = {
    "replicas": (COUNT, None),
    "max-event-bytes": (BYTES, 1 << 20),
    "dedupe": (SECONDS, DEDUPE),
    "retention": ((KEEP, CONSUMED), KEEP),
    "max-age": (SECONDS, None),
    "max-bytes": (BYTES, None),
    "max-events": (COUNT, None),
}
MARK, MADE = "evtool", "evtool-made"  # in the metadata: that a stream is ours, and by which `create`
_DEDUPE, _MAX_EVENT_BYTES = "evtool-dedupe", "evtool-max-event-bytes"
_SERVERS_OWN = "_nats."  # what the server adds to the metadata
_MOST_REPLICAS = 5
_LEAST_SECONDS = 0.1
_MOST_SECONDS = 9e9  # in nanoseconds that is less than 2^63
_NS = 1_000_000_000
_LIMITS, _INTEREST = "limits", "interest"


class Settings:
    """What may differ from topic to topic. Every attribute is a setting of `KNOWN`, with `_` for `-`.

    replicas: how many servers keep it. dedupe: for how many seconds an event's id keeps another one with the same id
    out, at most max_age. The others are as in `evtool.log.settings`; limits hold to the event.
    """

    __slots__ = ("dedupe", "max_age", "max_bytes", "max_event_bytes", "max_events", "replicas", "retention")

    replicas: int
    max_event_bytes: int
    dedupe: float
    retention: str
    max_age: float | None
    max_bytes: int | None
    max_events: int | None

    def values(self) -> dict[str, Any]:
        """All settings by their names."""
        return {name: getattr(self, name.replace("-", "_")) for name in KNOWN}


def check(where: str, name: str, value: object) -> Any:
    """The value of a setting as it is used. Raises ConfigurationError, which says what is wrong in `where`."""
    if name not in KNOWN:
        known = f"settings are {', '.join(KNOWN)}"
        if name in of_files.KNOWN:
            raise ConfigurationError(where, f"{name!r} is a setting of the file store, not of NATS", hint=known)
        raise ConfigurationError(where, f"{name!r} is not a setting", hint=known)
    if name == "replicas":
        return _check_replicas(where, value)
    unit, _ = KNOWN[name]
    checked = of_files.check_value(where, name, value, unit)
    if unit == SECONDS and not _LEAST_SECONDS <= checked <= _MOST_SECONDS:
        raise ConfigurationError(where, f"{name!r} is not between {_LEAST_SECONDS} and {_MOST_SECONDS:.0f} seconds")
    return checked


def _check_replicas(where: str, value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, _MOST_REPLICAS + 1):
        return int(value)
    raise ConfigurationError(where, f"'replicas' is not a number from 1 to {_MOST_REPLICAS}")


def of_config(config: Mapping[str, Any]) -> Settings:
    """The settings that the configuration of a stream says, be it of our making or not."""
    metadata = config.get("metadata") or {}
    found = Settings()
    found.replicas = config.get("num_replicas") or 1
    found.retention = KEEP if config.get("retention", _LIMITS) == _LIMITS else CONSUMED
    found.dedupe = (config.get("duplicate_window") or 0) / _NS
    found.max_age = (config.get("max_age") or 0) / _NS or None
    found.max_bytes = _limit(config.get("max_bytes"))
    found.max_events = _limit(config.get("max_msgs"))
    found.max_event_bytes = min(
        _noted(metadata, _MAX_EVENT_BYTES) or of_files.Settings().max_event_bytes,
        _limit(config.get("max_msg_size")) or of_files.Settings().max_event_bytes,
    )
    return found


def _limit(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


def _noted(metadata: Mapping[str, str], name: str) -> int | None:
    """A number of the metadata, where anybody may have written anything."""
    text = metadata.get(name, "")
    return int(text) or None if text.isdecimal() and text.isascii() else None


def changed(config: Mapping[str, Any], changes: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """The configuration of a stream with some settings changed, None back to the default.

    changes: values as `check` gives them back. replicas: the default. What is not to be changed is left as it is.
    """
    made = dict(config)
    made["metadata"] = {
        name: text for name, text in (config.get("metadata") or {}).items() if not name.startswith(_SERVERS_OWN)
    }
    for name, value in changes.items():
        _set(made, name, value, replicas)
    asked, longest = changes.get("dedupe"), made.get("max_age")
    if asked and longest and asked * _NS > longest:
        why = (
            f"dedupe is longer than max-age, which is {longest / _NS:g} s: the server knows no id for longer than that"
        )
        raise ConfigurationError(topic_of_stream(made["name"]) or made["name"], why)
    _fit_window(made)
    return made


def _set(config: dict[str, Any], name: str, value: Any, replicas: int) -> None:
    """Change one setting in a configuration."""
    metadata = config["metadata"]
    if name == "replicas":
        config["num_replicas"] = value or replicas
    elif name == "retention":
        config["retention"] = _INTEREST if value == CONSUMED else _LIMITS
    elif name == "max-age":
        config["max_age"] = round((value or 0) * _NS)
    elif name == "max-bytes":
        config["max_bytes"] = value or -1
    elif name == "max-events":
        config["max_msgs"] = value or -1
    else:
        key = _DEDUPE if name == "dedupe" else _MAX_EVENT_BYTES
        metadata.pop(key, None)
        if value is not None:
            metadata[key] = str(round(value * _NS) if name == "dedupe" else value)
        if name == "dedupe":
            config["duplicate_window"] = round((value or DEDUPE) * _NS)


def _fit_window(config: dict[str, Any]) -> None:
    """Remember ids for as long as was said, or as long as there are events: the server takes no longer window."""
    metadata = config["metadata"]
    window = _noted(metadata, _DEDUPE) or (round(DEDUPE * _NS) if MARK in metadata else config.get("duplicate_window"))
    if window:
        config["duplicate_window"] = min(window, config.get("max_age") or window)


def new_config(stream: str, subject: str, chosen: Mapping[str, Any], replicas: int, made: str) -> dict[str, Any]:
    """The configuration of a stream that is to be. made: what tells this `create` from all others."""
    plain = {
        "name": stream,
        "subjects": [subject],
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "retention": _LIMITS,
        "duplicate_window": round(DEDUPE * _NS),
        "allow_atomic": True,
        "allow_direct": True,
        "metadata": {MARK: "1", MADE: made},
    }
    return changed(plain, {name: value for name, value in chosen.items() if value is not None}, replicas)

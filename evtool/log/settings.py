"""A topic's own settings, from its `topic.json`; a topic without one has the defaults."""

from __future__ import annotations

import os

from evtool.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory

FILE_NAME = "topic.json"
KEEP, CONSUMED = "keep", "consumed"
_LARGEST_FILE = 1 << 20


class Settings:
    """What may differ from topic to topic.

    segment_bytes: a segment that would grow past this many bytes is sealed and a new one begun.
    max_event_bytes: the most bytes that the data of one event may have.
    dedupe: for how many seconds an event's id keeps another one with the same id out.
    retention: KEEP all events, or only those that some group has not handled (CONSUMED).
    group_ttl: after how many seconds without a commit a group holds no event back any more.
    """

    __slots__ = ("dedupe", "group_ttl", "max_event_bytes", "retention", "segment_bytes")

    def __init__(
        self, segment_bytes: int = 64 << 20, max_event_bytes: int = 1 << 20, dedupe: float = 24 * 3600.0
    ) -> None:
        self.segment_bytes = segment_bytes
        self.max_event_bytes = max_event_bytes
        self.dedupe = dedupe
        self.retention = KEEP
        self.group_ttl = 7 * 24 * 3600.0


def load(directory: Directory) -> Settings:
    """Read the settings of the topic in this directory. Raises ConfigurationError, which names file and setting."""
    try:
        fd = directory.open(FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return Settings()
    try:
        text = os.read(fd, _LARGEST_FILE)
    finally:
        os.close(fd)
    return _parse(f"{directory.path}/{FILE_NAME}", text)


def _parse(path: str, text: bytes) -> Settings:
    import orjson

    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(path, f"not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigurationError(path, "not a JSON object")
    chosen = Settings()
    for name, value in given.items():
        attribute = name.replace("-", "_")
        if attribute not in Settings.__slots__ or name != attribute.replace("_", "-"):
            known = ", ".join(slot.replace("_", "-") for slot in Settings.__slots__)
            raise ConfigurationError(path, f"{name!r} is not a setting", hint=f"settings are {known}")
        if attribute == "retention":
            if value not in (KEEP, CONSUMED):
                raise ConfigurationError(path, f"{name!r} is neither {KEEP!r} nor {CONSUMED!r}")
            chosen.retention = value
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConfigurationError(path, f"{name!r} is not a number above 0")
        setattr(chosen, attribute, value if attribute in ("dedupe", "group_ttl") else int(value))
    return chosen

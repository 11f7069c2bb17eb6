"""From whole events to bodies whose attributes are taken out of the events themselves."""

from __future__ import annotations

from typing import Any

import orjson

from evtool.errors import DataError, UsageError
from evtool.log import line, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SPECIFIED = frozenset(("specversion", "data", "data_base64", "datacontenttype", "dataschema"))
_RENAMED = {"partitionkey": "key", "subject": "key", "time": "eventtime"}


class Path:
    """A place inside an event, as jq writes it: ``.user.id``, ``.items[0].sku``."""

    def __init__(self, text: str) -> None:
        self._steps = list(_steps(text))
        self.text = text

    def pick(self, event: Any) -> str | None:
        """The string or number that stands there as text, or None if there is none."""
        for step in self._steps:
            try:
                event = event[step]
            except (KeyError, IndexError, TypeError):
                return None
        if isinstance(event, str):
            return event
        return None if event is None or isinstance(event, (dict, list)) else orjson.dumps(event).decode()


def _steps(text: str) -> Iterable[str | int]:
    wrong = UsageError(repr(text), "not a path into an event", hint="say for example .user.id or .items[0].sku")
    if not text.startswith(".") or text == ".":
        raise wrong
    for part in text[1:].split("."):
        name, *indexes = part.split("[")
        if not name and (not indexes or part is not text[1:]):
            raise wrong
        if name:
            yield name
        for index in indexes:
            if not (index.endswith("]") and index[:-1].isdecimal()):
                raise wrong
            yield int(index[:-1])


class Encoder:
    """Makes bodies of events given as JSON.

    key_from, id_from: where in an event its key and its id are. cloudevents: the events are CloudEvents.
    """

    def __init__(self, key_from: str | None, id_from: str | None, cloudevents: bool) -> None:
        self._key_from = Path(key_from) if key_from else None
        self._id_from = Path(id_from) if id_from else None
        self._cloudevents = cloudevents

    def encode(self, event: bytes) -> tuple[bytes, str | None]:
        """The body of an event that is valid JSON, and its id if it has one. Raises DataError."""
        attributes, data = self._split(event)
        return payload.encode_attributes(attributes) + line.DATA + data, attributes.get("id")

    def _split(self, event: bytes) -> tuple[dict[str, str], bytes]:
        parsed = orjson.loads(event)
        attributes, data = _from_cloudevent(parsed) if self._cloudevents else ({}, event)
        if self._key_from is not None and (key := self._key_from.pick(parsed)) is not None:
            attributes["key"] = key
        if self._id_from is not None:
            found = self._id_from.pick(parsed)
            if found is None:
                raise DataError("event", f"no id at {self._id_from.text}")
            attributes["id"] = found
        return attributes, data


def _from_cloudevent(event: Any) -> tuple[dict[str, str], bytes]:
    """The attributes and the data of a CloudEvent. Its data are encoded anew, its time becomes `eventtime`."""
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise DataError("event", "not a CloudEvent: it has no specversion 1.0")
    attributes: dict[str, str] = {}
    for name, value in event.items():
        ours = _RENAMED.get(name) or str(name)
        if name in _SPECIFIED or (name == "subject" and "partitionkey" in event):
            continue
        if not line.is_attribute_name(ours) or ours in line.RESERVED_ATTRIBUTES or isinstance(value, (dict, list)):
            raise DataError("event", f"not a CloudEvent: attribute {name!r}")
        if value is not None:
            attributes[ours] = value if isinstance(value, str) else orjson.dumps(value).decode()
    if "data_base64" in event:
        attributes["dataencoding"] = "base64"
        return attributes, orjson.dumps(event["data_base64"])
    return attributes, payload.encode(event.get("data"))

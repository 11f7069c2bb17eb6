"""What becomes of a line of input, said by somebody else than evtool: by orjson, and by a few rules from the manual."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

_LONGEST_ATTRIBUTE = 1 << 16  # bytes, as JSON
_NAME = re.compile("[a-z][a-z0-9]{0,19}")
_RESERVED = {"offset", "time", "crc", "data", "topic", "evgroup", "evmember"}
_OTHER = {"specversion", "data", "data_base64", "datacontenttype", "dataschema"}


class Event(NamedTuple):
    """What is stored for a line: its attributes, and its data as bytes or, where they are encoded anew, as a value."""

    attributes: dict[str, str]
    data: bytes | None
    value: Any = None


class RefusedError(Exception):
    """A line is no event."""


class Oracle:
    """Knows what `append` has to do with each line, one after the other, if it is given these options."""

    def __init__(self, options: list[str], limit: int) -> None:
        self._options = options
        self._limit = limit
        self._ids: set[str] = set()

    def judge(self, text: bytes) -> Event | None:
        """The event that a line is, None if nothing is stored for it. Raises RefusedError."""
        is_text = "--text" in self._options
        if not is_text and not text.strip(b" \t\r\n") and len(text) <= self._limit:
            return None
        if len(text) > self._limit:
            raise RefusedError
        event = _text(text) if is_text else self._json(text)
        if is_text and len(orjson.dumps(event.value)) > self._limit:
            raise RefusedError
        for value in event.attributes.values():
            try:
                if len(orjson.dumps(value)) > _LONGEST_ATTRIBUTE:
                    raise RefusedError
            except orjson.JSONEncodeError:
                raise RefusedError from None
        return self._once(event)

    def _once(self, event: Event) -> Event | None:
        if "--id-from" not in self._options and "--cloudevents" not in self._options:
            return event
        known = event.attributes.get("id")
        if known is None:
            return event
        if known in self._ids:
            return None
        self._ids.add(known)
        return event

    def _json(self, text: bytes) -> Event:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise RefusedError from None
        event = _cloudevent(value) if "--cloudevents" in self._options else _as_it_is(text)
        if "--key-from" in self._options and (key := _pick(value, "k")) is not None:
            event.attributes["key"] = key
        if "--id-from" in self._options:
            found = _pick(value, "id")
            if found is None:
                raise RefusedError
            event.attributes["id"] = found
        return event


def _as_it_is(text: bytes) -> Event:
    """Nothing of the data changes, but that a newline would end the line."""
    return Event({}, text.strip(b" \t\r\n").replace(b"\n", b" "))


def _text(text: bytes) -> Event:
    try:
        return Event({}, None, text.decode())
    except UnicodeDecodeError:
        raise RefusedError from None


def _pick(value: Any, name: str) -> str | None:
    found = value.get(name) if isinstance(value, dict) else None
    if found is None or isinstance(found, (dict, list)):
        return None
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def _cloudevent(value: Any) -> Event:
    if not isinstance(value, dict) or value.get("specversion") != "1.0":
        raise RefusedError
    attributes = {}
    for name, one in value.items():
        if name in _OTHER or (name == "subject" and "partitionkey" in value):
            continue
        ours = {"partitionkey": "key", "subject": "key", "time": "eventtime"}.get(name) or str(name)
        if not _NAME.fullmatch(ours) or ours in _RESERVED or isinstance(one, (dict, list)):
            raise RefusedError
        if one is not None:
            attributes[ours] = one if isinstance(one, str) else orjson.dumps(one).decode()
    if "data_base64" in value:
        return Event(attributes | {"dataencoding": "base64"}, None, value["data_base64"])
    return Event(attributes, None, value.get("data"))

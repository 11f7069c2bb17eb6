"""An event as a CloudEvent 1.0 in structured JSON: key = subject and partitionkey, offset = sequence."""

from __future__ import annotations

import orjson

from evtool.log import line


def render(text: bytes) -> bytes:
    """One stored line as a CloudEvent, its data byte for byte.

    What a CloudEvent must have and the event has not: its source is the topic or `evtool`, its type `event`, its id the
    offset.
    """
    attributes = line.attributes(text)
    offset = line.offset_of(text)
    event: dict[str, str] = {
        "specversion": "1.0",
        "id": attributes.pop("id", str(offset)),
        "source": attributes.pop("source", attributes.get("topic", "evtool")),
        "type": attributes.pop("type", "event"),
        "time": attributes.pop("eventtime", line.time_of(text).decode()),
        "sequence": f"{offset:020d}",
        "datacontenttype": "application/json",
    }
    if "key" in attributes:
        key = attributes.pop("key")
        event |= {"subject": key, "partitionkey": key}
    binary = attributes.pop("dataencoding", None) == "base64"
    event |= attributes
    member = b'"data_base64":' if binary else line.DATA
    return orjson.dumps(event)[:-1] + b"," + member + line.data_of(text) + b"}"

"""Rules of a fan-out: which events go where, and how."""

from __future__ import annotations

import os
from zlib import crc32

from evtool.errors import UsageError
from evtool.log import names
from evtool.stores import NATS, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.handling import Handling
    from evtool.delivery.selection import Selection
    from evtool.stores.where import Where

_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
KINDS = ("topic", "file", "exec", "worker", "http", "https")
HINT = "say topic:NAME, file:PATH, exec:COMMAND, worker:COMMAND, http(s)://… or nats://…"
JSON, CLOUDEVENTS = "json", "cloudevents"


class Address:
    """Where a sink is: its kind and its place, as in ``file:/var/log/orders``.

    Of kind nats, a store in a cluster, the place is what can be opened, and `to` the topic there: the same as here
    unless ``#NAME`` stands at the end.
    """

    def __init__(self, text: str, topic: str) -> None:
        """Raises UsageError if that is no place for the events of `topic`."""
        self.text = text
        self.to = topic
        if text.startswith(NATS):
            self._be_store(text)
            return
        self.kind, _, self.place = text.partition(":")
        if self.kind not in KINDS or not self.place.strip("/"):
            raise UsageError(repr(text), "not a sink", hint=HINT)
        if self.kind == "topic" and names.check_name("topic", self.place) == topic:
            raise UsageError(text, "is the topic that is read")
        if self.kind == "file":  # the same file from wherever it is named
            self.place = os.path.abspath(self.place)
        self._whole = f"{self.kind}:{self.place}"

    def _be_store(self, text: str) -> None:
        self.kind = "nats"
        self.place, found, name = text.partition("#")
        known_as = shown(self.place)
        self.text = known_as + found + name
        if "@" in self.place:
            hint = "say them in the settings file or EVTOOL_CREDS, or name a file with ?creds=FILE"
            raise UsageError(self.text, "credentials have no place in the address of a sink", hint=hint)
        if found:
            self.to = names.check_name("topic", name)
        self._whole = f"{known_as}#{self.to}"

    @property
    def group(self) -> str:
        """The group under which a sink remembers where it is."""
        return group_name("fanout", self.kind, self._whole.partition(":")[2])


def group_name(prefix: str, kind: str, place: str) -> str:
    """The name of the group that takes events to a place: readable, and another one for every place."""
    readable = "".join(one if one in _NAME_LETTERS else "-" for one in place.lower())
    while "--" in readable:
        readable = readable.replace("--", "-")
    whole = f"{kind}:{place}"
    return f"{prefix}.{kind}-{readable[-32:].strip('-')}.{crc32(os.fsencode(whole)):08x}"


class Rule:
    """One sink and what it gets.

    group: under which it remembers where it is; None for one that follows from the address.
    content: what http gets, JSON or CLOUDEVENTS. headers: what it is told besides.
    """

    def __init__(
        self,
        address: Address,
        selection: Selection,
        handling: Handling,
        start: Where,
        *,
        group: str | None = None,
        content: str = JSON,
        headers: dict[str, str] | None = None,
        said: object = None,
    ) -> None:
        self.address = address
        self.selection = selection
        self.handling = handling
        self.start = start
        self.group = address.group if group is None else names.check_name("group", group)
        self.content = content
        self.headers = {} if headers is None else headers
        self.said = said  # the whole rule as it was said, to tell whether another one is the same

    @property
    def name(self) -> str:
        """What to call it."""
        return self.address.text

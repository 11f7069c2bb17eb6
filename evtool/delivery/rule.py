"""Rules of a fan-out: which events go where, and how."""

from __future__ import annotations

import os
from zlib import crc32

from evtool.errors import UsageError
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.handling import Handling
    from evtool.delivery.selection import Selection
    from evtool.stores.where import Where

_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
KINDS = ("topic", "file", "exec", "worker", "http", "https")
HINT = "say topic:NAME, file:PATH, exec:COMMAND, worker:COMMAND or http(s)://…"
JSON, CLOUDEVENTS = "json", "cloudevents"


class Address:
    """Where a sink is: its kind and its place, as in ``file:/var/log/orders``."""

    def __init__(self, text: str, topic: str) -> None:
        """Raises UsageError if that is no place for the events of `topic`."""
        self.text = text
        self.kind, _, self.place = text.partition(":")
        if self.kind not in KINDS or not self.place.strip("/"):
            raise UsageError(repr(text), "not a sink", hint=HINT)
        if self.kind == "topic" and names.check_name("topic", self.place) == topic:
            raise UsageError(text, "is the topic that is read")
        if self.kind == "file":  # the same file from wherever it is named
            self.place = os.path.abspath(self.place)

    @property
    def group(self) -> str:
        """The group under which a sink remembers where it is: readable, and another one for every address."""
        readable = "".join(one if one in _NAME_LETTERS else "-" for one in self.place.lower())
        while "--" in readable:
            readable = readable.replace("--", "-")
        whole = f"{self.kind}:{self.place}"
        return f"fanout.{self.kind}-{readable[-32:].strip('-')}.{crc32(os.fsencode(whole)):08x}"


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

"""The dead letters of a topic, as they are listed and sent through again."""

from __future__ import annotations

import orjson

from evtool.errors import NotFoundError
from evtool.log import line, names
from evtool.stores import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from evtool.stores.protocol import Store

REDRIVE = "redrive"  # the group of the dead letters that were sent through again


class Letter:
    """One dead letter. offset: its own. story: its data. is_redriven: whether it was sent through again."""

    def __init__(self, text: bytes, is_redriven: bool) -> None:
        self.offset = line.offset_of(text)
        self.story: dict[str, Any] = orjson.loads(line.data_of(text))
        self.time = line.time_of(text).decode()
        self.is_redriven = is_redriven

    @property
    def event_offset(self) -> int:
        """The offset of the event in its topic."""
        return int(self.story["event"]["offset"])

    @property
    def group(self) -> str | None:
        """The group that could not handle it; None if it was nobody's."""
        group = self.story.get("group")
        return None if group is None else str(group)


def letters(store: Store, topic: str) -> Iterator[Letter]:
    """All dead letters of a topic, oldest first. Raises NotFoundError if there is no such topic."""
    if not store.has(topic):
        raise naming.missing(store, topic)
    dead = names.dead_name(topic)
    if not store.has(dead):
        return
    place = store.topic(dead)
    try:
        standing = place.standing(REDRIVE)
    except NotFoundError:
        committed, redriven = 0, None
    else:
        committed, redriven = standing.committed, standing.handled
    reader = place.reader(0)
    while lines := reader.read():
        for text in lines.split(b"\n")[:-1]:
            offset = line.offset_of(text)
            is_redriven = offset < committed or (redriven is not None and offset in redriven)
            if (letter := _letter(text + b"\n", is_redriven)) is not None:
                yield letter


def _letter(text: bytes, is_redriven: bool) -> Letter | None:
    """The dead letter that a line is, or None: somebody may have appended something else."""
    try:
        letter = Letter(text, is_redriven)
        return letter if letter.event_offset >= 0 else None
    except (KeyError, TypeError, ValueError):
        return None

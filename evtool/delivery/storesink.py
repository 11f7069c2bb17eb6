"""Taking the events of a topic to a topic of the same kind or another, in another store: each once, and in order.

What is there is the truth. Whoever was killed, or does not know what became of the last events that it has sent, looks
in the destination for the last event that came this way, and goes on behind it.
"""

from __future__ import annotations

import time

from evtool.delivery.origin import DamagedError, Way, span
from evtool.errors import BusyError, ConditionError, ConfigurationError, DataError, UnknownOutcomeError, UsageError
from evtool.log import line
from evtool.stores.moved import Moved
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from evtool.delivery.consumer import Handled
    from evtool.delivery.origin import Marked
    from evtool.stores.protocol import Store, Topic, Writer

BLOCK = 3 << 17  # bytes of lines to take at a time
_OWN_SETTINGS = frozenset(("replicas",))  # what does not follow from those of another store
_FIRST_WINDOW, _LARGEST_WINDOW = 1000, 1 << 20  # events, from the end back
_FROZEN_SECONDS = 10.0  # after which others may have taken over, were we the ones that stood still
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # counts also while the machine sleeps
_NOT_TWICE = "those that are will not come twice when it is tried again"
_CLOCKS_APART = 24 * 3600.0  # seconds by which the clocks of two hosts may differ


class StoreSink:
    """Appends to a topic of another store.

    source, topic: where the events come from. store: where they go, to a topic of the name `to`.
    group: as which the events are consumed. way: what tells its way from others, see `evtool.delivery.origin.Way`.

    `next` is the offset before which the destination has, or was never to have, all events; `copied` counts events.
    """

    def __init__(self, source: Store, topic: str, store: Store, to: str, *, group: str, way: str = "") -> None:
        self.next = 0
        self.copied = 0
        self._stores = source, store
        self._names = topic, to
        self._group = group
        self._way_name = way
        self._writer: Writer | None = None
        self._taken = 0.0

    def begin(self, position: int) -> int:
        """Find out from which offset on, at or behind `position`, the destination lacks events.

        The topic is made if it is missing, with the settings of the source. Raises ConditionError if it has events that
        the source has not, so that nobody can tell.
        """
        (source, store), (topic, to) = self._stores, self._names
        self._source = source.topic(topic)
        destination = ready(source, self._source, store, to)
        self._way = way_between(self._source, destination, self._way_name)
        self.next = missing_from(self._source, destination, self._way, position)
        self._writer = destination.writer()
        self._limit = self._writer.limit
        return self.next

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Append those of these lines that are not there and make them durable.

        Raises DataError for an event that is damaged, or too large for the destination, after those before it were
        stored; Moved, if this process has stood still in between, so that the group may be another one's by now. After
        any other error `begin` must be called again, as what is there may be anything between none and all.
        """
        try:
            self._take(lines)
        except DamagedError as damage:
            if damage.before:
                self._take(damage.before)
            raise
        handled(None)

    def settle(self) -> None:
        """Nothing is left to be done."""

    def _take(self, lines: bytes) -> None:
        first, end = span(lines)
        if self._writer is None:
            self.begin(first)
        self._taken = time.clock_gettime(_CLOCK)
        if end > self.next:
            self._append(self._way.mark_all(lines).since(self.next))
            self.next = end

    def _append(self, marked: Marked) -> None:
        too_large = self._first_too_large(marked.bodies)
        if too_large is not None:
            self._store(marked.part(0, too_large))
            self.next = int(marked.offsets[too_large])
            raise self._refused(marked, too_large)
        try:
            self._store(marked)
        except DataError as error:
            self._append_each(marked, error)

    def _store(self, part: Marked) -> None:
        assert self._writer is not None
        if part.bodies:
            if time.clock_gettime(_CLOCK) - self._taken > _FROZEN_SECONDS:
                raise Moved(self._source.name, self._group)
            try:
                self._writer.append(part.bodies, part.common, tokens=self._way.tokens(part.offsets))
            except UnknownOutcomeError as error:
                why = f"it is unknown whether {error.unknown} events are stored: {error.reason}"
                raise BusyError(error.what, why, hint=_NOT_TWICE) from error
            self._writer.sync()
            self._taken = time.clock_gettime(_CLOCK)
            self.copied += len(part.bodies)

    def _append_each(self, marked: Marked, error: DataError) -> None:
        """Store what comes before the one event that is refused. Raises a DataError about that."""
        self.begin(self.next)
        for place in range(len(marked.bodies)):
            if int(marked.offsets[place]) >= self.next:
                try:
                    self._store(marked.part(place, place + 1))
                    self.next = int(marked.offsets[place]) + 1
                except DataError as refused:
                    raise self._cannot_take(marked, place, refused.why) from error

    def _first_too_large(self, bodies: list[bytes]) -> int | None:
        """Which of these has data that are larger than those of an event may be, if one has."""
        limit = self._limit
        if max(map(len, bodies), default=0) <= limit:
            return None
        return next((place for place, body in enumerate(bodies) if _data_size(body) > limit), None)

    def _refused(self, marked: Marked, place: int) -> DataError:
        size = _data_size(marked.bodies[place])
        return self._cannot_take(marked, place, f"has {size} bytes, and the destination takes {self._limit}")

    def _cannot_take(self, marked: Marked, place: int, why: str) -> DataError:
        topic, offset = self._source.name, int(marked.offsets[place])
        hint = (
            "let the destination take larger events (max-event-bytes, see evtool-set(1)),"
            f" or leave this one out: evtool seek {topic} --group {self._group} --to {offset + 1}"
        )
        return DataError(f"{topic}: offset {offset}", why, hint=hint)


def ready(source: Store, topic: Topic, store: Store, name: str) -> Topic:
    """The topic of this name in a store; made, if it is missing, with the settings that the source has chosen."""
    if not store.has(name):
        chosen = carried_settings(source, topic, store)
        try:
            store.create(name, chosen)
        except ConditionError:  # somebody else was faster
            pass
        except ConfigurationError as error:
            hint = f"make it there as it should be: evtool create {name} --store …"
            raise ConfigurationError(error.what, error.why, hint=error.hint or hint) from error
    return store.topic(name)


def carried_settings(source: Store, topic: Topic, store: Store) -> Mapping[str, Any]:
    """The settings of a topic that are not the usual ones where it is, as far as another store knows them."""
    known = source.known_settings
    return {
        name: value
        for name, value in topic.settings().values().items()
        if name in store.known_settings and name not in _OWN_SETTINGS and (name not in known or value != known[name][1])
    }


def way_between(source: Topic, destination: Topic, name: str = "") -> Way:
    """The way from one topic to another. Raises UsageError if they are the same."""
    ours, theirs = source.identity(), destination.identity()
    if ours == theirs:
        raise UsageError(source.name, "is the topic that is read")
    return Way(ours, theirs, name)


def missing_from(source: Topic, destination: Topic, way: Way, position: int) -> int:
    """The offset of the source from which on, but not before `position`, the destination lacks events."""
    since = source.time_at(position)
    if since is None:
        return position  # what will come can't be there yet
    found = last_arrival(destination, way, since)
    if found is None or found[0] < position:
        return position
    offset, moment = found
    end = source.bounds().next
    text = source.line_at(offset)
    if offset >= end:
        raise _lost(source, f"the destination has offset {offset} of it, and the next one here is {end}")
    if text is not None and moment is not None and line.time_of(text) != moment:
        raise _lost(source, f"offset {offset} is another event at the destination, of {moment.decode()}")
    return offset + 1


def last_arrival(destination: Topic, way: Way, since: bytes) -> tuple[int, bytes | None] | None:
    """Offset and time, at the source, of the last event that came this way; None if none did, or only before `since`.

    It is looked for from the end back, as far as the clocks of two hosts may be apart.
    """
    bounds = destination.bounds()
    lowest = bounds.first
    if seconds_of(since) < time.time():  # else the clock was wrong when it was stamped
        earliest = max(0.0, seconds_of(since) - _CLOCKS_APART)
        lowest = max(lowest, destination.offset_at(line.stamp(int(earliest * 1e9))))
    high, window = bounds.next, _FIRST_WINDOW
    while high > lowest:
        low = max(lowest, high - window)
        if (found := _last_between(destination, way, low, high)) is not None:
            return found
        high, window = low, min(window * 8, _LARGEST_WINDOW)
    return None


def _last_between(destination: Topic, way: Way, low: int, high: int) -> tuple[int, bytes | None] | None:
    found = None
    reader = destination.reader(low)
    while reader.next_offset < high and (lines := reader.read(BLOCK)):
        found = way.last_in(lines) or found
    return found


def _lost(source: Topic, why: str) -> ConditionError:
    return ConditionError(
        source.name,
        f"is not the log that was mirrored: {why}",
        hint="was it restored, or copied? evtool-mirror(1) says what helps",
    )


def _data_size(body: bytes) -> int:
    """How many bytes the data in a body, or in the end of one, have."""
    at = body.find(b"," + line.DATA)
    return len(body) - at - len(line.DATA) - 1

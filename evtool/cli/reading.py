"""What the reading commands have in common: topics that may not be there yet, and where in them to begin and to end."""

from __future__ import annotations

import time

from evtool.cli import border, home
from evtool.delivery.feed import Feed
from evtool.delivery.selection import Selection
from evtool.delivery.source import Source
from evtool.errors import NotFoundError, UsageError
from evtool.log import names
from evtool.stores import naming, where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.stores.protocol import Store, Topic


def selection(args: Args) -> Selection:
    """Which events are wanted."""
    return Selection(args.key, args.type, args.where, args.jq)


def seconds(text: str | None) -> float | None:
    """A duration that was said, if one was."""
    return None if text is None else where.duration(text)


def check_count(count: int | None) -> int | None:
    """The number of events that was asked for. Raises UsageError for less than none."""
    if count is not None and count < 0:
        raise UsageError("--count", f"{count} is below 0")
    return count


def check_patterns(patterns: list[str]) -> list[str]:
    """The topics and globs that were named, each once. Raises UsageError for what cannot be one."""
    for pattern in patterns:
        if names.is_pattern(pattern):
            names.check_pattern(pattern)
        else:
            names.check_name("topic", pattern)
    return list(dict.fromkeys(patterns))


def open_store(args: Args, patterns: list[str], *, wait: bool) -> tuple[Store, list[str]]:
    """The store, and those of the topics that are there; see `check_there`."""
    store = home.open_home(args, create=True) if wait else _existing_home(args, patterns)
    return store, check_there(args, store, patterns, wait=wait)


def check_there(args: Args, store: Store, patterns: list[str], *, wait: bool) -> list[str]:
    """Those of the topics that are there. One that is not is waited for, after a word about that, or NotFoundError."""
    there: dict[str, None] = {}
    for pattern in patterns:
        found = naming.named(store, [pattern])
        if not found:
            is_glob = names.is_pattern(pattern)
            error = NotFoundError(pattern, "no topic matches") if is_glob else naming.missing(store, pattern)
            _say_missing(args, error, wait)
        there.update(dict.fromkeys(found))
    return list(there)


def _existing_home(args: Args, patterns: list[str]) -> Store:
    try:
        return home.open_home(args)
    except NotFoundError:
        raise NotFoundError(
            patterns[0], "no such topic", hint="there are no topics yet; `evtool append` makes one"
        ) from None


def _say_missing(args: Args, error: NotFoundError, wait: bool) -> None:
    if not wait:
        raise error
    if not args.quiet:
        home.note(f"{error.what}: {error.why} yet, waiting for it" + (f" ({error.hint})" if error.hint else ""))


def say_lapsed(topic: str, group: str) -> None:
    """Say that a group comes back after the time for which its topic keeps events for it."""
    home.note(f"{topic}: group {group} was away for longer than the topic's group-ttl; what others had may be gone")


def say_missed(topic: str, first: int, last: int) -> None:
    """Tell of events that were trimmed away before they could be read."""
    home.note(f"{topic}: offsets {first} to {last} are gone, trimmed or lost before they were read")


class Span:
    """Where to begin and where to end in each topic.

    start: the beginning in a topic that is there now; one that appears later is read from its own.
    """

    def __init__(self, store: Store, start: where.Where, until: where.Where | None = None) -> None:
        self._store = store
        self._start = start
        self._until = until

    @property
    def ends_at(self) -> float | None:
        """When nothing more can be wanted, in seconds since the epoch, if that depends on the time."""
        if self._until is None or not isinstance(self._until.value, bytes):
            return None
        moment = where.seconds_of(self._until.value)
        return moment if moment > time.time() else None

    def source(self, topic: str, late: bool) -> Source:
        """The events of one topic within this span."""
        found = self._store.topic(topic)
        first = (where.EARLIEST if late else self._start).begin(found)
        until_offset, until_time = self._end(found)
        reader = found.reader(first, lambda low, high: say_missed(topic, low, high))
        return Source(topic, reader, until_offset, until_time)

    def end_offset(self, topic: str) -> int | None:
        """The first offset that is not wanted any more, if it is known by now."""
        if self._until is None or self.ends_at is not None:
            return None
        return self._end(self._store.topic(topic))[0]

    def _end(self, topic: Topic) -> tuple[int | None, bytes | None]:
        if self._until is None:
            return None, None
        if isinstance(self._until.value, bytes) and self.ends_at is not None:
            return None, self._until.value
        return self._until.resolve(topic), None


def feed(store: Store, patterns: list[str], there: list[str], span: Span, *, follow: bool) -> Feed:
    """The events of these topics within a span. follow: whether it will be waited for more, until Ctrl-C."""
    return Feed(store, patterns, there, span.source, border.interruption() if follow else None, span.ends_at)

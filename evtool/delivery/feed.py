"""The events of one or several topics as one stream, merged by time, and where it stands in each topic."""

from __future__ import annotations

import heapq
import time

from evtool.delivery.source import BLOCK, Source, last_line
from evtool.errors import NotFoundError
from evtool.log import line, names
from evtool.stores import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from evtool.stores.protocol import Store, Watch

    Begin = Callable[[str, bool], Source | None]

_BLOCK = 1 << 18
_TRY_AGAIN_SECONDS = 0.05


class Feed:
    """Events of the topics that `patterns` name, each a topic or a glob, in blocks of whole lines.

    A single topic's lines come as they are stored; those of several have an attribute `topic` that tells them apart.
    Topics that appear later are joined in, from their beginning, while the feed is waited on.

    there: those that there were when it was said which are waited for: they have appeared later, if they have by now.
        None: those that there are now.
    begin: makes the source for a topic; its second argument says whether the topic appeared later. None means that it
        cannot begin there now, and is asked again.
    wake: a descriptor that ends a wait when it can be read.
    ends_at: when the feed is finished whatever there is, in seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        patterns: list[str],
        there: Collection[str] | None,
        begin: Begin,
        wake: int | None = None,
        ends_at: float | None = None,
    ) -> None:
        self._store = store
        self._patterns = patterns
        self._there = naming.named(store, patterns) if there is None else there
        self._begin = begin
        self._wake = wake
        self._ends_at = ends_at
        self._has_ended = False
        self._has_changed = False
        self._watch: Watch | None = None
        self._sources: dict[str, Source] = {}
        self._deferred: set[str] = set()
        self._pending: dict[str, Iterator[bytes]] = {}
        self._heap: list[tuple[bytes, str, bytes]] = []
        self._positions: dict[str, int] = {}
        self.is_single = len(patterns) == 1 and not names.is_pattern(patterns[0])
        self._join_new()

    @property
    def missing(self) -> list[str]:
        """The topics that were named and do not exist yet."""
        return [one for one in self._patterns if not names.is_pattern(one) and one not in self._sources]

    @property
    def sources(self) -> list[Source]:
        """The sources of all topics that there are."""
        return list(self._sources.values())

    @property
    def is_finished(self) -> bool:
        """Whether nothing more can come, as every source has come to where it is to end."""
        return self._has_ended or (bool(self._sources) and all(source.is_finished for source in self._sources.values()))

    def read(self, limit: int = BLOCK) -> bytes:
        """The next lines, of a single topic about `limit` bytes; empty at the end of what there is."""
        if self.is_single:
            return self._sources[self._patterns[0]].read(limit) if self._sources else b""
        merged: list[bytes] = []
        size = 0
        for topic in self._sources.keys() - self._pending.keys():
            self._refill(topic)
        while self._heap and size < _BLOCK:
            _, topic, text = heapq.heappop(self._heap)
            self._positions[topic] = line.offset_of(text) + 1
            merged.append(line.with_topic(text, topic.encode()))
            size += len(text)
            self._push_next(topic)
        return b"".join(merged)

    def positions(self) -> dict[str, int]:
        """For each topic the offset behind everything that was read so far."""
        if self.is_single:
            return {source.topic: source.reader.next_offset for source in self.sources}
        return dict(self._positions)

    def positions_after(self, lines: bytes) -> dict[str, int]:
        """For each topic of these lines the offset behind the last of them."""
        if not lines:
            return {}
        if self.is_single:
            return {self._patterns[0]: line.offset_of(last_line(lines)) + 1}
        return {line.topic_of(text): line.offset_of(text) + 1 for text in lines.split(b"\n")[:-1]}

    @property
    def fd(self) -> int | None:
        """A descriptor that can be read when `wait` would return at once; None if there is no such thing now."""
        return None if self._watch is None or self._deferred else self._watch.fd

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there may be more to read, at most so many seconds; say whether there may be."""
        if self._watch is None:  # what came before there was a watch has yet to be read
            self._watch = self._store.watch(self._sources, self._wake, new_topics=self._awaits_topics())
            self._join_new()
            return True
        if self._has_changed and self._look_around():
            return True
        if self._deferred:
            return self._try_deferred(timeout)
        self._has_changed = self._watch.wait(self._until_end(timeout))
        if self._ends_at is not None and time.time() >= self._ends_at:
            self._has_ended = True
            return True
        return self._has_changed

    def _look_around(self) -> bool:
        """After a change, and after what it brought was read: see whether topics came or went; say whether any came."""
        for topic, source in self._sources.items():
            if source.reader.is_gone():
                raise NotFoundError(topic, "the topic was removed")
        known = len(self._sources)
        if self._awaits_topics():
            self._join_new()
        return len(self._sources) > known

    def _try_deferred(self, timeout: float | None) -> bool:
        """As `wait`, while there are topics that could not be begun in yet."""
        assert self._watch is not None
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _TRY_AGAIN_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            if self._watch.wait(min(left, _TRY_AGAIN_SECONDS)):
                self._has_changed = True
                return True
            known = len(self._sources)
            for topic in list(self._deferred):
                self._join(topic)
            if len(self._sources) > known:
                return True
            if not self._deferred or left <= 0:
                return False

    def _until_end(self, timeout: float | None) -> float | None:
        if self._ends_at is None:
            return timeout
        left = max(0.0, self._ends_at - time.time())
        return left if timeout is None else min(left, timeout)

    def _awaits_topics(self) -> bool:
        return bool(self.missing) or any(map(names.is_pattern, self._patterns))

    def _join_new(self) -> None:
        for topic in naming.named(self._store, self._patterns):
            if topic not in self._sources and topic not in self._deferred:
                if self._watch is not None:
                    self._watch.add(topic)
                self._join(topic)

    def _join(self, topic: str) -> None:
        try:
            source = self._begin(topic, topic not in self._there)
        except NotFoundError:
            if topic in self._patterns:
                raise
            return  # it is being made, or was removed, in this moment: the next look tells
        if source is None:
            self._deferred.add(topic)
        else:
            self._sources[topic] = source
            self._deferred.discard(topic)

    def _refill(self, topic: str) -> None:
        lines = self._sources[topic].read()
        if lines:
            self._pending[topic] = iter(lines.split(b"\n")[:-1])
            self._push_next(topic)

    def _push_next(self, topic: str) -> None:
        """Put the topic's next line on the heap; when its block is used up, get the next."""
        text = next(self._pending[topic], None)
        if text is None:
            del self._pending[topic]
            self._refill(topic)
        else:
            heapq.heappush(self._heap, (line.time_of(text), topic, text + b"\n"))

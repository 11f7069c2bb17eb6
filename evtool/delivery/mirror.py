"""Mirroring: every event of some topics to topics of the same names in another store, once each and in order."""

from __future__ import annotations

import contextlib
import time

from evtool.delivery.membership import Membership
from evtool.delivery.source import Source
from evtool.delivery.stop import Stop, Stopped
from evtool.delivery.storesink import BLOCK, StoreSink
from evtool.errors import BusyError, ConfigurationError, DataError, EvtoolError, NotFoundError, UsageError
from evtool.log import names
from evtool.log.ranges import Ranges
from evtool.stores import naming
from evtool.stores.moved import Moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from evtool.stores.protocol import Group, Store, Watch
    from evtool.stores.where import Where

    class Watcher(Protocol):
        """Who is told what becomes of a mirror."""

        def failed(self, topic: str | None, error: EvtoolError) -> None:
            """Nothing can be copied of this topic, or of any. Said once; it is tried again if the mirror follows."""

        def recovered(self, topic: str | None) -> None:
            """It goes on."""

        def standing_by(self, topic: str, group: str) -> None:
            """Another process copies the topic."""

        def missed(self, topic: str, first: int, last: int) -> None:
            """Events were trimmed away before they were copied."""

        def lapsed(self, topic: str, group: str) -> None:
            """Events were not kept for us, as we were away for too long."""

        def removed(self, topic: str) -> None:
            """The topic was removed at the source."""

        def moved(self, lanes: Sequence[Lane]) -> None:
            """Some more events were copied."""


_ENDING = (BusyError, ConfigurationError, UsageError)  # what is wrong with a store, or with what was asked for
_RETRY_SECONDS = (1.0, 30.0)
_STANDBY_SECONDS, _LOOK_SECONDS, _SYNC_SECONDS = 0.1, 1.0, 1.0


class Mirror:
    """Copies topics from one store to another: all that there is or, if it follows, what comes too.

    patterns: topics and globs. there: those that there were at the start; others are copied from their beginning.
    group: as which the source is read. start: where a new one begins.
    """

    def __init__(
        self,
        source: Store,
        destination: Store,
        patterns: list[str],
        there: Iterable[str],
        group: str,
        start: Where,
        stop: Stop,
        watcher: Watcher,
        *,
        follow: bool,
    ) -> None:
        self.source = source
        self.destination = destination
        self.watcher = watcher
        self.follow = follow
        self.group = group
        self.lanes: dict[str, Lane] = {}
        self.membership = Membership(
            source,
            group,
            start,
            stop,
            on_standby=watcher.standing_by,
            on_missed=watcher.missed,
            on_lapsed=watcher.lapsed,
            command="mirror",
        )
        self._patterns = patterns
        self._there = set(there)
        self._stop = stop
        self._watch: Watch | None = None
        self._has_changed = False
        self._looked = time.monotonic()
        self._outage = Trouble()
        self._has_begun = False

    def run(self) -> None:
        """Copy to the end, or until we are told to stop. Raises BusyError if one of the stores is away.

        What is wrong with one topic does not keep the others back; it is in the `error` of its lane.
        """
        try:
            self._join_new()
            if self.follow:
                self._run_on()
            else:
                for lane in self.lanes.values():
                    self._run_out(lane)
        except Stopped:
            pass
        finally:
            self._leave()

    def _run_out(self, lane: Lane) -> None:
        """Copy what there is of one topic."""
        while not lane.is_finished and lane.error is None:
            self._stop.check()
            try:
                if not lane.step() and lane.is_standing_by:
                    self._stop.wait(_STANDBY_SECONDS)
            except _ENDING:
                raise
            except EvtoolError as error:
                lane.fail(error)
                self.watcher.failed(lane.topic, error)
            self.watcher.moved([*self.lanes.values()])

    def _run_on(self) -> None:
        """Copy what there is and what comes."""
        new_topics = any(map(names.is_pattern, self._patterns)) or len(self.lanes) < len(self._patterns)
        self._watch = self.source.watch(self.lanes, self._stop.fd, new_topics=new_topics)
        self._has_changed = True  # topics may have come before it watched
        while True:
            self._stop.check()
            if not self._outage.is_due:
                self._stop.wait(self._outage.seconds)
                continue
            try:
                worked = [self._serve(lane) for lane in [*self.lanes.values()] if lane.trouble.is_due]
                if self._outage.clear():
                    self.watcher.recovered(None)
                if not any(worked):
                    self._wait(new_topics)
            except BusyError as error:
                self._leave()
                if self._outage.add(error):
                    self.watcher.failed(None, error)
            self.watcher.moved([*self.lanes.values()])

    def _serve(self, lane: Lane) -> bool:
        """Copy some more of one topic; say whether there was anything."""
        try:
            worked = lane.step()
        except BusyError:
            raise
        except EvtoolError as error:
            if not self._has_begun and isinstance(error, _ENDING):
                raise
            self._fail(lane, error)
            return False
        self._has_begun = True
        if not lane.is_standing_by and lane.trouble.clear():
            self.watcher.recovered(lane.topic)
        return worked

    def _fail(self, lane: Lane, error: EvtoolError) -> None:
        """Try again later, if the topic is still there."""
        lane.fail(error)
        if isinstance(error, NotFoundError) and not self.source.has(lane.topic):
            self._drop(lane)
        elif lane.trouble.add(error):
            self.watcher.failed(lane.topic, error)

    def _wait(self, new_topics: bool) -> None:
        """Wait for more."""
        now = time.monotonic()
        if self._has_changed and now - self._looked >= _LOOK_SECONDS:
            self._has_changed = False
            self._looked = now
            if self._look_around(new_topics):
                return
        moments = [lane.due for lane in self.lanes.values()]
        if self._has_changed:
            moments.append(self._looked + _LOOK_SECONDS)
        due = min((moment for moment in moments if moment is not None), default=None)
        assert self._watch is not None
        if self._watch.wait(None if due is None else max(0.0, due - now)):
            self._has_changed = True

    def _look_around(self, new_topics: bool) -> bool:
        """See whether topics came or went; say whether that was so."""
        count = len(self.lanes)
        for lane in [*self.lanes.values()]:
            if lane.is_gone():
                self._drop(lane)
        is_changed = len(self.lanes) < count
        return (new_topics and self._join_new()) or is_changed

    def _join_new(self) -> bool:
        found = [topic for topic in naming.named(self.source, self._patterns) if topic not in self.lanes]
        for topic in found:
            self.lanes[topic] = Lane(self, topic, late=topic not in self._there)
            if self._watch is not None:
                self._watch.add(topic)
        return bool(found)

    def _drop(self, lane: Lane) -> None:
        """A topic of the source is gone."""
        self.watcher.removed(lane.topic)
        del self.lanes[lane.topic]
        self._there.discard(lane.topic)
        if self._watch is not None:  # it may be made anew
            self._watch = self.source.watch(self.lanes, self._stop.fd, new_topics=True)
        lane.leave()

    def _leave(self) -> None:
        """Let others copy, once what we have done is durable."""
        for lane in self.lanes.values():
            with contextlib.suppress(EvtoolError):
                lane.leave()
        with contextlib.suppress(EvtoolError):
            self.membership.leave()


class Lane:
    """One topic on its way.

    copied: events of this run. first, next: where it began and where it is, None as long as it has not begun. end: the
    next offset of the source at the last look. error: what has ended it.
    """

    def __init__(self, mirror: Mirror, topic: str, *, late: bool) -> None:
        self.topic = topic
        self.copied = 0
        self.first: int | None = None
        self.next: int | None = None
        self.end = 0
        self.error: EvtoolError | None = None
        self.trouble = Trouble()
        self.is_finished = False
        self.is_standing_by = False
        self._mirror = mirror
        self._late = late
        self._group: Group | None = None
        self._sink: StoreSink | None = None
        self._source: Source | None = None
        self._unsynced_since: float | None = None

    @property
    def due(self) -> float | None:
        """The moment of `time.monotonic` at which `step` has something to do though no event comes."""
        if self.is_standing_by:
            return time.monotonic() + _STANDBY_SECONDS
        if self.trouble.is_there:
            return self.trouble.until
        return None if self._unsynced_since is None else self._unsynced_since + _SYNC_SECONDS

    def step(self) -> bool:
        """Copy the next events; say whether there were any. Raises what keeps them from being copied."""
        try:
            if self._source is None and not self._open():
                return False
            assert self._source is not None
            lines = self._source.read(BLOCK)
            if lines:
                self._copy(lines)
            else:
                self._look()
            self._sync_if_due()
        except Moved:
            self._close()
            return True
        return bool(lines)

    def fail(self, error: EvtoolError) -> None:
        """Stop here; another `step` begins anew."""
        self.error = error
        self._close()

    def is_gone(self) -> bool:
        """Whether the topic was removed."""
        return self._source is not None and self._source.reader.is_gone()

    def leave(self) -> None:
        """Make durable what is known to be copied, and let others go on."""
        self._close()
        group = self._mirror.membership.groups.pop(self.topic, None)
        if group is not None:
            try:
                if self._unsynced_since is not None:
                    group.sync()
            finally:
                self._unsynced_since = None
                group.release()

    def _open(self) -> bool:
        """Begin where the destination ends; say whether we may."""
        mirror = self._mirror
        mirror.destination.has(self.topic)  # what is wrong with it should be told before there is a group
        self.is_standing_by = not mirror.membership.has(self.topic)
        if self.is_standing_by:
            return False
        committed = mirror.membership.begin(self.topic, self._late)
        sink = StoreSink(mirror.source, self.topic, mirror.destination, self.topic, group=mirror.group)
        position = sink.begin(committed)
        self._group = group = mirror.membership.groups[self.topic]
        self.end = mirror.source.topic(self.topic).bounds().next
        reader = group.reader(position, lambda first, last: mirror.watcher.missed(self.topic, first, last))
        self._sink = sink
        self._source = Source(self.topic, reader, None if mirror.follow else self.end)
        self.next = position
        if self.first is None:
            self.first = position
        if position != committed:
            self._commit()
        self.error = None
        return True

    def _close(self) -> None:
        self._source = self._sink = None

    def _copy(self, lines: bytes) -> None:
        sink = self._sink
        assert sink is not None
        before = sink.copied
        try:
            sink.deliver(lines, lambda _: None)
        except DataError:  # what stands before the event that is refused is there
            self.next = sink.next
            self._commit()
            raise
        finally:
            self.copied += sink.copied - before
        self.next = sink.next
        self.end = max(self.end, sink.next)
        self._commit()

    def _look(self) -> None:
        """At the end of what there is: see what others have said of the group. Raises Moved."""
        self.is_finished = not self._mirror.follow
        if (group := self._group) is not None:
            group.look()
            if group.state.again:  # all that we have passed is there
                group.handle(Ranges(group.state.again))

    def _commit(self) -> None:
        assert self._group is not None
        assert self.next is not None
        self._group.commit(self.next)
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()

    def _sync_if_due(self) -> None:
        if self._unsynced_since is not None and time.monotonic() - self._unsynced_since >= _SYNC_SECONDS:
            assert self._group is not None
            self._group.sync()
            self._unsynced_since = None


class Trouble:
    """What is tried again after a while, each time a longer one."""

    def __init__(self) -> None:
        self.until = 0.0
        self.is_there = False
        self._delay = _RETRY_SECONDS[0]
        self._kind: type | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is time to try."""
        return time.monotonic() >= self.until

    @property
    def seconds(self) -> float:
        """How long it is until then."""
        return max(0.0, self.until - time.monotonic())

    def add(self, error: EvtoolError) -> bool:
        """It has failed, again maybe; say whether that is news."""
        self.until = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, _RETRY_SECONDS[1])
        is_news = type(error) is not self._kind
        self._kind = type(error)
        self.is_there = True
        return is_news

    def clear(self) -> bool:
        """It has not failed; say whether that is news."""
        was_there, self.is_there = self.is_there, False
        self._kind, self._delay, self.until = None, _RETRY_SECONDS[0], 0.0
        return was_there

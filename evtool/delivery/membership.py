"""Consuming as a group: becoming the one process that does, and beginning where the group stands."""

from __future__ import annotations

from evtool.delivery.source import Source
from evtool.stores.protocol import ALONE
from evtool.stores.where import EARLIEST, LATEST, Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evtool.delivery.stop import Stop
    from evtool.stores.protocol import Group, Store

_STANDBY_SECONDS, _FAR_STANDBY_SECONDS = 0.05, 0.25


class Membership:
    """The part of this process in a group, topic by topic. `groups` holds the group of each topic joined so far.

    start: where the group begins in a topic that it never consumed, by default at the end. One that appeared after we
        did it gets from its beginning.
    mode: whether it consumes alone, shares the events with others, or lets others commit. command: what handles them.
    on_standby: called with topic and group when another process consumes for the group, before waiting for it to end.
    on_lapsed: called with topic and group when the group was away for so long that events were not kept for it.
    on_missed: called with a topic and the first and last offset of events that were trimmed away unread.
    """

    def __init__(
        self,
        store: Store,
        group: str,
        start: Where | None,
        stop: Stop,
        *,
        on_standby: Callable[[str, str], None],
        on_missed: Callable[[str, int, int], None],
        on_lapsed: Callable[[str, str], None],
        mode: str = ALONE,
        command: str = "",
    ) -> None:
        self.groups: dict[str, Group] = {}
        self._store = store
        self.group = group
        self._start = start
        self._stop = stop
        self._on_standby = on_standby
        self._on_missed = on_missed
        self._on_lapsed = on_lapsed
        self._mode = mode
        self._command = command
        self._said: set[str] = set()

    def acquire(self, topics: Iterable[str]) -> None:
        """Become the one that consumes in all of these topics. Raises Stopped while it stands by.

        While it waits for one of them it holds none: two that each wait for what the other has would wait for ever.
        """
        wanted = sorted(topics)
        while not all(map(self._try_acquire, wanted)):
            self.leave()
            if self._stop.wait(_STANDBY_SECONDS if self._store.capabilities.is_local else _FAR_STANDBY_SECONDS):
                self._stop.check()

    def join(self, topic: str, late: bool) -> Source | None:
        """What the group has not had of a topic; None as long as another process consumes for it there."""
        if not self._try_acquire(topic):
            return None
        position = self.begin(topic, late)
        group = self.groups[topic]
        return Source(topic, group.reader(position, lambda first, last: self.missed(topic, first, last)))

    def begin(self, topic: str, late: bool) -> int:
        """Say that this process consumes for the group now, and give back from which offset on."""
        group = self.groups[topic]
        if group.has_lapsed:
            self._on_lapsed(topic, self.group)
        position = group.committed
        is_new = position is None
        if position is None:
            start = EARLIEST if late else self._start or LATEST
            position = start.begin(self._store.topic(topic))
        position = group.join(position)
        if is_new:
            group.sync()
        return position

    def committed(self) -> dict[str, int]:
        """What the group has committed in each topic."""
        return {topic: group.committed or 0 for topic, group in self.groups.items()}

    def leave(self) -> None:
        """Let another process consume for the group."""
        while self.groups:
            self.groups.popitem()[1].release()

    def has(self, topic: str) -> bool:
        """Whether this process may consume for the group there."""
        return self._try_acquire(topic)

    def missed(self, topic: str, first: int, last: int) -> None:
        """Say that events were trimmed away unread."""
        self._on_missed(topic, first, last)

    def _try_acquire(self, topic: str) -> bool:
        if topic in self.groups:
            return True
        group = self._store.topic(topic).group(self.group)
        if group.try_acquire(self._mode, self._command):
            self.groups[topic] = group
            return True
        if topic not in self._said:
            self._said.add(topic)
            self._on_standby(topic, self.group)
        return False

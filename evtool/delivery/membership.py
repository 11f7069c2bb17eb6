"""Consuming as a group: becoming the one process that does, and beginning where the group stands."""

from __future__ import annotations

from evtool.delivery.source import Source
from evtool.stores.where import EARLIEST, LATEST, Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.stop import Stop
    from evtool.stores.file import FileStore
    from evtool.stores.group import FileGroup

_STANDBY_SECONDS = 0.05


class Membership:
    """The part of this process in a group, topic by topic. `groups` holds the group of each topic joined so far.

    start: where the group begins in a topic that it never consumed; by default at the end, or at the beginning of a
        topic that appeared after we did.
    on_standby: called with topic and group when another process consumes for the group, before waiting for it to end.
    on_missed: called with a topic and the first and last offset of events that were trimmed away unread.
    """

    def __init__(
        self,
        store: FileStore,
        group: str,
        start: Where | None,
        stop: Stop,
        *,
        on_standby: Callable[[str, str], None],
        on_missed: Callable[[str, int, int], None],
    ) -> None:
        self.groups: dict[str, FileGroup] = {}
        self._store = store
        self._group = group
        self._start = start
        self._stop = stop
        self._on_standby = on_standby
        self._on_missed = on_missed

    def join(self, topic: str, late: bool) -> Source:
        """Acquire the group in one topic and give out what it has not had. Raises Stopped while it stands by."""
        group = self._store.group(topic, self._group)
        self._acquire(topic, group)
        self.groups[topic] = group
        position = group.committed
        if position is None:
            start = self._start or (EARLIEST if late else LATEST)
            position = start.resolve(self._store, topic)
            group.commit(position)
            group.sync()
        return Source(
            topic, self._store.reader(topic, position, lambda first, last: self._on_missed(topic, first, last))
        )

    def committed(self) -> dict[str, int]:
        """What the group has committed in each topic."""
        return {topic: group.committed or 0 for topic, group in self.groups.items()}

    def leave(self) -> None:
        """Let another process consume for the group."""
        for group in self.groups.values():
            group.release()

    def _acquire(self, topic: str, group: FileGroup) -> None:
        if group.try_acquire():
            return
        self._on_standby(topic, self._group)
        while not group.try_acquire():
            if self._stop.wait(_STANDBY_SECONDS):
                self._stop.check()

"""What the groups have handled: committed at once, and made durable about once a second."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.feed import Feed
    from evtool.log.ranges import Ranges
    from evtool.stores.group import FileGroup

_SYNC_SECONDS = 1.0


class Progress:
    """Commits for groups, by topic; there may be none, and then nothing is committed.

    feed: where the events come from, whose log is made durable before a commit that stands on it.
    """

    def __init__(self, groups: dict[str, FileGroup], feed: Feed) -> None:
        self.groups = groups
        self._feed = feed
        self._committed: dict[str, int] = {}
        self._synced = time.monotonic()
        self._unsynced = False

    @property
    def due_in(self) -> float | None:
        """Seconds until what was committed should be made durable; None if it is."""
        return self._synced + _SYNC_SECONDS - time.monotonic() if self._unsynced else None

    def commit(self, positions: dict[str, int]) -> None:
        """Everything before these positions is handled. Raises Moved."""
        for topic, offset in positions.items():
            if self._committed.get(topic) != offset:
                self.groups[topic].commit(offset)
                self._committed[topic] = offset
                self._unsynced = True
        self.sync_if_due()

    def handle(self, handled: dict[str, Ranges]) -> None:
        """These offsets are handled. Raises Moved."""
        for topic, offsets in handled.items():
            self.groups[topic].handle(offsets)
            self._unsynced = True
        self.sync_if_due()

    def sync_if_due(self) -> None:
        """Make the commits durable, if that has not been done for a while."""
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Make the commits durable, and before them the events that they stand on."""
        if self._unsynced:
            for source in self._feed.sources:
                source.reader.sync()
            for group in self.groups.values():
                group.sync()
            self._unsynced = False
        self._synced = time.monotonic()

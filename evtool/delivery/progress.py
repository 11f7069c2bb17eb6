"""What the groups have handled: committed at once, and made durable about once a second."""

from __future__ import annotations

import time

from evtool.log import line
from evtool.log.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.feed import Feed
    from evtool.stores.protocol import Group, Store

_SYNC_SECONDS = 1.0


class Progress:
    """Commits for groups, by topic, and what they are to get again.

    feed: where the events come from.
    """

    def __init__(self, store: Store, groups: dict[str, Group], feed: Feed) -> None:
        self.groups = groups
        self._store = store
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

    @property
    def has_again(self) -> bool:
        """Whether a group is to get something again, as far as is known."""
        return any(group.state.again for group in self.groups.values())

    def lines_again(self, topic: str, known: Ranges | None = None) -> list[tuple[int, bytes | None]]:
        """The offset and the line of each event that the group is to get again; no line if it is not there any more.

        known: offsets to be left out.
        """
        wanted = Ranges(self.groups[topic].state.again)
        if known is not None:
            wanted.subtract(known)
        if not wanted:
            return []
        found: list[tuple[int, bytes | None]] = []
        place = self._store.topic(topic)
        for offset in wanted.offsets():
            text = place.line_at(offset)
            if text is not None and not self._feed.is_single:
                text = line.with_topic(text, topic.encode())
            found.append((offset, text))
        return found

    def look(self) -> None:
        """See what others have said of the groups. Raises Moved."""
        for group in self.groups.values():
            group.look()

    def sync_if_due(self) -> None:
        """Make the commits durable, if that has not been done for a while."""
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Make the commits durable. The events that they stand on are."""
        if self._unsynced:
            for group in self.groups.values():
                group.sync()
            self._unsynced = False
        self._synced = time.monotonic()

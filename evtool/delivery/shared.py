"""Events that this process leases from a group that several processes share."""

from __future__ import annotations

import time

from evtool.delivery.task import task_of
from evtool.errors import NotFoundError
from evtool.log import line, names
from evtool.log.ranges import Ranges
from evtool.stores import naming
from evtool.stores.moved import Moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from evtool.delivery.loop import Loop
    from evtool.delivery.membership import Membership
    from evtool.delivery.selection import Selection
    from evtool.delivery.task import Task
    from evtool.stores.protocol import Share, Store, Watch

_FIRST_QUOTA, _MOST_QUOTA = 4, 2048  # events that we lease ahead
_AHEAD_SECONDS = (0.05, 0.2)  # that they should keep us busy
_LOOK_SECONDS, _LONGEST_LOOK = 0.03, 0.5  # while others have what we wait for, ever more


class LeasedSupply:
    """Takes leases, as many as keep us busy for a moment; renews them; gives them back at the end.

    patterns: the topics. there: those of them that there were at the start; others are begun with at their beginning.
    seconds: how long a lease holds. tell: told what was refused.
    """

    def __init__(
        self,
        store: Store,
        patterns: list[str],
        there: Collection[str],
        membership: Membership,
        selection: Selection,
        seconds: float,
        tell: Callable[[str], None],
        *,
        wake: int,
    ) -> None:
        self.tick_seconds = min(1.0, seconds / 4)
        self.ticks_when_idle = True  # a member that gives no sign is given up
        self._store = store
        self._patterns = patterns
        self._there = there
        self._is_single = len(patterns) == 1 and not names.is_pattern(patterns[0])
        self._membership = membership
        self._selection = selection
        self._seconds = seconds
        self._tell = tell
        self._shares: dict[str, Share] = {}
        self._held: dict[str, set[int]] = {}
        self._done: dict[str, list[int]] = {}
        self._quota = _FIRST_QUOTA
        self._look_seconds = _LOOK_SECONDS
        self._asked = time.monotonic()
        self._renewed = self._synced = time.monotonic()
        self._wake = wake
        self._watch: Watch | None = None
        self._calls: list[Callable[[], None]] = []
        self._loop: Loop | None = None
        self._has_moved = False
        self._join_new()

    @property
    def is_finished(self) -> bool:
        """Whether nothing can come any more."""
        return False

    @property
    def is_drained(self) -> bool:
        """Whether there is nothing left, neither for us nor for others."""
        return all(share.is_drained for share in self._shares.values())

    def take(self, limit: int) -> list[Task] | None:
        """Lease what keeps us busy for a moment."""
        held = sum(map(len, self._held.values()))
        if held > self._quota // 2 or self._has_moved:
            return None
        if not held:
            self._learn()
        wanted = min(limit, self._quota - held)
        tasks: list[Task] = []
        for topic, share in self._shares.items():
            if wanted > len(tasks):
                tasks += self._lease(topic, share, wanted - len(tasks))
        if tasks:
            self._look_seconds = _LOOK_SECONDS
        return tasks or None

    def listen(self, loop: Loop, call: Callable[[], None]) -> None:
        """Call once when there may be more: something was appended or handled, by us or by others."""
        self._loop = loop
        self._calls.append(call)
        if self._watch is None:
            self._watch = self._store.watch(self._shares, self._wake, new_topics=True)
            self._join_new()
            loop.after(0, self._call)
            return
        held = sum(map(len, self._held.values()))
        if held > self._quota // 2:  # what is done of it wakes us
            return
        if self._watch.wait(0):
            self._look_around()
            loop.after(0, self._call)
            return
        fd = self._watch.fd
        if fd is not None:
            loop.watch(fd, self._call)
        if fd is None or sum(share.count for share in self._shares.values()) > held:
            loop.after(self._look_seconds, self._call)
            self._look_seconds = min(1.5 * self._look_seconds, _LONGEST_LOOK)

    def done(self, tasks: list[Task]) -> None:
        """These are done with for good."""
        for task in tasks:
            self._done.setdefault(task.topic, []).append(task.offset)

    def flush(self) -> None:
        """Commit what is done. Raises Moved if some of what we held is not ours any more."""
        done, self._done = self._done, {}
        lost = False
        for topic, offsets in done.items():
            self._held[topic].difference_update(offsets)
            refused = self._shares[topic].handle(Ranges.of(sorted(offsets)))
            if refused:
                lost = True
                self._tell(
                    f"{topic}: offset {refused} was handled too late: the lease had expired,"
                    " and it is another process's now; refused"
                )
        if sum(map(len, self._held.values())) <= self._quota // 2:
            self._call()
        if lost and not self._has_moved:
            self._has_moved = True
            raise Moved(next(iter(self._shares)), self._membership.group)

    def tick(self, doing: str) -> None:
        """Renew the leases, make commits durable, say what goes on."""
        self.flush()
        now = time.monotonic()
        if now - self._renewed >= self._seconds / 4:
            self._renewed = now
            self._renew()
        if now - self._synced >= 1:
            self._synced = now
            self._sync()
        for share in self._shares.values():
            share.group.say_doing(doing)
        self._look_around()
        self._call()

    def close(self) -> None:
        """Commit what is done, make it durable, and let others have the rest."""
        try:
            self.flush()
        finally:
            for share in self._shares.values():
                share.leave()
            self._sync()

    def _learn(self) -> None:
        """Lease more at a time if we were through with the last ones soon, fewer if it took long."""
        now = time.monotonic()
        took = now - self._asked
        self._asked = now
        if took < _AHEAD_SECONDS[0]:
            self._quota = min(self._quota * 2, _MOST_QUOTA)
        elif took > _AHEAD_SECONDS[1]:
            self._quota = max(self._quota // 2, _FIRST_QUOTA)

    def _lease(self, topic: str, share: Share, wanted: int) -> list[Task]:
        lines = share.take(wanted)
        if not self._is_single:
            lines = [line.with_topic(text, topic.encode()) for text in lines]
        tasks = [task_of(topic, text) for text in lines]
        self._held[topic].update(task.offset for task in tasks)
        return tasks

    def _renew(self) -> None:
        for topic, share in self._shares.items():
            lost = share.renew(Ranges.of(sorted(self._held[topic])))
            if lost:
                self._has_moved = True
                self._tell(f"{topic}: the lease of offset {lost} has expired; another process may have it")
                raise Moved(topic, self._membership.group)

    def _sync(self) -> None:
        for share in self._shares.values():
            share.group.sync()

    def _call(self) -> None:
        if self._loop is not None and self._watch is not None and self._watch.fd is not None:
            self._loop.forget(self._watch.fd)
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    def _look_around(self) -> None:
        for topic, share in self._shares.items():
            if share.is_gone():
                raise NotFoundError(topic, "the topic was removed")
        self._join_new()

    def _join_new(self) -> None:
        for topic in naming.named(self._store, self._patterns):
            if topic in self._shares or not self._membership.has(topic):
                continue
            if self._watch is not None:
                self._watch.add(topic)
            self._shares[topic] = self._share(topic, self._membership.begin(topic, topic not in self._there))
            self._held[topic] = set()

    def _share(self, topic: str, position: int) -> Share:
        group = self._membership.groups[topic]
        return group.share(
            position,
            self._selection.apply,
            lambda low, high: self._membership.missed(topic, low, high),
            self._seconds,
        )

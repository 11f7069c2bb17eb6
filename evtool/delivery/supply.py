"""A feed's events as tasks, for a group that this process consumes for alone, or for nobody."""

from __future__ import annotations

from evtool.delivery.progress import Progress
from evtool.delivery.task import task_of
from evtool.log import line
from evtool.log.ranges import Ranges
from evtool.stores.moved import Moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.feed import Feed
    from evtool.delivery.loop import Loop
    from evtool.delivery.selection import Selection
    from evtool.delivery.task import Task
    from evtool.stores.protocol import Group, Store

_LOOK_SECONDS = 0.05


class FeedSupply:
    """Takes the wanted events from a feed, but for those that were handled before, and commits for the groups.

    groups: by topic; none if nothing is committed.
    """

    tick_seconds = 1.0
    ticks_when_idle = False
    is_drained = True  # what there was no more of, nobody else has

    def __init__(self, store: Store, feed: Feed, selection: Selection, groups: dict[str, Group] | None = None) -> None:
        self._feed = feed
        self._selection = selection
        self._groups = {} if groups is None else groups
        self._progress = Progress(store, self._groups, feed)
        self._next: dict[str, int] = {}  # by topic, where the next block will begin
        self._buffer: list[Task] = []
        self._done: dict[str, Ranges] = {}
        self._taken_again: dict[str, Ranges] = {}
        self._has_moved = False
        self._listens = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing can come any more."""
        return self._feed.is_finished and not self._buffer

    def take(self, limit: int) -> list[Task] | None:
        """The next events; those first that are to come again."""
        self._take_again()
        if not self._buffer:
            lines = self._feed.read()
            if lines:
                self._buffer = self._wanted(lines)
            else:
                self._look()
                self._take_again()
                if not self._buffer:
                    return None
        tasks, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return tasks

    def listen(self, loop: Loop, call: Callable[[], None]) -> None:
        """Call once when there may be more."""
        if self._feed.wait(0):
            loop.after(0, call)
            return
        fd = self._feed.fd
        if fd is None:
            loop.after(_LOOK_SECONDS, call)
            return

        def call_once() -> None:
            loop.forget(fd)
            call()

        loop.watch(fd, call_once)

    def done(self, tasks: list[Task]) -> None:
        """These are done with for good."""
        if not self._groups:
            return
        by_topic: dict[str, list[int]] = {}
        for task in tasks:
            by_topic.setdefault(task.topic, []).append(task.offset)
        for topic, offsets in by_topic.items():
            offsets.sort()
            self._add(topic, ranges := Ranges.of(offsets))
            if topic in self._taken_again:
                self._taken_again[topic].subtract(ranges)

    def flush(self) -> None:
        """Commit what is done. Raises Moved if the group was moved, and then commits nothing any more."""
        done, self._done = self._done, {}
        if not done or self._has_moved:
            return
        try:
            self._progress.handle(done)
        except Moved:
            self._has_moved = True
            raise

    def tick(self, doing: str) -> None:
        """Commit also what needed no handling, make it durable, say what goes on, and see what others have said."""
        self.flush()
        self._progress.sync_if_due()
        self._look()
        for group in self._groups.values():
            group.say_doing(doing)

    def _look(self) -> None:
        """See what others have said of the groups. Raises Moved."""
        try:
            self._progress.look()
        except Moved:
            self._has_moved = True
            raise

    def close(self) -> None:
        """Commit what is done and make it durable."""
        self.flush()
        self._progress.sync()

    def _add(self, topic: str, offsets: Ranges) -> None:
        known = self._done.get(topic)
        if known is None:
            self._done[topic] = Ranges(offsets)
        else:
            known.update(offsets)

    def _wanted(self, lines: bytes) -> list[Task]:
        """The tasks that these lines hold; what lies between them counts as handled."""
        wanted = self._selection.apply(lines)
        if self._feed.is_single:
            topic = self._feed.sources[0].topic
            tasks = [task_of(topic, text + b"\n") for text in wanted.split(b"\n")[:-1]]
        else:
            tasks = [task_of(line.topic_of(text), text + b"\n") for text in wanted.split(b"\n")[:-1]]
        if not self._groups:
            return tasks
        if any(group.state.handled for group in self._groups.values()):
            tasks = [task for task in tasks if task.offset not in self._groups[task.topic].state.handled]
        for topic, end in self._feed.positions().items():
            self._skip(topic, [task.offset for task in tasks if task.topic == topic], end)
        return tasks

    def _skip(self, topic: str, offsets: list[int], end: int) -> None:
        """Of what was read, up to `end`, only these offsets are to be handled."""
        group = self._groups[topic]
        begin = self._next.get(topic)
        if begin is None:
            begin = group.state.committed or 0
        self._next[topic] = end
        if len(offsets) == end - begin:
            return
        between = Ranges([(begin, end - 1)] if begin < end else [])
        between.subtract(Ranges.of(offsets))
        between.subtract(group.state.handled)
        self._add(topic, between)

    def _take_again(self) -> None:
        """Take the events that groups are to get again and that were not taken for that yet."""
        if not self._progress.has_again:
            return
        for topic in self._groups:
            taken = self._taken_again.setdefault(topic, Ranges())
            for offset, text in self._progress.lines_again(topic, taken):
                taken.add(offset, offset)
                if text is None:  # trimmed away
                    self._add(topic, Ranges([(offset, offset)]))
                else:
                    self._buffer.append(task_of(topic, text))

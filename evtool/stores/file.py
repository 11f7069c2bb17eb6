"""The file store: a home directory of topics. See `evtool.log` for what is in a topic."""

from __future__ import annotations

import time

from evtool.errors import ConditionError, NotFoundError, StorageError
from evtool.log import files, line, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from evtool.log.bounds import Bounds
    from evtool.log.compaction import Compaction
    from evtool.log.files import Directory
    from evtool.log.offsets import Commit, State
    from evtool.log.ranges import Ranges
    from evtool.log.reader import Reader
    from evtool.log.repair import Step
    from evtool.log.retention import Trimming
    from evtool.log.settings import Settings
    from evtool.log.state import Change
    from evtool.log.topic import TopicLog
    from evtool.log.verify import Report
    from evtool.log.watch import Watch
    from evtool.stores.group import Deputy, FileGroup

TOPICS_NAME = "topics"


class FileStore:
    """Topics in a directory.

    Every method takes a topic by name. It raises UsageError for what cannot be one and, unless it makes what is
    missing, NotFoundError for one that does not exist.
    """

    def __init__(
        self,
        path: str,
        *,
        create: bool = False,
        allow_network: bool = False,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._notify = notify
        try:
            home = files.open_home(path, create=create, allow_network=allow_network)
            self._topics = _open_topics(home, create)
        except FileNotFoundError:
            raise NotFoundError(
                path, "nothing there yet", hint="the first `evtool append` makes it; or set EVTOOL_HOME"
            ) from None

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(name for name in self._topics.subdirectories() if names.is_name(name))

    def matching(self, pattern: str) -> list[str]:
        """The topics that match a glob, sorted; of dead letters only if it ends in ``.dead``."""
        from fnmatch import fnmatchcase

        names.check_pattern(pattern)
        wants_dead = pattern.endswith(names.DEAD_SUFFIX)  # else whoever consumes them would feed itself
        return [
            name
            for name in self.topics()
            if fnmatchcase(name, pattern) and (wants_dead or not name.endswith(names.DEAD_SUFFIX))
        ]

    def named(self, patterns: Iterable[str]) -> list[str]:
        """The topics there are of those that are named, by themselves or by a glob; each once."""
        there: dict[str, None] = {}
        for pattern in patterns:
            if names.is_pattern(pattern):
                there.update(dict.fromkeys(self.matching(pattern)))
            elif self.has(pattern):
                there[pattern] = None
        return list(there)

    def has(self, topic: str) -> bool:
        """Whether the topic exists."""
        names.check_name("topic", topic)
        try:
            self._topics.subdirectory(topic)
        except FileNotFoundError:
            return False
        return True

    def writer(self, topic: str) -> TopicLog:
        """What appends to the topic, which is made if it is missing."""
        from evtool.log.topic import TopicLog

        names.check_name("topic", topic)
        return TopicLog(self._topics.subdirectory(topic, create=True), topic, self._notify)

    def reader(self, topic: str, offset: int, on_missed: Callable[[int, int], None] | None = None) -> Reader:
        """A cursor over the topic, from `offset` on."""
        from evtool.log.reader import Reader

        return Reader(self._topic(topic), offset, on_missed)

    def bounds(self, topic: str) -> Bounds:
        """Where the topic begins and ends."""
        from evtool.log.bounds import Bounds

        return Bounds(self._topic(topic))

    def size(self, topic: str) -> int:
        """Bytes of all segments, whatever is in them."""
        from evtool.log import retention

        return retention.size_of(self._topic(topic))

    def offset_at(self, topic: str, moment: bytes) -> int:
        """The offset of the first event at or after `moment` (27 bytes, as in a line)."""
        from evtool.log import bounds

        return bounds.offset_at(self._topic(topic), moment)

    def offset_back(self, topic: str, count: int) -> int:
        """The offset of the event that is `count` before the end."""
        from evtool.log import bounds

        return bounds.offset_back(self._topic(topic), count)

    def time_at(self, topic: str, offset: int) -> bytes | None:
        """The time of the event with this offset, or of the next one there is; None at the end."""
        from evtool.log import bounds

        return bounds.time_at(self._topic(topic), offset)

    def line_at(self, topic: str, offset: int) -> bytes | None:
        """The line of the event with this offset; None if there is none."""
        first = self.reader(topic, offset).read().partition(b"\n")[0]
        return first + b"\n" if first and line.offset_of(first) == offset else None

    def groups(self, topic: str) -> list[str]:
        """The groups that consume the topic, sorted."""
        from evtool.log import offsets

        try:
            return offsets.group_names(self._topic(topic).subdirectory(offsets.DIRECTORY_NAME))
        except FileNotFoundError:
            return []

    def commits(self, topic: str, group: str) -> list[Commit]:
        """The latest commits of a group, oldest first. Raises NotFoundError if it has made none."""
        from evtool.log import offsets

        names.check_name("group", group)
        try:
            consumers = self._topic(topic).subdirectory(offsets.DIRECTORY_NAME)
        except FileNotFoundError:
            known = []
        else:
            known = offsets.read_commits(consumers, group)
        if not known:
            raise NotFoundError(
                group,
                f"no such group of topic {topic}",
                hint=nearest(group, [one for one in self.groups(topic) if one != group]),
            )
        return known

    def group(self, topic: str, group: str) -> FileGroup:
        """The group, to consume for it. Nothing is locked or written yet."""
        from evtool.stores.group import FileGroup

        return FileGroup(self._topic(topic), names.check_name("group", group))

    def state(self, topic: str, group: str) -> State:
        """What a group has handled, and who consumes for it. Raises NotFoundError if it has committed nothing."""
        from evtool.log import offsets

        return offsets.state_of(self.commits(topic, group))

    def rewound_to(self, topic: str, state: State) -> int | None:
        """The first offset that came after a group's last commit, if the log was restored or cut short under it."""
        from evtool.log.rewound import rewound

        found = rewound(self._topic(topic), state)
        return None if found is None else found[1]

    def seek(self, topic: str, group: str, offset: int) -> None:
        """Let a group begin anew at `offset`, whoever consumes for it. Raises NotFoundError for one that is missing."""
        from evtool.stores import group as groups

        groups.seek(self._topic(topic), names.check_name("group", group), offset)

    def call_again(self, topic: str, group: str, offsets: Ranges) -> None:
        """Let a group get these events again. Raises NotFoundError for one that is missing."""
        from evtool.stores import group as groups

        groups.call_again(self._topic(topic), names.check_name("group", group), offsets)

    def deputy(self, topic: str, group: str, member: str) -> Deputy:
        """What commits for a member of a group that does not do so itself. Raises NotFoundError."""
        from evtool.stores import group as groups

        return groups.Deputy(self._topic(topic), names.check_name("group", group), member)

    def remove_group(self, topic: str, group: str, *, force: bool = False) -> None:
        """Forget a group. Raises NotFoundError if there is none, BusyError if it is in use, unless by `force`."""
        from evtool.stores import group as groups

        self.commits(topic, group)
        groups.remove(self._topic(topic), group, force=force)

    def remove_topic(self, topic: str) -> None:
        """Remove a topic with all that is in it, once nobody appends. Raises NotFoundError if there is none."""
        from shutil import rmtree

        self._topic(topic)
        writer = self.writer(topic)
        writer.lock()
        gone = f".{topic}.{time.time_ns()}.removed"
        self._topics.rename(topic, gone)
        self._topics.sync()
        rmtree(f"{self._topics.path}/{gone}")
        for name in self._topics.subdirectories():  # what one that was killed has left
            if name.startswith(".") and name.endswith(".removed"):
                self._sweep(name)

    def create(self, topic: str, chosen: Mapping[str, Any]) -> Settings:
        """Make a topic with these settings, or none at all. Raises ConditionError if it is there already."""
        from evtool.log import settings

        if self.has(topic):
            raise _there_already(topic)
        hidden = f".{topic}.{time.time_ns()}.new"
        directory = self._topics.subdirectory(hidden, create=True)
        try:
            settings.save(directory, chosen)
            if "max-age" in chosen:
                from evtool.log import clock

                clock.begin(directory)
            self._topics.rename(hidden, topic)
        except BaseException as error:
            self._sweep(hidden)
            if isinstance(error, StorageError) and self.has(topic):  # somebody else made it meanwhile
                raise _there_already(topic) from error
            raise
        self.writer(topic).next_offset()
        return settings.Settings(chosen)

    def _sweep(self, hidden: str) -> None:
        from shutil import rmtree

        rmtree(f"{self._topics.path}/{hidden}", ignore_errors=True)

    def settings(self, topic: str) -> Settings:
        """The settings of a topic. Raises ConfigurationError if its file makes no sense."""
        from evtool.log import settings

        return settings.load(self._topic(topic))

    def set(self, topic: str, changes: Mapping[str, Any]) -> Settings:
        """Change settings of a topic, None back to the default, and return them. Raises ConfigurationError."""
        from evtool.log import settings

        directory = self._topic(topic)
        writer = self.writer(topic)
        writer.lock()
        chosen = {**settings.load_chosen(directory, but=changes), **changes}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        settings.save(directory, chosen)
        if "max-age" in chosen:
            from evtool.log import clock

            clock.begin(directory)
        return settings.Settings(chosen)

    def trimming(self, topic: str, before: int | None) -> Trimming:
        """What `trim` would take away."""
        from evtool.log import retention

        return retention.plan(self._topic(topic), self._trim_end(topic, before))

    def trim(self, topic: str, before: int | None) -> Trimming:
        """Remove the oldest segments with events before an offset only, or all that the topic's limits do not allow."""
        from evtool.log import retention

        return retention.trim(self._topic(topic), self._trim_end(topic, before))

    def compact(
        self,
        topic: str,
        grace: float,
        before: int,
        *,
        dry_run: bool,
        progress: Callable[[int], None] | None = None,
    ) -> Compaction:
        """Remove what was superseded before an offset from a topic's sealed segments, or say what would go.

        grace: for how many seconds a null that deletes a key stays. See `evtool.log.compaction`.
        """
        from evtool.log import compaction, settings

        directory = self._topic(topic)
        policy = compaction.Policy.of(grace, settings.load(directory).dedupe)
        if dry_run:
            active = compaction.active_of(directory)
            return compaction.compact(directory, active, policy, progress, before=before, dry_run=True)
        return compaction.compact(directory, self.writer(topic).settle(), policy, progress, before=before)

    def newest_of_each(self, topic: str, until: int | None) -> Iterator[bytes]:
        """The newest event of each key before an offset, or of all there are, as blocks of whole lines."""
        from evtool.log import state

        return state.state(self._topic(topic), until)

    def newest_of(self, topic: str, key: bytes, until: int | None) -> bytes | None:
        """The newest event of a key (a JSON string) before an offset, as a line; None if there is none, or a null."""
        from evtool.log import state

        return state.newest(self._topic(topic), key, until)

    def changes(self, topic: str, since: int, until: int | None, key: bytes | None = None) -> Iterator[Change]:
        """The keys whose state is not the same before two offsets, the second of them maybe the end."""
        from evtool.log import state

        return state.changes(self._topic(topic), since, until, key)

    def losers(self, topic: str, before: int) -> dict[str, int]:
        """The groups that have not handled all before an offset, and how many events each would lose."""
        from evtool.log import retention

        return retention.losers(self._topic(topic), before)

    def _trim_end(self, topic: str, before: int | None) -> int:
        from evtool.log import retention

        directory = self._topic(topic)
        return retention.surplus(directory, self.settings(topic)) if before is None else before

    def verify(self, topic: str, progress: Callable[[int], None] | None = None, seal: str | None = None) -> Report:
        """Whether all of a topic is what it should be, and nothing altered that was sealed before this seal."""
        from evtool.log import verify

        return verify.verify(self._topic(topic), progress, seal)

    def repair(self, topic: str, *, dry_run: bool) -> list[Step]:
        """Mend a damaged topic, or say what would be done."""
        from evtool.log import repair

        return repair.repair(self._topic(topic), dry_run=dry_run)

    def is_active(self, topic: str, group: str) -> bool:
        """Whether a process is consuming for the group."""
        from evtool.stores import group as groups

        return groups.is_active(self._topic(topic), names.check_name("group", group))

    def watch(self, topics: Iterable[str], wake: int | None = None) -> Watch:
        """What waits for appends to these topics, and for topics that are made or removed."""
        from evtool.log.watch import Watch

        return Watch([self._topics.path, *(self._topic(topic).path for topic in topics)], wake)

    def watch_also(self, watch: Watch, topic: str) -> None:
        """Let `watch` wait for appends to one more topic."""
        watch.add(self._topic(topic).path)

    def missing(self, topic: str) -> NotFoundError:
        """The error that says that there is no such topic."""
        return NotFoundError(topic, "no such topic", hint=nearest(topic, self.topics()))

    def _topic(self, topic: str) -> Directory:
        names.check_name("topic", topic)
        try:
            return self._topics.subdirectory(topic)
        except FileNotFoundError:
            raise self.missing(topic) from None


def _there_already(topic: str) -> ConditionError:
    return ConditionError(topic, "the topic is there already", hint=f"see evtool set {topic}")


def _open_topics(home: Directory, create: bool) -> Directory:
    try:
        return home.subdirectory(TOPICS_NAME)
    except FileNotFoundError:
        if not create:
            raise
    files.sync_name(home.path)  # whoever made the home may have died before its name was durable
    return home.subdirectory(TOPICS_NAME, create=True)


def nearest(name: str, known: list[str]) -> str | None:
    """A hint with the name that the user may have meant."""
    from difflib import get_close_matches

    if close := get_close_matches(name, known, n=1, cutoff=0.5):
        return f"did you mean {close[0]}?"
    return None

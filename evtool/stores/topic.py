"""One topic of the file store; see `evtool.log` for what is in its directory."""

from __future__ import annotations

from evtool.errors import NotFoundError
from evtool.log import line, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from evtool.log.bounds import Bounds
    from evtool.log.compaction import Compaction
    from evtool.log.files import Directory
    from evtool.log.offsets import Commit
    from evtool.log.ranges import Ranges
    from evtool.log.reader import Reader
    from evtool.log.repair import Step
    from evtool.log.retention import Trimming
    from evtool.log.settings import Settings
    from evtool.log.state import Change
    from evtool.log.topic import TopicLog
    from evtool.log.verify import Report
    from evtool.stores.group import Deputy, FileGroup
    from evtool.stores.protocol import Standing


class FileTopic:
    """A topic that exists; see `evtool.stores.protocol.Topic`. What the file log alone can do is at the end."""

    def __init__(self, directory: Directory, name: str, notify: Callable[[str], None] | None = None) -> None:
        self.name = name
        self._directory = directory
        self._notify = notify

    def identity(self) -> str:
        """HOST:ID of this log, which it gets when it is first asked for. Raises ConfigurationError."""
        from evtool.log import identity

        found = identity.load(self._directory)
        if found is None:
            writer = self.writer()
            writer.lock()
            found = identity.make(self._directory)
        return found

    # Events

    def writer(self) -> TopicLog:
        """What appends to the topic."""
        from evtool.log.topic import TopicLog

        return TopicLog(self._directory, self.name, self._notify)

    def reader(self, offset: int, on_missed: Callable[[int, int], None] | None = None) -> Reader:
        """A cursor over the topic, from `offset` on."""
        from evtool.log.reader import Reader

        return Reader(self._directory, offset, on_missed)

    def bounds(self) -> Bounds:
        """Where the topic begins and ends."""
        from evtool.log.bounds import Bounds

        return Bounds(self._directory)

    def offset_at(self, moment: bytes) -> int:
        """The offset of the first event at or after `moment` (27 bytes, as in a line)."""
        from evtool.log import bounds

        return bounds.offset_at(self._directory, moment)

    def offset_back(self, count: int) -> int:
        """The offset of the event that is `count` before the end."""
        from evtool.log import bounds

        return bounds.offset_back(self._directory, count)

    def time_at(self, offset: int) -> bytes | None:
        """The time of the event with this offset, or of the next one there is; None at the end."""
        from evtool.log import bounds

        return bounds.time_at(self._directory, offset)

    def line_at(self, offset: int) -> bytes | None:
        """The line of the event with this offset; None if there is none."""
        first = self.reader(offset).read().partition(b"\n")[0]
        return first + b"\n" if first and line.offset_of(first) == offset else None

    def newest_of_each(self, until: int | None) -> Iterator[bytes]:
        """The newest event of each key before an offset, or of all there are, as blocks of whole lines."""
        from evtool.log import state

        return state.state(self._directory, until)

    def newest_of(self, key: bytes, until: int | None) -> bytes | None:
        """The newest event of a key (a JSON string) before an offset, as a line; None if there is none, or a null."""
        from evtool.log import state

        return state.newest(self._directory, key, until)

    def changes(self, since: int, until: int | None, key: bytes | None = None) -> Iterator[Change]:
        """The keys whose state is not the same before two offsets, the second of them maybe the end."""
        from evtool.log import state

        return state.changes(self._directory, since, until, key)

    # Care

    def settings(self) -> Settings:
        """The settings of the topic. Raises ConfigurationError if its file makes no sense."""
        from evtool.log import settings

        return settings.load(self._directory)

    def set(self, changes: Mapping[str, Any]) -> Settings:
        """Change settings of the topic, None back to the default, and return them. Raises ConfigurationError."""
        from evtool.log import settings

        writer = self.writer()  # which holds the lock for as long as it lives
        writer.lock()
        chosen = {**settings.load_chosen(self._directory, but=changes), **changes}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        settings.save(self._directory, chosen)
        if "max-age" in chosen:
            from evtool.log import clock

            clock.begin(self._directory)
        return settings.Settings(chosen)

    def trimming(self, before: int | None) -> Trimming:
        """What `trim` would take away."""
        from evtool.log import retention

        return retention.plan(self._directory, self._trim_end(before))

    def trim(self, before: int | None) -> Trimming:
        """Remove the oldest segments with events before an offset only, or all that the topic's limits do not allow."""
        from evtool.log import retention

        return retention.trim(self._directory, self._trim_end(before))

    def losers(self, before: int) -> dict[str, int]:
        """The groups that have not handled all before an offset, and how many events each would lose."""
        from evtool.log import retention

        return retention.losers(self._directory, before)

    def _trim_end(self, before: int | None) -> int:
        from evtool.log import retention

        return retention.surplus(self._directory, self.settings()) if before is None else before

    def verify(self, progress: Callable[[int], None] | None = None, seal: str | None = None) -> Report:
        """Whether all of the topic is what it should be, and nothing altered that was sealed before this seal."""
        from evtool.log import verify

        return verify.verify(self._directory, progress, seal)

    # Groups

    def groups(self) -> list[str]:
        """The groups that consume the topic, sorted."""
        from evtool.log import offsets

        try:
            return offsets.group_names(self._directory.subdirectory(offsets.DIRECTORY_NAME))
        except FileNotFoundError:
            return []

    def group(self, group: str) -> FileGroup:
        """The group, to consume for it. Nothing is locked or written yet."""
        from evtool.stores.group import FileGroup

        return FileGroup(self._directory, names.check_name("group", group))

    def standing(self, group: str) -> Standing:
        """How the group stands. Raises NotFoundError if it has committed nothing."""
        from evtool.stores import lag

        return lag.standing(self._directory, group, self._commits(group))

    def seek(self, group: str, offset: int) -> None:
        """Let a group begin anew at `offset`, whoever consumes for it. Raises NotFoundError for one that is missing."""
        from evtool.stores import group as groups

        groups.seek(self._directory, names.check_name("group", group), offset)

    def call_again(self, group: str, offsets: Ranges) -> None:
        """Let a group get these events again. Raises NotFoundError for one that is missing."""
        from evtool.stores import group as groups

        groups.call_again(self._directory, names.check_name("group", group), offsets)

    def deputy(self, group: str, member: str) -> Deputy:
        """What commits for a member of a group that does not do so itself. Raises NotFoundError."""
        from evtool.stores import group as groups

        return groups.Deputy(self._directory, names.check_name("group", group), member)

    def remove_group(self, group: str, *, force: bool = False) -> None:
        """Forget a group. Raises NotFoundError if there is none, BusyError if it is in use, unless by `force`."""
        from evtool.stores import group as groups

        self._commits(group)
        groups.remove(self._directory, group, force=force)

    def _commits(self, group: str) -> list[Commit]:
        """The latest commits of a group, oldest first. Raises NotFoundError if it has made none."""
        from evtool.log import offsets

        names.check_name("group", group)
        try:
            consumers = self._directory.subdirectory(offsets.DIRECTORY_NAME)
        except FileNotFoundError:
            known = []
        else:
            known = offsets.read_commits(consumers, group)
        if not known:
            from evtool.stores.naming import nearest

            raise NotFoundError(
                group,
                f"no such group of topic {self.name}",
                hint=nearest(group, [one for one in self.groups() if one != group]),
            )
        return known

    # What the file log alone can do

    def compact(
        self, grace: float, before: int, *, dry_run: bool, progress: Callable[[int], None] | None = None
    ) -> Compaction:
        """Remove what was superseded before an offset from the sealed segments, or say what would go.

        grace: for how many seconds a null that deletes a key stays. See `evtool.log.compaction`.
        """
        from evtool.log import compaction, settings

        policy = compaction.Policy.of(grace, settings.load(self._directory).dedupe)
        if dry_run:
            active = compaction.active_of(self._directory)
            return compaction.compact(self._directory, active, policy, progress, before=before, dry_run=True)
        return compaction.compact(self._directory, self.writer().settle(), policy, progress, before=before)

    def repair(self, *, dry_run: bool) -> list[Step]:
        """Mend a damaged topic, or say what would be done."""
        from evtool.log import repair

        return repair.repair(self._directory, dry_run=dry_run)

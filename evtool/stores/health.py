"""The health of a file home: what is wrong with it or soon will be, found without writing anything or holding locks.

Only what can be seen at a glance is looked at: the ends of segments, modes, sizes, groups, the disk, the clock. Whether
every line is as it was written tells `evtool.log.verify`.
"""

from __future__ import annotations

import errno
import os
import shlex

from evtool.errors import ConfigurationError, CorruptionError, EvtoolError, StorageError
from evtool.log import compaction, files, names, seals, settings
from evtool.log.bounds import Bounds
from evtool.log.segment import Segment
from evtool.log.topic import LOCK_NAME, NEW_SUFFIX, segment_offsets
from evtool.stores import permissions, standing, stuck, surroundings
from evtool.stores.file import TOPICS_NAME
from evtool.stores.finding import ADVICE, PROBLEM, Finding
from evtool.stores.glance import Topic
from evtool.stores.stuck import Lock
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evtool.log.files import Directory

_REMOVED_SUFFIX = ".removed"


class Report:
    """What was found in a home, and how many topics and groups were looked at."""

    __slots__ = ("_known", "groups", "topics")

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Finding] = {}
        self.topics = 0
        self.groups = 0

    @property
    def findings(self) -> list[Finding]:
        """What was found, problems first."""
        return sorted(self._known.values(), key=lambda finding: finding.severity == ADVICE)

    def add(self, findings: Iterable[Finding]) -> None:
        """Take in these as they are found, each once: several looks may fall on the same damage."""
        for finding in findings:
            self._known.setdefault((finding.what, finding.why), finding)

    def add_unreadable(self, path: str, why: str) -> None:
        """Take in something that cannot be read, unless it is known that its permissions are wrong."""
        is_known = why == os.strerror(errno.EACCES) and any(one.what == path for one in self._known.values())
        if not is_known:
            self.add([Finding(PROBLEM, path, why, f"ls -la {shlex.quote(path)}")])


def look(path: str, *, allow_network: bool = False) -> Report:
    """Look at the whole home at `path`. Raises FileNotFoundError if there is none, StorageError if it cannot be read.

    allow_network: whether evtool is told to use the home though it be on a network file system.
    """
    report = Report()
    path = os.path.abspath(path)
    report.add(permissions.findings(path, f"{path}/{TOPICS_NAME}"))
    try:
        home, refusals = _open_home(path, allow_network)
    except StorageError:
        if not report.findings:
            raise
        return report
    report.add(refusals)
    topics = list(_topics(home, report))
    for topic in topics:
        _look_at(topic, report)
    report.add(stuck.findings(lock for topic in topics for lock in _locks(topic)))
    report.add(surroundings.clock(topics))
    report.add(surroundings.disk(home, topics))
    report.add(surroundings.watching(home))
    return report


def _open_home(path: str, allow_network: bool) -> tuple[Directory, list[Finding]]:
    """The home, even if evtool refuses to use it; why it does, unless that is its permissions."""
    try:
        home = files.open_home(path, create=False, allow_network=True)
    except ConfigurationError:
        return files.Directory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)), []
    try:
        return files.open_home(path, create=False), []
    except ConfigurationError as error:
        mend = f"cp -a {shlex.quote(path)} LOCAL-PATH && export EVTOOL_HOME=LOCAL-PATH"
        return home, [Finding(ADVICE if allow_network else PROBLEM, path, error.why, mend)]


def _topics(home: Directory, report: Report) -> Iterator[Topic]:
    """The topics that can be opened; what is left of those that were removed is reported."""
    try:
        above = home.subdirectory(TOPICS_NAME)
        found = sorted(above.subdirectories())
    except (FileNotFoundError, EvtoolError):  # nothing there yet, or its permissions have been complained of
        return
    for name in found:
        try:
            if names.is_name(name):
                topic = Topic(above.subdirectory(name), name)
                report.topics += 1
                yield topic
            elif name.startswith(".") and name.endswith((_REMOVED_SUFFIX, NEW_SUFFIX)):
                report.add(_left_of_topic(above, name))
        except FileNotFoundError:  # removed in this moment
            continue
        except EvtoolError as error:
            report.add_unreadable(error.what, error.why)


def _look_at(topic: Topic, report: Report) -> None:
    """All that concerns one topic. Something that cannot be read keeps nothing else back."""
    for check in (_settings, _bounds, _segments, _groups, _leftovers):
        try:
            report.add(check(topic))
        except FileNotFoundError:  # trimmed or removed in this moment
            continue
        except CorruptionError as error:
            report.add([Finding(PROBLEM, error.what, error.why, topic.repair)])
        except EvtoolError as error:
            report.add_unreadable(error.what, error.why)
        except (OSError, ValueError) as error:
            why = files.reason(error) if isinstance(error, OSError) else f"makes no sense: {error}"
            report.add_unreadable(topic.directory.path, why)
    report.groups += len(topic.groups)


def _locks(topic: Topic) -> Iterator[Lock]:
    """The locks that are held for a moment only."""
    yield topic.lock
    yield Lock(topic.directory, seals.FILE_NAME, topic.name, f"{topic.directory.path}/{seals.FILE_NAME}")
    for group in topic.groups:
        yield topic.turn(group)


# A topic


def _settings(topic: Topic) -> Iterator[Finding]:
    """Settings that make no sense."""
    try:
        topic.settings = settings.load(topic.directory)
    except ConfigurationError as error:
        name = error.why.split("'")[1] if error.why.startswith("'") else ""
        editing = f'"${{EDITOR:-vi}}" {shlex.quote(error.what)}'
        mend = f"evtool set {topic.name} {name}=" if name in settings.KNOWN else editing
        yield Finding(PROBLEM, error.what, error.why, mend)


def _bounds(topic: Topic) -> Iterator[Finding]:
    """Where the topic begins and ends, which a damaged last line keeps from being known."""
    bounds = Bounds(topic.directory)
    try:
        if bounds.last_time is not None:
            seconds_of(bounds.last_time)
    except ValueError:
        yield Finding(PROBLEM, topic.name, f"its last event has no time: {bounds.last_time!r}", topic.repair)
        return
    topic.bounds = bounds


def _segments(topic: Topic) -> Iterator[Finding]:
    """Segments that are shut, missing, or not sealed though others follow; a torn tail; a broken chain of seals."""
    directory = topic.directory
    firsts = segment_offsets(directory)
    for first in firsts:
        path = f"{directory.path}/{names.segment_name(first)}"
        try:
            mode = os.lstat(path).st_mode & 0o777
        except FileNotFoundError:  # trimmed in this moment
            continue
        if mode == files.UNSYNCED_MODE:
            why = "a sync of this segment failed, so that it is not known what of it is on disk"
            yield Finding(PROBLEM, path, why, topic.repair)
        elif mode & files.WRITABLE and first != firsts[-1]:
            yield Finding(PROBLEM, path, "not the last segment, and not sealed", topic.repair)
    if torn := topic.lock.settled(lambda: _torn(directory)):
        path = f"{directory.path}/{names.segment_name(torn[0])}"
        why = f"ends with {torn[1]} torn bytes of an append that was killed; the next append cuts them"
        yield Finding(ADVICE, path, why, topic.repair)
    known = seals.Seals(directory)
    if known.broken_at is not None:
        yield Finding(PROBLEM, f"{directory.path}/{seals.FILE_NAME}", "the chain of seals is broken", topic.repair)
    for first in known.missing(segment_offsets(directory)):
        path = f"{directory.path}/{names.segment_name(first)}"
        yield Finding(PROBLEM, path, "was sealed, and is missing: put it back from a backup", topic.repair)


def _torn(directory: Directory) -> tuple[int, ...] | None:
    """The last segment, how many bytes follow its last line, and where they end; None if there are none."""
    last = max(segment_offsets(directory), default=None)
    if last is None:
        return None
    segment = Segment(directory, last)
    size = segment.size()
    end = segment.end_of_lines(size)
    return (last, size - end, size) if end < size else None


def _groups(topic: Topic) -> Iterator[Finding]:
    """What is wrong with the groups, if it is known where the topic ends."""
    topic.find_groups()
    if topic.bounds is not None:
        yield from standing.findings(topic)


# What killed commands have left


def _leftovers(topic: Topic) -> Iterator[Finding]:
    """Files that were to take the place of others, and never did."""
    for name in topic.directory.names():
        if name.endswith(NEW_SUFFIX):
            yield from _left(topic.lock, topic.directory, name)
        elif name.endswith(compaction.SUFFIX):
            turn = Lock(topic.directory, compaction.TURN_NAME, topic.name, f"{topic.directory.path}/{name}")
            yield from _left(turn, topic.directory, name)
    consumers = topic.consumers
    for name in [] if consumers is None else consumers.names():
        group = names.parse_commits(name.removesuffix(NEW_SUFFIX))
        if consumers is not None and name.endswith(NEW_SUFFIX) and group is not None:
            yield from _left(topic.turn(group), consumers, name)


def _left(lock: Lock, directory: Directory, name: str) -> Iterator[Finding]:
    if lock.settled(lambda: _written(directory, name)):
        path = f"{directory.path}/{name}"
        why = "left by a command that was killed; nothing needs it"
        yield Finding(ADVICE, path, why, f"rm {shlex.quote(path)}")


def _left_of_topic(above: Directory, name: str) -> Iterator[Finding]:
    """A topic of which not all was removed."""
    path = f"{above.path}/{name}"
    lock = Lock(above.subdirectory(name), LOCK_NAME, name, path)
    if lock.settled(lambda: _written(above, name)):
        command = "rm" if name.endswith(_REMOVED_SUFFIX) else "create"
        why = f"left of a topic by an `evtool {command}` that was killed; nothing needs it"
        yield Finding(ADVICE, path, why, f"rm -r {shlex.quote(path)}")


def _written(directory: Directory, name: str) -> tuple[int, ...] | None:
    """What changes when a file, or what is in a directory, does; None if it is not there."""
    try:
        status = os.lstat(name, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

"""Is a topic what was written to it? All its segments, their seals, its settings, and where its groups stand.

A segment with a seal was found in order when it was sealed, so that its digest alone tells that it still is. One
without a seal, or with another digest, is gone through line by line. Meanwhile others may append, trim, compact: what
looks wrong is looked at again with the seals of that moment before it is said.
"""

from __future__ import annotations

import copy
import os
import time

from evtool.errors import ConditionError, ConfigurationError, CorruptionError, StorageError
from evtool.log import check, files, line, names, offsets, seals, settings
from evtool.log.check import Course, Problem
from evtool.log.lock import lock, unlock
from evtool.log.rewound import rewound
from evtool.log.seals import Seals
from evtool.log.segment import Segment
from evtool.log.topic import LOCK_NAME, segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.files import Directory
    from evtool.log.seals import Seal

ALTERED, UNSEALED, ABSENT, SHUT, BROKEN, BEYOND = "altered", "unsealed", "absent", "shut", "broken", "beyond"
UNREADABLE, UNUSABLE, WITHOUT_SEAL = "unreadable", "unusable", "without seal"
# Against these `repair` can do something.
REPAIRABLE = frozenset(
    (
        check.MALFORMED, check.REPEATED, check.MISSING, check.UNSOUND, check.UNCOVERED, check.TORN,
        ALTERED, UNSEALED, ABSENT, SHUT, BROKEN, BEYOND, UNUSABLE, WITHOUT_SEAL,
    )
)  # fmt: skip
_SEALED_WITHIN = 60.0  # seconds after which a segment that was finished should have its seal
_PATIENCE = 10.0  # seconds to wait for whoever appends
_MOST_LOOKS = 5  # at a segment that others change meanwhile


class Report:
    """What was found in a topic.

    problems: each with the path of its file. events, size, segments: how many there are, of bytes too.
    sealed: how many segments have a seal that is good. seal: the newest one, or None. next: the next offset.
    confirmed, trimmed: of the segments up to the seal that was asked for, how many are as they were, and how many went
    from the beginning of the log.
    """

    __slots__ = ("confirmed", "events", "next", "problems", "seal", "sealed", "segments", "size", "trimmed")

    def __init__(self) -> None:
        self.problems: list[tuple[str, Problem]] = []
        self.events = self.size = self.segments = self.sealed = self.next = self.confirmed = self.trimmed = 0
        self.seal: str | None = None


def verify(topic: Directory, progress: Callable[[int], None] | None = None, since: str | None = None) -> Report:
    """Look at all of a topic. progress: called with the number of bytes that were looked at, again and again.

    since: a seal; what was sealed up to it must be as it was. Raises ConditionError if the topic never had that seal,
    BusyError if whoever appends keeps the lock for long.
    """
    try:
        walk = _Walk(topic, progress)
    except StorageError as error:
        report = Report()
        report.problems.append((error.what, Problem(UNREADABLE, error.why, 0, 0, 0)))
        return report
    if since is not None and since not in (seal.chain for seal in walk.known.entries):
        raise ConditionError(topic.path.rpartition("/")[2], f"{since} is none of its seals, or not any more")
    walk.run()
    if since is not None:
        _check_since(topic, walk.known.entries, since, walk.report)
    _check_groups(topic, walk.report)
    _check_settings(topic, walk.report)
    return walk.report


class _Walk:
    """The way through the segments of a topic, oldest first."""

    def __init__(self, topic: Directory, progress: Callable[[int], None] | None) -> None:
        self._topic = topic
        self._progress = progress
        self.known = Seals(topic)
        self._course = Course()
        self._may_leave_out = True  # what stands before the next segment: the first one follows upon nothing
        self.report = Report()

    def run(self) -> None:
        """Look at all segments."""
        report = self.report
        report.seal = self.known.entries[-1].chain if self.known.entries else None
        if self.known.broken_at is not None:
            problem = Problem(BROKEN, "the chain of seals is broken here", self.known.broken_at, 0, 0)
            report.problems.append((f"{self._topic.path}/{seals.FILE_NAME}", problem))
        firsts = segment_offsets(self._topic)
        ends = _ends(self._topic, firsts)
        for first in firsts:
            self._visit(first, ends.get(first), is_last=first == firsts[-1])
        self._look_for_absent()
        report.next = self._course.next or 0

    def _visit(self, first: int, end: int | None, *, is_last: bool) -> None:
        """Look at a segment; again, if something is wrong and others are changing what is sealed."""
        for _ in range(_MOST_LOOKS):
            look = _Look(self._topic, self.known, copy.copy(self._course), self._may_leave_out, self._progress)
            try:
                segment = Segment(self._topic, first)
                look.at(segment, end, is_last=is_last)
            except FileNotFoundError:  # trimmed, or all of it was superseded
                return
            except StorageError as error:
                path = f"{self._topic.path}/{names.segment_name(first)}"
                self.report.problems.append((path, Problem(UNREADABLE, error.why, 0, 0, 0)))
                self._may_leave_out = True
                return
            before = len(self.known.entries), len(self.known.live)
            if look.problems:
                self.known = Seals(self._topic)
            if not segment.is_gone() and before == (len(self.known.entries), len(self.known.live)):
                break
        self._course, self._may_leave_out = look.course, first in self.known.remade
        self.report.problems += [(segment.path, problem) for problem in look.problems]
        self.report.events += look.events
        self.report.size += look.size
        self.report.segments += 1
        self.report.sealed += look.is_sealed

    def _look_for_absent(self) -> None:
        """Say which segments have a seal and are not there."""
        if not self.known.missing(segment_offsets(self._topic)):
            return
        for first in Seals(self._topic).missing(
            segment_offsets(self._topic)
        ):  # one that is trimmed loses its seal first
            path = f"{self._topic.path}/{names.segment_name(first)}"
            self.report.problems.append((path, Problem(ABSENT, "this segment was sealed, and is missing", 0, 0, 0)))


def _ends(topic: Directory, firsts: list[int]) -> dict[int, int]:
    """Where the segments end that may still grow, as of a moment in which nobody appends."""
    try:
        fd = topic.open(LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        lock(fd, topic.path, timeout=_PATIENCE)
        ends = {first: Segment(topic, first).size() for first in firsts[-1:]}
        unlock(fd)
    except (FileNotFoundError, StorageError):
        return {}
    finally:
        os.close(fd)
    return ends


class _Look:
    """One look at one segment: the problems, and what else is to be known of it.

    course: where the segment before ended, and then where this one does. may_leave_out: whether offsets may be missing
    between the two, for what stood before was compacted.
    """

    def __init__(
        self,
        topic: Directory,
        known: Seals,
        course: Course,
        may_leave_out: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._topic = topic
        self._known = known
        self.course = course
        self._may_leave_out = may_leave_out
        self._progress = progress
        self.problems: list[Problem] = []
        self.events = self.size = 0
        self.is_sealed = False

    def at(self, segment: Segment, end: int | None, *, is_last: bool) -> None:
        """Look at the segment, up to `end` if it may still grow."""
        status = os.fstat(segment.fd)
        mode = status.st_mode & 0o777
        self.size = status.st_size if end is None else end
        if mode == files.UNSYNCED_MODE:
            self._say(SHUT, "a sync of this segment failed", 0, self.size, 1)
        elif mode & files.WRITABLE and not is_last:
            self._say(UNSEALED, "not the last segment, and not sealed", 0, self.size, 1)
        if self._is_copy(segment):
            return
        self._check_join(segment)
        digests = self._known.digests.get(segment.first, set())
        if digests and seals.digest(segment, self._progress) in digests:
            self.is_sealed = True
            self._pass_over(segment)
        else:
            self._look_through(segment, sealed=mode == files.SEALED_MODE, altered=segment.first in self._known.live)
            if mode == files.SEALED_MODE and not digests and time.time() - status.st_ctime > _SEALED_WITHIN:
                self._say(WITHOUT_SEAL, "it was finished long ago, and has no seal", 0, self.size, 0)

    def _say(self, kind: str, what: str, position: int, length: int, number: int, *offsets: int) -> None:
        span = (offsets[0], offsets[1]) if offsets else None
        self.problems.append(Problem(kind, what, position, length, number, span))

    def _is_copy(self, segment: Segment) -> bool:
        """Whether a segment begins with an offset far from the one in its name that stands in the log already."""
        text = segment.first_head()
        if not text or not check.is_head(text) or self.course.next is None:
            return False
        offset = line.offset_of(text)
        if offset >= min(segment.first, self.course.next):
            return False
        what = f"it begins with offset {offset}, which stands in a segment before: a copy?"
        self._say(check.REPEATED, what, 0, self.size, 1, offset, offset)
        return True

    def _check_join(self, segment: Segment) -> None:
        """Look whether a segment begins where the one before it ends."""
        course, first, following = self.course, segment.first, self.course.next
        if following is not None and following > first:
            what = f"its name says offset {first}, and the segment before it ends with {following - 1}"
            self._say(check.REPEATED, what, 0, self.size, 1, first, following - 1)
        elif following is not None and not self._may_leave_out and (gap := self._known.unexplained(following, first)):
            what = f"offsets {gap[0]} to {gap[1]} are missing before this segment"
            self._say(check.MISSING, what, 0, 0, 1, *gap)
        course.next = first

    def _pass_over(self, segment: Segment) -> None:
        """Go behind a segment that is as it was when it was found in order."""
        course = self.course
        if self.size == 0:
            return
        head = segment.first_head()
        if line.time_of(head) < course.time:
            what = f"its time is earlier than the last one of the segment before, {course.time.decode()}"
            self._say(check.FALLING, what, 0, len(head), 1)
        text = segment.last_line(self.size)[1]
        course.next = line.offset_of(text) + 1
        course.time = max(course.time, line.time_of(text))
        self.events = course.next - line.offset_of(head)
        if segment.first in self._known.remade:
            self.events = segment.count_back(self.size, self.events)[1]

    def _look_through(self, segment: Segment, *, sealed: bool, altered: bool) -> None:
        course = self.course
        course.gaps = self._known.gaps
        course.sparse = altered and segment.first in self._known.remade
        self.problems += check.problems(segment, self.size, course, sealed=sealed, progress=self._progress)
        if altered and not self.problems:
            what = "it is not as it was when it was sealed, and nothing tells where"
            self._say(ALTERED, what, 0, self.size, 1, segment.first, (course.next or 1) - 1)
        self.events = course.number - 1


def _check_since(topic: Directory, known: list[Seal], since: str, report: Report) -> None:
    """Look whether all that was sealed up to this seal is as it was, or went from the beginning of the log."""
    chains = [seal.chain for seal in known]
    noted = known[: chains.index(since) + 1]
    before = [seal for seal in noted if not seal.is_gap]
    dropped = {seal.first for seal in noted if seal.is_gap}
    there = segment_offsets(topic)
    wanted: dict[int, set[str]] = {}
    for seal in before:
        wanted.setdefault(seal.first, set()).add(seal.digest)
    for first, digests in sorted(wanted.items()):
        path = f"{topic.path}/{names.segment_name(first)}"
        if first in there:
            if seals.digest(Segment(topic, first)) in digests:
                report.confirmed += 1
            elif not any(where == path for where, _ in report.problems):
                what = "it is not what it was at that seal: written anew since, by compact, repair or somebody else"
                report.problems.append((path, Problem(ALTERED, what, 0, 0, 0)))
        elif first in dropped:
            continue
        elif there and first > there[0]:
            what = "it was sealed by then, and was taken out of the middle since, by compact or somebody else"
            report.problems.append((path, Problem(ABSENT, what, 0, 0, 0)))
        else:
            report.trimmed += 1


def _check_groups(topic: Directory, report: Report) -> None:
    try:
        consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
    except FileNotFoundError:
        return
    for group in offsets.group_names(consumers):
        path = f"{consumers.path}/{names.commits_name(group)}"
        try:
            commits = offsets.read_commits(consumers, group)
        except CorruptionError as error:
            report.problems.append((path, Problem(check.MALFORMED, error.why, error.position, 0, 0)))
            continue
        except StorageError as error:
            report.problems.append((path, Problem(UNREADABLE, error.why, 0, 0, 0)))
            continue
        state = offsets.state_of(commits)
        try:
            found = rewound(topic, state)
        except CorruptionError:  # that is told where it is
            continue
        if found is not None and state.committed is not None:
            span = (found[1], state.committed - 1)
            report.problems.append((path, Problem(BEYOND, f"the group {found[0]}", 0, 0, 0, span)))


def _check_settings(topic: Directory, report: Report) -> None:
    try:
        settings.load(topic)
    except (ConfigurationError, StorageError) as error:
        path = f"{topic.path}/{settings.FILE_NAME}"
        report.problems.append((path, Problem(UNUSABLE, error.why, 0, 0, 0)))

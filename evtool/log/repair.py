"""Repair: a damaged topic made whole again, without losing a line that is good, or an offset ever being used twice.

First everything is looked at and the steps are written down; then, unless nobody wanted more, they are carried out.
What is taken out of a segment goes to `damaged/` first. A segment is changed by writing it anew beside itself and
putting the new file in its place, so that a kill leaves either the old one or the new one, and repair can be run again.
"""

from __future__ import annotations

import os
import time

from evtool.errors import ConfigurationError, CorruptionError
from evtool.log import check, damaged, files, line, names, offsets, sealing, seals, settings
from evtool.log.bounds import next_offset
from evtool.log.lock import lock, unlock
from evtool.log.rewound import rewound
from evtool.log.salvage import Salvage, edited, joined
from evtool.log.seals import Seals, SealsFile
from evtool.log.segment import Segment
from evtool.log.topic import LOCK_NAME, NEW_SUFFIX, segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.files import Directory
    from evtool.log.offsets import State
    from evtool.log.salvage import Edit
    from evtool.log.seals import Seal


class Step:
    """One thing to be done. file: its path. what: in words, what is wrong and what becomes of it.

    gone: the first and the last offset that are lost by now, if any are. kept: where the bytes are that were taken out.
    """

    __slots__ = ("_do", "file", "gone", "kept", "what")

    def __init__(
        self,
        file: str,
        what: str,
        do: Callable[[Step], None] | None = None,
        gone: tuple[int, int] | None = None,
    ) -> None:
        self.file = file
        self.what = what
        self.gone = gone
        self.kept: list[str] = []
        self._do = do

    def carry_out(self) -> None:
        """Do it."""
        if self._do is not None:
            self._do(self)


def repair(topic: Directory, *, dry_run: bool = False) -> list[Step]:
    """Mend a topic, or only find out what would be done. Whoever appends waits until it is done, or found out.

    For the latter it is enough to wait while the last segment is looked at: the others do not change.

    Raises StorageError if there is no space for what must be written; then it can be run again.
    """
    fd = topic.open(LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        if not dry_run:
            lock(fd, topic.path)
        plan = _Plan(topic)
        plan.make(lambda: lock(fd, topic.path) if dry_run else None)
        if not dry_run:
            for step in plan.steps:
                step.carry_out()
            if plan.steps:
                plan.note_gaps()
                sealing.seal_all(topic)
        unlock(fd)
    finally:
        os.close(fd)
    return plan.steps


class _Plan:
    """What is to be done for a topic, found out segment by segment."""

    def __init__(self, topic: Directory) -> None:
        self.steps: list[Step] = []
        self._topic = topic
        self._known = Seals(topic)
        self._next: int | None = None  # the offset behind the last good line
        self._time = b""  # of that line
        self._floor = 0  # no event may get an offset below it: it was somebody else's
        self._may_leave_out = True  # whether offsets may be missing before the next segment
        self._gaps: list[tuple[int, int]] = []  # that are found now

    def make(self, hold: Callable[[], None]) -> None:
        """Look at everything. hold: called before the last segment, which must not grow from then on."""
        topic = self._topic
        if self._known.broken_at is not None:
            path = f"{topic.path}/{seals.FILE_NAME}"
            self.steps.append(Step(path, "the chain of seals is broken; it is forged anew", self._mend_seals))
        before = -1
        for first in segment_offsets(topic)[:-1]:
            self._look_at(first, is_last=False)
            before = first
        hold()
        firsts = segment_offsets(topic)
        for first in [one for one in firsts if one > before]:
            self._look_at(first, is_last=first == firsts[-1])
        for first in self._known.missing(firsts):
            path = f"{topic.path}/{names.segment_name(first)}"
            self.steps.append(Step(path, "this segment is missing; its seal is retired", self._retire(first)))
        self._look_at_groups()
        self._look_at_settings()
        if self._floor > (self._next or 0):
            path = f"{topic.path}/{names.segment_name(self._floor)}"
            what = f"the next event gets offset {self._floor}, as those before it were given away"
            self.steps.append(Step(path, what, self._begin_at(self._floor)))
        self._look_for_those_without_seal()

    def note_gaps(self) -> None:
        """Remember which gaps are known by now, so that nobody is told of them again."""
        with SealsFile(self._topic) as file:
            for first, last in self._gaps:
                file.add_gap(first, last)
            file.sync()

    def _look_at(self, first: int, *, is_last: bool) -> None:
        try:
            segment = Segment(self._topic, first)
        except FileNotFoundError:  # trimmed, or compacted away, in this moment
            return
        mode = os.fstat(segment.fd).st_mode & 0o777
        begins_at = self._beginning(segment)
        before = self._next
        gap = self._look_for_gap(begins_at)
        if mode == files.UNSYNCED_MODE:
            what = "a sync failed; it is copied to a new file, and sealed"
            self.steps.append(Step(segment.path, what, self._rewrite(segment, [], sealed=True)))
        digests = self._known.digests.get(first)
        if digests and seals.digest(segment) in digests:
            self._pass_over(segment)
        elif not self._salvage(
            segment, sealed=not mode & files.WRITABLE or not is_last, altered=first in self._known.live
        ):
            self._next = before
            return
        if gap is not None:
            self.steps.append(Step(segment.path, "what stood before this segment is missing", None, gap))
            self._gaps.append(gap)
        if mode & files.WRITABLE and not is_last:
            what = "not the last segment, and not sealed; it is sealed"
            self.steps.append(Step(segment.path, what, lambda _: self._seal(first)))
        if begins_at < first:
            what = f"it begins with offset {begins_at}, which its name is to say; it is renamed"
            self.steps.append(Step(segment.path, what, self._rename(first, begins_at)))
        self._floor = max(self._floor, self._next or first)
        self._may_leave_out = first in self._known.remade

    def _beginning(self, segment: Segment) -> int:
        """The first offset of a segment: what its name says, unless it begins with one that fits better."""
        head = segment.first_head()
        if self._next is not None and check.is_head(head) and self._next <= line.offset_of(head) < segment.first:
            return line.offset_of(head)
        return segment.first

    def _pass_over(self, segment: Segment) -> None:
        size = segment.size()
        if size:
            text = segment.last_line(size)[1]
            self._next, self._time = line.offset_of(text) + 1, line.time_of(text)

    def _look_for_gap(self, first: int) -> tuple[int, int] | None:
        """The offsets that are missing before a segment that begins with `first`, if that is not known of them."""
        following = self._next
        if following is not None and following >= first:
            return None
        self._next = first
        if following is None or self._may_leave_out:
            return None
        return self._known.unexplained(following, first)

    def _salvage(self, segment: Segment, *, sealed: bool, altered: bool) -> bool:
        """Write down what is to be done about the lines of a segment. False if all of it is to go."""
        path = segment.path
        salvage = Salvage(
            segment,
            self._next,
            self._known.gaps,
            is_sparse=altered and segment.first in self._known.remade,
            is_altered=altered,
            is_sealed=sealed,
            moment=self._time,
            behind=self._behind(segment.first),
        )
        salvage.run()
        if salvage.edits and salvage.kept_lines == 0 and salvage.repeated:
            what = "all its events stand in a segment before; it is moved away"
            self.steps.append(Step(path, what, self._move_away(segment)))
            return False
        self._next, self._time = salvage.next, salvage.time
        self._floor = max(self._floor, salvage.floor)
        self._gaps += [gone for _, gone in salvage.findings if gone is not None]
        for number, (what, gone) in enumerate(salvage.findings, 1):
            is_final = number == len(salvage.findings)
            do = self._rewrite(segment, salvage.edits, sealed=sealed) if is_final and salvage.edits else None
            self.steps.append(Step(path, what, do, gone))
        if altered and not salvage.edits:
            what = "it is not as it was when it was sealed, and nothing tells where; it is kept as it is"
            self.steps.append(Step(path, what, self._retire(segment.first)))
        return True

    def _behind(self, first: int) -> tuple[bytes, int | None]:
        """Time and offset of the event behind the segment that begins with `first`, as far as they are known."""
        following = min((one for one in segment_offsets(self._topic) if one > first), default=None)
        if following is None:
            return b"", None
        head = Segment(self._topic, following).first_head()
        return line.time_of(head) if check.is_head(head) else b"", following

    def _look_at_settings(self) -> None:
        try:
            settings.load(self._topic)
        except ConfigurationError as error:
            path = f"{self._topic.path}/{settings.FILE_NAME}"
            what = f"makes no sense: {error.why}; it is moved away, and the topic has the defaults"
            self.steps.append(Step(path, what, lambda step: self._put_away(self._topic, settings.FILE_NAME, step)))

    def _look_at_groups(self) -> None:
        try:
            consumers = self._topic.subdirectory(offsets.DIRECTORY_NAME)
        except FileNotFoundError:
            return
        for group in offsets.group_names(consumers):
            try:
                commits = offsets.read_commits(consumers, group)
            except CorruptionError:
                path = f"{consumers.path}/{names.commits_name(group)}"
                what = "none of its lines is a commit; the group begins again at the earliest event"
                self.steps.append(Step(path, what, self._begin_anew(group)))
                continue
            state = offsets.state_of(commits)
            self._floor = max(self._floor, state.committed or 0)
            self._look_at_place(f"{consumers.path}/{names.commits_name(group)}", group, state)

    def _look_at_place(self, path: str, group: str, state: State) -> None:
        """Let a group whose log was restored under it have what came since."""
        try:
            found = rewound(self._topic, state)
            end = next_offset(self._topic)
        except CorruptionError:  # of which there is a step already: run again after it
            return
        if found is not None and found[1] < end:
            what = f"it {found[0]}; the group goes on with offset {found[1]}"
            self.steps.append(Step(path, what, self._move(group, found[1])))

    # What the steps do

    def _rewrite(self, segment: Segment, edits: list[Edit], *, sealed: bool) -> Callable[[Step], None]:
        def do(step: Step) -> None:
            for start, end in joined(edits):
                step.kept.append(damaged.put_aside(self._topic, segment, start, end))
            name = names.segment_name(segment.first)
            fd = self._topic.open(name + NEW_SUFFIX, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                for text in edited(segment, edits):
                    files.write_all(fd, text)
                os.fchmod(fd, files.SEALED_MODE if sealed else files.FILE_MODE)
                os.fsync(fd)
            except OSError as error:
                self._topic.fail(name + NEW_SUFFIX, error)
            finally:
                os.close(fd)
            if segment.first in self._known.live:
                seals.retire(self._topic, [segment.first])
            self._topic.rename(name + NEW_SUFFIX, name)
            self._topic.sync()

        return do

    def _move_away(self, segment: Segment) -> Callable[[Step], None]:
        def do(step: Step) -> None:
            seals.retire(self._topic, [segment.first])
            self._put_away(self._topic, names.segment_name(segment.first), step)

        return do

    def _begin_anew(self, group: str) -> Callable[[Step], None]:
        def do(step: Step) -> None:
            consumers = self._topic.subdirectory(offsets.DIRECTORY_NAME)
            self._put_away(consumers, names.commits_name(group), step)
            commits = offsets.Commits(consumers, group)
            with commits:
                commits.write(min(segment_offsets(self._topic), default=0))
            commits.sync()

        return do

    def _move(self, group: str, offset: int) -> Callable[[Step], None]:
        def do(_: Step) -> None:
            commits = offsets.Commits(self._topic.subdirectory(offsets.DIRECTORY_NAME), group)
            commits.not_before = commits.state.time
            with commits:
                commits.write(offset, {"seek": str(commits.state.seeks + 1)})
            commits.sync()

        return do

    def _put_away(self, directory: Directory, name: str, step: Step) -> None:
        """Move a whole file to where damaged bytes are kept."""
        kept = self._topic.subdirectory(damaged.DIRECTORY_NAME, create=True)
        new_name = f"{name}@0.{time.time_ns()}"
        try:
            os.rename(name, new_name, src_dir_fd=directory.fd, dst_dir_fd=kept.fd)
        except OSError as error:
            directory.fail(name, error)
        kept.sync()
        directory.sync()
        step.kept.append(f"{kept.path}/{new_name}")

    def _begin_at(self, following: int) -> Callable[[Step], None]:
        def do(_: Step) -> None:
            firsts = segment_offsets(self._topic)
            if firsts:
                self._seal(firsts[-1])
            if following not in firsts:
                fd = self._topic.open(names.segment_name(following), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                os.close(fd)
            self._topic.sync()

        if self._next is not None:
            self._gaps.append((self._next, following - 1))
        return do

    def _rename(self, old: int, new: int) -> Callable[[Step], None]:
        def do(_: Step) -> None:
            seals.retire(self._topic, [old])
            self._topic.rename(names.segment_name(old), names.segment_name(new))
            self._topic.sync()

        return do

    def _look_for_those_without_seal(self) -> None:
        """Let segments have a seal that have none though they are written no more."""
        told = {step.file for step in self.steps}
        for first in sealing.without_seal(self._topic):
            path = f"{self._topic.path}/{names.segment_name(first)}"
            if path not in told:
                self.steps.append(Step(path, "it has no seal; it is sealed"))

    def _seal(self, first: int) -> None:
        fd = self._topic.open(names.segment_name(first), os.O_RDONLY)
        try:
            os.fsync(fd)
            os.fchmod(fd, files.SEALED_MODE)
        except OSError as error:
            self._topic.fail(names.segment_name(first), error)
        finally:
            os.close(fd)

    def _retire(self, first: int) -> Callable[[Step], None]:
        return lambda _: seals.retire(self._topic, [first])

    def _mend_seals(self, _: Step) -> None:
        with SealsFile(self._topic) as file:
            for seal in file.mend():
                if seal.is_live and not self._is_as_sealed(seal):
                    file.retire([seal.first], only=seal.digest)

    def _is_as_sealed(self, seal: Seal) -> bool:
        try:
            return seals.digest(Segment(self._topic, seal.first)) == seal.digest
        except FileNotFoundError:
            return False

"""What a home stands on: the disk, the clock, and how the system tells of changes."""

from __future__ import annotations

import os
import shlex
import time

from evtool.errors import CorruptionError
from evtool.log import line
from evtool.log.segment import Segment
from evtool.log.settings import CONSUMED, KNOWN
from evtool.log.topic import segment_offsets
from evtool.log.watch import Watch
from evtool.stores.finding import ADVICE, PROBLEM, Finding
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evtool.log.files import Directory
    from evtool.stores.glance import Topic

_DAY = 86400.0
_AHEAD_DAYS = 7.0  # for which there should be room on the disk
_LEAST_SHARE = 0.01  # of the bytes, or of the names, of a disk that should be free
_CLOCK_SECONDS = 60.0  # by which the clock may read earlier than the newest event
_SEGMENT_BYTES = int(str(KNOWN["segment-bytes"][1]))  # where no topic says more
_INOTIFY = "/proc/sys/fs/inotify"


def watching(home: Directory) -> Iterator[Finding]:
    """Whether followers have to look again and again. Where the system never tells of changes that cannot be mended."""
    if os.path.isdir(_INOTIFY) and Watch([home.path]).fd is None:
        why = "the system has no inotify watches left, so that followers look again and again instead of waiting"
        mend = "sudo sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=1048576"
        yield Finding(ADVICE, home.path, why, mend)


def clock(topics: Sequence[Topic]) -> Iterator[Finding]:
    """Whether the clock reads earlier than the newest event of a topic."""
    now = time.time()
    newest = {topic.name: topic.bounds.last_time for topic in topics if topic.bounds is not None}
    ahead = {name: seconds_of(moment) - now for name, moment in newest.items() if moment is not None}
    wrong = [name for name, seconds in ahead.items() if seconds > _CLOCK_SECONDS]
    if wrong:
        name = max(wrong, key=ahead.__getitem__)
        others = f" and those of {len(wrong) - 1} other topics" if len(wrong) > 1 else ""
        why = (
            f"reads {ahead[name]:.0f} seconds earlier than the newest event of {name}{others},"
            " so that new events get the time of that one and none is removed for its age"
        )
        yield Finding(PROBLEM, "the clock", why, "sudo timedatectl set-ntp true")


def disk(home: Directory, topics: Sequence[Topic]) -> Iterator[Finding]:
    """Whether the disk is full, or will be soon."""
    status = os.fstatvfs(home.fd)
    if status.f_favail < _LEAST_SHARE * status.f_files:  # 0 < 0 where a file system does not count them
        why = f"the disk has only {status.f_favail} of {status.f_files} names for files (inodes) left"
        yield Finding(PROBLEM, home.path, why, f"df -i {shlex.quote(home.path)}")
    free = status.f_bavail * status.f_frsize
    too_little = _too_little(free, status.f_blocks * status.f_frsize, topics)
    appended = sum(map(_growth, topics))
    if too_little:
        why = f"the disk has only {_mebibytes(free)} free, less than {too_little}"
        yield Finding(PROBLEM, home.path, why, _make_room(home, topics))
    elif free < appended * _AHEAD_DAYS:
        days = free / appended
        when = f"{days:.1f} days" if days >= 1 else f"{24 * days:.1f} hours"
        why = f"the disk will be full in {when}: {_mebibytes(free)} are free, {_mebibytes(appended)} came in a day"
        yield Finding(ADVICE, home.path, why, _make_room(home, topics))


def _too_little(free: int, size: int, topics: Sequence[Topic]) -> str:
    """What the disk has less than of free bytes, in words; empty if it has enough."""
    known = [topic.settings.segment_bytes for topic in topics if topic.settings is not None]
    segment = max(known, default=_SEGMENT_BYTES)
    if free < segment:
        return f"the {_mebibytes(segment)} that a segment may have"
    return f"{_LEAST_SHARE:.0%}" if free < _LEAST_SHARE * size else ""


def _growth(topic: Topic) -> int:
    """The bytes that were appended in the last 24 hours, unless the topic's limits have begun to remove as many."""
    settings, bounds = topic.settings, topic.bounds
    if settings is None or bounds is None or bounds.last_time is None:
        return 0
    if bounds.first and (settings.has_limits or settings.retention == CONSUMED):
        return 0
    try:
        return _bytes_since(topic.directory, line.stamp(max(0, time.time_ns() - int(_DAY * 1e9))))
    except (FileNotFoundError, CorruptionError):  # trimmed in this moment; damage is found elsewhere
        return 0


def _bytes_since(directory: Directory, moment: bytes) -> int:
    count = 0
    for first in reversed(segment_offsets(directory)):
        segment = Segment(directory, first)
        end = segment.end_of_lines(segment.size())
        start = segment.find_time(end, moment)
        count += end - start
        if start:
            break
    return count


def _make_room(home: Directory, topics: Sequence[Topic]) -> str:
    """The command that says what the largest topic could do without, if it has more than one segment."""
    known = [topic for topic in topics if topic.bounds is not None and len(segment_offsets(topic.directory)) > 1]
    if not known:
        return f"df -h {shlex.quote(home.path)}"
    largest = max(known, key=_size)
    return f"evtool trim {largest.name} --before 7d --dry-run"


def _size(topic: Topic) -> int:
    return 0 if topic.bounds is None else topic.bounds.size


def _mebibytes(count: float) -> str:
    return f"{count / (1 << 20):.1f} MiB"

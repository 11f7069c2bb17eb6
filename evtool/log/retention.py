"""Dropping what nobody needs any more: segments whose events every group has handled, in topics that say so."""

from __future__ import annotations

import itertools
import os
import time

from evtool.log import line, names, offsets
from evtool.log.bounds import next_offset
from evtool.log.lock import is_locked, lock, unlock
from evtool.log.segment import Segment
from evtool.log.settings import CONSUMED, load
from evtool.log.topic import LOCK_NAME, segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory


def drop_consumed(topic: Directory) -> int:
    """Remove the sealed segments that every group has handled; return how many. A topic that keeps all loses nothing.

    A group that nobody serves and that has committed nothing for longer than the topic's `group-ttl` holds nothing
    back. Without a group nothing is removed: there may be one tomorrow that wants it.
    """
    settings = load(topic)
    if settings.retention != CONSUMED:
        return 0
    needed = _needed_from(topic, settings.group_ttl)
    if needed is None:
        return 0
    fd = topic.open(LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        lock(fd, topic.path)
        return _drop_before(topic, needed)
    finally:
        unlock(fd)
        os.close(fd)


def has_lapsed(topic: Directory, group: str) -> bool:
    """Whether a group has been away for so long that it held nothing back any more."""
    settings = load(topic)
    if settings.retention != CONSUMED:
        return False
    known = offsets.read_commits(topic.subdirectory(offsets.DIRECTORY_NAME), group)
    return bool(known) and _is_older(known[-1].time, settings.group_ttl)


def _needed_from(topic: Directory, group_ttl: float) -> int | None:
    """The first offset that some group may still want; None if there is no group that counts."""
    try:
        consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
    except FileNotFoundError:
        return None
    needed = None
    for group in offsets.group_names(consumers):
        commits = offsets.read_commits(consumers, group)
        if not commits or (_is_older(commits[-1].time, group_ttl) and not _is_served(consumers, group)):
            continue
        state = offsets.state_of(commits)
        first = min([state.committed or 0, *(low for low, _ in state.again)])
        needed = first if needed is None else min(needed, first)
    return needed


def _is_served(consumers: Directory, group: str) -> bool:
    """Whether a process consumes for the group: one that waits for events commits nothing."""
    try:
        fd = consumers.open(names.group_lock_name(group), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return is_locked(fd)
    finally:
        os.close(fd)


def _is_older(moment: bytes, seconds: float) -> bool:
    """Whether this time, as in a line, is longer ago than that. A clock that went back makes nothing older."""
    return moment < line.stamp(max(0, time.time_ns() - int(seconds * 1e9)))


def _drop_before(topic: Directory, needed: int) -> int:
    """Remove, oldest first, the segments of which all events lie before `needed`; never the active one."""
    firsts = segment_offsets(topic)
    needed = min(needed, next_offset(topic))
    dropped = 0
    for first, following in itertools.pairwise(firsts):
        if following > needed or Segment(topic, first).is_active():
            break
        os.unlink(names.segment_name(first), dir_fd=topic.fd)
        dropped += 1
    if dropped:
        topic.sync()
    return dropped

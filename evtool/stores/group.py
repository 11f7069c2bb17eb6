"""A consumer group of the file store: who may consume for it, and what it has handled."""

from __future__ import annotations

import os

from evtool.errors import ConditionError
from evtool.log import bounds, lock, names, offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from filelock import BaseFileLock

    from evtool.log.files import Directory


class FileGroup:
    """One group of one topic. It is consumed for by the process that has acquired it, and by nobody else."""

    def __init__(self, topic: Directory, name: str) -> None:
        self.name = name
        self._topic = topic
        self._consumers = topic.subdirectory(offsets.DIRECTORY_NAME, create=True)
        self._lock: BaseFileLock | None = None
        self._commits: offsets.Commits | None = None

    def try_acquire(self) -> bool:
        """Become the one that consumes for the group, if nobody else does; say whether that was so."""
        from filelock import FileLock, Timeout

        if self._lock is None:
            path = f"{self._consumers.path}/{names.group_lock_name(self.name)}"
            self._lock = FileLock(path, mode=0o600, timeout=0, is_singleton=False, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            return False
        self._commits = offsets.Commits(self._consumers, self.name)
        return True

    def release(self) -> None:
        """Let somebody else consume for the group."""
        self._commits = None
        if self._lock is not None:
            self._lock.release()

    @property
    def committed(self) -> int | None:
        """The offset of the next event that the group will get; None for a group that is new. Acquired groups only.

        Raises ConditionError if that lies behind the end of the log: something was lost or put back.
        """
        committed = self._held.committed
        if committed is not None and committed > (end := bounds.next_offset(self._topic)):
            topic = os.path.basename(self._topic.path)
            raise ConditionError(
                f"{topic}, group {self.name}",
                f"has committed offset {committed}, but the log ends before {end}",
                hint="was the log restored or trimmed? Remove the group's file from its consumers/ to begin anew",
            )
        return committed

    def commit(self, offset: int) -> None:
        """Say that the group has handled everything before `offset`. Durable after `sync`."""
        self._held.commit(offset)

    def sync(self) -> None:
        """Make the commits durable."""
        self._held.sync()

    @property
    def _held(self) -> offsets.Commits:
        if self._commits is None:
            raise ConditionError(self.name, "this process does not consume for the group")
        return self._commits


def is_active(topic: Directory, group: str) -> bool:
    """Whether a process is consuming for the group."""
    try:
        consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
        fd = consumers.open(names.group_lock_name(group), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return lock.is_locked(fd)
    finally:
        os.close(fd)

"""A consumer group of the file store: who may consume for it, and what it has handled."""

from __future__ import annotations

import fcntl
import os

from evtool.errors import BusyError, ConditionError, NotFoundError
from evtool.log import lock, names, offsets, retention
from evtool.log.durable import Durable
from evtool.log.rewound import rewound
from evtool.stores.moved import Moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.log.files import Directory
    from evtool.log.ranges import Ranges
    from evtool.log.reader import Reader
    from evtool.stores.share import Share

ALONE, SHARED, MANUAL = offsets.ALONE, offsets.SHARED, offsets.MANUAL


class FileGroup:
    """One group of one topic. It is consumed for by the process that has acquired it, and by nobody else.

    With the mode SHARED several processes consume for it, each what it has leased: see `evtool.stores.share`.
    """

    def __init__(self, topic: Directory, name: str) -> None:
        self._lock_fd = -1
        self.name = name
        self.topic = os.path.basename(topic.path)
        self.member = ""
        self._directory = topic
        self._consumers = topic.subdirectory(offsets.DIRECTORY_NAME, create=True)
        self._log: offsets.Commits | None = None
        self._seeks = 0
        self._is_known = False
        self._doing = ""
        self._durable = Durable(topic)
        self.introduction: dict[str, str] = {}

    def __del__(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def try_acquire(self, mode: str = ALONE, command: str = "") -> bool:
        """Become the one that consumes for the group, or one of several, if nobody else does so alone.

        command: what handles the events, for those who look. Returns whether that was so.
        """
        if not self._try_lock(fcntl.LOCK_SH if mode == SHARED else fcntl.LOCK_EX):
            return False
        self._log = offsets.Commits(self._consumers, self.name)
        self._seeks = self._log.state.seeks
        self.member = os.urandom(6).hex()
        self.introduction = _introduction(self.member, mode, command)
        return True

    def release(self) -> None:
        """Let somebody else consume for the group."""
        self._log = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @property
    def committed(self) -> int | None:
        """The offset of the next event that the group will get; None for a group that is new. Acquired groups only.

        Raises ConditionError if the log is not the one that the group has seen: something was lost or put back.
        """
        found = rewound(self._directory, self._held.state)
        if found is None:
            return self._held.committed
        why, first = found
        raise ConditionError(
            f"{self.topic}, group {self.name}",
            why,
            hint="was the log restored? To go on with what came since:"
            f" evtool seek {self.topic} --group {self.name} --to {first}",
        )

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever committed for it."""
        return self._held.committed is None

    @property
    def state(self) -> offsets.State:
        """What its commit log says, as of the last time that it was written or looked at."""
        return self._held.state

    def join(self, start: int) -> int:
        """Say who consumes from now on, and where: at `start` if the group is new. Returns where. Raises Moved."""
        self.make_durable(start)
        with self._held as log:
            if log.committed is None:
                log.write(start)
            assert log.committed is not None
            log.write(log.committed, self.introduction)
            self._seeks = log.state.seeks
            self._is_known = True
            return log.committed

    def commit(self, offset: int) -> None:
        """Say that the group has handled everything before `offset`. Durable after `sync`. Raises Moved."""
        self.make_durable(offset)
        with self._held as log:
            self.check_place(log)
            log.write(offset)

    def handle(self, handled: Ranges) -> None:
        """Say that these offsets are handled. Durable after `sync`. Raises Moved."""
        self.make_durable(handled.end)
        with self._held as log:
            self.check_place(log)
            log.handle(handled)

    def make_durable(self, offset: int) -> None:
        """Make everything before `offset` durable, before anything is said of it. Raises SyncError."""
        self._durable.reach(offset)
        self._held.not_before = self._durable.time

    def say(self, **fields: str) -> None:
        """Say something else as this member, such as what it is doing."""
        with self._held as log:
            self.check_place(log)
            assert log.committed is not None
            log.write(log.committed, {"member": self.member, **fields})

    def say_doing(self, doing: str) -> None:
        """Say what this member does, if that is something else than before. Raises Moved."""
        if doing != self._doing:
            self._doing = doing
            self.say(doing=doing)

    def look(self) -> None:
        """Take in what others have said of the group. Raises Moved."""
        with self._held as log:
            self.check_place(log)

    def sync(self) -> None:
        """Make the commits durable; then what every group has handled may go, if the topic is kept so."""
        self._held.sync()
        retention.drop_consumed(self._directory)

    @property
    def has_lapsed(self) -> bool:
        """Whether the topic keeps only what is not handled, and has not waited for this group any more."""
        return retention.has_lapsed(self._directory, self.name)

    def reader(self, offset: int, on_missed: Callable[[int, int], None] | None = None) -> Reader:
        """The events from where the group stands."""
        from evtool.log.reader import Reader

        return Reader(self._directory, offset, on_missed)

    def share(
        self,
        offset: int,
        wants: Callable[[bytes], bytes],
        on_missed: Callable[[int, int], None],
        seconds: float,
    ) -> Share:
        """Our part of a group that shares; see there."""
        from evtool.stores.share import Share

        return Share(self, self.reader(offset, on_missed), wants, self._line_at, seconds)

    def _line_at(self, offset: int) -> bytes | None:
        from evtool.stores.topic import FileTopic

        return FileTopic(self._directory, self.topic).line_at(offset)

    def turn(self) -> offsets.Commits:
        """The commit log, to be written within a `with` block. Raises ConditionError unless acquired."""
        return self._held

    def check_place(self, log: offsets.Commits) -> None:
        """Raise Moved if somebody has moved the group since we joined or were told, NotFoundError if it was removed."""
        if log.committed is None:
            if not self._is_known:
                return
            if self._directory.is_gone():
                raise NotFoundError(self.topic, "the topic was removed")
            raise NotFoundError(f"{self.topic}, group {self.name}", "the group was removed")
        self._is_known = True
        if log.state.seeks != self._seeks:
            self._seeks = log.state.seeks
            raise Moved(self.topic, self.name)

    @property
    def _held(self) -> offsets.Commits:
        if self._log is None:
            raise ConditionError(self.name, "this process does not consume for the group")
        return self._log

    def _try_lock(self, how: int) -> bool:
        """Hold the group's lock, alone or together with others who share it, if nobody is in the way."""
        if self._lock_fd >= 0:
            return True
        fd = self._consumers.open(names.group_lock_name(self.name), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True


def _introduction(member: str, mode: str, command: str) -> dict[str, str]:
    host = os.uname().nodename
    said = {"member": member, "pid": str(os.getpid()), "host": host, "mode": mode}
    return said | {"command": command[:200]} if command else said


def is_active(topic: Directory, group: str) -> bool:
    """Whether a process is consuming for the group."""
    try:
        consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
        fd = consumers.open(names.group_lock_name(group), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return lock.is_locked(fd)
    finally:
        os.close(fd)


def seek(topic: Directory, group: str, offset: int) -> None:
    """Let the group begin anew at `offset`; a process that consumes for it goes on there. Durable on return."""
    log = _log(topic, group)
    durable = Durable(topic)
    durable.reach(max(1, offset))
    log.not_before = durable.time
    with log:
        log.write(offset, {"seek": str(log.state.seeks + 1)})
    log.sync()
    _wake(topic)


def call_again(topic: Directory, group: str, again: Ranges) -> None:
    """Let the group get events again that it has handled. Durable on return."""
    log = _log(topic, group)
    with log:
        assert log.committed is not None
        log.write(log.committed, {"again": str(again)})
    log.sync()
    _wake(topic)


def remove(topic: Directory, group: str, *, force: bool) -> None:
    """Forget what a group has handled. Its locks stay, as somebody may be waiting for them.

    Raises BusyError if a process consumes for it, unless `force` says that this does not matter.
    """
    from filelock import FileLock, Timeout

    consumers = topic.subdirectory(offsets.DIRECTORY_NAME)
    held = FileLock(f"{consumers.path}/{names.group_lock_name(group)}", mode=0o600, timeout=0)
    try:
        held.acquire()
    except Timeout:
        if not force:
            raise BusyError(f"{os.path.basename(topic.path)}, group {group}", "a process consumes for it") from None
    try:
        with offsets.Commits(consumers, group):
            os.unlink(names.commits_name(group), dir_fd=consumers.fd)
        consumers.sync()
    finally:
        held.release()


def _log(topic: Directory, group: str) -> offsets.Commits:
    """The commit log of a group that exists. Raises NotFoundError."""
    log = offsets.Commits(topic.subdirectory(offsets.DIRECTORY_NAME, create=True), group)
    if log.committed is None:
        raise NotFoundError(group, f"no such group of topic {os.path.basename(topic.path)}")
    return log


def _wake(topic: Directory) -> None:
    """Let whoever waits for events look around: it watches the directory."""
    name = f".wake.{os.getpid()}"
    os.close(topic.open(name, os.O_WRONLY | os.O_CREAT))
    os.unlink(name, dir_fd=topic.fd)


class Deputy:
    """Commits in place of a member that gives events out and does not know what becomes of them."""

    def __init__(self, topic: Directory, group: str, member: str) -> None:
        """Raises NotFoundError if there is no such group."""
        self._topic = os.path.basename(topic.path)
        self._group = group
        self._member = member
        self._durable = Durable(topic)
        self._log = _log(topic, group)

    @property
    def committed(self) -> int:
        """What the group has committed."""
        return self._log.committed or 0

    def commit(self, offset: int) -> None:
        """Everything before `offset` is handled. Raises ConditionError if another one consumes for the group by now."""
        self._make_durable(offset)
        with self._log as log:
            self._check(log)
            if offset > self.committed:
                log.write(offset)

    def finish(self) -> None:
        """What the member has given out is handled, if it has come to a good end. Durable on return."""
        with self._log as log:
            given = self._check(log).given
            if given is not None and given > self.committed:
                self._make_durable(given)
                log.write(given)
        log.sync()

    def sync(self) -> None:
        """Make the commits durable."""
        self._log.sync()

    def _make_durable(self, offset: int) -> None:
        self._durable.reach(offset)
        self._log.not_before = self._durable.time

    def _check(self, log: offsets.Commits) -> offsets.Member:
        member = log.state.members.get(self._member)
        if member is None:
            raise ConditionError(
                f"{self._topic}, group {self._group}",
                "another process consumes for the group by now; nothing more was committed for it",
                hint="what this pipe still had comes again, over there",
            )
        return member

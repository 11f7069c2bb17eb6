"""Who may consume for a group: one process alone, or several that share.

The record says who does; whether that one still lives it must answer itself (see `who`). It is taken for dead if nobody
listens in its place: at once if its process was on this machine and is gone, else only if that is so for a while, as a
process that lost its connection is back within moments. One that is there and silent is given up after half a minute.
"""

from __future__ import annotations

import os
import time
import weakref

from evtool.log.offsets import SHARED
from evtool.stores.nats import who
from evtool.stores.nats.connection import Unanswered
from evtool.stores.nats.register import Record, Register
from evtool.stores.stuck import is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.who import Answer, Presence

_ANSWER_SECONDS = 0.5
_ABSENT_SECONDS = 3.0  # nobody has listened for so long; who is cut off tries again at least every 2 s
_SETTLE_SECONDS = 5.0  # after a loss of our own connection, which may have been that of others too
_SILENT_SECONDS = 30.0  # somebody has listened and not answered for so long
_SURE_SECONDS = 0.2  # one that has answered is not asked again so soon
_GONE_SECONDS = 1.0  # a member that shares and has not answered for so long is not counted on any more
_RELEASE_PATIENCE = 2.0


class Suspicion:
    """What those who wait for a group have seen of its members: since when they are absent, or silent."""

    __slots__ = ("absent_since", "answered", "silent_since")

    def __init__(self) -> None:
        self.answered = float("-inf")
        self.absent_since: float | None = None
        self.silent_since: float | None = None

    def clear(self, answered: float) -> None:
        """They are well."""
        self.answered = answered
        self.absent_since = self.silent_since = None


_living: set[str] = set()  # members that are this process
# Who waits does so with a new object each time, so this is kept with the connection.
_suspicions: weakref.WeakKeyDictionary[Connection, Suspicions] = weakref.WeakKeyDictionary()


class Suspicions:
    """Those of all groups that somebody waits for through one connection; forgotten when that is lost."""

    def __init__(self, connection: Connection) -> None:
        self._of: dict[tuple[str, str], Suspicion] = {}
        self._lost = float("-inf")
        connection.watch_lost(self._forget)

    def of(self, topic: str, group: str) -> Suspicion:
        """That of one group."""
        return self._of.setdefault((topic, group), Suspicion())

    @property
    def is_settled(self) -> bool:
        """Whether those who lost their connection when we did have had time to come back."""
        return time.monotonic() - self._lost > _SETTLE_SECONDS

    def _forget(self) -> None:
        self._of.clear()
        self._lost = time.monotonic()


class Claim:
    """One process's wish to consume for a group."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self._connection = connection
        self._register = Register(connection)
        self._topic = topic
        self._group = group

    @property
    def _suspicions(self) -> Suspicions:
        found = _suspicions.get(self._connection)
        if found is None:
            found = _suspicions[self._connection] = Suspicions(self._connection)
        return found

    @property
    def _suspicion(self) -> Suspicion:
        return self._suspicions.of(self._topic, self._group)

    async def take(self, member: str, said: Answer, presence: Presence) -> bool:
        """Become the one that consumes, or one of several; say whether that was so. said: see `who.introduction`."""
        mode = said["mode"]
        if time.monotonic() - self._suspicion.answered < _SURE_SECONDS:
            return False
        rivals = _rivals(await self._record(), member, mode)
        if rivals and not await self._are_gone(rivals):
            return False
        await presence.start()  # first: who finds our name must find us

        def change(record: Record) -> bool:
            if _rivals(record, member, mode).keys() - rivals.keys():
                return False
            enter(record, member, said)
            return True

        is_ours = False
        try:
            is_ours = is_in(await self._register.update(self._topic, self._group, change), member, mode)
        finally:
            if not is_ours:
                await presence.stop()
        if is_ours:
            self._suspicion.clear(float("-inf"))
            _living.add(member)
        return is_ours

    async def give_back(self, member: str, mode: str) -> None:
        """Let others consume. What a member that is not SHARED has said of itself stays, as it was the last one."""
        _living.discard(member)

        def change(record: Record) -> bool:
            if not is_in(record, member, mode):
                return False
            if mode == SHARED:
                leave(record, member)
            else:
                record.holder = ""
            record.is_left = mode != SHARED or not record.members
            return True

        await self._register.update(self._topic, self._group, change, patience=_RELEASE_PATIENCE)

    async def _record(self) -> Record:
        record, _ = await self._register.read(self._topic, self._group)
        return record

    async def _are_gone(self, rivals: dict[str, Answer]) -> bool:
        suspicion, now = self._suspicion, time.monotonic()
        try:
            answer = await who.anybody(self._connection, self._topic, self._group, _ANSWER_SECONDS)
        except Unanswered:
            suspicion.absent_since = None
            suspicion.silent_since = suspicion.silent_since or now
            return now - suspicion.silent_since >= _SILENT_SECONDS
        if answer is not None:
            suspicion.clear(now)
            return False
        if all(map(_has_ended, rivals.values())):
            return True
        suspicion.silent_since = None
        suspicion.absent_since = suspicion.absent_since or now
        return self._suspicions.is_settled and now - suspicion.absent_since >= _ABSENT_SECONDS


def is_in(record: Record, member: str, mode: str) -> bool:
    """Whether, as the record has it, this member may consume."""
    return record.holder == member if mode != SHARED else member in record.members and not record.holder


def enter(record: Record, member: str, said: Answer) -> None:
    """Put a member into the record, and out of it those beside whom it can't be."""
    mode = said["mode"]
    for other, theirs in list(record.members.items()):
        if other != member and (mode != SHARED or theirs.get("mode") != SHARED):
            leave(record, other)
    record.holder = "" if mode == SHARED else member
    record.members[member] = record.members.get(member, {}) | said


async def gone(connection: Connection, topic: str, group: str, members: dict[str, Answer]) -> set[str]:
    """Which of these members do not live any more, as far as can be told in a moment."""
    doubtful = {name for name, said in members.items() if not _has_ended(said)}
    if doubtful:
        try:
            answers, _ = await who.everybody(connection, topic, group, _GONE_SECONDS, known=doubtful)
        except Unanswered:  # it is we who are cut off
            return members.keys() - doubtful
        doubtful &= answers.keys()
    return members.keys() - doubtful


def leave(record: Record, member: str) -> None:
    """Take a member out of the record; what was to come again and it had taken comes again."""
    from evtool.log.ranges import Ranges

    said = record.members.pop(member, None)
    if said and "again" in said:
        record.again.update(Ranges.parse(said["again"]))


def _rivals(record: Record, member: str, mode: str) -> dict[str, Answer]:
    """Members beside whom we can't consume, if they live."""
    if record.is_removed:
        return {}
    sharing = {name: said for name, said in record.members.items() if said.get("mode") == SHARED}
    rivals = {} if mode == SHARED else sharing
    if record.holder:
        rivals |= {record.holder: record.members.get(record.holder, {})}
    rivals.pop(member, None)
    return rivals


def _has_ended(said: Answer) -> bool:
    """Whether a member was a process of this machine that is not there any more, or this one, which has let it go."""
    pid = said.get("pid", "")
    if said.get("host") != os.uname().nodename or not pid.isdecimal():
        return False
    return _is_dead(int(pid)) or (int(pid) == os.getpid() and said.get("member") not in _living)


def _is_dead(pid: int) -> bool:
    """Whether there is no such process on this machine, or what is left of one whose parent did not ask for its end."""
    if is_gone(pid):
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False

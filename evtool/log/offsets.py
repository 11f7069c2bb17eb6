"""A group's commit log: which events of a topic the group has handled, and who handles which.

    {"committed":81920,"time":"2026-11-23T22:25:32.123456Z"}
    {"committed":81920,"time":"2026-11-23T22:25:33.120000Z","member":"5e1f0c","handled":"81922-81930,81935"}

One line a commit. `committed` is the offset of the next event that the group will get, in the last whole line; what a
line says beyond that holds until a later one says otherwise:

    handled     these offsets are handled too; those below `committed` are, unless they are to come again
    again       these come again, though they may lie below `committed`
    seek        the group begins anew at `committed`, for the so manieth time; forget all else
    member      who says it; with `pid`, `host`, `mode` and `command`, a process that consumes from now on
    lease       these offsets are the member's, until the moment that its latest `until` says
    free        these are not any more. gone: the member has left
    doing       what the member does, in words
    given       a member that does not commit by itself has given out all before this offset

Anybody may read it; whoever writes it holds its turn (`GROUP.turn`), and first reads what others wrote.
"""

from __future__ import annotations

import os
import time

from evtool.errors import CorruptionError, StorageError, repair_hint
from evtool.log import files, line, names
from evtool.log.lock import lock, unlock
from evtool.log.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory

DIRECTORY_NAME = "consumers"
ALONE, SHARED, MANUAL = "alone", "shared", "manual"
_START = b'{"committed":'
_TIME = b',"time":"'
_END = b'"}\n'
_LARGEST = 64 << 10  # beside what must be said anyway
_RANGES = ("handled", "again", "lease", "free")
_UNSAFE = str.maketrans(dict.fromkeys('"\\,', "'") | dict.fromkeys(range(32), " "))


class Commit:
    """One commit: the offset of the group's next event, and when (27 bytes) that was said. `fields`: what else."""

    __slots__ = ("committed", "fields", "time")

    def __init__(self, committed: int, moment: bytes, fields: dict[str, str] | None = None) -> None:
        self.committed = committed
        self.time = moment
        self.fields = fields


class Member:
    """A process that consumes for a group.

    mode: alone, shared or manual. leased: the offsets that are its own until `until`, a moment as `clock` tells it.
    given: all before this offset it has given out, though nobody may have handled it.
    """

    __slots__ = ("command", "doing", "given", "host", "leased", "mode", "name", "pid", "since", "until")

    def __init__(self, name: str, fields: dict[str, str], since: bytes) -> None:
        self.name = name
        self.pid = int(fields["pid"])
        self.host = fields["host"]
        self.mode = fields["mode"]
        self.command = fields.get("command", "")
        self.since = since
        self.doing = ""
        self.leased = Ranges()
        self.until = fields.get("until", "")
        self.given: int | None = None

    def introduction(self) -> dict[str, str]:
        """The fields that say who it is."""
        said = {"member": self.name, "pid": str(self.pid), "host": self.host, "mode": self.mode}
        if self.command:
            said["command"] = self.command
        return said

    def has_expired(self) -> bool:
        """Whether its leases are worth nothing any more."""
        boot, _, until = self.until.rpartition(":")
        now_boot, _, now = clock().rpartition(":")
        return boot != now_boot or float(until or 0) < float(now)


class State:
    """What a commit log says, line by line: see the module."""

    __slots__ = ("again", "committed", "handled", "members", "reached", "seeks", "time")

    def __init__(self) -> None:
        self.committed: int | None = None
        self.time = b""
        self.reached = b""  # when `committed` became what it is
        self.handled = Ranges()
        self.again = Ranges()
        self.members: dict[str, Member] = {}
        self.seeks = 0

    def apply(self, commit: Commit) -> None:
        """Take in one more line."""
        before = self.committed
        self._apply(commit)
        if self.committed != before:
            self.reached = commit.time

    def _apply(self, commit: Commit) -> None:
        fields = commit.fields
        self.time = commit.time
        if fields is None:
            if self.handled:
                self.committed = self.handled.take_from(commit.committed)
            else:
                self.committed = commit.committed
            return
        if "seek" in fields:
            self.handled, self.again, self.members = Ranges(), Ranges(), {}
            self.seeks = int(fields["seek"])
        self.committed = commit.committed
        if "member" in fields:
            self._apply_member(fields["member"], fields, commit.time)
        if "handled" in fields:
            self._apply_handled(Ranges.parse(fields["handled"]))
        if "again" in fields:
            self.again.update(Ranges.parse(fields["again"]))
        if self.handled:
            self.committed = self.handled.take_from(self.committed)

    def _apply_handled(self, ranges: Ranges) -> None:
        self.again.subtract(ranges)
        self.handled.update(ranges)
        for member in self.members.values():
            member.leased.subtract(ranges)

    def _apply_member(self, name: str, fields: dict[str, str], moment: bytes) -> None:
        if "gone" in fields:
            self.members.pop(name, None)
            return
        if "pid" in fields:
            if fields["mode"] != SHARED:
                self.members.clear()
            for one in [one for one in self.members.values() if one.mode != SHARED]:
                del self.members[one.name]  # it holds the group no more, or we could not share it
            self.members[name] = Member(name, fields, moment)
        member = self.members.get(name)
        if member is None:
            return
        member.until = fields.get("until", member.until)
        member.doing = fields.get("doing", member.doing)
        if "lease" in fields:
            leased = Ranges.parse(fields["lease"])
            for other in self.members.values():
                other.leased.subtract(leased)
            member.leased.update(leased)
        if "free" in fields:
            member.leased.subtract(Ranges.parse(fields["free"]))
        if "given" in fields:
            member.given = int(fields["given"])


def clock() -> str:
    """Now, for leases: a clock that nobody can set, the same for all processes until the machine is started anew."""
    return f"{_boot()}:{time.monotonic():.3f}"


def after(seconds: float) -> str:
    """The moment so many seconds from now, as `clock` tells it."""
    return f"{_boot()}:{time.monotonic() + seconds:.3f}"


def _boot() -> str:
    global _boot_id
    if _boot_id is None:
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                _boot_id = file.read(8)
        except OSError:  # not Linux
            _boot_id = "boot"
    return _boot_id


_boot_id: str | None = None


def render(committed: int, moment: bytes, fields: dict[str, str] | None = None) -> bytes:
    """One line of a commit log. Field values get no JSON escapes: what would need one is replaced."""
    if not fields:
        return _START + b"%d" % committed + _TIME + moment + _END
    more = "".join(f'","{name}":"{_safe(name, value)}' for name, value in fields.items())
    return _START + b"%d" % committed + _TIME + moment + more.encode("utf-8", "replace") + _END


def _safe(name: str, value: str) -> str:
    return value.translate(_UNSAFE) if name in ("command", "doing", "host") else value


def parse(text: bytes) -> Commit | None:
    """The commit that a whole line, without its newline, says, or None if it says none."""
    comma = text.find(b",", len(_START))
    digits = text[len(_START) : comma]
    end = comma + len(_TIME) + line.TIME_LENGTH
    moment = text[comma + len(_TIME) : end]
    rest = text[end : -len(_END) + 1]
    is_whole = text.startswith(_START) and comma > 0 and digits.isdigit() and text.startswith(_TIME, comma)
    if not (is_whole and line.is_time(moment) and text.endswith(_END[:-1]) and b"\0" not in text):
        return None
    if int(digits) >= line.LIMIT or (rest and not rest.startswith(b'","')):
        return None
    if not rest:
        return Commit(int(digits), moment)
    fields = {}
    for part in rest[len('","') :].decode("utf-8", "replace").split('","'):
        name, _, value = part.partition('":"')
        fields[name] = value
    return Commit(int(digits), moment, fields)


def read_commits(consumers: Directory, group: str) -> list[Commit]:
    """All commits that a group's file still holds, oldest first; none if there is no such group.

    Raises CorruptionError if there are whole lines and none of them is a commit.
    """
    try:
        fd = consumers.open(names.commits_name(group), os.O_RDONLY)
    except FileNotFoundError:
        return []
    try:
        text = _read_all(fd)
    finally:
        os.close(fd)
    commits = _commits(text)
    if b"\n" in text and not commits:
        raise _damaged(f"{consumers.path}/{names.commits_name(group)}")
    return commits


def _commits(text: bytes) -> list[Commit]:
    lines = text.split(b"\n")[:-1]  # what is behind the last newline is torn
    return [commit for one in lines if (commit := _parse_or_none(one)) is not None]


def _damaged(path: str) -> CorruptionError:
    return CorruptionError(path, 0, "no line of it is a commit", hint=repair_hint(path.rsplit("/", 3)[1]))


def _parse_or_none(text: bytes) -> Commit | None:
    """As `parse`; a line that is damaged inside is passed over like one that is damaged outside."""
    commit = parse(text)
    fields = None if commit is None else commit.fields
    if fields is None:
        return commit
    try:
        for name in fields.keys() & _RANGES:
            Ranges.parse(fields[name])
        if "pid" in fields:
            Member("", fields, b"")
        float(fields.get("until", "0").rpartition(":")[2])
        int(fields.get("given", "0"))
        int(fields.get("seek", "0"))
    except (ValueError, KeyError):
        return None
    return commit


def state_of(commits: list[Commit]) -> State:
    """What all these commits say together."""
    state = State()
    for commit in commits:
        state.apply(commit)
    return state


def group_names(consumers: Directory) -> list[str]:
    """The groups that have commits here, sorted. Who died before the first one has left an empty file."""
    named = [(name, group) for name in consumers.names() if (group := names.parse_commits(name)) is not None]
    return sorted(group for name, group in named if _has_bytes(consumers, name))


def _has_bytes(consumers: Directory, name: str) -> bool:
    try:
        return os.lstat(name, dir_fd=consumers.fd).st_size > 0
    except FileNotFoundError:  # removed in this moment
        return False


class Commits:
    """The write side of a group's commit log. `state` is what it says, as of the last turn.

    Only within a turn, which is a `with` block, may anything be written. The file is made by the first write.
    """

    def __init__(self, consumers: Directory, group: str) -> None:
        self._fd = self._turn_fd = -1
        self._directory = consumers
        self._name = names.commits_name(group)
        self.state = State()
        self._size = 0
        self._limit = _LARGEST
        self._dirty = False
        self._is_suspect = False  # a sync of the file failed
        self.not_before = b""  # a time (27 bytes) that no commit may be earlier than, whatever the clock says
        self._turn_fd = consumers.open(names.group_turn_name(group), os.O_RDWR | os.O_CREAT)
        with self:  # damage is found out now
            pass

    def __del__(self) -> None:
        for fd in (self._fd, self._turn_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._turn_fd = -1

    def __enter__(self) -> Commits:
        """Take the turn, and in what others wrote since the last one."""
        lock(self._turn_fd, self._name)
        try:
            self._catch_up()
        except BaseException:
            unlock(self._turn_fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        unlock(self._turn_fd)

    @property
    def committed(self) -> int | None:
        """The offset of the group's next event; None until something was committed."""
        return self.state.committed

    def write(self, committed: int, fields: dict[str, str] | None = None) -> None:
        """Say that everything before `committed` is handled, and these fields. One small write; durable after `sync`.

        Raises StorageError; then nothing of it is said.
        """
        commit = Commit(committed, max(line.stamp(time.time_ns()), self.not_before), fields)
        text = render(committed, commit.time, fields)
        if self._fd < 0:
            self._create()
        if self._size + len(text) > self._limit or self._is_suspect:
            self._write_anew(text)
        else:
            self._append(text)
        self.state.apply(commit)
        self._dirty = True

    def handle(self, offsets: Ranges, fields: dict[str, str] | None = None) -> None:
        """Say that these offsets are handled, be they next to what is committed or above it; else as `write`."""
        state = self.state
        assert state.committed is not None
        comes_again = bool(state.again)
        state.again.subtract(offsets)
        state.handled.update(offsets)
        committed = state.handled.take_from(state.committed)
        above = Ranges((first, last) for first, last in offsets if last >= committed or comes_again)
        try:
            self.write(committed, ({"handled": str(above)} if above else {}) | (fields or {}))
        except BaseException:
            if self._fd >= 0:
                self._close()  # the state is ahead of the file: read it again
            raise

    def sync(self) -> None:
        """Make the commits durable. Raises StorageError; then the next commit goes to a new file."""
        if not self._dirty or self._fd < 0:
            return
        self._dirty = False  # a second sync of the same file proves nothing, so it is not asked for one
        try:
            files.sync_data(self._fd)
        except OSError as error:
            self._is_suspect = True
            raise StorageError(self._path, f"cannot sync: {files.reason(error)}") from error

    @property
    def _path(self) -> str:
        return f"{self._directory.path}/{self._name}"

    def _catch_up(self) -> None:
        """Take in what others wrote; cut a line that one of them left torn."""
        if self._fd >= 0:
            status = os.fstat(self._fd)
            if status.st_size == self._size and status.st_nlink:
                return
            if status.st_nlink and status.st_size > self._size:
                self._take_in(os.pread(self._fd, status.st_size - self._size, self._size))
                return
            self._close()
        try:
            self._fd = self._directory.open(self._name, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            self.state, self._size = State(), 0
            return
        self._reload()

    def _reload(self) -> None:
        self.state, self._size = State(), 0
        self._take_in(_read_all(self._fd))
        if self._size and self.state.committed is None:
            raise _damaged(self._path)
        self._limit = max(_LARGEST, 2 * len(self._essence()))

    def _take_in(self, text: bytes) -> None:
        end = text.rfind(b"\n") + 1
        if end < len(text):
            os.ftruncate(self._fd, self._size + end)
        for commit in _commits(text[:end]):
            self.state.apply(commit)
        self._size += end

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

    def _create(self) -> None:
        self._fd = self._directory.open(self._name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._directory.sync()
        if self._directory.parent is not None:  # who made the directory may have died before its name was durable
            self._directory.parent.sync()

    def _append(self, text: bytes) -> None:
        try:
            files.write_all(self._fd, text)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise StorageError(self._path, files.reason(error)) from error
        self._size += len(text)

    def _write_anew(self, text: bytes) -> None:
        """Replace the file by a short one that says the same and this line, and is durable before it takes the name."""
        kept = self._in_short() + text
        new = f"{self._name}.new"
        fd = self._directory.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
        try:
            files.write_all(fd, kept)
            os.fsync(fd)
        except OSError as error:
            os.close(fd)
            os.unlink(new, dir_fd=self._directory.fd)
            raise StorageError(self._path, files.reason(error)) from error
        os.close(self._fd)
        self._fd = fd
        self._directory.rename(new, self._name)
        self._directory.sync()
        self._size = len(kept)
        self._limit = max(_LARGEST, 2 * self._size)
        self._is_suspect = False

    def _in_short(self) -> bytes:
        """Some of the last plain commits, which tell how fast the group is, and then all that holds beside them."""
        text = os.pread(self._fd, self._size, 0)
        recent = text[text.rfind(b"\n", 0, len(text) * 3 // 4) + 1 :].split(b"\n")[:-1]
        plain = [one + b"\n" for one in recent if (commit := parse(one)) is not None and commit.fields is None]
        return b"".join(plain) + self._essence()

    def _essence(self) -> bytes:
        """The lines that say all that holds beside `committed`."""
        state = self.state
        if state.committed is None:
            return b""
        return b"".join(render(state.committed, state.time, fields) for fields in _fields_of(state))


def _fields_of(state: State) -> list[dict[str, str]]:
    """The fields that, each in a line of its own, say what a state says beside `committed`."""
    ranges = {"handled": state.handled, "again": state.again}
    fields = [{name: str(offsets)} for name, offsets in ranges.items() if offsets]
    for member in state.members.values():
        fields.append(member.introduction())
        held = {"member": member.name}
        if member.leased:
            held["lease"] = str(member.leased)
        if member.until:
            held["until"] = member.until
        if member.doing:
            held["doing"] = member.doing
        if member.given is not None:
            held["given"] = str(member.given)
        if len(held) > 1:
            fields.append(held)
    return [{"seek": str(state.seeks)}, *fields] if fields or state.seeks else []


def _read_all(fd: int) -> bytes:
    """The whole file, which is never much larger than 64 KiB."""
    return os.pread(fd, os.fstat(fd).st_size, 0)

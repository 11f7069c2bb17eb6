"""Sealing: every segment that is written no more gets its seal, and nobody who appends waits for it.

A small segment is sealed by the append that has finished it, which is a matter of milliseconds, others by a process of
its own; what was left undone is made up for at the next roll. Only what is found to be in order gets a seal.
"""

from __future__ import annotations

import fcntl
import os
import sys

from evtool.errors import EvtoolError
from evtool.log import files, names
from evtool.log.seals import Gaps, Seals, SealsFile, digest
from evtool.log.segment import Segment, segment_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from evtool.log.files import Directory

_SMALL = 256 << 10  # bytes that are checked and hashed in 3 ms
COMPACT_TURN_NAME = "compact.lock"
_TURN_NAME = "seal.lock"
_ROOT = os.path.abspath(__file__).rsplit("/", 3)[0]  # where this program is, be it installed or not
_RUN = "import sys; sys.path.append(sys.argv[1]); from evtool.log import sealing; sealing.run(sys.argv[2])"
_TURN_FD = 3  # where the process that seals has its lock
_started: list[int] = []  # processes that have not been waited for


def seal_all(topic: Directory) -> int:
    """Seal every segment that is written no more and has no seal yet, and is in order; return how many.

    Raises StorageError if there is no space for it, CorruptionError if the last seal cannot be read.
    """
    known = Seals(topic, checked=False)
    if known.doubles:
        _retire_replaced(topic)
    count = 0
    for first in list(without_seal(topic)):
        try:
            segment = Segment(topic, first)
        except FileNotFoundError:  # trimmed in this moment
            continue
        had = known.digests.get(first, ())
        count += _seal(topic, segment, known.gaps, had, lambda file, first=first: not file.has(first))  # type: ignore[misc]
    return count


def without_seal(topic: Directory) -> Iterator[int]:
    """The first offsets of the segments that are written no more and have no seal, rising."""
    known = Seals(topic, checked=False).live
    for first in segment_offsets(topic):
        if first not in known and _mode(topic, first) == files.SEALED_MODE:
            yield first


def _mode(topic: Directory, first: int) -> int:
    try:
        return os.lstat(names.segment_name(first), dir_fd=topic.fd).st_mode & 0o777
    except FileNotFoundError:
        return 0


def _retire_replaced(topic: Directory) -> None:
    """Retire the old seals of segments that were written anew, unless somebody is at it just now."""
    turn = topic.open(COMPACT_TURN_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        retire_replaced(topic)
    except BlockingIOError:
        pass
    finally:
        os.close(turn)


def retire_replaced(topic: Directory) -> None:
    """Retire the old seals of segments that were written anew by somebody who was killed before he came to it.

    The lock of whoever compacts must be held.
    """
    known = Seals(topic, checked=False)
    for first in known.doubles:
        try:
            there = digest(Segment(topic, first))
        except FileNotFoundError:
            continue
        if there in known.live[first]:
            with SealsFile(topic) as file:
                file.retire([first], but=there)


def _seal(
    topic: Directory, segment: Segment, gaps: Gaps, had: Collection[str], is_due: Callable[[SealsFile], bool]
) -> bool:
    """Seal a segment if it is in order, still there, and if that is due as the file of seals is then; say whether.

    had: digests that it had a seal for, and was in order with.
    """
    from evtool.log import check  # which takes 25 ms that a roll has not, unless it seals

    found = digest(segment)
    if found not in had and check.has_problem(segment, gaps):
        return False
    with SealsFile(topic) as file:
        if segment.is_gone() or not is_due(file):
            return False
        file.add(segment.first, found)
    return True


# After a roll


def after_roll(topic: Directory, first: int, size: int) -> None:
    """Seal the segment that a roll has finished: here if it is small, else in a process that nobody waits for.

    first, size: of that segment. What it costs does not depend on how many others there are, unless something was left
    undone.

    Sealing that fails is no failure of the append: it is made up for at the next roll.
    """
    try:
        if size > _SMALL and _is_python():
            _start_sealer(topic)
        elif not _seal_next(topic, first):
            _make_up(topic)
    except (OSError, EvtoolError):
        pass


def _seal_next(topic: Directory, first: int) -> bool:
    """Seal a segment if, as the newest seal has it, it is the only one without; say whether it was sealed."""
    before = max((one for one in segment_offsets(topic) if one < first), default=None)

    def is_due(file: SealsFile) -> bool:
        newest = file.newest()
        if before is None:
            return newest is None or newest.first < first
        return newest is not None and newest.is_live and newest.first == before

    return _seal(topic, Segment(topic, first), Gaps([]), (), is_due)


def _make_up(topic: Directory) -> None:
    """Seal all that has no seal; leave it to another process if that is much."""
    waiting = sum(os.lstat(names.segment_name(first), dir_fd=topic.fd).st_size for first in without_seal(topic))
    if waiting > _SMALL and _is_python():
        _start_sealer(topic)
    else:
        seal_all(topic)


def _is_python() -> bool:
    """Whether another process of this program would do what Python is told, and not be the user's program again.

    It would be if Python is frozen into it, or embedded.
    """
    return not getattr(sys, "frozen", False) and os.path.basename(sys.executable).lower().startswith(("python", "pypy"))


def _start_sealer(topic: Directory) -> None:
    """Let a process of its own seal, unless one is at it. It ends by itself, and nobody needs to wait for it.

    It is given the lock that says so; this process has closed it before the other one has even begun.
    """
    turn = topic.open(_TURN_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _started[:] = [pid for pid in _started if _is_running(pid)]
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, turn, _TURN_FD)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]  # type: ignore[misc]
        command = [sys.executable, "-P", "-c", _RUN, _ROOT, topic.path]
        _started.append(os.posix_spawn(sys.executable, command, os.environ, file_actions=actions))
    except BlockingIOError:  # it looks again before it ends
        pass
    finally:
        os.close(turn)


def _is_running(pid: int) -> bool:
    """Whether a process that we started still has to be waited for."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:  # somebody else did
        return False


def main(path: str) -> None:
    """Seal in the background: a process whose parent does not wait for it, as a daemon is. It is given the lock."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.nice(10)
    topic = files.Directory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    while True:
        done = seal_all(topic)
        fcntl.flock(_TURN_FD, fcntl.LOCK_UN)
        if not done or not list(without_seal(topic)):  # whoever rolled while we had the lock relies on this look
            return
        try:
            fcntl.flock(_TURN_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return


def run(path: str) -> None:
    """Be the process that seals the topic in this directory."""
    try:
        main(path)
    except (OSError, EvtoolError):
        os._exit(1)

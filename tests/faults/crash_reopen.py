"""A crash state made a real directory, on which the program's own code goes on: does it agree with the checker?

It reads, verifies, appends one more event (after `repair`, where the checker knows of damage), and looks again. What
the checker took for good must be good, and the log must go on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from evtool.errors import CorruptionError, EvtoolError, SyncError
from evtool.log import check, line
from evtool.log.files import UNSYNCED_MODE
from evtool.log.settings import CONSUMED
from evtool.log.verify import ABSENT, BEYOND, BROKEN, UNSEALED
from evtool.stores import open_store
from tests.faults.crash_promises import lines_of
from tests.faults.history import Violation

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.file import FileStore
    from tests.faults.crash_disk import State
    from tests.faults.crash_promises import Found, Promises

_ONE_MORE = b'"data":"one more"'
_OF_A_TORN_TAIL = frozenset((check.TORN, check.UNCOVERED, UNSEALED))
_NEVER = frozenset((ABSENT, BEYOND, BROKEN))


def reopen(state: State, found: Found, promises: Promises, place: Path) -> None:
    """Make a directory of a state, and go on with it. Raises Violation.

    found: what the checker has seen in it. place: for the directory, which is gone afterwards.
    """
    _build(state, place)
    is_damaged = (
        found.is_damaged or bool(promises.damage) or UNSYNCED_MODE in {file.mode for file in state.files.values()}
    )
    try:
        store = open_store(str(place / "home"), create=True)
        there = store.has("t")
        if there:
            _look(store, found, is_damaged=is_damaged)
        offset = _append(store, is_damaged=is_damaged)
        if there and not is_damaged and offset != found.end:
            raise Violation(f"one more event got the offset {offset}, not {found.end}")
        if is_damaged or None in found.committed.values():
            store.topic("t").repair(dry_run=False)
        _look_again(store, found, promises, offset)
    except (EvtoolError, OSError, ValueError) as error:
        raise Violation(f"the log cannot go on: {error!r}") from error
    finally:
        shutil.rmtree(place)


def _build(state: State, place: Path) -> None:
    place.mkdir()
    for path in sorted(state.directories):
        os.mkdir(f"{place}/{path}", 0o700)
    for path, file in state.files.items():
        fd = os.open(f"{place}/{path}", os.O_WRONLY | os.O_CREAT, file.mode)
        os.write(fd, file.data)
        os.close(fd)


def _look(store: FileStore, found: Found, *, is_damaged: bool) -> None:
    """Read and verify what is there."""
    if not is_damaged and _read(store) != found.lines:
        raise Violation("a reader sees something else than the whole lines")
    kinds = {problem.kind for _, problem in _problems(store)}
    allowed = _OF_A_TORN_TAIL
    if is_damaged:
        allowed |= kinds - _NEVER
    if None in found.committed.values():
        allowed |= {check.MALFORMED}
    if not kinds <= allowed:
        raise Violation(f"verify finds what the checker has not seen: {_said(store, allowed)}")
    store.topic("t").settings()
    for group, stands in found.committed.items():
        if stands is not None and not found.is_damaged:
            _check_group(store, group, stands)


def _check_group(store: FileStore, group: str, stands: int) -> None:
    """Go on consuming for a group, at the place where it stands."""
    if store.topic("t").standing(group).committed != stands:
        raise Violation(f"the group {group} has committed {store.topic('t').standing(group).committed}, not {stands}")
    one = store.topic("t").group(group)
    assert one.try_acquire()
    one.join(one.committed or 0)
    one.commit(stands)
    one.sync()
    one.release()


def _append(store: FileStore, *, is_damaged: bool) -> int:
    """Append one more event; return its offset."""
    try:
        return _append_once(store)
    except (CorruptionError, SyncError):
        if not is_damaged:
            raise
    store.topic("t").repair(dry_run=False)
    return _append_once(store)


def _append_once(store: FileStore) -> int:
    log = store.ensure_topic("t").writer()
    offsets = log.append([_ONE_MORE])
    log.sync()
    return offsets[0]


def _look_again(store: FileStore, found: Found, promises: Promises, offset: int) -> None:
    """Check the log after that: nothing is lost by it, and nothing is wrong, or can be mended if there was damage."""
    if offset <= promises.highest:
        raise Violation(f"the offset {offset} was given away again")
    problems = [problem for _, problem in _problems(store) if problem.kind != UNSEALED]
    if problems:
        raise Violation(f"after one more event verify finds {_said(store, frozenset((UNSEALED,)))}")
    lines = lines_of(_read(store))
    bodies = {offset: line.body_of(text) for text, offset in lines.items()}
    settings = store.topic("t").settings()
    may_trim = settings.has_limits or settings.retention == CONSUMED  # going on may have been too much for it
    first = min(bodies) if may_trim else 0
    for text, known in lines_of(found.lines).items():
        if first <= known <= promises.highest and bodies.get(known) != line.body_of(text):
            raise Violation(f"lost by going on: the offset {known}")
    if max(lines.values()) != offset or bodies[offset] != _ONE_MORE:
        raise Violation(f"lost by going on: the one more event, which had the offset {offset}")


def _problems(store: FileStore) -> list[tuple[str, check.Problem]]:
    return store.topic("t").verify().problems


def _said(store: FileStore, but: frozenset[str]) -> list[str]:
    return [f"{os.path.basename(path)}: {one.what}" for path, one in _problems(store) if one.kind not in but]


def _read(store: FileStore) -> bytes:
    """All that a reader gets; what comes before a damaged line, if there is one."""
    blocks = []
    reader = store.topic("t").reader(0)
    with contextlib.suppress(CorruptionError):
        while block := reader.read():
            blocks.append(block)
    return b"".join(blocks)

"""What a log is cared for with - trim, set, repair, compact and the like - on topics that are made for it.

Each `Care` is a command, with what nobody may lose by it at any moment; see `trial.py` for how it is cut short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import evtool as api
from tests.topics import small_segments, write_commit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.program import Program

Event = tuple[int, str]  # offset and data
COUNT = 8
AFTER = '{"by":"after"}'
TORN = b'{"offset":8,"time":"2026-11-24T00:00:00'
HURT = b'"by":\0before\0'
TRIMMED = 4  # the offset before which the trims of these scenarios remove everything


class Care(NamedTuple):
    """A command, and what holds whenever it is cut short.

    prepare: makes the topic. keeps: of the events before, those that are there at every moment.
    codes: with which it may end when it is run again. adds: events that each run appends, and says their offsets.
    treasure: bytes that must not get lost, wherever in the topic they are.
    followed: whether a reader that has begun before can go on to the end.
    atomic: whether all events are there at every moment as before, or all as at the end.
    constant: a command that says the same at every moment. then: commands that must work afterwards.
    """

    prepare: Callable[[Program], None]
    arguments: tuple[str, ...]
    keeps: Callable[[list[Event]], list[Event]] = list
    codes: tuple[int, ...] = (0,)
    adds: tuple[str, ...] = ()
    treasure: bytes = b""
    followed: bool = True
    atomic: bool = False
    constant: tuple[str, ...] = ()
    then: tuple[tuple[str, ...], ...] = ()


# Topics


def nothing(_evtool: Program) -> None:
    """There is no home yet."""


def segments(evtool: Program) -> None:
    """Eight events in four segments, all but the last one sealed, and a group that has handled two."""
    small_segments(evtool, "t", 200)
    topic = api.open(evtool.home).topic("t")
    for number in range(0, COUNT, 2):
        topic.append_many([{"by": "before", "n": one} for one in (number, number + 1)])
    assert len(evtool.segments("t")) == COUNT // 2
    write_commit(evtool, 2)


def limited(evtool: Program) -> None:
    """The same, and limits that let the topic keep all but the first segment."""
    segments(evtool)
    (evtool.topic("t") / "topic.json").write_text('{"segment-bytes":200,"max-events":6,"max-age":1000000}')


def torn(evtool: Program) -> None:
    """An append was killed."""
    segments(evtool)
    _write(evtool.segments("t")[-1], evtool.segments("t")[-1].read_bytes() + TORN)


def damaged(evtool: Program) -> None:
    """Two bytes of the last event but one are others than they were."""
    segments(evtool)
    _hurt(evtool.segments("t")[-1])


def damaged_sealed(evtool: Program) -> None:
    """The same with an event of a sealed segment."""
    segments(evtool)
    _hurt(evtool.segments("t")[1])


def shut(evtool: Program) -> None:
    """A sync of the last segment has failed."""
    segments(evtool)
    evtool.segments("t")[-1].chmod(0o400)


def unchained(evtool: Program) -> None:
    """The chain of seals is broken."""
    segments(evtool)
    path = evtool.topic("t") / "SHA256SUMS"
    path.write_bytes(path.read_bytes().replace(b"# seal ", b"# soul ", 1))


def missing(evtool: Program) -> None:
    """A segment was deleted by somebody."""
    segments(evtool)
    evtool.segments("t")[1].unlink()


def unsealed(evtool: Program) -> None:
    """The seals have not been made yet."""
    segments(evtool)
    (evtool.topic("t") / "SHA256SUMS").unlink()


def long_commits(evtool: Program) -> None:
    """The next commit is one too many for the group's file, and it is written anew."""
    segments(evtool)
    path = evtool.topic("t") / "consumers/g.jsonl"
    text = path.read_bytes()
    path.write_bytes(text * ((64 << 10) // len(text)))


def half_removed(evtool: Program) -> None:
    """A topic of this name was removed before, but for some files of it."""
    segments(evtool)
    (evtool.home / "topics/.t.removed").mkdir(mode=0o700)
    (evtool.home / "topics/.t.removed/lock").touch()


def keyed(evtool: Program) -> None:
    """Five segments of two events with keys, which change again and again; the key b is deleted, and d was."""
    small_segments(evtool, "t", 230)
    topic = api.open(evtool.home).topic("t")
    for key, data in [*zip("abacbaddca", [0, 1, 2, 3, None, 5, None, 7, 8, 9], strict=True)]:
        topic.append({"n": data} if data is not None else None, key=key)
    assert len(evtool.segments("t")) == 5


def _hurt(path: Path) -> None:
    _write(path, path.read_bytes().replace(b'"by":"before"', HURT, 1))


def _write(path: Path, text: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(text)
    path.chmod(mode)


# What is there at every moment


def none(_events: list[Event]) -> list[Event]:
    """Nothing at all."""
    return []


def untrimmed(events: list[Event]) -> list[Event]:
    """What lies behind the place up to which is trimmed."""
    return [one for one in events if one[0] >= TRIMMED]


def but_for(*gone: int) -> Callable[[list[Event]], list[Event]]:
    """All events but those with these offsets."""
    return lambda events: [one for one in events if one[0] not in gone]


_NEW = tuple(f'{{"by":"new","n":{number}}}' for number in range(3))
_ROLL = ("append", "t", "--offsets", *_NEW)
_REPAIR = ("repair", "t", "--yes")
_SUBSCRIBE = ("subscribe", "t", "--group", "g", "--drain")
_REMOVE = ("rm", "t", "--yes")
_COMPACT = ("compact", "t", "--yes")
_SEEK = ("seek", "t", "--group", "g", "--to", "6")
_OLDER = but_for(0, 1, 2, 3, 4, 5, 6)  # the newest event of every key stays

CARES: dict[str, Care] = {
    "roll": Care(segments, _ROLL, adds=_NEW),
    "roll limited": Care(limited, _ROLL, but_for(0, 1), adds=_NEW),
    "roll late": Care(unsealed, _ROLL, adds=_NEW),
    "roll atomic": Care(segments, ("append", "t", "--offsets", "--atomic", *_NEW), adds=_NEW, atomic=True),
    "trim before": Care(segments, ("trim", "t", "--before", str(TRIMMED), "--yes"), untrimmed),
    "trim limits": Care(limited, ("trim", "t"), but_for(0, 1)),
    "set": Care(segments, ("set", "t", "max-age=7d", "max-bytes=1GiB")),
    "set anew": Care(limited, ("set", "t", "max-age=", "segment-bytes=1MiB")),
    "create": Care(nothing, ("create", "t", "max-age=7d"), codes=(0, 4)),
    "repair torn": Care(torn, _REPAIR, treasure=TORN),
    "repair damaged": Care(damaged, _REPAIR, but_for(6), treasure=HURT, followed=False),
    "repair damaged sealed": Care(damaged_sealed, _REPAIR, but_for(2), treasure=HURT, followed=False),
    "repair shut": Care(shut, _REPAIR),
    "repair chain": Care(unchained, _REPAIR),
    "repair missing": Care(missing, _REPAIR, but_for(2, 3)),
    "rm": Care(segments, _REMOVE, none, codes=(0, 3), followed=False, atomic=True, then=(_REMOVE,)),
    "rm again": Care(half_removed, _REMOVE, none, codes=(0, 3), followed=False, atomic=True),
    "rm group": Care(segments, ("rm", "t", "--group", "g", "--yes"), codes=(0, 3)),
    "seek": Care(segments, _SEEK),
    "seek long": Care(long_commits, _SEEK),
    "subscribe": Care(segments, _SUBSCRIBE),
    "subscribe long": Care(long_commits, _SUBSCRIBE),
    "compact": Care(keyed, _COMPACT, _OLDER, constant=("state", "t")),
    "compact nulls": Care(keyed, (*_COMPACT, "--grace", "0s"), _OLDER, constant=("state", "t")),
}

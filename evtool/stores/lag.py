"""How far a group of the file store is behind its topic, and how fast it gains on it."""

from __future__ import annotations

import time

from evtool.log import offsets
from evtool.log.bounds import Bounds, offset_at
from evtool.log.rewound import rewound
from evtool.stores.group import is_active
from evtool.stores.protocol import Standing
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory
    from evtool.log.offsets import Commit

_PACE_SECONDS = 60.0


def standing(topic: Directory, group: str, commits: list[Commit]) -> Standing:
    """How a group stands that has made these commits, at least one.

    If the log was restored under it, all that came since its last commit is before it.
    """
    bounds = Bounds(topic)
    state = offsets.state_of(commits)
    committed = waiting = commits[-1].committed
    above = sum(last - max(first, committed) + 1 for first, last in state.handled)
    lag = max(0, bounds.next - max(committed, bounds.first) - above) + state.again.count()
    if (found := rewound(topic, state)) is not None:
        waiting, lag = found[1], bounds.next - found[1]
    active = is_active(topic, group)
    return Standing(
        committed,
        handled=state.handled,
        lag=lag,
        waiting=waiting,
        is_active=active,
        members=[*state.members.values()],
        pace=_pace(topic, commits, bounds.next) if lag else None,
    )


def _pace(topic: Directory, commits: list[Commit], end: int) -> float | None:
    """Events a second by which it gained on its topic in the last minute; None if it made no commits in it."""
    now = time.time()
    recent = [commit for commit in commits if now - seconds_of(commit.time) <= _PACE_SECONDS]
    if len(recent) < 2:
        return None
    took = max(0.001, now - seconds_of(recent[0].time))
    handled = recent[-1].committed - recent[0].committed
    arrived = end - offset_at(topic, recent[0].time)
    return (handled - arrived) / took

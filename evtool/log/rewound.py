"""Is a log the one that a group has seen? It may have been restored from a backup, or lost its end, and grown again.

Offsets alone do not tell: once others have got them anew, the group seems to have handled what it never saw. But no
commit has an earlier time than the events that it is about, whatever the clock says (see `Commits.not_before`).
"""

from __future__ import annotations

from evtool.log import bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.log.files import Directory
    from evtool.log.offsets import State


def rewound(topic: Directory, state: State) -> tuple[str, int] | None:
    """What is wrong, and the first offset that came after the group's last commit, if the log was changed under it."""
    committed = state.committed
    if not committed:
        return None
    end = bounds.next_offset(topic)
    if committed > end:
        why = f"has committed offset {committed}, but the log ends before {end}"
        return why, bounds.offset_at(topic, state.reached)
    last = bounds.event_at(topic, committed - 1)
    if last is None or last[0] != committed - 1 or last[1] <= state.reached:
        return None
    first = bounds.offset_at(topic, state.reached)
    return f"has committed offset {committed}, but offsets {first} to {committed - 1} came later than that", first

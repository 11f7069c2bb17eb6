"""Where the groups of a topic stand, and what is wrong with that."""

from __future__ import annotations

import os

from evtool.errors import CorruptionError
from evtool.log import names, offsets, retention
from evtool.log.offsets import SHARED
from evtool.log.ranges import Ranges
from evtool.log.rewound import rewound
from evtool.log.settings import CONSUMED
from evtool.stores.finding import ADVICE, PROBLEM, Finding
from evtool.stores.group import is_active
from evtool.stores.stuck import Process, is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from evtool.log.offsets import Member, State
    from evtool.stores.glance import Topic

_TICKED_OFF = "redrive"  # see `evtool redrive`
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _./:=@%+,-")
_BEYOND = 1 << 62


def findings(topic: Topic) -> Iterator[Finding]:
    """What is wrong with the groups of a topic of which the bounds are known."""
    assert topic.bounds is not None
    first = (
        topic.bounds.first
    )  # as of before the commits are read: a group may move on, and events be trimmed behind it
    states: dict[str, State] = {}
    for group in topic.groups:
        assert topic.consumers is not None
        try:
            commits = offsets.read_commits(topic.consumers, group)
        except CorruptionError as error:
            yield Finding(PROBLEM, _what(topic, group), error.why, topic.repair)
            continue
        if not commits:
            continue
        state = states[group] = offsets.state_of(commits)
        yield from _place(topic, group, state, first)
        yield from _members(topic, group, state)
    yield from _holding_back(topic, states)


def _what(topic: Topic, group: str) -> str:
    return f"{topic.name}, group {group}"


def _place(topic: Topic, group: str, state: State, first: int) -> Iterator[Finding]:
    """A group that stands where there is nothing: beyond the end, or before the earliest event."""
    committed = state.committed or 0
    seek = f"evtool seek {topic.name} --group {group} --to"
    if found := rewound(topic.directory, state):
        yield Finding(PROBLEM, _what(topic, group), found[0], f"{seek} {found[1]}")
    elif not _ticks_off(topic, group) and (count := _missed(state, committed, first)):
        why = f"will miss {count} events, which were trimmed or compacted away before it had handled them"
        yield Finding(PROBLEM, _what(topic, group), why, f"{seek} earliest")


def _ticks_off(topic: Topic, group: str) -> bool:
    """Whether this only remembers which dead letters were sent through again: moved, it would forget them."""
    return group == _TICKED_OFF and topic.name.endswith(names.DEAD_SUFFIX)


def _missed(state: State, committed: int, first: int) -> int:
    """How many offsets below `first` the group has not handled, or is to get again."""
    missed = Ranges(state.again)
    if committed < first:
        missed.add(committed, first - 1)
        missed.subtract(state.handled)
        missed.update(state.again)
    missed.remove(first, _BEYOND)
    return missed.count()


def _members(topic: Topic, group: str, state: State) -> Iterator[Finding]:
    """Processes that were to consume for the group and do not: stopped, or gone with what they had leased."""
    if not state.members:
        return
    here = os.uname().nodename
    if is_active(topic.directory, group):
        for member in state.members.values():
            if member.host == here and (process := Process(member.pid)).is_stopped:
                why = f"{process} consumes for it and is stopped"
                yield Finding(PROBLEM, _what(topic, group), why, process.mend)
        return
    for member in state.members.values():
        gone = member.host == here and is_gone(member.pid)
        if member.mode == SHARED and member.leased and (gone or member.has_expired()):
            why = f"nobody consumes for it, and process {member.pid} on {member.host} left with {_leased(member)}"
            yield Finding(PROBLEM, _what(topic, group), why, _start(topic, group, member))


def _leased(member: Member) -> str:
    count = member.leased.count()
    return f"{count} offset{'s' if count > 1 else ''} leased"


def _start(topic: Topic, group: str, member: Member) -> str:
    """The command that starts such a consumer again, as far as its commit log tells what it ran."""
    words = member.command.split()
    is_known = words and "-c" not in words and not set(member.command) - _PLAIN  # what was quoted is not to be seen
    return f"evtool subscribe {topic.name} --group {group} --share -- {member.command if is_known else 'COMMAND'}"


def _holding_back(topic: Topic, states: dict[str, State]) -> Iterator[Finding]:
    """Groups that nobody serves, for which whole segments are kept that all others have handled."""
    if topic.settings is None or topic.settings.retention != CONSUMED or topic.bounds is None:
        return
    needed = {group: min([state.committed or 0, *(low for low, _ in state.again)]) for group, state in states.items()}
    served = {group for group in needed if is_active(topic.directory, group)}
    end = min((needed[group] for group in served), default=topic.bounds.next)
    droppable = retention.plan(topic.directory, end)
    for group in sorted(needed.keys() - served):
        kept = droppable.size - retention.plan(topic.directory, needed[group]).size
        if kept > 0 and not retention.has_lapsed(topic.directory, group):
            why = f"nobody consumes for it, and it keeps {kept} bytes of the topic from being dropped"
            yield Finding(ADVICE, _what(topic, group), why, f"evtool rm {topic.name} --group {group}")

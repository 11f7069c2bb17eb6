"""What there is: each topic and each group with its figures, as rows of plain values."""

from __future__ import annotations

import os
import time

from evtool.cli import border, home
from evtool.errors import EvtoolError, NotFoundError, UsageError
from evtool.log import names
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.log.bounds import Bounds
    from evtool.log.offsets import Commit, Member
    from evtool.stores.file import FileStore

    Row = dict[str, Any]

_RATE_SECONDS = 60.0


def chosen(store: FileStore, patterns: list[str]) -> list[str]:
    """The topics that the patterns name, or all if there are none. Raises NotFoundError for one that is missing."""
    if not patterns:
        return store.topics()
    found: dict[str, None] = {}
    for pattern in patterns:
        if names.is_pattern(pattern):
            found.update(dict.fromkeys(store.matching(pattern)))
        elif store.has(pattern):
            found[pattern] = None
        else:
            raise store.missing(pattern)
    return sorted(found)


class Rows(list["Row"]):
    """Rows of several topics. exit_code: 0 or, if those of some topic are missing, what says why."""

    exit_code = 0


def rows(args: Args, rows_of: Callable[[FileStore, str], list[Row]]) -> Rows:
    """The rows of the topics that were asked for. Where nothing was ever stored there are none.

    That is said if it is a home that somebody has named: a name that is wrong, a disk that is not mounted.
    """
    try:
        store = home.open_home(args)
    except NotFoundError as error:
        for topic in args.topics:
            if not names.is_pattern(topic):
                names.check_name("topic", topic)
                raise NotFoundError(topic, "no such topic", hint="there are no topics yet") from None
        if os.environ.get("EVTOOL_HOME") and not args.__dict__.get("quiet"):
            home.note(f"{error.what}: {error.why}")
        return Rows()
    return collect(chosen(store, args.topics), lambda topic: rows_of(store, topic))


def collect(topics: list[str], rows_of: Callable[[str], list[Row]]) -> Rows:
    """The rows of all these topics. What is wrong with one of several is said, and does not keep the others back.

    Nor does it if the user does not want it for one. The exit code is that of the first.
    """
    rows = Rows()
    for topic in topics:
        try:
            rows += rows_of(topic)
        except UsageError:  # of the command, not of the topic
            raise
        except border.Declined as declined:
            rows.exit_code = rows.exit_code or declined.exit_code
        except EvtoolError as error:
            if len(topics) == 1:
                raise
            border.complain(error.what, error.why, error.hint)
            rows.exit_code = rows.exit_code or error.exit_code
    return rows


def topic_rows(store: FileStore, topic: str) -> list[Row]:
    """What `topics` says of one topic, which is one row."""
    bounds = store.bounds(topic)
    groups = group_rows(store, topic, bounds)
    age = None if bounds.last_time is None else round(max(0.0, time.time() - seconds_of(bounds.last_time)), 6)
    return [
        {
            "topic": topic,
            "events": bounds.next - bounds.first,
            "first": bounds.first,
            "next": bounds.next,
            "bytes": bounds.size,
            "age_seconds": age,
            "groups": {row["group"]: row["lag"] for row in groups},
        }
    ]


def group_rows(store: FileStore, topic: str, bounds: Bounds | None = None) -> list[Row]:
    """What `groups` says of all groups of a topic."""
    return [group_row(store, topic, group, bounds) for group in store.groups(topic)]


def group_row(store: FileStore, topic: str, group: str, bounds: Bounds | None = None) -> Row:
    """What `groups` says of one group of a topic.

    lag: events that the group has not handled; all that came since its last commit, if the log was restored under it.
    lag_seconds: the age of the oldest of them.
    members: the processes that consume for it now, and what each is doing.
    catch_up_seconds: how long it will take at the pace of the last minute; None if that is not known, or never.
    """
    bounds = bounds or store.bounds(topic)
    commits = store.commits(topic, group)
    state = store.state(topic, group)
    committed = waiting = commits[-1].committed
    above = sum(last - max(first, committed) + 1 for first, last in state.handled)
    lag = max(0, bounds.next - max(committed, bounds.first) - above) + state.again.count()
    if (since := store.rewound_to(topic, state)) is not None:
        waiting, lag = since, bounds.next - since
    is_active = store.is_active(topic, group)
    oldest = store.time_at(topic, waiting) if lag else None
    return {
        "topic": topic,
        "group": group,
        "committed": committed,
        "end": bounds.next,
        "lag": lag,
        "lag_seconds": 0.0 if oldest is None else round(max(0.0, time.time() - seconds_of(oldest)), 3),
        "active": is_active,
        "catch_up_seconds": _catch_up(store, topic, commits, lag),
        "members": [_member_row(member) for member in state.members.values()] if is_active else [],
    }


def _member_row(member: Member) -> Row:
    """What is said of one process that consumes for a group. doing: in words; empty if it waits for events."""
    doing = member.doing
    if member.leased:
        doing = f"has leased {member.leased.count()};{' ' + doing if doing else ''}".rstrip(";")
    return {
        "pid": member.pid,
        "host": member.host,
        "mode": member.mode,
        "since": member.since.decode(),
        "command": member.command,
        "doing": doing,
    }


def _catch_up(store: FileStore, topic: str, commits: list[Commit], lag: int) -> float | None:
    if lag == 0:
        return 0.0
    now = time.time()
    recent = [commit for commit in commits if now - seconds_of(commit.time) <= _RATE_SECONDS]
    if len(recent) < 2:
        return None
    began = seconds_of(recent[0].time)
    handled = (recent[-1].committed - recent[0].committed) / max(0.001, now - began)
    arrived = (store.bounds(topic).next - store.offset_at(topic, recent[0].time)) / max(0.001, now - began)
    gain = handled - arrived
    return round(lag / gain, 1) if gain > 0 else None

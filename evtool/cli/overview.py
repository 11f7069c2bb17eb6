"""What there is: each topic and each group with its figures, as rows of plain values."""

from __future__ import annotations

import os
import time

from evtool.cli import border, home
from evtool.errors import EvtoolError, NotFoundError, UsageError
from evtool.log import names
from evtool.stores import naming
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from evtool.cli.argv import Args
    from evtool.log.offsets import Member
    from evtool.stores.protocol import Bounds, Standing, Topic
    from evtool.stores.topic import FileTopic

    Row = dict[str, Any]
    T = TypeVar("T")


class Rows(list["Row"]):
    """Rows of several topics. exit_code: 0 or, if those of some topic are missing, what says why."""

    exit_code = 0


def rows(args: Args, rows_of: Callable[[Topic], list[Row]]) -> Rows:
    """The rows of the topics that were asked for. Where nothing was ever stored there are none."""
    store = _store(args, home.open_home)
    return (
        Rows() if store is None else collect(naming.chosen(store, args.topics), lambda name: rows_of(store.topic(name)))
    )


def file_rows(args: Args, rows_of: Callable[[FileTopic], list[Row]]) -> Rows:
    """The same for what the file log alone can do. Raises UsageError for another store."""
    store = _store(args, home.open_files)
    return (
        Rows() if store is None else collect(naming.chosen(store, args.topics), lambda name: rows_of(store.topic(name)))
    )


def _store(args: Args, open_store: Callable[[Args], T]) -> T | None:
    """The store, or None where there is none yet, and no topic was named that would have to be in it.

    That is said if it is a home that somebody has named: a name that is wrong, a disk that is not mounted.
    """
    try:
        return open_store(args)
    except NotFoundError as error:
        for topic in args.topics:
            if not names.is_pattern(topic):
                names.check_name("topic", topic)
                raise NotFoundError(topic, "no such topic", hint="there are no topics yet") from None
        if os.environ.get("EVTOOL_HOME") and not args.__dict__.get("quiet"):
            home.note(f"{error.what}: {error.why}")
        return None


def collect(topics: list[str], rows_of: Callable[[str], list[Row]]) -> Rows:
    """The rows of all these topics. What is wrong with one of several is said, and does not keep the others back.

    Nor does it if the user does not want it for one. The exit code is that of the first.
    """
    rows = Rows()
    said = ""
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
            if str(error) != said:  # what is wrong with the store, not with a topic, would be said for each
                border.complain(error.what, error.why, error.hint)
            said = str(error)
            rows.exit_code = rows.exit_code or error.exit_code
    return rows


def topic_rows(topic: Topic) -> list[Row]:
    """What `topics` says of one topic, which is one row."""
    bounds = topic.bounds()
    age = None if bounds.last_time is None else round(max(0.0, time.time() - seconds_of(bounds.last_time)), 6)
    return [
        {
            "topic": topic.name,
            "events": bounds.count,
            "first": bounds.first,
            "next": bounds.next,
            "bytes": bounds.size,
            "age_seconds": age,
            "groups": {group: topic.standing(group).lag for group in topic.groups()},
        }
    ]


def group_rows(topic: Topic) -> list[Row]:
    """What `groups` says of all groups of a topic."""
    bounds = topic.bounds()
    return [_group_row(topic, group, topic.standing(group), bounds) for group in topic.groups()]


def _group_row(topic: Topic, group: str, standing: Standing, bounds: Bounds) -> Row:
    """What `groups` says of one group of a topic.

    lag: events that the group has not handled; all that came since its last commit, if the log was restored under it.
    lag_seconds: the age of the oldest of them.
    members: the processes that consume for it now, and what each is doing.
    catch_up_seconds: how long it will take at the pace of the last minute; None if that is not known, or never.
    """
    lag, pace = standing.lag, standing.pace
    oldest = topic.time_at(standing.waiting) if lag else None
    return {
        "topic": topic.name,
        "group": group,
        "committed": standing.committed,
        "end": bounds.next,
        "lag": lag,
        "lag_seconds": 0.0 if oldest is None else round(max(0.0, time.time() - seconds_of(oldest)), 3),
        "active": standing.is_active,
        "catch_up_seconds": (round(lag / pace, 1) if pace is not None and pace > 0 else None) if lag else 0.0,
        "members": [_member_row(member) for member in standing.members] if standing.is_active else [],
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

"""evtool seek: let a group go on somewhere else."""

from __future__ import annotations

import os

from evtool.cli import home, view
from evtool.cli.view import Column
from evtool.errors import BusyError, DataError, NotFoundError, StorageError, UsageError
from evtool.log import files, names
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.stores.protocol import Topic


def run(args: Args) -> int:
    """Move the group, or say what that would mean, in one row."""
    names.check_name("topic", args.topic)
    names.check_name("group", args.group)
    topic = home.open_home(args).topic(args.topic)
    standing = topic.standing(args.group)
    target = _target(topic, args)
    if not args.dry_run:
        if standing.is_active and not args.force:
            raise BusyError(
                f"{args.topic}, group {args.group}",
                "a process consumes for it",
                hint="end that first, or say --force: it then goes on where you say",
            )
        topic.seek(args.group, target)
    bounds = topic.bounds()
    row = {
        "topic": args.topic,
        "group": args.group,
        "from": standing.committed,
        "to": target,
        "skipped": _between(standing.committed, target, bounds.first) - _count_within(standing.handled, target),
        "repeated": _between(target, standing.committed, bounds.first) + _count_within(standing.handled, None, target),
        "done": not args.dry_run,
    }
    if not args.quiet:
        view.write_rows(args, _COLUMNS, [row])
    return 0


def _between(first: int | None, second: int | None, earliest: int) -> int:
    """How many offsets lie from one to another; those that are not in the log any more do not count."""
    return max(0, max(second or 0, earliest) - max(first or 0, earliest))


def _count_within(handled: Any, end: int | None, start: int = 0) -> int:
    """How many of the handled offsets are below `end` and not below `start`."""
    return sum(max(0, (last + 1 if end is None else min(last + 1, end)) - max(first, start)) for first, last in handled)


def _target(topic: Topic, args: Args) -> int:
    try:
        position = where.parse(args.to)
    except UsageError:
        if not os.path.isfile(args.to):
            raise
        position = where.Where("offset", _from_file(args.to, args.topic, args.group))
    return position.begin(topic)


def _from_file(path: str, topic: str, group: str) -> int:
    """What a group had committed when `groups --json` wrote this file."""
    import orjson

    number = 0
    try:
        with open(path, "rb") as file:
            for text in file:
                number += 1
                row = orjson.loads(text)
                if row["topic"] == topic and row["group"] == group:
                    return int(row["committed"])
    except OSError as error:
        raise StorageError(path, files.reason(error)) from error
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise DataError(f"{path}: line {number}", "is nothing that `evtool groups --json` writes") from None
    raise NotFoundError(path, f"says nothing about group {group} of topic {topic}")


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("group", "group", number=False),
    Column("from", "from"),
    Column("to", "to"),
    Column("skipped", "skipped", view.number),
    Column("repeated", "come again", view.number),
    Column("done", "done", view.yes_or_no, number=False),
)

"""evtool trim: remove the oldest events of topics."""

from __future__ import annotations

import os

from evtool.cli import consent, home, overview, view
from evtool.cli.view import Column
from evtool.errors import UsageError
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.stores.protocol import Topic, Trimming


def run(args: Args) -> int:
    """Trim what was asked for, if that is wanted, and say what went.

    What a topic's own limits say needs no consent: it was given when they were set.
    """
    if args.before is not None and not args.topics:
        raise UsageError("trim", "--before wants to know which topics", hint="name them, or '*' for all")
    position = None if args.before is None else where.parse(args.before)

    def trim(topic: Topic) -> list[dict[str, Any]]:
        before = None if position is None else position.begin(topic)
        found = topic.trimming(before)
        losers = topic.losers(found.end) if found.end > found.first else {}
        if not args.dry_run and found.end > found.first:
            if before is not None:
                consent.ask(args, _question(topic.name, found, losers))
            found = topic.trim(before)
        if not args.quiet:
            for group, count in losers.items():
                lost = view.counted(count, "event")
                home.note(f"{topic.name}: group {group} {'would lose' if args.dry_run else 'lost'} {lost}")
        return [_row(topic.name, found, losers, args)] if found.end > found.first or args.topics else []

    rows = overview.rows(args, trim)
    if not args.quiet:
        view.write_rows(args, _COLUMNS, rows)
        if not (rows or rows.exit_code or args.json) and os.isatty(1):
            home.note("nothing to remove")
    return rows.exit_code


def _row(topic: str, found: Trimming, losers: dict[str, int], args: Args) -> dict[str, Any]:
    return {
        "topic": topic,
        "first": found.first,
        "to": found.end,
        "events": found.count,
        "segments": found.segments,
        "bytes": found.size,
        "groups": losers if args.json else (" ".join(f"{name}:{lost}" for name, lost in losers.items()) or None),
        "done": not args.dry_run,
    }


def _question(topic: str, found: Trimming, losers: dict[str, int]) -> str:
    loss = f", of which {' and '.join(f'group {name} has not handled {lost}' for name, lost in losers.items())}"
    return f"Remove {view.counted(found.count, 'event')} of topic {topic}{loss if losers else ''}?"


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("first", "from"),
    Column("to", "to"),
    Column("events", "events", view.number),
    Column("segments", "segments", view.number),
    Column("bytes", "size", view.size),
    Column("groups", "groups:lost", number=False),
    Column("done", "done", view.yes_or_no, number=False),
)

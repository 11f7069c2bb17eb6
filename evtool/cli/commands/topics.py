"""evtool topics: which topics there are, and how full and how fresh they are."""

from __future__ import annotations

import os

from evtool.cli import home, overview, view
from evtool.cli.view import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args


def run(args: Args) -> int:
    """Write a row for each topic."""
    rows = overview.rows(args, overview.topic_rows)
    if not rows and os.isatty(1) and not args.json:
        home.note("there are no topics yet; `evtool append TOPIC` makes one")
        return 0
    if not args.json:
        for row in rows:
            row["groups"] = " ".join(f"{group}:{lag}" for group, lag in row["groups"].items()) or None
    view.write_rows(args, _COLUMNS, rows)
    return rows.exit_code


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("events", "events", view.number),
    Column("first", "first"),
    Column("next", "next"),
    Column("bytes", "size", view.size),
    Column("age_seconds", "newest", view.duration),
    Column("groups", "groups:lag", number=False),
)

"""evtool groups: who consumes which topic, and how far behind that is."""

from __future__ import annotations

import os

from evtool.cli import home, overview, view
from evtool.cli.view import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args


def run(args: Args) -> int:
    """Write a row for each group of each topic."""
    rows = overview.rows(args, overview.group_rows)
    if not rows and os.isatty(1) and not args.json:
        home.note("there are no groups yet; `evtool subscribe TOPIC --group GROUP` makes one")
        return 0
    view.write_rows(args, _COLUMNS, rows)
    return rows.exit_code


def _members(members: list[dict[str, Any]]) -> str:
    """Each process and what it does, for people and for a field."""
    return ", ".join(f"{one['pid']} {one['doing'] or 'waits'}" for one in members) or "-"


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("group", "group", number=False),
    Column("committed", "committed"),
    Column("end", "end"),
    Column("lag", "lag", view.number),
    Column("lag_seconds", "oldest", view.duration),
    Column("active", "active", view.yes_or_no, number=False),
    Column("catch_up_seconds", "caught up in", view.duration),
    Column("members", "members", _members, number=False),
)

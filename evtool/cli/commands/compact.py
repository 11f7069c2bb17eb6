"""evtool compact: of the events of each key keep only the newest."""

from __future__ import annotations

from evtool.cli import consent, overview, reading, view
from evtool.cli.progress import Progress
from evtool.cli.view import Column
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.log.compaction import Compaction
    from evtool.stores.file import FileStore


def run(args: Args) -> int:
    """Compact the topics, if that is wanted, and say what went, a row for each; return 1 if it is not wanted."""
    reading.check_patterns(args.topics)
    grace, position = where.duration(args.grace), where.parse(args.before)
    refused = False

    def compact(store: FileStore, topic: str) -> list[dict[str, Any]]:
        nonlocal refused
        before = position.begin(store, topic)
        if not args.dry_run and not consent.is_given(args, f"Remove the superseded events of topic {topic}?"):
            refused = True
            return []
        progress = Progress(topic, store.size(topic), quiet=args.quiet)
        try:
            return [_row(topic, store.compact(topic, grace, before, dry_run=args.dry_run, progress=progress.add), args)]
        finally:
            progress.end()

    rows = overview.rows(args, compact)
    if not args.quiet:
        view.write_rows(args, _COLUMNS, rows)
    return rows.exit_code or int(refused)


def _row(topic: str, found: Compaction, args: Args) -> dict[str, Any]:
    return {
        "topic": topic,
        "events": found.events,
        "removed": found.removed,
        "bytes": found.size,
        "freed": found.freed,
        "rewritten": found.rewritten,
        "dropped": found.dropped,
        "done": not args.dry_run,
    }


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("events", "events", view.number),
    Column("removed", "removed", view.number),
    Column("bytes", "size", view.size),
    Column("freed", "freed", view.size),
    Column("rewritten", "rewritten", view.number),
    Column("dropped", "dropped", view.number),
    Column("done", "done", view.yes_or_no, number=False),
)

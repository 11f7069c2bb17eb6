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
    from evtool.stores.topic import FileTopic


def run(args: Args) -> int:
    """Compact the topics, if that is wanted, and say what went, a row for each."""
    reading.check_patterns(args.topics)
    grace, position = where.duration(args.grace), where.parse(args.before)

    def go_through(topic: FileTopic, before: int, *, dry_run: bool) -> Compaction:
        progress = Progress(topic.name, topic.bounds().size, quiet=args.quiet)
        try:
            return topic.compact(grace, before, dry_run=dry_run, progress=progress.add)
        finally:
            progress.end()

    def compact(topic: FileTopic) -> list[dict[str, Any]]:
        before = position.begin(topic)
        if not args.dry_run and consent.is_needed(args):
            found = go_through(topic, before, dry_run=True)
            if not found.removed:
                return [_row(topic.name, found, args)]
            consent.ask(args, _question(topic, before, found))
        return [_row(topic.name, go_through(topic, before, dry_run=args.dry_run), args)]

    rows = overview.file_rows(args, compact)
    if not args.quiet:
        view.write_rows(args, _COLUMNS, rows)
    return rows.exit_code


def _question(topic: FileTopic, before: int, found: Compaction) -> str:
    events = view.counted(found.events, "event")
    text = f"Remove {found.removed} of {events} of topic {topic.name} ({view.size(found.freed)})"
    sealed = topic.trimming(topic.bounds().next).end
    if losers := list(topic.losers(min(before, sealed))):
        text += f", which {'group' if len(losers) == 1 else 'groups'} {' and '.join(losers)} may not all have handled"
    return f"{text}?"


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

"""evtool verify: are topics as they were written?"""

from __future__ import annotations

from evtool.cli import border, overview, view
from evtool.cli.progress import Progress
from evtool.cli.view import Column
from evtool.errors import BusyError, CorruptionError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.log.check import Problem
    from evtool.log.verify import Report
    from evtool.stores.file import FileStore


def run(args: Args) -> int:
    """Look at the topics, say what is wrong with each, and write a row for each.

    One that is in use for too long is passed over; if nothing is wrong with the others, the exit code says so.
    """
    since = args.since_seal
    if since is not None and (len(since) != 64 or since.strip("0123456789abcdef")):
        raise UsageError(since, "not a seal", hint="a seal is 64 digits, as in the last line of a topic's SHA256SUMS")
    if since is not None and (len(args.topics) != 1 or overview.is_glob(args.topics[0])):
        raise UsageError("verify", "a seal belongs to one topic", hint="name that topic")
    busy = 0

    def look(store: FileStore, topic: str) -> list[dict[str, Any]]:
        nonlocal busy
        try:
            report = _look_at(store, topic, args)
        except BusyError as error:
            border.complain(error.what, error.why, error.hint)
            busy = error.exit_code
            return []
        if not args.json:
            _complain(topic, report, since)
        return [_row(topic, report, args)]

    rows = overview.rows(args, look)
    view.write_rows(args, _COLUMNS if since is None else _COLUMNS_SINCE, rows)
    return CorruptionError.exit_code if any(row["problems"] for row in rows) else rows.exit_code or busy


def _look_at(store: FileStore, topic: str, args: Args) -> Report:
    progress = Progress(topic, store.size(topic), quiet=args.quiet)
    try:
        return store.verify(topic, progress.add, args.since_seal)
    finally:
        progress.end()


def _complain(topic: str, report: Report, since: str | None) -> None:
    for path, problem in report.problems:
        place = f"{path}: line {problem.number}, byte {problem.position}" if problem.number else path
        border.complain(place, problem.what)
    if report.problems and since is None:
        border.say(f"hint: evtool repair {topic} --dry-run says what can be done\n")


def _row(topic: str, report: Report, args: Args) -> dict[str, Any]:
    problems = [_problem(path, problem) for path, problem in report.problems]
    row = {
        "topic": topic,
        "events": report.events,
        "bytes": report.size,
        "segments": report.segments,
        "sealed": report.sealed,
        "problems": problems if args.json else len(problems),
        "seal": report.seal,
    }
    if args.since_seal is not None:
        row |= {"confirmed": report.confirmed, "trimmed": report.trimmed}
    return row


def _problem(path: str, problem: Problem) -> dict[str, Any]:
    return {
        "file": path,
        "kind": problem.kind,
        "line": problem.number,
        "byte": problem.position,
        "length": problem.length,
        "offsets": problem.offsets,
        "what": problem.what,
    }


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("events", "events", view.number),
    Column("bytes", "size", view.size),
    Column("segments", "segments", view.number),
    Column("sealed", "sealed", view.number),
    Column("problems", "problems", view.number),
    Column("seal", "newest seal", number=False),
)
_COLUMNS_SINCE = (
    *_COLUMNS[:-1],
    Column("confirmed", "confirmed", view.number),
    Column("trimmed", "trimmed", view.number),
    _COLUMNS[-1],
)

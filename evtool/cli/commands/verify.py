"""evtool verify: are topics as they were written?"""

from __future__ import annotations

import os

from evtool.cli import border, overview, view
from evtool.cli.progress import Progress
from evtool.cli.view import Column
from evtool.errors import BusyError, CorruptionError, UsageError, repair_hint
from evtool.log import names
from evtool.log.verify import REPAIRABLE
from evtool.stores.protocol import LAGGING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.log.check import Problem
    from evtool.stores.protocol import Report, Topic


def run(args: Args) -> int:
    """Look at the topics, say what is wrong with each, and write a row for each.

    One that is in use for too long is passed over; if nothing is wrong with the others, the exit code says so.
    """
    since = args.since_seal
    if since is not None and (len(since) != 64 or since.strip("0123456789abcdef")):
        hint = "a seal is 64 digits, as in the last line of a topic's SHA256SUMS"
        raise UsageError(repr(since), "not a seal", hint=hint)
    if since is not None and (len(args.topics) != 1 or names.is_pattern(args.topics[0])):
        raise UsageError("verify", "a seal belongs to one topic", hint="name that topic")

    kinds: set[str] = set()

    def look(topic: Topic) -> list[dict[str, Any]]:
        report = _look_at(topic, args)
        kinds.update(problem.kind for _, problem in report.problems)
        if not args.json:
            _complain(topic.name, report, since)
        return [_row(topic.name, report, args)]

    rows = overview.rows(args, look)
    if os.isatty(1) and not args.json:
        _show(args, rows)
    else:
        view.write_rows(args, _COLUMNS if since is None else _COLUMNS_SINCE, rows)
    if kinds == {LAGGING}:  # nothing is wrong with the events: a server that is away comes back
        return BusyError.exit_code
    return CorruptionError.exit_code if kinds else rows.exit_code


def _look_at(topic: Topic, args: Args) -> Report:
    progress = Progress(topic.name, topic.bounds().size, quiet=args.quiet)
    try:
        return topic.verify(progress.add, args.since_seal)
    finally:
        progress.end()


def _complain(topic: str, report: Report, since: str | None) -> None:
    for path, problem in report.problems:
        place = f"{path}: line {problem.number}, byte {problem.position}" if problem.number else path
        border.complain(place, problem.what)
    if since is None and any(problem.kind in REPAIRABLE for _, problem in report.problems):
        border.say(f"hint: {repair_hint(topic)}\n")


def _show(args: Args, rows: list[dict[str, Any]]) -> None:
    """For people. A table would break seals, which are to be copied, into pieces: they stand behind it."""
    columns = [column for column in (_COLUMNS if args.since_seal is None else _COLUMNS_SINCE) if column.key != "seal"]
    view.write_rows(args, columns, rows)
    if args.since_seal is not None:
        said = [f"{row['topic']}: {_confirmation(row)}" for row in rows if not row["problems"]]
    elif said := [f"{row['topic']}  {row['seal']}" for row in rows if row["seal"]]:
        said.insert(0, "newest seal of each topic:" if len(said) > 1 else "newest seal:")
    view.write("".join(f"{line}\n" for line in said).encode())


def _confirmation(row: dict[str, Any]) -> str:
    """What a seal shows that was kept, if nothing is wrong."""
    confirmed, trimmed = row["confirmed"], row["trimmed"]
    text = f"all {confirmed} segments sealed up to then are unaltered"
    if confirmed < 2:
        text = "the segment sealed then is unaltered" if confirmed else "nothing that was sealed by then is left"
    return f"{text}; {trimmed} {'was' if trimmed == 1 else 'were'} trimmed" if trimmed else text


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

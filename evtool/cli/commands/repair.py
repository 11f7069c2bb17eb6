"""evtool repair: mend a damaged topic."""

from __future__ import annotations

import os

from evtool.cli import consent, home, view
from evtool.cli.view import Column
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.log.repair import Step


def run(args: Args) -> int:
    """Say what is to be done, a row a step, and do it if that is wanted."""
    names.check_name("topic", args.topic)
    topic = home.open_files(args).topic(args.topic)
    steps = topic.repair(dry_run=True)
    if steps and not args.dry_run:
        if not (args.yes or args.json):
            view.write_rows(args, _COLUMNS, [_row(step, done=False) for step in steps])
        consent.ask(args, f"Carry out {view.counted(len(steps), 'step')} to repair topic {args.topic}?")
        steps = topic.repair(dry_run=False)
    if not steps and not args.quiet and not args.json:
        home.note(f"{args.topic}: nothing to repair")
    elif not args.quiet:
        view.write_rows(args, _COLUMNS, [_row(step, done=not args.dry_run) for step in steps])
    return 0


def _row(step: Step, *, done: bool) -> dict[str, Any]:
    gone = None if step.gone is None else list(step.gone)
    return {"file": step.file, "what": step.what, "gone": gone, "kept": step.kept or None, "done": done}


def _offsets(gone: list[int]) -> str:
    first, last = gone
    return f"{first}" if first == last else f"{first}-{last}"


_COLUMNS = (
    Column("file", "file", os.path.basename, number=False),
    Column("what", "what", number=False),
    Column("gone", "offsets gone", _offsets, number=False),
    Column("kept", "kept in", " ".join, number=False),
    Column("done", "done", view.yes_or_no, number=False),
)

"""evtool dead: the events of a topic that nobody could handle, and why."""

from __future__ import annotations

import os
import signal

from evtool.cli import home, view
from evtool.cli.letters import letters
from evtool.cli.view import Column
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.cli.letters import Letter


def run(args: Args) -> int:
    """Write a row for each dead letter; those that were sent through again only if all are wanted."""
    names.check_name("topic", args.topic)
    if args.group is not None:
        names.check_name("group", args.group)
    store = home.open_home(args)
    rows = [
        _row(letter)
        for letter in letters(store, args.topic)
        if (args.all or not letter.is_redriven) and (args.group is None or letter.group == args.group)
    ]
    if not rows and os.isatty(1) and not args.json:
        home.note(f"{args.topic} has no dead letters")
        return 0
    view.write_rows(args, _COLUMNS, rows)
    return 0


def _row(letter: Letter) -> dict[str, Any]:
    story = letter.story
    return {
        "offset": letter.event_offset,
        "group": letter.group,
        "time": letter.time,
        "attempts": story.get("attempts"),
        "why": _why(story),
        "handler": story.get("handler"),
        "redriven": letter.is_redriven,
        "letter": letter.offset,
        "event": story["event"],
        "stderr": story.get("stderr"),
        "first": story.get("first"),
        "last": story.get("last"),
    }


def _why(story: dict[str, Any]) -> str:
    """The last line that the handler said and, if it said none, how it ended."""
    said = str(story.get("stderr") or "").strip().rpartition("\n")[2][:120]
    if story.get("signal"):
        ended = f"killed by signal {story['signal']}"
        try:
            ended = f"killed by {signal.Signals(story['signal']).name}"
        except ValueError:
            pass
    else:
        ended = "" if story.get("exit") is None else f"exit {story['exit']}"
    return ": ".join(part for part in (ended, said) if part)


_COLUMNS = (
    Column("offset", "offset"),
    Column("group", "group", number=False),
    Column("time", "set aside", number=False),
    Column("attempts", "attempts"),
    Column("why", "why", number=False),
    Column("handler", "handler", number=False),
    Column("redriven", "redriven", view.yes_or_no, number=False),
)

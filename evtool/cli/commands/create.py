"""evtool create: make a topic, with settings of its own."""

from __future__ import annotations

from evtool.cli import home, settings
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args


def run(args: Args) -> int:
    """Make the topic. Raises ConditionError if it is there already."""
    names.check_name("topic", args.topic)
    known = home.known_settings(args)
    changes = settings.parse(args.values, known)
    chosen = {name: value for name, value in changes.items() if value is not None}
    made = home.open_home(args, create=True).create(args.topic, chosen)
    if args.json:
        settings.write(args, made, known)
    elif not args.quiet:
        home.note(f"created topic {args.topic}")
    return 0

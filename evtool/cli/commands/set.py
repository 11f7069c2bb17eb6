"""evtool set: show the settings of a topic, or change some."""

from __future__ import annotations

from evtool.cli import home, settings
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args


def run(args: Args) -> int:
    """Change what is to be changed; show all settings if nothing is, or if --json asks for them."""
    names.check_name("topic", args.topic)
    known = home.known_settings(args)
    changes = settings.parse(args.values, known)
    topic = home.open_home(args).topic(args.topic)
    chosen = topic.set(changes) if changes else topic.settings()
    if args.json or not changes:
        settings.write(args, chosen, known)
    return 0

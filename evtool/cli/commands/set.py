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
    changes = settings.parse(args.values)
    store = home.open_home(args)
    chosen = store.set(args.topic, changes) if changes else store.settings(args.topic)
    if args.json or not changes:
        settings.write(args, chosen)
    return 0

"""evtool rm: remove a group, or a topic with all that is in it."""

from __future__ import annotations

from evtool.cli import consent, home, view
from evtool.errors import BusyError
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.stores.file import FileStore


def run(args: Args) -> int:
    """Remove it, if that is wanted."""
    names.check_name("topic", args.topic)
    if args.group is not None:
        names.check_name("group", args.group)
    store = home.open_home(args)
    what = _what(store, args)
    if not args.force:
        _check_idle(store, args)
    if args.dry_run:
        home.note(f"would remove {what}")
        return 0
    consent.ask(args, f"Remove {what}?")
    if args.group is None:
        store.remove_topic(args.topic)
    else:
        store.remove_group(args.topic, args.group, force=args.force)
    if not args.quiet:
        home.note(f"removed {what}")
    return 0


def _what(store: FileStore, args: Args) -> str:
    """What there is to be removed. Raises NotFoundError if there is nothing."""
    bounds = store.bounds(args.topic)
    if args.group is None:
        events = view.counted(bounds.next - bounds.first, "event")
        return f"topic {args.topic} with {events} and {view.counted(len(store.groups(args.topic)), 'group')}"
    committed = store.state(args.topic, args.group).committed
    return f"group {args.group} of topic {args.topic}, which has committed offset {committed}"


def _check_idle(store: FileStore, args: Args) -> None:
    for group in store.groups(args.topic) if args.group is None else [args.group]:
        if store.is_active(args.topic, group):
            raise BusyError(
                f"{args.topic}, group {group}", "a process consumes for it", hint="end that first, or say --force"
            )

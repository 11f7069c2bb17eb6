"""evtool rm: remove a group, or a topic with all that is in it."""

from __future__ import annotations

from evtool.cli import consent, home, view
from evtool.errors import BusyError
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.stores.protocol import Store


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
        store.topic(args.topic).remove_group(args.group, force=args.force)
    if not args.quiet:
        home.note(f"removed {what}")
    return 0


def _what(store: Store, args: Args) -> str:
    """What there is to be removed. Raises NotFoundError if there is nothing."""
    topic = store.topic(args.topic)
    if args.group is None:
        events = view.counted(topic.bounds().count, "event")
        return f"topic {args.topic} with {events} and {view.counted(len(topic.groups()), 'group')}"
    committed = topic.standing(args.group).committed
    return f"group {args.group} of topic {args.topic}, which has committed offset {committed}"


def _check_idle(store: Store, args: Args) -> None:
    topic = store.topic(args.topic)
    for group in topic.groups() if args.group is None else [args.group]:
        if topic.standing(group).is_active:
            raise BusyError(
                f"{args.topic}, group {group}", "a process consumes for it", hint="end that first, or say --force"
            )

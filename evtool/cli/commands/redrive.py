"""evtool redrive: let groups have those events again that they could not handle."""

from __future__ import annotations

from evtool.cli import border, home, view
from evtool.cli.letters import REDRIVE, letters
from evtool.errors import BusyError, NotFoundError, UsageError
from evtool.log import names
from evtool.log.ranges import Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.cli.letters import Letter
    from evtool.stores.protocol import Group, Store, Topic


def run(args: Args) -> int:
    """Send the chosen dead letters through again; return 1 if one of them cannot be."""
    names.check_name("topic", args.topic)
    if args.group is not None:
        names.check_name("group", args.group)
    if (args.offset is None) is not args.all:
        raise UsageError("redrive", "say which: --offset N or --all")
    store = home.open_home(args)
    chosen = [
        letter
        for letter in letters(store, args.topic)
        if not letter.is_redriven
        and (args.all or letter.event_offset == args.offset)
        and (args.group is None or letter.group == args.group)
    ]
    if not chosen and args.offset is not None:
        raise NotFoundError(args.topic, f"no dead letter of offset {args.offset} is left", hint="see evtool dead")
    good = _those_that_can_go(store.topic(args.topic), chosen)
    events = view.counted(len(good), "event")
    if args.dry_run:
        home.note(f"{args.topic}: would send {events} through again")
    elif good:
        _redrive(store, args.topic, good)
    if not args.dry_run and not args.quiet:
        home.note(f"{args.topic}: {events} {'goes' if len(good) == 1 else 'go'} through again")
    return 0 if len(good) == len(chosen) else 1


def _those_that_can_go(topic: Topic, chosen: list[Letter]) -> list[Letter]:
    """Those for which there is still a group, and the event; of the others that is said."""
    groups = topic.groups()
    return [letter for letter in chosen if _can_go(topic, groups, letter)]


def _can_go(topic: Topic, groups: list[str], letter: Letter) -> bool:
    what = f"{topic.name}: offset {letter.event_offset}"
    if letter.group is None:
        border.complain(what, "was no group's", f"replay {topic.name} --from {letter.event_offset} -n 1 gives it out")
    elif letter.group not in groups:
        border.complain(what, f"there is no group {letter.group} any more")
    elif topic.line_at(letter.event_offset) is None:
        border.complain(what, "is not in the topic any more", f"it stands in {names.dead_name(topic.name)} only")
    else:
        return True
    return False


def _redrive(store: Store, topic: str, chosen: list[Letter]) -> None:
    """First the groups get them again, then they are ticked off: who is killed in between may do the first twice."""
    ticked = store.topic(names.dead_name(topic)).group(REDRIVE)
    if not ticked.try_acquire():
        raise BusyError(names.dead_name(topic), "another redrive is at work")
    try:
        _call_again(store, topic, chosen, ticked)
    finally:
        ticked.release()


def _call_again(store: Store, topic: str, chosen: list[Letter], ticked: Group) -> None:
    if ticked.committed is None:
        ticked.commit(0)
    by_group: dict[str, list[Letter]] = {}
    for letter in chosen:
        by_group.setdefault(str(letter.group), []).append(letter)
    for group, some in by_group.items():
        store.topic(topic).call_again(group, Ranges.of(sorted({letter.event_offset for letter in some})))
        ticked.handle(Ranges.of(letter.offset for letter in some))
    ticked.sync()

"""evtool fanout: every event of a topic to every sink."""

from __future__ import annotations

from evtool.cli import border, home, reading
from evtool.delivery.fanout import Fanout
from evtool.delivery.sinks import check_address
from evtool.delivery.stop import Stop
from evtool.log import names
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.errors import EvtoolError


def run(args: Args) -> int:
    """Serve all sinks until the end or a signal; return 1 if one of them failed in a drain."""
    names.check_name("topic", args.topic)
    start = where.parse(args.from_)
    selection = reading.selection(args)
    addresses = list(dict.fromkeys(args.to))
    for address in addresses:
        check_address(address, args.topic)
    reading.open_store(args, [args.topic], wait=not args.drain)
    stop = Stop()
    stop.listen()
    fanout = Fanout(
        lambda: home.open_home(args, create=True),
        args.topic,
        addresses,
        selection,
        start,
        drain=args.drain,
        stop=stop,
        on_error=lambda address, error: _report(address, error, args.drain),
        on_standby=lambda topic, group: (
            None if args.quiet else home.note(f"{topic}: {group} is served elsewhere; standing by")
        ),
        on_missed=reading.say_missed,
    )
    fanout.run()
    if args.verbose:
        for address, committed in fanout.committed.items():
            home.note(f"{args.topic}: {address} has everything before offset {committed}")
    if stop.signal_number is not None:
        raise border.Ended(stop.signal_number)
    return 1 if fanout.failed else 0


def _report(address: str, error: EvtoolError, drain: bool) -> None:
    border.complain(address, str(error), error.hint or (None if drain else "it is tried again; the others go on"))

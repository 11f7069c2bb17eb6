"""evtool subscribe: what comes from now on or, as a group, what the group has not had yet."""

from __future__ import annotations

from evtool.cli import border, home, reading
from evtool.cli.output import Output
from evtool.delivery.consumer import Consumer
from evtool.delivery.feed import Feed
from evtool.delivery.membership import Membership
from evtool.delivery.stop import Stop, Stopped
from evtool.errors import UsageError
from evtool.log import names
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.delivery.consumer import Deliver
    from evtool.stores.file import FileStore


def run(args: Args) -> int:
    """Hand events on until the end, as it was set, or until a signal."""
    count = reading.check_count(args.count)
    patterns = reading.check_patterns(args.topics)
    start = None if args.from_ is None else where.parse(args.from_)
    timeout = reading.seconds(args.timeout)
    selection = reading.selection(args)
    if args.group is not None:
        names.check_name("group", args.group)
    stop = Stop()
    deliver = _deliver(args, patterns, stop)
    store = reading.open_store(args, patterns, wait=not args.drain)
    stop.listen()
    membership = _membership(args, store, start, stop) if args.group is not None else None
    try:
        if membership is not None:
            membership.acquire(store.named(patterns))
            feed = Feed(store, patterns, membership.join, stop.fd)
        else:
            span = reading.Span(store, start or where.LATEST)
            feed = Feed(store, patterns, span.source, stop.fd)
        Consumer(
            feed,
            deliver,
            selection,
            groups=membership.groups if membership else None,
            count=count,
            follow=not args.drain,
            timeout=timeout,
            stop=stop,
        ).run()
    except Stopped:
        raise border.Ended(stop.signal_number or border.SIGTERM) from None
    finally:
        if membership is not None:
            _take_leave(args, membership)
    return 0


def _deliver(args: Args, patterns: list[str], stop: Stop) -> Deliver:
    if args.handler is None:
        return Output(args, stop).deliver
    if args.output != "auto" or args.data or args.null:
        raise UsageError("subscribe", "a command after -- gets the stored line: leave --output, --data and -0 away")
    from evtool.delivery.handler import Handler

    return Handler(args.handler, patterns[0], stop).deliver


def _membership(args: Args, store: FileStore, start: where.Where | None, stop: Stop) -> Membership:
    def say_standby(topic: str, group: str) -> None:
        if not args.quiet:
            home.note(f"{topic}: another process consumes for group {group}; standing by")

    return Membership(store, args.group, start, stop, on_standby=say_standby, on_missed=reading.say_missed)


def _take_leave(args: Args, membership: Membership) -> None:
    if args.verbose:
        for topic, committed in membership.committed().items():
            home.note(f"{topic}: group {args.group} has committed offset {committed}")
    membership.leave()

"""evtool subscribe: what comes from now on or, as a group, what the group has not had yet."""

from __future__ import annotations

from evtool.cli import border, home, reading
from evtool.delivery.feed import Feed
from evtool.delivery.stop import Stop, Stopped
from evtool.errors import BusyError, UsageError
from evtool.log import names
from evtool.stores import naming, where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.delivery.membership import Membership
    from evtool.stores.protocol import Store


def run(args: Args) -> int:
    """Hand events on until the end, as it was set, or until a signal; return 1 if one was set aside before the end."""
    subscription = Subscription(args)
    try:
        return subscription.run()
    except Stopped:
        raise border.Ended(subscription.stop.signal_number or border.SIGTERM) from None
    except BusyError:  # a server that does not answer, and is not waited for any more
        if subscription.stop.signal_number is None:
            raise
        raise border.Ended(subscription.stop.signal_number) from None


class Subscription:
    """What was asked for, checked before anything is touched."""

    def __init__(self, args: Args) -> None:
        self.args = args
        self.stop = Stop()
        self.count = reading.check_count(args.count)
        self.patterns = reading.check_patterns(args.topics)
        self.there: list[str] = []  # of the topics, once the store is open
        self.start = None if args.from_ is None else where.parse(args.from_)
        self.timeout = reading.seconds(args.timeout)
        self.selection = reading.selection(args)
        if args.group is not None:
            names.check_name("group", args.group)
        _check_combination(args)
        if args.handler is None:
            from evtool.cli.output import Output

            self.output = Output(args, self.stop)
        else:
            from evtool.cli.handlers import Handlers

            self.handlers = Handlers(args, self.patterns, self.stop)

    def run(self) -> int:
        """Consume, and begin again where a seek has moved the group in the meantime."""
        store, self.there = reading.open_store(self.args, self.patterns, wait=not self.args.drain)
        if not self.args.drain:
            store.persist()
        self.stop.listen()
        self.stop.on_signal[id(store)] = lambda _number, _is_first: store.hurry()
        if self.args.group is None:
            span = reading.Span(store, self.start or where.LATEST)
            return self._consume(store, Feed(store, self.patterns, self.there, span.source, self.stop.fd), None)
        return self._consume_as_group(store)

    def _consume_as_group(self, store: Store) -> int:
        from evtool.stores.moved import Moved

        membership = self._membership(store)
        try:
            membership.acquire(naming.named(store, self.patterns))
            while True:
                try:
                    if self.args.share:
                        return self.handlers.share(store, membership, self)
                    feed = Feed(store, self.patterns, self.there, membership.join, self.stop.fd)
                    return self._consume(store, feed, membership)
                except Moved:
                    home.note(f"group {self.args.group} was moved by a seek; going on where it is now")
        finally:
            _take_leave(self.args, membership)

    def _consume(self, store: Store, feed: Feed, membership: Membership | None) -> int:
        if self.args.handler is not None:
            return self.handlers.run(store, feed, None if membership is None else membership.groups, self)
        from evtool.delivery.consumer import Consumer

        deliver = self.output.deliver
        progress = None
        if membership is not None:
            from evtool.delivery.progress import Progress

            progress = Progress(store, membership.groups, feed)
        if self.args.manual:
            from evtool.delivery.manual import Manual

            assert membership is not None
            manual = Manual(membership, deliver, feed)
            deliver, progress = manual.deliver, None
        Consumer(
            feed,
            deliver,
            self.selection,
            progress=progress,
            count=self.count,
            follow=not self.args.drain,
            timeout=self.timeout,
            stop=self.stop,
        ).run()
        if self.args.manual:
            manual.end()
        return 0

    def _membership(self, store: Store) -> Membership:
        from evtool.delivery.membership import Membership
        from evtool.stores import protocol

        args = self.args

        def say_standby(topic: str, group: str) -> None:
            if not args.quiet:
                home.note(f"{topic}: another process consumes for group {group}; standing by")

        return Membership(
            store,
            args.group,
            self.start,
            self.stop,
            on_standby=say_standby,
            on_missed=reading.say_missed,
            on_lapsed=reading.say_lapsed,
            mode=protocol.SHARED if args.share else protocol.MANUAL if args.manual else protocol.ALONE,
            command=" ".join(args.handler or ()),
        )


def _check_combination(args: Args) -> None:
    """Raise UsageError for what makes no sense together."""
    if args.handler is not None:
        if args.output != "auto" or args.data or args.null:
            raise UsageError("subscribe", "a command after -- gets the stored line: leave --output, --data and -0 away")
        if args.manual:
            raise UsageError("subscribe", "--manual is for a pipe to evtool commit, not for a command after --")
    else:
        for name, default in _HANDLER_OPTIONS.items():
            if getattr(args, name) != default:
                raise UsageError("subscribe", f"--{name.replace('_', '-')} needs a command after --")
    if args.manual and (args.output not in ("auto", "line") or args.data or args.null):
        raise UsageError("subscribe", "--manual gives out stored lines: leave --output, --data and -0 away")
    for name in ("share", "manual"):
        if getattr(args, name) and args.group is None:
            raise UsageError("subscribe", f"--{name} needs a --group")
    if args.lease is not None and not args.share:
        raise UsageError("subscribe", "--lease needs --share")


_HANDLER_OPTIONS = {
    "jobs": 1,
    "batch": 1,
    "linger": None,
    "worker": False,
    "timeout_each": None,
    "share": False,
    "retries": 5,
    "backoff": "1s..1m",
}


def _take_leave(args: Args, membership: Membership) -> None:
    if args.verbose:
        for topic, committed in membership.committed().items():
            home.note(f"{topic}: group {args.group} has committed offset {committed}")
    membership.leave()

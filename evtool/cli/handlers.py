"""The command behind `--`: how its events are handled, as the options say, and what is told of that."""

from __future__ import annotations

from evtool.cli import border, home
from evtool.delivery.deadletters import DeadLetters
from evtool.delivery.handling import Ending, Handling, handle
from evtool.delivery.process import Program
from evtool.delivery.retries import Retries, parse_backoff
from evtool.delivery.supply import FeedSupply
from evtool.errors import UsageError
from evtool.log import files, names
from evtool.stores.where import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.cli.commands.subscribe import Subscription
    from evtool.delivery.dispatcher import Supply
    from evtool.delivery.feed import Feed
    from evtool.delivery.membership import Membership
    from evtool.delivery.stop import Stop
    from evtool.delivery.task import Outcome, Task
    from evtool.stores.protocol import Group, Store

_MOST_JOBS = 1000
_MOST_BATCH = 4096
_DEFAULT_LEASE = 30.0


class Handlers:
    """What handles the events, ready before any is read."""

    def __init__(self, args: Args, patterns: list[str], stop: Stop) -> None:
        self._args = args
        self._stop = stop
        self._handling = handling_of(args)
        self._several = len(patterns) > 1 or names.is_pattern(patterns[0])
        for pattern in patterns:
            if not names.is_pattern(pattern):
                names.dead_name(pattern)
        self._command: list[str] = args.handler or []
        self._program = Program(self._command)
        self._lease = _DEFAULT_LEASE if args.lease is None else duration(args.lease)
        if self._lease < 1:
            raise UsageError("--lease", "is at least 1 s")

    def run(self, store: Store, feed: Feed, groups: dict[str, Group] | None, subscription: Subscription) -> int:
        """Have a feed's events handled; return 1 if the end has come and one was set aside."""
        return self._handle(store, FeedSupply(store, feed, subscription.selection, groups), subscription)

    def share(self, store: Store, membership: Membership, subscription: Subscription) -> int:
        """The same for those events that this process leases."""
        from evtool.delivery.shared import LeasedSupply

        supply = LeasedSupply(
            store,
            subscription.patterns,
            subscription.there,
            membership,
            subscription.selection,
            self._lease,
            lambda text: home.note(text),
            wake=self._stop.fd,
        )
        return self._handle(store, supply, subscription)

    def _handle(self, store: Store, supply: Supply, subscription: Subscription) -> int:
        args = self._args
        set_aside = handle(
            supply,
            self._program,
            self._handling,
            Ending(drain=args.drain, count=subscription.count, timeout=subscription.timeout),
            DeadLetters(store, args.group, " ".join(self._command)),
            self._stop,
            Reports(args.quiet, self._handling.retries.count),
            several_topics=self._several,
        )
        return 1 if set_aside else 0


def handling_of(args: Args) -> Handling:
    """What the options say about how to handle events. Raises UsageError."""
    for name, most in (("jobs", _MOST_JOBS), ("batch", _MOST_BATCH)):
        if not 1 <= getattr(args, name) <= most:
            raise UsageError(f"--{name}", f"is a number from 1 to {most}")
    if args.retries < 0:
        raise UsageError("--retries", f"{args.retries} is below 0")
    if args.worker and (args.batch > 1 or args.linger is not None):
        raise UsageError("--worker", "gets events one by one: leave --batch and --linger away")
    if args.linger is not None and args.batch == 1:
        raise UsageError("--linger", "needs a --batch")
    return Handling(
        Retries(args.retries, *parse_backoff(args.backoff)),
        is_worker=args.worker,
        jobs=args.jobs,
        batch=args.batch,
        linger=0.0 if args.linger is None else duration(args.linger),
        timeout=None if args.timeout_each is None else duration(args.timeout_each),
    )


class Reports:
    """Says on standard error what goes wrong, and passes on what the handlers say. name: of a sink, if it is one."""

    def __init__(self, quiet: bool, retries: int, name: str = "") -> None:
        self._quiet = quiet
        self._retries = retries
        self._prefix = f"{name}: " if name else ""

    def failed(self, task: Task, outcome: Outcome, delay: float | None) -> None:
        """Say that an attempt has failed and what comes next."""
        what = f"{self._prefix}{task.topic}: offset {task.offset}"
        if delay is None:
            tried = f" after {task.attempts} attempts" if task.attempts > 1 else ""
            border.complain(what, f"{outcome.why}{tried}; set aside in {names.dead_name(task.topic)}")
        elif not self._quiet:
            attempt = f"attempt {task.attempts} of {self._retries + 1}" if task.attempts else "not counted"
            border.complain(what, f"{outcome.why}; again in {delay:.1f} s ({attempt})")

    def said(self, stream: int, data: bytes) -> None:
        """Pass this on to our standard output (1) or error (2)."""
        try:
            while data:
                data = data[files.write_some(stream, data) :]
        except OSError:  # nobody reads it; the handler would have had to bear that too
            pass

    def complain(self, text: str) -> None:
        """Say what is wrong with a handler."""
        border.complain(f"{self._prefix}worker" if self._prefix else "worker", text)

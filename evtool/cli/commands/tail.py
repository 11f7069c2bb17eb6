"""evtool tail: the last events of topics, then those that come."""

from __future__ import annotations

from evtool.cli import reading
from evtool.cli.output import Output
from evtool.delivery.consumer import Consumer
from evtool.delivery.source import last_lines
from evtool.errors import UsageError
from evtool.stores.where import EARLIEST, Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.delivery.feed import Feed


def run(args: Args) -> int:
    """Give out the last events that were asked for and, with --follow, wait for more."""
    count = reading.check_count(args.count) or 0
    if args.timeout is not None and not args.follow:
        raise UsageError("tail", "--timeout is for --follow")
    timeout = reading.seconds(args.timeout)
    patterns = reading.check_patterns(args.topics)
    output = Output(args)
    store, there = reading.open_store(args, patterns, wait=args.follow)
    selection = reading.selection(args)
    start = Where("back", count) if selection.is_everything or count == 0 else EARLIEST
    feed = reading.feed(store, patterns, there, reading.Span(store, start), follow=args.follow)
    newest = _newest(feed, selection.apply, count) if there else b""  # of what comes from now on nothing is left out
    if newest:
        output.deliver(newest, lambda _: None)
    if args.follow:
        store.persist()
        Consumer(feed, output.deliver, selection, follow=True, timeout=timeout).run()
    return 0


def _newest(feed: Feed, select, count: int) -> bytes:  # type: ignore[no-untyped-def]
    """The last `count` of the wanted events that a feed has now."""
    newest = b""
    while lines := feed.read():
        newest = last_lines(newest + select(lines), count)
    return newest

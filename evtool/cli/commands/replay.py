"""evtool replay: the retained events of topics again, from any point on, at disk speed or at the pace they came in."""

from __future__ import annotations

from evtool.cli import reading
from evtool.cli.output import STANDARD_OUTPUT, Output, failure
from evtool.delivery.consumer import Consumer
from evtool.errors import UsageError
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args
    from evtool.delivery.feed import Feed


def run(args: Args) -> int:
    """Give out the events that were asked for."""
    count = reading.check_count(args.count)
    if args.max_gap is not None and args.speed is None:
        raise UsageError("replay", "--max-gap is for --speed")
    if args.timeout is not None and not args.follow:
        raise UsageError("replay", "--timeout is for --follow")
    patterns = reading.check_patterns(args.topics)
    start = where.parse(args.from_)
    timeout = reading.seconds(args.timeout)
    until = None if args.until is None else where.parse(args.until)
    output = Output(args)
    deliver = output.deliver
    if args.speed is not None:
        from evtool.delivery.pace import Pace

        deliver = Pace(args.speed, reading.seconds(args.max_gap), output.deliver).deliver
    store, there = reading.open_store(args, patterns, wait=args.follow)
    if args.follow:
        store.persist()
    selection = reading.selection(args)
    span = reading.Span(store, start, until)
    feed = reading.feed(store, patterns, there, span, follow=args.follow)
    nobody_looks = output.is_verbatim and selection.is_everything and count is None and args.speed is None
    if feed.is_single and feed.sources and nobody_looks:
        _send(feed, span)
    Consumer(feed, deliver, selection, count=count, follow=args.follow, timeout=timeout).run()
    return 0


def _send(feed: Feed, span: reading.Span) -> None:
    """Copy what there is from the log to standard output without looking at it."""
    (source,) = feed.sources
    until = span.end_offset(source.topic)
    try:
        while (until is None or source.reader.next_offset < until) and source.reader.send(STANDARD_OUTPUT, until):
            pass
    except BrokenPipeError:
        raise
    except OSError as error:
        raise failure(error) from error

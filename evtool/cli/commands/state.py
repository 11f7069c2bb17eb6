"""evtool state: the newest event of each key, now or as of a time."""

from __future__ import annotations

from evtool.cli import reading
from evtool.cli.output import Output
from evtool.log import names, payload
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.cli.argv import Args


def run(args: Args) -> int:
    """Give out the events in the order of the log."""
    topic = names.check_name("topic", args.topic)
    until = where.parse(args.at)
    output = Output(args)
    store, _ = reading.open_store(args, [topic], wait=False)
    end = None if until.kind == "latest" else until.begin(store.topic(topic))
    if args.key is None:
        for lines in store.topic(topic).newest_of_each(end):
            output.deliver(lines, _ignore)
    elif newest := store.topic(topic).newest_of(payload.encode_string(args.key), end):
        output.deliver(newest, _ignore)
    return 0


def _ignore(_lines: bytes | None) -> None:
    """Nobody keeps account of what was shown."""

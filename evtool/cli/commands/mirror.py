"""evtool mirror: the events of topics to another store, once each and in order."""

from __future__ import annotations

import os
import time

from evtool.cli import border, home, reading, view
from evtool.cli.view import Column
from evtool.delivery.mirror import Mirror
from evtool.delivery.rule import group_name
from evtool.delivery.stop import Stop
from evtool.errors import BusyError, UsageError
from evtool.log import names
from evtool.stores import NATS, find, naming, shown, where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.delivery.mirror import Lane
    from evtool.errors import EvtoolError
    from evtool.stores.protocol import Store

_USUAL = "store"
_ALL = ["*"]
_AGAIN = "it is tried again"


def run(args: Args) -> int:
    """Copy until the end or a signal, and say what was done; the exit code is that of the first topic that failed."""
    patterns = reading.check_patterns(args.topics or _ALL)
    start = where.parse(args.from_)
    source, destination = Place(args, args.source, "SRC"), Place(args, args.destination, "DST")
    if args.creds is not None and not (source.is_cluster or destination.is_cluster):
        raise UsageError("--creds", "is for a NATS server, and no NATS server is named")
    if source.name == destination.name:
        raise UsageError(args.destination, "is the store that is read")
    store = source.open(create=args.follow)
    if args.topics:
        there = reading.check_there(args, store, patterns, wait=args.follow)
    else:
        there = naming.named(store, patterns)
    group = destination.group if args.name is None else names.check_name("group", args.name)
    stop = Stop()
    stop.listen()
    board = Board(args)
    far = destination.open(create=True)
    stop.on_signal[id(store)] = lambda _number, _is_first: store.hurry()
    stop.on_signal[id(far)] = lambda _number, _is_first: far.hurry()
    mirror = Mirror(store, far, patterns, there, group, start, stop, board, follow=args.follow)
    began = time.monotonic()
    try:
        mirror.run()
    except BusyError:
        if stop.signal_number is None:
            raise
    finally:
        board.clear()
        lanes = [*mirror.lanes.values()]
        if not args.quiet or args.json:
            seconds = time.monotonic() - began
            view.write_rows(args, _COLUMNS, [_row(lane, group, seconds) for lane in lanes if lane.first is not None])
    if stop.signal_number is not None:
        raise border.Ended(stop.signal_number)
    return next((lane.error.exit_code for lane in lanes if lane.error is not None), 0)


class Place:
    """A store that was named on the command line, as SRC or DST. `name` tells it from others."""

    def __init__(self, args: Args, said: str, what: str) -> None:
        """Raises UsageError for what is no location."""
        self._args = args
        self._said = args.store if said == _USUAL else said
        self._what = "--store" if said == _USUAL else what
        location, _ = find(self._said, what=self._what)
        self.is_cluster = location.startswith(NATS)
        self.name = shown(location)

    @property
    def group(self) -> str:
        """The group as which a mirror with this destination reads."""
        return group_name("mirror", "nats" if self.is_cluster else "file", self.name)

    def open(self, *, create: bool) -> Store:
        """The store."""
        creds = self._args.creds if self.is_cluster else None
        return home.open_location(self._args, self._said, creds, what=self._what, create=create)


class Board:
    """Says on standard error how far it is: a line that is written over, if that is a terminal; and what goes wrong."""

    _EACH_SECONDS = 0.2
    _PACE_SECONDS = 3.0  # over which the rate is reckoned

    def __init__(self, args: Args) -> None:
        self._args = args
        self._lives = os.isatty(2) and not args.quiet
        self._is_shown = False
        self._due = 0.0
        self._past: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self._begun: set[str] = set()

    def moved(self, lanes: Sequence[Lane]) -> None:
        """Show how far they are, a few times a second."""
        if self._args.verbose and len(self._begun) < len(lanes):
            self._say_begun(lanes)
        now = time.monotonic()
        if not self._lives or now < self._due:
            return
        self._due = now + self._EACH_SECONDS
        self._is_shown = True
        text = self._line(lanes, now)[: os.get_terminal_size(2).columns - 1]
        os.write(2, f"\r\033[K{text}".encode())

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            self._is_shown = False
            os.write(2, b"\r\033[K")

    def _line(self, lanes: Sequence[Lane], now: float) -> str:
        copied = sum(lane.copied for lane in lanes)
        left = sum(lane.end - (lane.next or 0) for lane in lanes)
        self._past = [one for one in self._past if now - one[0] < self._PACE_SECONDS] or self._past[-1:]
        since, before = self._past[0]
        self._past.append((now, copied))
        rate = (copied - before) / max(now - since, 1e-3)
        who = lanes[0].topic if len(lanes) == 1 else f"{len(lanes)} topics"
        end = f", {view.duration(left / rate)} left" if left and rate and not self._args.follow else ""
        return f"{who}: {copied:,} copied, {left:,} behind, {rate:,.0f}/s{end}"

    def _say_begun(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            if lane.topic not in self._begun and lane.first is not None:
                self._begun.add(lane.topic)
                self._note(f"{lane.topic}: begins at offset {lane.first} of {lane.end}")

    def failed(self, topic: str | None, error: EvtoolError) -> None:
        """Say that a topic, or all of them, cannot be copied."""
        self.clear()
        hint = "; ".join(filter(None, (_AGAIN if self._args.follow else None, error.hint)))
        what = error.what if topic is None or error.what.startswith(topic) else f"{topic}: {error.what}"
        border.complain(what, error.why, hint)

    def recovered(self, topic: str | None) -> None:
        """Say that it goes on."""
        self._note("it goes on" if topic is None else f"{topic}: it goes on")

    def removed(self, topic: str) -> None:
        """Say that there is nothing to copy from any more."""
        self._note(f"{topic}: the topic was removed; what was copied stays")

    def standing_by(self, topic: str, group: str) -> None:
        """Say that another process copies the topic."""
        self._note(f"{topic}: another process mirrors it as {group}; standing by")

    def missed(self, topic: str, first: int, last: int) -> None:
        """Say that events were trimmed away before they were copied."""
        self.clear()
        reading.say_missed(topic, first, last)

    def lapsed(self, topic: str, group: str) -> None:
        """Say that events were not kept for us."""
        self.clear()
        reading.say_lapsed(topic, group)

    def _note(self, sentence: str) -> None:
        if not self._args.quiet:
            self.clear()
            home.note(sentence)


def _row(lane: Lane, group: str, seconds: float) -> dict[str, Any]:
    """What is said of one topic at the end."""
    position = lane.next or 0
    return {
        "topic": lane.topic,
        "group": group,
        "first": lane.first,
        "next": position,
        "events": lane.copied,
        "lag": max(0, lane.end - position),
        "seconds": round(seconds, 3),
        "rate": round(lane.copied / max(seconds, 1e-3), 1),
    }


_COLUMNS = (
    Column("topic", "topic", number=False),
    Column("group", "group", number=False),
    Column("first", "from"),
    Column("next", "to"),
    Column("events", "events", view.number),
    Column("lag", "lag", view.number),
    Column("seconds", "time", view.duration),
    Column("rate", "events/s", lambda rate: f"{rate:,.0f}"),
)

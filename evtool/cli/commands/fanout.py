"""evtool fanout: every event to every sink."""

from __future__ import annotations

import os
import select
import signal
import time

from evtool.cli import border, home, reading, rules
from evtool.cli.handlers import Reports
from evtool.delivery.fanout import Fanout
from evtool.delivery.stop import Stop
from evtool.errors import ConfigurationError, EvtoolError, UsageError
from evtool.log import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from evtool.cli.argv import Args
    from evtool.delivery.fanout import Server
    from evtool.delivery.rule import Rule
    from evtool.stores.protocol import Store


def run(args: Args) -> int:
    """Serve all sinks until the end or a signal; return 1 if one of them failed, or set an event aside, in a drain."""
    topic, chosen = _rules(args)
    if args.check:
        home.note(f"{topic}: {len(chosen)} sinks, all in order")
        return 0
    _, there = reading.open_store(args, [topic], wait=not args.drain)
    stop = Stop()
    stop.listen()
    signals = Signals(reloads=args.config is not None)
    fanout = Fanout(
        lambda: home.open_home(args, create=True),
        topic,
        drain=args.drain,
        stop=stop,
        watcher=Watcher(args),
        open_at=lambda url: home.open_location(args, url, what="--to"),
    )
    fanout.serve(chosen, there)
    board = Board(args, topic, fanout)
    fanout.run(lambda seconds: _turn(args, fanout, board, stop, signals, seconds))
    board.clear()
    if args.verbose:
        for server in fanout.servers:
            home.note(f"{topic}: {server.rule.name} has everything before offset {server.committed}")
    if stop.signal_number is not None:
        raise border.Ended(stop.signal_number)
    return 1 if any(server.failed or server.set_aside for server in fanout.servers) else 0


def _rules(args: Args) -> tuple[str, list[Rule]]:
    if args.config is None:
        if not args.to or args.topic is None:
            raise UsageError("fanout", "name a topic and a sink --to go to, or a file of rules with --config")
        names.check_name("topic", args.topic)
        return args.topic, rules.from_arguments(args)
    if args.to or args.name is not None:
        raise UsageError("fanout", "--config says where to: leave --to and --name away")
    return rules.from_file(args.config, args.topic)


def _turn(args: Args, fanout: Fanout, board: Board, stop: Stop, signals: Signals, seconds: float) -> None:
    """Wait for something to do, and do it."""
    select.select([stop.fd, signals.fd], [], [], seconds)
    asked = signals.take()
    if signal.SIGHUP in asked:
        _reload(args, fanout)
    if signal.SIGUSR1 in asked:
        board.say()
    board.show()


def _reload(args: Args, fanout: Fanout) -> None:
    """Read the rules again; if they are not in order, go on with those there are."""
    topic, running = fanout.topic, [server.rule for server in fanout.servers]
    try:
        new_topic, chosen = rules.from_file(args.config, args.topic)
        if new_topic != topic:
            raise ConfigurationError(args.config, f"is about {new_topic} now, and this fan-out about {topic}")
    except EvtoolError as error:
        border.complain(error.what, error.why, error.hint or "the sinks go on as they were")
        return
    fanout.serve(chosen)
    kept = len([server for server in fanout.servers if server.rule in running])
    home.note(f"{args.config}: read again; {len(chosen)} sinks, {kept} of them as before")


class Signals:
    """SIGHUP and SIGUSR1, noted until somebody has time for them. `fd` can be read when there are some."""

    def __init__(self, *, reloads: bool) -> None:
        """reloads: whether SIGHUP has a meaning; else it ends the program, as it does when its terminal is closed."""
        self.fd, self._far_end = os.pipe()
        for fd in (self.fd, self._far_end):
            os.set_blocking(fd, False)
        # Without this a signal that comes just before a wait would be heard only when that is over; from here on those
        # that mean a stop are heard here too.
        signal.set_wakeup_fd(self._far_end, warn_on_full_buffer=False)
        for number in (signal.SIGHUP, signal.SIGUSR1) if reloads else (signal.SIGUSR1,):
            signal.signal(number, self._note)

    def take(self) -> set[int]:
        """Those that came since the last time."""
        try:
            return set(os.read(self.fd, 64))
        except BlockingIOError:
            return set()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        try:
            os.write(self._far_end, bytes([number]))
        except BlockingIOError:
            pass


class Watcher:
    """Says on standard error what becomes of the sinks."""

    def __init__(self, args: Args) -> None:
        self._args = args

    def failed(self, rule: Rule, error: EvtoolError) -> None:
        """Say that a sink has failed."""
        hint = error.hint or (None if self._args.drain else "it is tried again; the others go on")
        border.complain(rule.name, error.why if error.what == rule.name else str(error), hint)

    def standing_by(self, topic: str, rule: Rule) -> None:
        """Say that another process serves the sink."""
        if not self._args.quiet:
            home.note(f"{topic}: {rule.group} is served elsewhere; standing by")

    def missed(self, topic: str, first: int, last: int) -> None:
        """Say that events were trimmed away unread."""
        reading.say_missed(topic, first, last)

    def lapsed(self, topic: str, group: str) -> None:
        """Say that events were not kept for a sink."""
        reading.say_lapsed(topic, group)

    def reports(self, rule: Rule) -> Reports:
        """What says what becomes of a sink's events."""
        return Reports(self._args.quiet, rule.handling.retries.count, rule.name)


class Board:
    """One line for each sink: on standard error when asked, and always anew at the same place if that is a terminal."""

    def __init__(self, args: Args, topic: str, fanout: Fanout) -> None:
        self._topic = topic
        self._fanout = fanout
        self._lives = os.isatty(2) and not args.quiet and not args.drain
        self._shown = 0
        self._due = 0.0
        self._store: Store = home.open_home(args, create=True)

    def say(self) -> None:
        """Say how all sinks are."""
        self.clear()
        border.say("".join(f"evtool: {text}\n" for text in self._lines()))

    def show(self) -> None:
        """Bring what stands on the terminal up to date, about once a second."""
        if not self._lives or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + 1
        width = os.get_terminal_size(2).columns
        lines = [text[: width - 1] for text in self._lines()]
        self.clear()
        border.say("".join(f"{text}\n" for text in lines))
        self._shown = len(lines)

    def clear(self) -> None:
        """Take away what stands on the terminal."""
        if self._shown:
            os.write(2, b"\x1b[%dA\x1b[J" % self._shown)
            self._shown = 0

    def _lines(self) -> list[str]:
        try:
            end = self._store.topic(self._topic).bounds().next if self._store.has(self._topic) else 0
        except EvtoolError:  # a server that is away; the sinks say that
            end = None
        return [self._line(server, end) for server in self._fanout.servers]

    def _line(self, server: Server, end: int | None) -> str:
        server.look()
        behind = "" if end is None else f", {max(0, end - server.committed)} behind"
        aside = f", {server.set_aside} set aside" if server.set_aside else ""
        return f"{server.rule.name}: {server.doing}, committed {server.committed}{behind}{aside}"

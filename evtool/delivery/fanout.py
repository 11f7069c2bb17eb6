"""Fan-out: every event of a topic to every sink. Each sink is a group of its own, in a thread of its own."""

from __future__ import annotations

import threading
import time

from evtool.delivery.feed import Feed
from evtool.delivery.membership import Membership
from evtool.delivery.stop import Stop, Stopped
from evtool.errors import ConditionError, EvtoolError
from evtool.stores import naming
from evtool.stores.moved import Moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from evtool.delivery.consumer import Handled
    from evtool.delivery.handling import Reports
    from evtool.delivery.rule import Rule
    from evtool.stores.protocol import Store

    class BlockSink(Protocol):
        """What takes lines in blocks."""

        def deliver(self, lines: bytes, handled: Handled) -> None:
            """Take these lines, and say which are handled."""

        def settle(self) -> None:
            """See to it that all that was delivered is handled."""

    class Watcher(Protocol):
        """Who is told what becomes of the sinks."""

        def failed(self, rule: Rule, error: EvtoolError) -> None:
            """The sink has failed, and will be tried again."""

        def standing_by(self, topic: str, rule: Rule) -> None:
            """The sink is served by another process."""

        def missed(self, topic: str, first: int, last: int) -> None:
            """Events were trimmed away before the sink had them."""

        def lapsed(self, topic: str, group: str) -> None:
            """Events were not kept for the sink, as it was away for too long."""

        def reports(self, rule: Rule) -> Reports:
            """Who is told what becomes of its events."""


_RETRY_SECONDS = (1.0, 30.0)
_FAREWELL_SECONDS = 3.0  # for a server that does not answer; nothing is lost by leaving it
_LOOK_SECONDS, _DRAIN_SECONDS = 1.0, 0.1


class Fanout:
    """Takes a topic's events to sinks until it is told to stop or, with `drain`, all of them have everything.

    store: opens the store anew, since each sink has a thread of its own. open_at: opens the one at a sink's address.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        topic: str,
        *,
        drain: bool,
        stop: Stop,
        watcher: Watcher,
        open_at: Callable[[str], Store],
    ) -> None:
        self.servers: list[Server] = []
        self._store = store
        self._open_at = open_at
        self.topic = topic
        self._drain = drain
        self._stop = stop
        self._watcher = watcher

    def serve(self, rules: list[Rule], there: list[str] | None = None) -> None:
        """Serve just these sinks from now on. Those whose rule is the same as before are not disturbed.

        there: the topic or nothing, as `Feed` has it.
        """
        unchanged = {server.rule.group: server for server in self.servers}
        serving = []
        for rule in rules:
            server = unchanged.get(rule.group)
            if server is not None and server.rule.said == rule.said and not server.has_ended:
                serving.append(server)
            else:
                serving.append(self._server(rule, there))
        for server in self.servers:
            if server not in serving:
                server.stop.set()
        for server in self.servers:
            if server not in serving:
                server.thread.join()
        for server in serving:
            if server not in self.servers:
                server.thread.start()
        self.servers = serving

    def _server(self, rule: Rule, there: list[str] | None) -> Server:
        return Server(self._store, self.topic, there, rule, self._drain, self._watcher, self._open_at)

    def run(self, turn: Callable[[float], None]) -> None:
        """Serve to the end. turn: called again and again; it waits so many seconds or until something happens."""
        self._stop.on_signal[id(self)] = self._hear
        while not self._stop.is_set and (alive := [one for one in self.servers if one.thread.is_alive()]):
            if self._drain:
                alive[0].thread.join(_DRAIN_SECONDS)
            turn(0.0 if self._drain else _LOOK_SECONDS)
        for server in self.servers:
            server.stop.set()
        for server in self.servers:
            server.thread.join(_FAREWELL_SECONDS if server.rule.address.kind == "nats" else None)

    def _hear(self, number: int, is_first: bool) -> None:
        for server in self.servers:
            for call in list(server.stop.on_signal.values()):
                call(number, is_first)


class Server:
    """One sink being served. `committed` is what it has, `doing` what goes on, `failed` whether its last try failed."""

    def __init__(
        self,
        store: Callable[[], Store],
        topic: str,
        there: list[str] | None,
        rule: Rule,
        drain: bool,
        watcher: Watcher,
        open_at: Callable[[str], Store],
    ) -> None:
        self.rule = rule
        self.stop = Stop()
        self.committed = 0
        self.doing = "starting"
        self.failed = False
        self.set_aside = 0
        self.has_ended = False
        self.thread = threading.Thread(target=self._serve, name=rule.name, daemon=True)
        self._open_store = store
        self._open_at = open_at
        self._store: Store | None = None
        self._far_store: Store | None = None
        self._topic = topic
        self._there = there
        self._drain = drain
        self._watcher = watcher
        self._membership: Membership | None = None

    def look(self) -> None:
        """Bring `committed` up to date. The sink's own thread may let go of its group in this moment."""
        membership = self._membership
        if membership is None:
            return
        try:
            for group in list(membership.groups.values()):
                self.committed = group.state.committed or self.committed
        except ConditionError:
            pass

    def _serve(self) -> None:
        """Serve the sink to the end."""
        try:
            self._try_again_and_again()
        finally:
            for store in (self._store, self._far_store):
                if store is not None:
                    store.close()

    def _try_again_and_again(self) -> None:
        """Begin again after each failure unless this is a drain."""
        delay = _RETRY_SECONDS[0]
        while True:
            began = time.monotonic()
            try:
                self._consume()
                break
            except Stopped:
                break
            except Moved:
                continue
            except EvtoolError as error:
                if self.stop.is_set:  # what does not answer is not waited for then
                    break
                self._fail(error)
            except Exception as error:  # a thread has no border above it
                self._fail(EvtoolError("fanout", f"{type(error).__name__}: {error}"))
            if self._drain:
                break
            if time.monotonic() - began > _RETRY_SECONDS[1]:
                delay = _RETRY_SECONDS[0]
            if self.stop.wait(delay):
                break
            delay = min(delay * 2, _RETRY_SECONDS[1])
        self.has_ended = True

    def _fail(self, error: EvtoolError) -> None:
        self.failed = True
        self.doing = f"failed: {error}"
        self._watcher.failed(self.rule, error)

    def _consume(self) -> None:
        store = self._store = self._store or self._opened()
        rule = self.rule
        if rule.address.kind == "nats":
            self._far().has(rule.address.to)  # what is wrong with it should be told before there is a group
        self._membership = membership = Membership(
            store,
            rule.group,
            rule.start,
            self.stop,
            on_standby=lambda _topic, _group: self._stand_by(),
            on_missed=self._watcher.missed,
            on_lapsed=self._watcher.lapsed,
            command=rule.name,
        )
        try:
            membership.acquire(naming.named(store, [self._topic]))
            feed = Feed(store, [self._topic], self._there, membership.join, self.stop.fd)
            self.failed = False
            self.doing = "serving"
            if rule.address.kind in ("topic", "file", "nats"):
                self._deliver(store, feed, membership)
            else:
                self._handle(store, feed, membership)
        finally:
            self.committed = membership.committed().get(self._topic, 0)
            membership.leave()

    def _opened(self) -> Store:
        """A store of our own: each thread has one, for as long as it lives."""
        store = self._open_store()
        if not self._drain:
            store.persist()
        self.stop.on_signal[id(store)] = lambda _number, _is_first: store.hurry()
        return store

    def _stand_by(self) -> None:
        self.doing = "standing by"
        self._watcher.standing_by(self._topic, self.rule)

    def _deliver(self, store: Store, feed: Feed, membership: Membership) -> None:
        """Hand the events on in blocks."""
        from evtool.delivery.consumer import Consumer
        from evtool.delivery.progress import Progress

        sink, block = self._sink(store)
        consumer = Consumer(
            feed,
            sink.deliver,
            self.rule.selection,
            progress=Progress(store, membership.groups, feed),
            follow=not self._drain,
            stop=self.stop,
            settle=sink.settle,
            block=block,
        )
        consumer.run()

    def _sink(self, store: Store) -> tuple[BlockSink, int]:
        """What takes blocks of lines, and how many bytes they should have."""
        from evtool.delivery import sinks, source

        address = self.rule.address
        if address.kind == "topic":
            return sinks.TopicSink(store.ensure_topic(address.place).writer()), source.BLOCK
        if address.kind == "file":
            return sinks.file_sink(address.place), sinks.BLOCK
        from evtool.delivery import storesink

        far = self._far()
        group = self.rule.group  # which is the name of its way, too: a sink may leave out what another one takes
        sink = storesink.StoreSink(store, self._topic, far, address.to, group=group, way=group)
        return sink, storesink.BLOCK

    def _far(self) -> Store:
        """The store at the sink's address."""
        if self._far_store is None:
            far = self._far_store = self._open_at(self.rule.address.place)
            self.stop.on_signal[id(far)] = lambda _number, _is_first: far.hurry()
        return self._far_store

    def _handle(self, store: Store, feed: Feed, membership: Membership) -> None:
        """Have the events handled one by one, with retries and dead letters."""
        from evtool.delivery.deadletters import DeadLetters
        from evtool.delivery.handling import Ending, dispatcher_of, runner_of
        from evtool.delivery.loop import Loop
        from evtool.delivery.supply import FeedSupply

        rule = self.rule
        loop = Loop()
        supply = FeedSupply(store, feed, rule.selection, membership.groups)
        reports = self._watcher.reports(rule)
        dead_letters = DeadLetters(store, rule.group, rule.name)
        dispatcher = dispatcher_of(
            loop, supply, rule.handling, Ending(drain=self._drain), dead_letters, self.stop, reports
        )
        try:
            if rule.address.kind in ("http", "https"):
                from evtool.delivery.http import HttpRunner

                dispatcher.run(HttpRunner(loop, dispatcher.settle, rule))
            else:
                from evtool.delivery.process import Program

                program = Program(["/bin/sh", "-c", rule.address.place], name="the command")
                dispatcher.run(runner_of(loop, dispatcher, program, rule.handling, self.stop, reports))
        finally:
            self.set_aside += dispatcher.set_aside_count

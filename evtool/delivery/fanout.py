"""Fan-out: every event of a topic to every sink. Each sink is a group of its own, in a thread of its own."""

from __future__ import annotations

import threading
import time

from evtool.delivery.consumer import Consumer
from evtool.delivery.feed import Feed
from evtool.delivery.membership import Membership
from evtool.delivery.sinks import group_name, open_sink
from evtool.delivery.stop import Stop, Stopped
from evtool.errors import EvtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.selection import Selection
    from evtool.stores.file import FileStore
    from evtool.stores.where import Where

_RETRY_SECONDS = (1.0, 30.0)


class Fanout:
    """Takes a topic's events to sinks until it is told to stop or, with `drain`, all of them have everything.

    start: where a sink begins that is new. on_error: told about a sink that fails, with its address and the error; it
    is tried again later, and holds up no other.
    """

    def __init__(
        self,
        store: Callable[[], FileStore],
        topic: str,
        addresses: list[str],
        selection: Selection,
        start: Where,
        *,
        drain: bool,
        stop: Stop,
        on_error: Callable[[str, EvtoolError], None],
        on_standby: Callable[[str, str], None],
        on_missed: Callable[[str, int, int], None],
    ) -> None:
        self._store = store
        self._topic = topic
        self._selection = selection
        self._start = start
        self._drain = drain
        self._stop = stop
        self._on_error = on_error
        self._on_standby = on_standby
        self._on_missed = on_missed
        self.committed = dict.fromkeys(addresses, 0)
        self.failed: set[str] = set()
        self._threads = [threading.Thread(target=self._serve, args=(one,), daemon=True) for one in addresses]

    def run(self) -> None:
        """Serve all sinks to the end."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def _serve(self, address: str) -> None:
        """Serve one sink, beginning again after each failure unless this is a drain."""
        delay = _RETRY_SECONDS[0]
        while True:
            began = time.monotonic()
            try:
                self._consume(address)
                return
            except Stopped:
                return
            except EvtoolError as error:
                self._on_error(address, error)
            except Exception as error:  # a thread has no border above it
                self._on_error(address, EvtoolError("fanout", f"{type(error).__name__}: {error}"))
            if self._drain:
                self.failed.add(address)
                return
            if time.monotonic() - began > _RETRY_SECONDS[1]:
                delay = _RETRY_SECONDS[0]
            if self._stop.wait(delay):
                return
            delay = min(delay * 2, _RETRY_SECONDS[1])

    def _consume(self, address: str) -> None:
        store = self._store()
        sink = open_sink(address, store, self._topic, self._stop)
        membership = Membership(
            store, group_name(address), self._start, self._stop, on_standby=self._on_standby, on_missed=self._on_missed
        )
        try:
            membership.acquire(store.named([self._topic]))
            feed = Feed(store, [self._topic], membership.join, self._stop.fd)
            consumer = Consumer(
                feed,
                sink.deliver,
                self._selection,
                groups=membership.groups,
                follow=not self._drain,
                stop=self._stop,
            )
            consumer.run()
        finally:
            self.committed[address] = membership.committed().get(self._topic, 0)
            membership.leave()

"""Messages of one consumer, asked for before they are needed: what reading a topic and consuming for a group share.

    pull = Pull(connection, "evtool_orders", "billing")
    pull.start()                                           subscribes and asks; comes back at once
    for payload, reply in pull.take(1 << 16): ...          what has come, about so many bytes of it; [] if nothing has
    pull.wait(5)                                           until something has come, or the pull has failed
    pull.failure                                           why nothing more comes, or None; what has come can be taken
    pull.restart()                                         asks again after a failure, with the same inbox
    pull.close()                                           hangs up

`reply` is where a message is to be acknowledged and says where it stands, see `message.place_of`. What has come and
what is asked for are together at most LIMIT messages and about SIZE bytes. While there is room more is asked for, a
part at a time, so that no block waits for a round trip; while there is none, nothing is. The connection's `Signal` is
set whenever something comes or the pull fails.

With `on_demand` nothing is asked for but by `ask(count)`, which adds to what is asked for already; `at_once`: only what
is there now, and that it was not more sets no signal. `asked` is how many messages are still to come, and `wait` ends
too when that is none. `drain()` hangs up once all has come that the server had already sent.

A pull belongs to the thread that made it. What is said here to run in the loop's thread touches nothing that the other
one writes, but for the deque between them.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque

import orjson
from nats import errors

from evtool.stores.nats.connection import Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Any

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from evtool.stores.nats.connection import Connection

DELETED = "deleted"  # the consumer was, perhaps as its stream was
INTERRUPTED = "interrupted"  # no leader, no heartbeat, another connection: see whether the consumer is there, ask again
REFUSED = "refused"  # the server does not take what we ask; `Pull.reason` has its words

BATCH = 1024  # messages in one request
LIMIT = 4096
SIZE = 8 << 20
_OVERHEAD = 1 << 16  # bytes that the server may count for a message beside its payload: subjects, headers
_SECOND = 10**9
_EXPIRES = 30  # seconds that a request stands
HEARTBEAT = 2.0  # seconds; twice in a row without a word is once too often
_LEAST_BEATS = 2  # while a request stands; the server refuses fewer
_OVERDUE = 3 * HEARTBEAT  # seconds after its end in which the server has to say that a request is over
_DRAIN_SECONDS = 1.0
_TOO_LARGE = "Message Size Exceeds MaxBytes"
_ENDED = (_TOO_LARGE, "Batch Completed")
_INTERRUPTED = ("Leadership Change", "Server Shutdown")
_TOO_MANY = "Exceeded MaxRequestBatch of "


class _Request:
    """What was asked for and not answered in full. until: when that must be over, by the loop's clock."""

    __slots__ = ("at_once", "count", "size", "until")

    def __init__(self, count: int, size: int, until: float, *, at_once: bool) -> None:
        self.count = count
        self.size = size
        self.until = until
        self.at_once = at_once


class Pull:
    """Keeps requests for the messages of a consumer outstanding.

    failure: DELETED, INTERRUPTED, REFUSED, or None. reason: the server's words for it.
    is_ordered: this pull gets all that the consumer ever delivers; if that says that it has delivered more than has
        come, something is lost, and the pull INTERRUPTED.
    """

    def __init__(
        self, connection: Connection, stream: str, consumer: str, *, on_demand: bool = False, is_ordered: bool = False
    ) -> None:
        self.failure: str | None = None
        self.reason = ""
        self._connection = connection
        self._signal = connection.signal
        self._subject = connection.subject_of_api(f"CONSUMER.MSG.NEXT.{stream}.{consumer}")
        self._on_demand = on_demand
        self._is_ordered = is_ordered
        self._messages: deque[tuple[bytes, str]] = deque()
        self._arrival = threading.Event()
        self._awaits = False
        self._taken_size = 0
        # Written in the loop's thread only:
        self._came = 0
        self._came_size = 0
        self._words = 0  # messages that say something of a request
        self._granted = 0  # what was asked for, without what will not come
        self._requests: dict[str, _Request] = {}  # those that are open, by their inbox
        self._request_count = 0
        self._batch = BATCH
        self._size = SIZE // 4  # of one request
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many messages have come and were not taken."""
        return len(self._messages)

    @property
    def asked(self) -> int:
        """How many messages are asked for and have not come."""
        return max(0, self._granted - self._came)

    def replies(self) -> list[str]:
        """The replies of what has come and was not taken, for either thread."""
        return [reply for _, reply in self._messages.copy()]  # the copy is one step, whatever the other thread does

    def start(self) -> None:
        """Begin to ask."""
        self._begin(self.open())

    def restart(self) -> None:
        """Ask again, whatever has become of what was asked for; with `on_demand` forget that."""
        self.failure = None
        self.reason = ""
        self._begin(self._reopen())

    def take(self, size: int, count: int | None = None) -> list[tuple[bytes, str]]:
        """What has come: payloads and replies, about `size` bytes of payload but at least one message, if there is any.

        count: at most so many.
        """
        messages = self._messages
        there = len(messages)
        if not there:
            return []
        average = 1 + (self._came_size - self._taken_size) // there
        wanted = min(there, 1 + size // average)
        if count is not None:
            wanted = min(wanted, count)
        pop = messages.popleft
        taken = [pop() for _ in range(wanted)]
        self._taken_size += sum([len(payload) for payload, _ in taken])
        if not self._on_demand and self.failure is None and self._has_room:
            self._begin(self._fill())
        return taken

    def ask(self, count: int, *, at_once: bool = False, seconds: float | None = None) -> None:
        """Ask for so many messages more. seconds: how long the request stands, if not for long."""
        self._connection.run(self._request(count, at_once=at_once, seconds=seconds))

    def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds until there is something to take, or nothing to wait for; say whether so."""
        deadline = time.monotonic() + timeout
        while True:
            self._arrival.clear()
            self._awaits = True
            if self._is_settled:
                return True
            if not self._arrival.wait(deadline - time.monotonic()):
                return self._is_settled

    def close(self) -> None:
        """Hang up. What has come can still be taken."""
        self._begin(self.leave())

    @property
    def _is_settled(self) -> bool:
        return bool(self._messages or self.failure or (self._on_demand and not self.asked))

    @property
    def _has_room(self) -> bool:
        size = self._came_size - self._taken_size
        if not self._requests and not self._messages:
            return True
        return (
            self.asked + len(self._messages) + self._batch <= LIMIT
            and (len(self._requests) + 1) * self._size + size <= SIZE
        )

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            self._connection.begin(coroutine)
        except Unanswered:  # closed: whoever uses the connection is told
            self._fail(INTERRUPTED, "the connection was closed")

    # in the loop's thread

    async def open(self) -> None:
        """Subscribe and begin to ask."""
        client = self._connection.client
        self._inbox = client.new_inbox()
        self._subscription = await client.subscribe(
            f"{self._inbox}.*", cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self._connection.watch_lost(self._on_reconnect)
        await self._reopen()

    async def leave(self) -> None:
        """Hang up."""
        self._connection.unwatch_lost(self._on_reconnect)
        self._stop_watching()
        if self._subscription is not None:
            try:
                await self._subscription.unsubscribe()
            except errors.Error:  # the connection is closed
                pass

    async def drain(self) -> None:
        """Hang up as soon as all has come that was sent to us; at once if there is no connection."""
        subscription = self._subscription
        if subscription is not None and self._connection.client.is_connected:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await subscription.drain()  # type: ignore[no-untyped-call]
            except (errors.Error, TimeoutError):
                pass
        await self.leave()

    async def _reopen(self) -> None:
        self._requests.clear()
        self._granted = self._came
        self._stop_watching()
        self._watcher = asyncio.ensure_future(self._watch())
        await self._fill()

    async def _fill(self) -> None:
        """Ask for as much as there is room for."""
        while not self._on_demand and self.failure is None and self._has_room:
            await self._request(self._batch)

    async def _request(self, count: int, *, at_once: bool = False, seconds: float | None = None) -> None:
        seconds = _EXPIRES if seconds is None else seconds
        self._request_count += 1
        inbox = f"{self._inbox}.{self._request_count}"
        size = max(self._size, SIZE) if self._on_demand else self._size
        body: dict[str, Any] = {"batch": count, "max_bytes": size}
        if at_once:
            body["no_wait"] = True
        else:
            heartbeat = min(HEARTBEAT, seconds / _LEAST_BEATS)
            body |= {"expires": int(seconds * _SECOND), "idle_heartbeat": int(heartbeat * _SECOND)}
        until = self._connection.loop.time() + seconds + _OVERDUE
        self._requests[inbox] = _Request(count, size, until, at_once=at_once)
        self._granted += count
        try:
            await self._connection.client.publish(self._subject, orjson.dumps(body), reply=inbox)
        except (errors.Error, OSError) as error:
            self._fail(INTERRUPTED, str(error))

    async def _on_message(self, message: Msg) -> None:
        if not message.reply:
            await self._on_status(message)
            return
        payload = message.data
        self._came_size += len(payload)  # first: `take` divides what has come by what is there
        self._messages.append((payload, message.reply))
        self._came += 1  # last: who sees that nothing is asked for any more finds it
        if self._on_demand and not self.asked:
            self._requests.clear()
        self._signal.set()
        if self._awaits:
            self._awaits = False
            self._arrival.set()

    async def _on_status(self, message: Msg) -> None:
        """Hear what becomes of a request."""
        self._words += 1
        headers = message.headers or {}
        status, words = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            self._on_heartbeat(headers)
            return
        request = self._requests.pop(message.subject, None)
        if request is None:  # of before a restart
            return
        if status in ("404", "408") or words in _ENDED:
            self._end(request, words, headers)
        elif words.startswith(_TOO_MANY):
            self._batch = int(words.removeprefix(_TOO_MANY))
            self._end(request, words, headers)
        elif words == "Consumer Deleted":
            self._fail(DELETED, words)
        elif status == "503" or words in _INTERRUPTED:
            self._fail(INTERRUPTED, words)
        else:
            self._fail(REFUSED, words)
        await self._fill()

    def _end(self, request: _Request, words: str, headers: Mapping[str, str]) -> None:
        """A request is over; take back what it has not brought."""
        unsaid = min(request.count, self.asked) if self._requests else self.asked
        left = int(headers.get("Nats-Pending-Messages", unsaid))
        if words == _TOO_LARGE and left == request.count:
            self._size = max(self._size, min(2 * request.size, self._connection.max_payload + _OVERHEAD))
        self._granted -= left
        if self._on_demand and not self.asked:
            self._arrival.set()
            if not request.at_once:
                self._signal.set()

    def _on_heartbeat(self, headers: Mapping[str, str]) -> None:
        if self._is_ordered and int(headers.get("Nats-Last-Consumer", 0)) > self._came:
            self._fail(INTERRUPTED, "messages were lost")

    def _on_reconnect(self) -> None:
        self._fail(INTERRUPTED, "the connection was lost")

    async def _watch(self) -> None:
        """Fail if a request is open and nothing is heard, or one was never answered."""
        heard, quiet = -1, 0
        while self.failure is None:
            await asyncio.sleep(HEARTBEAT)
            before, heard = heard, self._came + self._words
            quiet = quiet + 1 if self._requests and heard == before else 0
            until = min((request.until for request in self._requests.values()), default=math.inf)
            if quiet == 2 or until < self._connection.loop.time():
                self._fail(INTERRUPTED, "no heartbeat")

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()

    def _fail(self, failure: str, reason: str) -> None:
        if self.failure is None:
            self.reason = reason
            self.failure = failure
            self._requests.clear()
            self._signal.set()
            self._arrival.set()

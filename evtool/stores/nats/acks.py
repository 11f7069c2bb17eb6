"""Acknowledgements on their way: sent at once, kept until it is known that they have arrived.

JetStream acknowledges event by event, and one message is one acknowledgement. They go out as they come; now and then
the last one is sent again and asks for an answer, which says that all before it have arrived too, on all replicas. What
was on its way when a connection broke is sent again: twice does no harm.
"""

from __future__ import annotations

import asyncio
from collections import deque

from nats import errors

from evtool.errors import BusyError, EvtoolError, NotFoundError
from evtool.stores.nats.connection import NoResponders, Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.consumer import Durable

_ACK = b""
_CHUNK = 256  # sent before others have their turn in the loop
_ANSWER_SECONDS = 2.0
_MOST_SILENCES = 5
_PAUSE_SECONDS = 0.05


class Acks:
    """Sends acknowledgements for one consumer, until it is closed; then what was not sent yet never is."""

    def __init__(self, connection: Connection, consumer: Durable) -> None:
        self.is_open = True
        self._connection = connection
        self._consumer = consumer
        self._waiting: deque[str] = deque()
        self._sent: list[str] = []  # since it was last known that all have arrived
        self._begins = False  # a coroutine was started and does not look at `_waiting` yet
        self._turn = asyncio.Lock()  # of the one that sends
        self._losses = 0  # of the connection
        self._silences = 0
        self._connection.watch_lost(self._on_reconnect)

    @property
    def is_idle(self) -> bool:
        """Whether all that was given has arrived."""
        return not self._waiting and not self._sent

    def add(self, subjects: Iterable[str]) -> None:
        """Send to these subjects, from any thread; not if closed by then."""
        self._waiting.extend(subjects)
        if not self._begins and self._waiting:
            self._begins = True
            self._connection.begin(self._send())

    async def confirm(self, patience: float | None = None) -> None:
        """Return when all that was given has arrived. Raises Unanswered after so many seconds, or our patience."""
        seconds = self._connection.patience if patience is None else patience
        deadline = self._connection.loop.time() + seconds
        self._silences = 0
        while self.is_open:
            try:
                if await self._have_arrived(deadline):
                    return
            except (Unanswered, NoResponders) as error:
                if self._connection.is_hurried or self._connection.loop.time() >= deadline:
                    raise Unanswered(error.what, error.why) from None
                if self._sent and await self._is_in_vain(self._sent[-1]):
                    self._sent.clear()
                    return
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _have_arrived(self, deadline: float) -> bool:
        """Send what waits and ask whether all has arrived; say whether it has. Raises Unanswered, NoResponders."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._send()
        except TimeoutError:
            raise Unanswered(self._connection.address.shown, "not connected to any server") from None
        if not self._sent:
            return True
        last, count, losses = self._sent[-1], len(self._sent), self._losses
        left = max(0.05, deadline - self._connection.loop.time())
        await self._connection.request(last, _ACK, timeout=min(_ANSWER_SECONDS, left))
        if losses != self._losses:  # the answer says nothing of what was sent through the connection before
            return False
        del self._sent[:count]
        return True

    async def settle(self) -> None:
        """When closed: return once what was sent has arrived, or within a short time."""
        if self._sent:
            try:
                await self._connection.request(self._sent[-1], _ACK, timeout=_ANSWER_SECONDS)
            except BusyError:
                pass

    def close(self) -> None:
        """Send nothing any more."""
        self.is_open = False
        self._connection.unwatch_lost(self._on_reconnect)

    async def _send(self) -> None:
        """Send all that waits; if somebody is at it, after that."""
        async with self._turn:
            self._begins = False  # before we look: who adds from now on begins another one
            while self.is_open and self._waiting:
                await self._connection.connected()
                await self._send_some()
                await asyncio.sleep(0)

    async def _send_some(self) -> None:
        for _ in range(_CHUNK):
            if not self.is_open or not self._waiting:
                return
            subject = self._waiting[0]
            self._sent.append(subject)  # first, or it would seem in between that there is none
            self._waiting.popleft()
            try:
                await self._connection.client.publish(subject, _ACK)
            except errors.Error:  # the connection is lost, and they will be sent again
                return
            except asyncio.CancelledError:  # nobody knows whether this one was sent
                self._waiting.append(subject)
                raise

    async def _is_in_vain(self, subject: str) -> bool:
        """Whether there is no answer because the consumer is gone, or was put back before what we acknowledge.

        It should say so itself; if it answers everything but this, again and again, that is why.
        """
        try:
            found = await self._consumer.info(patience=_ANSWER_SECONDS)
        except NotFoundError:
            return True
        except EvtoolError:  # no leader now
            self._silences = 0
            return False
        self._silences += 1
        return found is None or found.delivered < int(subject.split(".")[-4]) or self._silences >= _MOST_SILENCES

    def _on_reconnect(self) -> None:
        self._losses += 1
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        if self._waiting and not self._begins:
            self._begins = True
            self._connection.begin(self._send())

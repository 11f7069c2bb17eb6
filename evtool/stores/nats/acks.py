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


class Acks:
    """Sends acknowledgements for one consumer, until it is closed; then what was not sent yet never is."""

    def __init__(self, connection: Connection, consumer: Durable) -> None:
        self.is_open = True
        self._connection = connection
        self._consumer = consumer
        self._waiting: deque[str] = deque()
        self._sent: list[str] = []  # since it was last known that all have arrived
        self._begins = False  # a coroutine was started and does not look at `_waiting` yet
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
            self._connection.start(self._send())

    async def confirm(self, patience: float | None = None) -> None:
        """Return when all that was given has arrived. Raises Unanswered after so many seconds, or our patience."""
        seconds = self._connection.patience if patience is None else patience
        deadline = self._connection.loop.time() + seconds
        silences = 0
        while self.is_open:
            await self._send()
            if not self._sent:
                return
            last, count = self._sent[-1], len(self._sent)
            try:
                await self._connection.request(last, _ACK, timeout=min(_ANSWER_SECONDS, seconds))
            except (Unanswered, NoResponders) as error:
                if self._connection.is_hurried or self._connection.loop.time() >= deadline:
                    raise Unanswered(error.what, error.why) from None
                silences += 1
                if await self._is_in_vain(last, silences):
                    self._sent.clear()
                    return
                await asyncio.sleep(0.05)
                continue
            del self._sent[:count]
            return

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
        self._waiting.clear()
        self._connection.unwatch_lost(self._on_reconnect)

    async def _send(self) -> None:
        self._begins = False  # before we look: who adds from now on begins another one
        while self._waiting:
            await self._connection.connected()
            for _ in range(min(_CHUNK, len(self._waiting))):
                if not self.is_open:
                    return
                self._sent.append(self._waiting.popleft())
                try:
                    await self._connection.client.publish(self._sent[-1], _ACK)
                except errors.Error:  # the connection is lost, and they will be sent again
                    break
            await asyncio.sleep(0)

    async def _is_in_vain(self, subject: str, silences: int) -> bool:
        """Whether there is no answer because the consumer is gone, or was put back before what we acknowledge.

        It should say so itself; if it answers everything but this, again and again, that is why.
        """
        try:
            found = await self._consumer.info(patience=_ANSWER_SECONDS)
        except NotFoundError:
            return True
        except EvtoolError:  # no leader now
            return False
        return found is None or found.delivered < int(subject.split(".")[-4]) or silences >= _MOST_SILENCES

    def _on_reconnect(self) -> None:
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        if self._waiting and not self._begins:
            self._begins = True
            self._connection.start(self._send())

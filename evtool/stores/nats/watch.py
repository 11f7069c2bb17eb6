"""Waiting until a cluster has more for us, at no cost while it has not: who has news sets the connection's signal."""

from __future__ import annotations

import asyncio
import select

from evtool.errors import BusyError
from evtool.stores.nats import names, stream
from evtool.stores.nats.connection import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from evtool.stores.nats.connection import Connection

_LOOK_SECONDS = 1.0
_PATIENCE = 5.0


class NatsWatch:
    """Tells of news since the last `wait`: of events that readers of the same connection have got, and of trouble.

    A topic has to be read from, by its reader or a group's, for its news to be heard; naming it here does nothing.
    wake: a descriptor that ends a wait when it can be read. new_topics: look once a second whether some came or went.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Iterable[str],  # noqa: ARG002 - the protocol's; the readers know
        wake: int | None = None,
        *,
        new_topics: bool = False,
    ) -> None:
        self._looking: Future[None] | None = None
        self._signal = connection.signal
        self._poll = select.poll()
        self._poll.register(self._signal.fd, select.POLLIN)
        if wake is not None:
            self._poll.register(wake, select.POLLIN)
        if new_topics:
            known = connection.run(_streams(connection))
            self._looking = connection.begin(_look_for_new(connection, known))

    def __del__(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    @property
    def fd(self) -> int | None:
        """A descriptor that can be read when there is news."""
        return self._signal.fd

    def add(self, topic: str) -> None:
        """Watch one more topic: whoever reads it does that."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for news, at most `timeout` seconds; say whether there may be some, or `wake` can be read."""
        ready = self._poll.poll(None if timeout is None else max(0, timeout) * 1000)
        if (self._signal.fd, select.POLLIN) in ready:
            self._signal.take()  # before anybody looks, so that what comes meanwhile is told the next time
        return bool(ready)


async def _look_for_new(connection: Connection, known: set[str]) -> None:
    """Set the signal whenever there are other topics than before."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            found = await _streams(connection, _PATIENCE)
        except (BusyError, ApiError):  # out of reach: what is read tells of that
            continue
        if found != known:
            known = found
            connection.signal.set()


async def _streams(connection: Connection, patience: float | None = None) -> set[str]:
    """The names of all streams that may be topics. Raises Unanswered after so many seconds, or our patience."""
    wanted = {"subject": f"{names.SUBJECT_PREFIX}>"}
    return set(await stream.listed(connection, "STREAM.NAMES", "streams", wanted, patience=patience))

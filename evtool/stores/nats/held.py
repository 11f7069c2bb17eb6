"""What this process has been given of a group and has not said to be handled, and the signs of life for it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from nats import errors

from evtool.stores.nats.connection import NoResponders, Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evtool.log.ranges import Ranges
    from evtool.stores.nats.connection import Connection

_IN_PROGRESS = b"+WPI"
_CHUNK = 256


class Held:
    """Offsets and, of each, the subject on which it is acknowledged. Offsets come rising, but for what comes again.

    One thread adds and takes; the loop's looks for what is old.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replies: dict[int, str] = {}
        self._order: deque[int] = deque()  # all of them, and maybe some that are not held any more
        self._looked_to = -1

    def __len__(self) -> int:
        return len(self._replies)

    def offsets(self) -> list[int]:
        """All that is held, rising."""
        with self._lock:
            return sorted(self._replies)

    def add(self, offsets: Sequence[int], replies: Iterable[str]) -> None:
        """Hold these too, or learn of others where they are acknowledged now."""
        with self._lock:
            self._order.extend([offset for offset in offsets if offset not in self._replies])
            self._replies.update(zip(offsets, replies, strict=True))

    def take_before(self, offset: int) -> list[str]:
        """Let go all before an offset; where they are acknowledged."""
        taken = []
        order = self._order
        with self._lock:
            while order and order[0] < offset:
                reply = self._replies.pop(order.popleft(), None)
                if reply is not None:
                    taken.append(reply)
        return taken

    def take(self, wanted: Ranges) -> list[str]:
        """Let go what is held of these; where they are acknowledged."""
        with self._lock:
            known = self._replies
            if wanted.count() <= len(known):
                found = [offset for offset in wanted.offsets() if offset in known]
            else:
                found = [offset for offset in known if offset in wanted]
            taken = [known.pop(offset) for offset in found]
            self._forget_order()
        return taken

    def _forget_order(self) -> None:
        """Let the order be no longer than it has to be: one that is held for long may be followed by millions."""
        order, known = self._order, self._replies
        while order and order[0] not in known:
            order.popleft()
        if len(order) > 2 * len(known) + _CHUNK:
            self._order = deque(offset for offset in order if offset in known)

    def clear(self) -> list[str]:
        """Let go everything; where it is acknowledged."""
        with self._lock:
            replies = list(self._replies.values())
            self._replies.clear()
            self._order.clear()
        return replies

    def replies(self) -> list[str]:
        """Where all of it is acknowledged."""
        with self._lock:
            return list(self._replies.values())

    def replies_of(self, offsets: Iterable[int]) -> list[str]:
        """Where those of these that are held are acknowledged."""
        with self._lock:
            known = self._replies
            return [known[offset] for offset in offsets if offset in known]

    def old(self) -> list[str]:
        """Where that is acknowledged which was held already when this was last called."""
        with self._lock:
            known, self._looked_to = self._looked_to, self._order[-1] if self._order else -1
            return [reply for offset, reply in self._replies.items() if offset <= known]


class Heartbeat:
    """Says every so many seconds of what `replies` gives back that it is in work, so that nobody else gets it."""

    def __init__(self, connection: Connection, replies: Callable[[], list[str]], seconds: float) -> None:
        self._connection = connection
        self._replies = replies
        self._seconds = seconds
        self._task = connection.begin(self._run())

    def stop(self) -> None:
        """Say it no more."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await say_in_progress(self._connection, self._replies())


async def say_in_progress(connection: Connection, replies: list[str], seconds: float | None = None) -> bool:
    """Say of these that they are in work. If there is no connection, nothing is said.

    seconds: how long to wait for an answer to the last one, which says that all have arrived. Returns whether it came;
    without `seconds` nobody asks for it, and all that is known is whether they were sent.
    """
    last = replies.pop() if replies and seconds is not None else None
    for start in range(0, len(replies), _CHUNK):
        for reply in replies[start : start + _CHUNK]:
            if not connection.client.is_connected:
                return False
            try:
                await connection.client.publish(reply, _IN_PROGRESS)
            except errors.Error:
                return False
        await asyncio.sleep(0)
    return last is None or seconds is None or await _is_answered(connection, last, seconds)


async def _is_answered(connection: Connection, reply: str, seconds: float) -> bool:
    if not connection.client.is_connected:
        return False
    try:
        await connection.request(reply, _IN_PROGRESS, timeout=seconds)
    except (Unanswered, NoResponders):
        return False
    return True

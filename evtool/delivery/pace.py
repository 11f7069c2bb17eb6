"""Events at the pace they came in, or a multiple of it."""

from __future__ import annotations

import time

from evtool.errors import UsageError
from evtool.log import line
from evtool.stores.where import seconds_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.consumer import Deliver, Handled


class Pace:
    """Waits before each event as long as lay between it and the one before, divided by a factor.

    speed: the factor, such as ``10x`` or ``0.5``. max_gap: the most seconds to wait, if there is a limit.
    deliver: what the events go to then, one at a time.
    """

    def __init__(self, speed: str, max_gap: float | None, deliver: Deliver) -> None:
        self._speed = _factor(speed)
        self._max_gap = max_gap
        self._deliver = deliver
        self._previous: float | None = None
        self._due = 0.0

    def deliver(self, lines: bytes, handled: Handled) -> None:
        """Deliver each of these lines when its moment has come."""
        for text in lines.split(b"\n")[:-1]:
            whole = text + b"\n"
            self._wait_for(seconds_of(line.time_of(whole)))
            self._deliver(whole, lambda _: None)
            handled(whole)
        handled(None)

    def _wait_for(self, moment: float) -> None:
        """Sleep until an event of this time is due. What a slow reader costs is made up for."""
        now = time.monotonic()
        if self._previous is None:
            self._due = now
        else:
            gap = max(0.0, moment - self._previous) / self._speed
            self._due += gap if self._max_gap is None else min(gap, self._max_gap)
        self._previous = moment
        if self._due > now:
            time.sleep(self._due - now)


def _factor(text: str) -> float:
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise UsageError(repr(text), "not a speed", hint="say for example 1x, 10x or 0.5x")
    return factor

"""When an event that could not be handled is tried again, and how often."""

from __future__ import annotations

import os

from evtool.errors import UsageError
from evtool.stores.where import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.delivery.task import Outcome, Task


class Retries:
    """How often to try again, and the least and the most seconds to wait before that.

    The wait is drawn evenly between 0 and a bound that doubles each time ("full jitter"), so that those who failed
    together do not come back together.
    """

    def __init__(self, count: int, shortest: float, longest: float) -> None:
        self.count = count
        self.shortest = shortest
        self.longest = longest

    def has_another(self, task: Task) -> bool:
        """Whether the event may be tried once more."""
        return task.attempts <= self.count

    def delay(self, task: Task, outcome: Outcome) -> float:
        """How many seconds to wait before the next attempt."""
        if outcome.delay is not None:
            return outcome.delay
        return jitter(min(self.longest, self.shortest * 2.0 ** min(task.delays - 1, 60)))


def jitter(bound: float) -> float:
    """A time between 0 and this bound."""
    return bound * int.from_bytes(os.urandom(4), "big") / 2**32


def parse_backoff(text: str) -> tuple[float, float]:
    """The least and the most seconds to wait, as in ``1s..1m``. Raises UsageError."""
    shortest, found, longest = text.partition("..")
    low = duration(shortest)
    high = duration(longest) if found else low
    if not 0 < low <= high:
        raise UsageError(repr(text), "not a backoff", hint="say the shortest and the longest, for example 1s..1m")
    return low, high

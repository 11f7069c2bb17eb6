"""Consuming: everything that a feed brings goes to a handler and, once it is handled, is committed for the group."""

from __future__ import annotations

import time

from evtool.delivery.source import BLOCK, first_lines
from evtool.errors import TimedOutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.delivery.feed import Feed
    from evtool.delivery.progress import Progress
    from evtool.delivery.selection import Selection
    from evtool.delivery.stop import Stop

    Handled = Callable[[bytes | None], None]
    Deliver = Callable[[bytes, Handled], None]


class Consumer:
    """Hands a feed's events on and keeps the groups' committed offsets true.

    progress: what is told of what is handled, if anybody.
    deliver: is given whole lines, and a function to call with those of their first lines that are handled for good
        (any number of times), or with None when all are. It raises what it cannot handle.
    selection: which events are wanted; the others count as handled.
    count: how many events to hand on. follow: whether to wait for more at the end.
    settle: called when there is nothing more for now; what was delivered and not said to be handled is so after it.
    block: about how many bytes to deliver at once.
    timeout: seconds without an event after which TimedOutError is raised.
    """

    def __init__(
        self,
        feed: Feed,
        deliver: Deliver,
        selection: Selection,
        *,
        progress: Progress | None = None,
        count: int | None = None,
        follow: bool = False,
        timeout: float | None = None,
        stop: Stop | None = None,
        settle: Callable[[], None] | None = None,
        block: int = BLOCK,
    ) -> None:
        self._feed = feed
        self._deliver = deliver
        self._selection = selection
        self._wants_all = selection.is_everything
        self._progress = progress
        self._left = count
        self._follow = follow
        self._timeout = timeout
        self._last_event = time.monotonic()
        self._stop = stop
        self._settle_delivery = settle
        self._block = block

    def run(self) -> None:
        """Consume until the end, as it was set."""
        try:
            while self._left != 0 and self._step():
                pass
            self._settle()
        finally:
            if self._progress is not None:
                self._progress.sync()

    def _step(self) -> bool:
        """Handle the next lines or wait for some; say whether to go on."""
        if self._stop is not None:
            self._stop.check()
        if self._progress is not None and self._progress.has_again:
            self._hand_on_again(self._progress)
        lines = self._feed.read(self._block)
        if not lines:
            self._settle()
            if self._progress is not None:
                self._progress.look()
                if self._progress.has_again:
                    return True
            return self._follow and not self._feed.is_finished and self._wait()
        self._hand_on(lines if self._wants_all else self._selection.apply(lines))
        return True

    def _settle(self) -> None:
        if self._settle_delivery is not None:
            self._settle_delivery()
            self._handled(None)

    def _hand_on(self, wanted: bytes) -> None:
        cut = False
        if self._left is not None:
            there = wanted.count(b"\n")
            if cut := there > self._left:
                wanted = first_lines(wanted, self._left)
            self._left -= min(there, self._left)
        if wanted:
            self._deliver(wanted, self._partly if cut else self._handled)
            self._last_event = time.monotonic()
        if cut:
            self._handled(wanted)
        elif not wanted:
            self._handled(None)

    def _hand_on_again(self, progress: Progress) -> None:
        """Hand on what groups are to get again, as far as it is there and wanted."""
        from evtool.log.ranges import Ranges

        for topic in progress.groups:
            for offset, text in progress.lines_again(topic):
                if self._left == 0:
                    return
                if text is not None and self._selection.apply(text):
                    self._deliver(text, lambda _: None)
                    self._settle()
                    self._left = None if self._left is None else self._left - 1
                progress.handle({topic: Ranges([(offset, offset)])})

    def _partly(self, lines: bytes | None) -> None:
        """As `_handled`, for the first lines of a block of which the rest was never handed on."""
        if lines is not None:
            self._handled(lines)

    def _handled(self, lines: bytes | None) -> None:
        if self._progress is not None:
            self._progress.commit(self._feed.positions() if lines is None else self._feed.positions_after(lines))

    def _wait(self) -> bool:
        """Wait for more; what was committed is made durable meanwhile. Raises TimedOutError."""
        if self._progress is not None:
            if (due := self._progress.due_in) is not None and self._feed.wait(due):
                return True
            self._progress.sync()
        left = None if self._timeout is None else self._last_event + self._timeout - time.monotonic()
        if not self._feed.wait(left) and left is not None:
            raise TimedOutError("timed out", f"no event came for {self._timeout:g} s")
        return True

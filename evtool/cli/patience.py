"""Saying what a command has been waiting for."""

from __future__ import annotations

import signal

from evtool.cli import home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from evtool.stores.protocol import Writer


def explain_after(seconds: float, writer: Writer) -> None:
    """Say it once, if an append has still not come back after so many seconds. The wait itself goes on."""

    def explain(_signal: int, _frame: FrameType | None) -> None:
        what = writer.waits_for()
        if what is not None:  # it may have come since, without the alarm having been put off
            home.note(f"{writer.name}: waiting for {what}")

    signal.signal(signal.SIGALRM, explain)
    signal.setitimer(signal.ITIMER_REAL, seconds)

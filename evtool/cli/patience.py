"""Saying who holds the lock that a command has been waiting for."""

from __future__ import annotations

import os
import signal

from evtool.cli import home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from evtool.log.topic import TopicLog


def explain_after(seconds: float, log: TopicLog) -> None:
    """Say it once, if the lock of `log` is still not had after so many seconds. The wait itself goes on."""

    def explain(_signal: int, _frame: FrameType | None) -> None:
        pid = log.lock_holder()
        if pid != os.getpid():  # it may have come since, without the alarm having been put off
            home.note(f"{log.name}: waiting for the lock, which {f'process {pid}' if pid else 'another process'} holds")

    signal.signal(signal.SIGALRM, explain)
    signal.setitimer(signal.ITIMER_REAL, seconds)

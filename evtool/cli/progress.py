"""How far a long piece of work is, on a terminal: one line that is written over."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EACH_SECONDS = 0.2


class Progress:
    """Shows which part of so many bytes of a topic was looked at, unless nobody would see it or wants to."""

    def __init__(self, topic: str, size: int, *, quiet: bool) -> None:
        self._topic = topic
        self._size = max(1, size)
        self._done = 0
        self._said = time.monotonic()
        self._is_shown = False
        self.add: Callable[[int], None] | None = self._add if os.isatty(2) and not quiet else None

    def _add(self, count: int) -> None:
        """So many more bytes were looked at."""
        self._done += count
        if time.monotonic() - self._said >= _EACH_SECONDS:
            self._said = time.monotonic()
            self._is_shown = True
            os.write(2, f"\r\033[K{self._topic}: {min(100, 100 * self._done // self._size)} %".encode())

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown:
            os.write(2, b"\r\033[K")

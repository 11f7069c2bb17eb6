"""Twelve producers and their readers: no offset is left out, each order is kept, what was seen never changes."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from evtool.errors import EvtoolError
from evtool.stores import open_store
from tests.faults import history
from tests.faults.crowd import Crowd, twelve
from tests.faults.history import Violation
from tests.faults.scale import scaled
from tests.faults.without import Without
from tests.program import wait_until
from tests.running import Running, linux
from tests.topics import small_segments

if TYPE_CHECKING:
    from tests.program import Program

pytestmark = linux


class Looker(threading.Thread):
    """Reads the whole topic again and again."""

    def __init__(self, evtool: Program) -> None:
        super().__init__()
        self.seen: list[bytes] = []
        self._store = open_store(str(evtool.home))
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            reader = self._store.topic("t").reader(0)
            blocks = []
            with contextlib.suppress(EvtoolError):  # a control's log can be in any state
                while block := reader.read():
                    blocks.append(block)
            self.seen = [*self.seen[-20:], b"".join(blocks)]

    def stop(self) -> None:
        self._end.set()
        self.join()


def check_producers(evtool: Program) -> None:
    """Let twelve write and four read, then compare it all."""
    small_segments(evtool, "t", 60_000)
    looker = Looker(evtool)
    with (
        Running(evtool, "replay", "t", "--follow") as replay,
        Running(evtool, "tail", "t", "-f", "-n", "0") as tail,
        Running(evtool, "subscribe", "t", "--group", "g", "--from", "earliest") as subscribe,
    ):
        readers = [replay, tail, subscribe]
        for reader in readers:
            reader.await_waiting()
        looker.start()
        crowd = Crowd(evtool)
        try:
            twelve(crowd, lambda: scaled(8), lambda: (1, scaled(2500)))
        finally:
            looker.stop()
        stored = history.check(evtool.topic("t"), crowd.producers)
        assert len(stored) == 6 * (scaled(8) + scaled(2500))
        assert len(evtool.segments("t")) > 5
        log = b"".join(one.line for one in stored).decode()
        for reader in readers:
            wait_until(lambda reader=reader: len(reader.out) >= len(log), "the readers to have seen it all")
            history.check_seen(stored, reader.out.encode())
            assert reader.out == log
        for seen in looker.seen:
            history.check_seen(stored, seen)
            assert log.encode().startswith(seen)


def test_twelve_producers_and_their_readers_agree(evtool: Program) -> None:
    check_producers(evtool)


def test_control_producers_without_a_lock_do_not_agree(evtool: Program) -> None:
    with pytest.raises((Violation, AssertionError), match=r"offset|event|torn|crc|begins|ended with|is gone"):
        check_producers(Without(evtool.home, "lock"))

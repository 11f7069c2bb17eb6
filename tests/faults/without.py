"""The program with one of its protections taken away, so that a check can show that it would notice.

    python -m tests.faults.without PROTECTION COMMAND…

is evtool with something replaced first. Nothing of evtool knows of this.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from tests.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Without(Program):
    """evtool on a home, but without a protection."""

    def __init__(self, home: Path, protection: str) -> None:
        super().__init__(home)
        self.protection = protection

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "tests.faults.without", self.protection, *arguments]


def no_sync() -> None:
    """Files are never synced, directories are."""
    from evtool.log import files

    files.sync_data = _nothing
    sync = os.fsync
    os.fsync = lambda fd: sync(fd) if os.path.isdir(f"/proc/self/fd/{fd}") else None


def no_directory_sync() -> None:
    """Names are never made durable."""
    from evtool.log.files import Directory

    Directory.sync = _nothing  # type: ignore[method-assign]


def no_lock() -> None:
    """Producers do not wait for each other."""
    from evtool.log import topic

    topic.lock = _nothing
    topic.unlock = _nothing


def no_healing() -> None:
    """A torn tail stays."""
    from evtool.log.topic import TopicLog

    TopicLog._heal = _nothing  # type: ignore[method-assign]


def no_keeping() -> None:
    """A torn tail is cut without its bytes being kept."""
    from evtool.log.topic import TopicLog

    TopicLog._put_aside = lambda *_: "nowhere"  # type: ignore[method-assign]


def no_cutting() -> None:
    """What a full disk left of a batch stays, and counts as stored."""
    from evtool.log.topic import TopicLog

    TopicLog._keep_whole_lines = lambda _, block: block.count(b"\n")  # type: ignore[method-assign]


def no_mark() -> None:
    """A segment whose sync has failed is not shut."""
    from evtool.log import files

    fchmod = os.fchmod
    os.fchmod = lambda fd, mode: None if mode == files.UNSYNCED_MODE else fchmod(fd, mode)


def no_doubt() -> None:
    """A sync that failed is tried again, and the second answer believed."""
    from evtool.log import files

    sync = files.sync_data

    def insist(fd: int) -> None:
        try:
            sync(fd)
        except OSError:
            sync(fd)

    files.sync_data = insist


def no_patience() -> None:
    """Offsets are acknowledged before the events are stored."""
    from evtool.log.topic import TopicLog

    append = TopicLog.append

    def say_first(log: TopicLog, bodies: Any, *rest: Any, **options: Any) -> Any:
        first = log.next_offset()
        for offset in range(first, first + len(bodies)):
            os.write(1, b"%d\n" % offset)
        append(log, bodies, *rest, **options)
        return range(0)

    TopicLog.append = say_first  # type: ignore[method-assign]


def no_whole() -> None:
    """What is to be stored whole or not at all is stored event by event."""
    from evtool.log.topic import TopicLog

    def one_by_one(log: TopicLog, batches: Any, common: bytes) -> None:
        for bodies in batches:
            for body in bodies:
                log._store([body], common)

    TopicLog._write_segment = one_by_one  # type: ignore[method-assign]


def no_steady_clock() -> None:
    """Times are taken from the clock as it is."""
    from evtool.log import topic

    topic.max = lambda _, now: now  # type: ignore[attr-defined]


def no_waiting_to_commit() -> None:
    """Events are committed before they are handed on."""
    from evtool.delivery.consumer import Consumer

    hand_on = Consumer._hand_on

    def commit_first(consumer: Consumer, wanted: bytes) -> None:
        consumer._handled(None)
        hand_on(consumer, wanted)

    Consumer._hand_on = commit_first  # type: ignore[method-assign]


def no_waiting_for_handlers() -> None:
    """Events are acknowledged when they are taken, and not when they are handled."""
    from evtool.delivery.supply import FeedSupply

    take, done = FeedSupply.take, FeedSupply.done
    FeedSupply.done = _nothing  # type: ignore[method-assign]

    def take_and_acknowledge(supply: FeedSupply, limit: int) -> Any:
        tasks = take(supply, limit)
        done(supply, tasks or [])
        supply.flush()
        return tasks

    FeedSupply.take = take_and_acknowledge  # type: ignore[method-assign]


def no_order_of_keys() -> None:
    """Processes that share a group do not look at the keys of what others have."""
    from evtool.stores import share

    class Keyless:
        key_of = staticmethod(_nothing)
        offset_of = staticmethod(share.line.offset_of)

    share.line = Keyless  # type: ignore[assignment, misc]


def no_group_lock() -> None:
    """Any number of processes consume for a group."""
    from evtool.stores.group import FileGroup

    FileGroup._try_lock = lambda *_: True  # type: ignore[method-assign]


def no_commit() -> None:
    """Nothing is committed as long as the consumer runs."""
    from evtool.delivery.consumer import Consumer

    Consumer._handled = _nothing  # type: ignore[method-assign]


def no_log_sync() -> None:
    """A commit is made durable though the events that it stands on may not be."""
    from evtool.log.reader import Reader

    Reader.sync = _nothing  # type: ignore[method-assign]


def _nothing(*_: Any, **__: Any) -> None:
    pass


def main() -> None:
    """Take the protection away and be evtool."""
    take_away: Callable[[], None] = globals()[f"no_{sys.argv.pop(1).replace('-', '_')}"]
    take_away()
    from evtool.__main__ import main as evtool

    evtool()


if __name__ == "__main__":
    main()

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
    from evtool.log import damaged

    damaged.put_aside = lambda *_: "nowhere"


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


def no_waiting_while_sharing() -> None:
    """As before, for processes that share a group."""
    from evtool.delivery.shared import LeasedSupply

    take, done = LeasedSupply.take, LeasedSupply.done
    LeasedSupply.done = _nothing  # type: ignore[method-assign]

    def take_and_acknowledge(supply: LeasedSupply, limit: int) -> Any:
        tasks = take(supply, limit)
        done(supply, tasks or [])
        supply.flush()
        return tasks

    LeasedSupply.take = take_and_acknowledge  # type: ignore[method-assign]


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
    from evtool.log.durable import Durable

    Durable.reach = _nothing  # type: ignore[method-assign]


def no_renaming() -> None:
    """What is written anew is copied over what was there, and not put in its place at once."""
    from evtool.log import files

    rename = files.Directory.rename

    def copy_over(directory: files.Directory, old: str, new: str) -> None:
        if not os.path.isfile(f"{directory.path}/{new}"):
            rename(directory, old, new)
            return
        source = directory.open(old, os.O_RDONLY)
        status = os.fstat(source)
        os.chmod(f"{directory.path}/{new}", files.FILE_MODE)
        target = directory.open(new, os.O_WRONLY | os.O_TRUNC)
        files.write_all(target, os.pread(source, status.st_size, 0))
        os.fchmod(target, status.st_mode)

    files.Directory.rename = copy_over  # type: ignore[method-assign]


def no_retiring() -> None:
    """Seals of segments that are removed or written anew stay as they are."""
    from evtool.log import seals

    seals.retire = _nothing
    seals.SealsFile.retire = _nothing  # type: ignore[method-assign]


def no_sealing_first() -> None:
    """The next segment is there before the one before it is sealed."""
    from evtool.log.topic import TopicLog

    def begin_first(log: TopicLog) -> None:
        before = log._active
        log._create_segment(log._next)
        new, log._active = log._active, before
        log._seal()
        log._active = new

    TopicLog._roll = begin_first  # type: ignore[method-assign]


def no_moving_away() -> None:
    """A topic that is removed is taken apart where it stands."""
    from shutil import rmtree

    from evtool.stores.file import FileStore

    FileStore.remove_topic = lambda store, topic: rmtree(store._topics.subdirectory(topic).path)  # type: ignore[method-assign]


def no_names() -> None:
    """Anything may name a topic or a group."""
    from evtool.log import names

    names.check_name = lambda _, text: text
    names.is_name = lambda _: True


def no_staying() -> None:
    """Links are followed."""
    from evtool.log import files

    files._BASE_FLAGS &= ~os.O_NOFOLLOW


def no_looking() -> None:
    """Whatever has the name of a file is opened as one, and waited for."""
    from evtool.log import files

    files._BASE_FLAGS &= ~os.O_NONBLOCK


def no_place() -> None:
    """Seals are retired by writing their file anew, and not in the place that it has."""
    from evtool.log import files, seals

    def write_anew(topic: files.Directory, _: Any) -> None:
        old, new = (topic.open(seals.FILE_NAME + end, os.O_RDWR | os.O_CREAT) for end in ("", ".new"))
        files.write_all(new, os.pread(old, 1 << 20, 0))
        topic.rename(seals.FILE_NAME + ".new", seals.FILE_NAME)

    seals.retire = write_anew


def no_failing() -> None:
    """Writes, syncs and renames that fail are taken for ones that did not."""
    from evtool.errors import StorageError
    from evtool.log import files

    def heedless(do: Callable[..., object]) -> Callable[..., None]:
        def try_to(*arguments: Any) -> None:
            try:
                do(*arguments)
            except (OSError, StorageError):
                pass

        return try_to

    files.write_all = heedless(files.write_all)
    files.sync_data = heedless(files.sync_data)
    os.fsync = heedless(os.fsync)
    files.Directory.rename = heedless(files.Directory.rename)  # type: ignore[method-assign]


def no_even_clock() -> None:
    """The clock is believed when it says how old an event is."""
    from evtool.log import clock

    clock._look = lambda *_: 0.0


def no_validation() -> None:
    """Whatever comes as an event is taken for one."""
    from evtool.log import payload

    payload.all_valid = lambda _: True
    payload.check = lambda text: text.encode("utf-8", "surrogateescape")


def no_limit() -> None:
    """An event may have any length."""
    from evtool.log.topic import TopicLog

    TopicLog.limit = property(lambda _: 1 << 30)  # type: ignore[assignment]


def no_set_aside() -> None:
    """A refused line is kept only as far as it can be shown."""
    from evtool.cli.intake import Refused

    set_aside = Refused.set_aside
    Refused.set_aside = lambda refused, text: set_aside(refused, text.strip() + b"\n")  # type: ignore[method-assign]


def no_forgetting() -> None:
    """What is refused stays in memory."""
    from evtool.cli.intake import Refused

    kept: list[bytes] = []
    Refused.set_aside = lambda _, text: kept.append(text)  # type: ignore[method-assign]


def no_doubt_of_lines() -> None:
    """What stands in a log is taken for an event."""
    from evtool.log import line

    line.is_event = lambda _: True


def _nothing(*_: Any, **__: Any) -> None:
    pass


def take_away(protection: str) -> None:
    """Take a protection away from this process."""
    do: Callable[[], None] = globals()[f"no_{protection.replace('-', '_')}"]
    do()


def main() -> None:
    """Take the protection away and be evtool."""
    take_away(sys.argv.pop(1))
    from evtool.__main__ import main as evtool

    evtool()


if __name__ == "__main__":
    main()

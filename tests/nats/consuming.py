"""Groups as tests use them: each client has a connection of its own, as each process has."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from evtool.log import line
from evtool.stores.nats.address import parse
from evtool.stores.nats.connection import Connection
from evtool.stores.nats.group import ALONE, NatsGroup
from evtool.stores.nats.topic import NatsTopic
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evtool.stores.nats.reading import GroupReader
    from evtool.stores.nats.share import NatsShare
    from tests.nats.server import Cluster, Server


class Client:
    """One connection, and what it has of the topic `t`."""

    def __init__(self, server: Server | Cluster) -> None:
        self.connection = Connection(parse(server.url, {}))
        self.topic = NatsTopic(self.connection, "t")

    def append(self, count: int, start: int = 0) -> None:
        """Append events whose data are numbers from `start` on."""
        writer = self.topic.writer()
        writer.append([b'"data":%d' % number for number in range(start, start + count)])
        writer.sync()

    def group(self, mode: str = ALONE, name: str = "g") -> NatsGroup:
        """The group, acquired."""
        group = NatsGroup(self.connection, "t", name)
        assert group.try_acquire(mode, "a command")
        return group

    def consume(self, start: int = 0, mode: str = ALONE, name: str = "g") -> tuple[NatsGroup, GroupReader]:
        """The group, acquired and joined, and its reader."""
        group = self.group(mode, name)
        return group, begin(group, start)


def begin(group: NatsGroup, start: int = 0) -> GroupReader:
    """A reader from where the group has joined, as `Membership` makes it."""
    committed = group.committed
    offset = group.join(start if committed is None else committed)
    return group.reader(offset)


def info_of(server: Server | Cluster, group: str = "g") -> dict[str, Any]:
    """What the server says of the consumer of a group of the topic `t`."""
    with server.wire() as wire:
        return wire.api(f"CONSUMER.INFO.evtool_t.{group}")


def offsets_of(lines: bytes) -> list[int]:
    """The offsets of some lines."""
    return [line.offset_of(text) for text in lines.split(b"\n")[:-1]]


def read_all(reader: GroupReader) -> list[int]:
    """The offsets of all that there is."""
    offsets: list[int] = []
    while lines := reader.read():
        offsets += offsets_of(lines)
    return offsets


def read_until(reader: GroupReader, count: int) -> list[int]:
    """The offsets of the next events, once there are so many."""
    offsets: list[int] = []

    def look() -> bool:
        offsets.extend(offsets_of(reader.read()))
        return len(offsets) >= count

    wait_until(look, f"{count} events")
    return offsets


def take_until(share: NatsShare, count: int, while_waiting: Callable[[], object] = lambda: None) -> list[int]:
    """The offsets of what is leased, once that are so many; not sorted."""
    offsets: list[int] = []

    def look() -> bool:
        offsets.extend(line.offset_of(text) for text in share.take(10_000))
        while_waiting()
        return len(offsets) >= count

    wait_until(look, f"{count} events to lease")
    return offsets


def hear_again(group: NatsGroup) -> str:
    """What is to come again, once the group has heard of it."""

    def look() -> bool:
        group.look()
        return bool(group.state.again)

    wait_until(look, "something that is to come again")
    return str(group.state.again)


def hear_notice(group: NatsGroup) -> None:
    """Return once something was noted that its next use will tell."""
    wait_until(lambda: group.seat.notice, "a notice")


@contextlib.contextmanager
def clients(server: Server | Cluster, count: int) -> Iterator[list[Client]]:
    """So many clients, which end with the block."""
    made: list[Client] = []
    try:
        for _ in range(count):
            made.append(Client(server))
        yield made
    finally:
        for client in made:
            client.connection.close()

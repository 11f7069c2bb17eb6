"""How a group stands, and what others do to it who do not consume for it: seek, redrive, remove."""

from __future__ import annotations

import asyncio
import time

from evtool.errors import BusyError, NotFoundError
from evtool.log.offsets import ALONE, MANUAL, SHARED, Member
from evtool.log.ranges import Ranges
from evtool.stores.nats import who
from evtool.stores.nats.consumer import ACK_WAIT, Durable
from evtool.stores.nats.register import Record, Register
from evtool.stores.nats.survey import Survey, survey
from evtool.stores.protocol import Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.who import Answer

_ANSWER_SECONDS = 1.0
_FOLLOW_SECONDS = 1.0  # that a process which consumes alone has to follow a seek by itself
_LOOK_SECONDS = 0.02


def standing(connection: Connection, topic: str, group: str) -> Standing:
    """How a group stands. Raises NotFoundError if there is none."""
    return connection.run(_standing(connection, topic, group))


def seek(connection: Connection, topic: str, group: str, offset: int) -> None:
    """Let a group begin anew at `offset`; a process that consumes for it goes on there. Raises NotFoundError."""
    connection.run(_seek(connection, topic, group, offset))


def call_again(connection: Connection, topic: str, group: str, offsets: Ranges) -> None:
    """Let a group get events again that it has handled. Raises NotFoundError."""
    connection.run(_call_again(connection, topic, group, offsets))


def remove(connection: Connection, topic: str, group: str, *, force: bool) -> None:
    """Forget a group. Raises NotFoundError, or BusyError if a process consumes for it, unless by `force`."""
    connection.run(_remove(connection, topic, group, force=force))


async def existing(connection: Connection, topic: str, group: str) -> Survey:
    """Where a group stands. Raises NotFoundError if there is no such topic or group."""
    try:
        found = await survey(connection, topic, group)
    except NotFoundError:
        raise NotFoundError(topic, "no such topic") from None
    if not found.exists:
        raise NotFoundError(group, f"no such group of topic {topic}")
    return found


async def _standing(connection: Connection, topic: str, group: str) -> Standing:
    found = await existing(connection, topic, group)
    known = set(found.record.members)
    answers, is_active = await who.everybody(connection, topic, group, _ANSWER_SECONDS, known=known)
    members = answers or found.record.members
    committed, handled = found.committed or 0, found.handled
    lag = _lag(found, committed, handled)
    return Standing(
        committed,
        handled=handled,
        lag=lag,
        waiting=min([max(committed, found.first), *(low for low, _ in found.record.again)]),
        is_active=is_active,
        members=[_member(name, said) for name, said in members.items()],
        pace=_pace(found.record.paces, lag) if lag else None,
    )


def _lag(found: Survey, committed: int, handled: Ranges) -> int:
    """How many events the group has not handled.

    The consumer counts those that it has not delivered, and those that are not acknowledged. Some may be handled all
    the same: what was handled without being delivered, as `redrive` does, and what the record knows better.
    """
    info = found.info
    to_come = found.record.again.count()
    for said in found.record.members.values():
        to_come += Ranges.parse(said.get("again", "")).count()
    if info is None or found.record.is_sought or info.floor < committed:
        return max(0, found.next - max(committed, found.first) - handled.count()) + to_come
    undelivered = Ranges(handled)
    undelivered.remove(0, info.delivered - 1)
    return max(0, info.pending + info.unacknowledged - undelivered.count()) + to_come


def _pace(paces: list[list[float]], lag: int) -> float | None:
    """Events a second by which it has gained on its topic lately; None if nobody has said so."""
    now = time.time()
    recent = [pace for pace in paces if 1.0 < now - pace[0] < 2 * 60.0]
    if not recent:
        return None
    return (recent[0][1] - lag) / (now - recent[0][0])


def _member(name: str, said: Answer) -> Member:
    member = Member(name, {"pid": "0", "host": "", "mode": SHARED} | said, said.get("since", "").encode())
    member.doing = said.get("doing", "")
    member.leased = Ranges.parse(said.get("leased", ""))
    member.given = int(said["given"]) if "given" in said else None
    return member


async def _seek(connection: Connection, topic: str, group: str, offset: int) -> None:
    """First the record, so that nothing is lost if we end here; then all members; then the consumer.

    Whoever consumes has to say that it acknowledges nothing more of what was before, or an event that it handled then
    would seem to be handled now.
    """
    found = await existing(connection, topic, group)
    register = Register(connection)
    seeks = 0

    def move(record: Record) -> bool:
        nonlocal seeks
        if not seeks or record.seeks < seeks or record.committed != offset:
            record.move(offset)
            record.born = found.born
            seeks = record.seeks
            return True
        return False  # what we have said is there, though nobody told us

    record = await register.update(topic, group, move)
    known = set(record.members)
    answers, is_active = await who.everybody(connection, topic, group, _ANSWER_SECONDS, known=known, seeks=record.seeks)
    if is_active and record.holder in answers and await _has_followed(register, topic, group):
        return
    consumer = Durable(connection, topic, group)
    info = await consumer.info()
    await consumer.begin(offset, _wait_of(record), info)

    def follow(record: Record) -> bool:
        if record.seeks != seeks or not record.is_sought:
            return False
        record.is_sought = False
        return True

    await register.update(topic, group, follow)


async def _has_followed(register: Register, topic: str, group: str) -> bool:
    """Whether the process that consumes alone puts the consumer where it is to be, which it does when it joins anew."""
    deadline = time.monotonic() + _FOLLOW_SECONDS
    while time.monotonic() < deadline:
        record, _ = await register.read(topic, group)
        if not record.is_sought:
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


def _wait_of(record: Record) -> float:
    modes = {said.get("mode") for said in record.members.values()}
    return ACK_WAIT[MANUAL if modes == {MANUAL} else ALONE]


async def _call_again(connection: Connection, topic: str, group: str, offsets: Ranges) -> None:
    found = await existing(connection, topic, group)

    def add(record: Record) -> bool:
        record.again.update(offsets)
        record.committed = found.committed if record.committed is None else record.committed
        record.born = found.born
        return True

    await Register(connection).update(topic, group, add)


async def _remove(connection: Connection, topic: str, group: str, *, force: bool) -> None:
    found = await existing(connection, topic, group)
    if not force:
        _, is_active = await who.everybody(connection, topic, group, _ANSWER_SECONDS, known=set(found.record.members))
        if is_active:
            raise BusyError(f"{topic}, group {group}", "a process consumes for it")
    await Register(connection).remove(topic, group)
    await Durable(connection, topic, group).remove()

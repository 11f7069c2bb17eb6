"""Who is there: each member of a group answers for itself, while it lives, on a subject that all of them share.

Nobody has to keep a list of the living up to date: the server knows at once when a process has lost its connection, and
says that nobody listens. A question may carry a seek; it is answered once the member does no more for what was before.
"""

from __future__ import annotations

import asyncio
import os

import orjson
from nats import errors

from evtool.log.line import stamp
from evtool.stores.nats import names
from evtool.stores.nats.connection import NoResponders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from evtool.stores.nats.connection import Connection

    Answer = dict[str, str]

_QUIET_SECONDS = 0.2  # after which nobody else will answer
_LONGEST_COMMAND = 200


def introduction(member: str, mode: str, command: str, nanoseconds: int) -> Answer:
    """What a member says of itself: who it is, and since when."""
    said = {
        "pid": str(os.getpid()),
        "host": os.uname().nodename,
        "mode": mode,
        "since": stamp(nanoseconds).decode(),
        "member": member,
    }
    return said | {"command": command[:_LONGEST_COMMAND]} if command else said


class Presence:
    """Answers for a member. What it says is asked of `say`, when it is asked.

    on_seek: awaited with the number of a seek that a question carries, before it is answered.
    All methods run in the loop's thread.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        group: str,
        say: Callable[[], Answer],
        on_seek: Callable[[int], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._subject = names.who_subject(topic, group)
        self._say = say
        self._on_seek = on_seek
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Answer from now on."""
        if self._subscription is None:
            self._subscription = await self._connection.client.subscribe(self._subject, cb=self._on_question)

    async def stop(self) -> None:
        """Answer no more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except errors.Error:  # the connection is closed
                pass

    async def _on_question(self, message: Msg) -> None:
        seeks = _parse(message.data).get("seeks")
        if isinstance(seeks, int):
            await self._on_seek(seeks)
        if message.reply:
            await self._connection.client.publish(message.reply, orjson.dumps(self._say()))


async def anybody(connection: Connection, topic: str, group: str, seconds: float) -> Answer | None:
    """The answer of one member; None if there is none. Raises Unanswered if one is there and says nothing so long."""
    try:
        answer = await connection.request(names.who_subject(topic, group), timeout=seconds)
    except NoResponders:
        return None
    return _parse(answer.data)


async def everybody(
    connection: Connection, topic: str, group: str, seconds: float, *, known: set[str], seeks: int | None = None
) -> tuple[dict[str, Answer], bool]:
    """What each member answers, by its name, and whether somebody is there at all, be it silent.

    known: members that should answer; when all have, that is it. seeks: the seek that the question carries.
    """
    answers: dict[str, Answer] = {}
    is_nobody = asyncio.Event()
    news = asyncio.Event()

    async def hear(message: Msg) -> None:
        if not message.data and message.headers:
            is_nobody.set()
        else:
            answer = _parse(message.data)
            answers[str(answer.get("member"))] = answer
        news.set()

    await connection.connected(seconds)
    inbox = connection.client.new_inbox()
    subscription = await connection.client.subscribe(inbox, cb=hear)
    try:
        question = b"" if seeks is None else orjson.dumps({"seeks": seeks})
        await connection.client.publish(names.who_subject(topic, group), question, reply=inbox)
        deadline = connection.loop.time() + seconds
        while not is_nobody.is_set() and not (answers and known <= answers.keys()):
            left = deadline - connection.loop.time()
            if not await _within(min(left, _QUIET_SECONDS) if answers and not known else left, news):
                break
    finally:
        await subscription.unsubscribe()
    return answers, not is_nobody.is_set()


async def _within(seconds: float, news: asyncio.Event) -> bool:
    """Whether there was news in so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    news.clear()
    return True


def _parse(data: bytes) -> dict[str, Any]:
    """What a question or an answer says; nothing if that makes no sense."""
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}

"""Events that are stored together: sent, and sent again until it is known what became of them.

Each has a message id, so that JetStream stores none twice, for as long as it remembers ids. One event is one message,
which is answered; more are an atomic batch, whose last message is answered: all of them are stored, next to each other,
or none. A batch is refused as a whole if one of its ids is known. If the ids are our own, that says that an earlier try
has succeeded; if they are the user's, the events are then sent one by one, and each is answered for itself.

What is not known is found out: after a try without an answer the same messages are sent again; where they were to have
a certain place, what is there now is looked at instead.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64decode

import orjson
from nats import errors

from evtool.errors import ConditionError
from evtool.stores.nats import names, stream
from evtool.stores.nats.connection import NO_LEADER, ApiError, NoResponders, Unanswered
from evtool.stores.nats.message import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from evtool.stores.nats.connection import Connection

MOST = 1000  # events of one batch, by the server's own rule
TOO_LARGE, TOO_MANY = 10054, 10199
_DUPLICATES, _WRONG_SEQUENCE = 10201, 10071
# No leader; the same id is being stored at this moment; too much at once, of which some was dropped.
_WILL_PASS = NO_LEADER | {0, 10158, 10167, 10176, 10210}
_FIRST_TRY, _LONGEST_TRY = 2.0, 8.0  # seconds without an answer; then the same is sent again
_WINDOW = 256  # messages under way when they are sent one by one
_STEP = 1 << 19  # bytes of a batch after which we wait until the server has them
_FEW = 100  # events that are worth a system call
_SLOWEST = 200_000  # bytes a second: what a network carries at least, or an answer is given up too early
_LOOK_BACK = 2 * MOST  # messages
_SHORTEST_WAIT, _LONGEST_WAIT = 0.02, 0.5
_SAFE_PART = 0.8  # of the time for which ids are remembered; then nothing is sent again
_MSG_ID, _EXPECTED = "Nats-Msg-Id", "Nats-Expected-Last-Sequence"
_BATCH_ID, _BATCH_SEQ, _BATCH_COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"


class WillPassError(Exception):
    """The server did not take it now, for a reason that passes."""


class GaveUpError(Exception):
    """Patience is over. The message says what kept an answer from coming."""


class Batch:
    """Some events of one topic, at most `MOST`, that are to be stored.

    bodies, common: as in `evtool.log.line`. ids: of the messages, all different.
    are_own: whether the ids are ours alone, so that none is known before we have sent it.
    in_order: whether no event may be stored before those that stand before it, even if some of the ids are known.
    expect: the offset that the first one is to get, or None for any.
    seconds: how long to try.

    offsets: of the events, None where it is not known. is_unknown: whether a try has had no answer.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        bodies: Sequence[bytes],
        common: bytes,
        ids: Sequence[str],
        *,
        are_own: bool,
        in_order: bool = False,
        expect: int | None,
        seconds: float,
    ) -> None:
        self.offsets: list[int | None] = [None] * len(bodies)
        self.is_unknown = False
        self._connection = connection
        self._topic = topic
        self._subject = names.subject_of(topic)
        self._stream = names.stream_of(topic)
        self._bodies = bodies
        self._common = common
        self._ids = ids
        self._are_own = are_own
        self._window = 1 if in_order else _WINDOW
        self._expect = expect
        self._one_by_one = len(bodies) == 1
        self._first_try = connection.loop.time()
        self._deadline = self._first_try + seconds
        self._wait = 0.0
        self._seconds = _FIRST_TRY

    @property
    def largest(self) -> int:
        """The place of the event with the most bytes."""
        return max(range(len(self._bodies)), key=lambda place: len(self._bodies[place]))

    @property
    def _pending(self) -> list[int]:
        return [place for place, offset in enumerate(self.offsets) if offset is None]

    async def store(self) -> None:
        """Come back when all are stored; `offsets` says where.

        Raises ConditionError if the first one cannot get the offset that was expected, GaveUpError, or the ApiError
        with which the server has refused them.
        """
        while pending := self._pending:
            try:
                await (self._send_one_by_one(pending) if self._one_by_one else self._send_batch())
            except WillPassError as error:
                await (self._look(str(error)) if self.is_unknown else self._rest(str(error)))
            except (Unanswered, NoResponders) as error:
                await self._look(error.why)
            except (errors.Error, OSError) as error:
                await self._look(str(error).removeprefix("nats: "))
            except ApiError:
                if self.is_unknown:
                    await self._look_back()
                raise

    # A try

    async def _send_batch(self) -> None:
        batch = os.urandom(8).hex()
        last = len(self._bodies) - 1
        await self._connection.connected(self._left)
        size = 0
        for place, body in enumerate(self._bodies):
            headers = self._headers(place)
            headers[_BATCH_ID] = batch
            headers[_BATCH_SEQ] = str(place + 1)
            if place == last:
                answer = await self._ask(body, headers | {_BATCH_COMMIT: "1"}, decides=True)
                return await self._take_batch(answer)
            size += len(body)
            if size > _STEP:
                size = 0
                if answer := await self._ask(body, headers, decides=False):
                    return await self._take_batch(answer)
            else:
                await self._connection.client.publish(self._subject, encode(self._common, body), headers=headers)
                if place % _FEW == 0:
                    await asyncio.sleep(0)  # the server has something to do while we go on
        raise AssertionError("a batch has a last message")

    async def _take_batch(self, answer: Mapping[str, Any]) -> None:
        """Learn from the answer to a whole batch."""
        number = _error_of(answer)
        if number is None:
            self._found(0, answer["seq"] - len(self._bodies), len(self._bodies))
        elif self._expect is not None:
            await self._check_place(number, answer)
        elif number == _DUPLICATES:
            await self._take_duplicates()
        else:
            raise ApiError(self._topic, answer["error"])

    async def _take_duplicates(self) -> None:
        """Go on after a batch that was refused because of the ids of its events."""
        self._one_by_one = True
        if self._are_own:  # all of them are stored, and the place of the first one says where
            first = await self._ask(self._bodies[0], self._headers(0), decides=True)
            if _error_of(first) is None and first.get("duplicate"):
                await self._find_whole(first["seq"])

    async def _find_whole(self, sequence: int) -> None:
        """The first one is stored with this sequence; see whether the others stand behind it.

        They do not if the server had no room left, which may end a batch in the middle, whatever it promises.
        """
        last = len(self._bodies) - 1
        is_whole = await self._id_at(sequence + last) == self._ids[last]
        self._found(0, sequence - 1, last + 1 if is_whole else 1)
        self._one_by_one = True

    async def _send_one_by_one(self, pending: list[int]) -> None:
        places = pending[: 1 if self._expect is not None else self._window]
        await self._connection.connected(self._left)
        sent = [self._ask(self._bodies[place], self._headers(place), decides=True) for place in places]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        if self._expect is None:
            for place, answer in zip(places, answers, strict=True):
                if not isinstance(answer, BaseException) and "error" not in answer:
                    self._found(place, answer["seq"] - 1)
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if self._expect is not None:
                await self._take_first(place, answer)
            elif _error_of(answer) is not None:
                raise ApiError(self._topic, answer["error"])

    async def _take_first(self, place: int, answer: Mapping[str, Any]) -> None:
        """Learn from the answer to a single event that was to have a certain place."""
        number = _error_of(answer)
        if number is not None or answer.get("duplicate"):
            await self._check_place(number or _DUPLICATES, answer)
        if number is None and self.offsets[place] is None:
            self._found(place, answer["seq"] - 1)

    async def _check_place(self, number: int, answer: Mapping[str, Any]) -> None:
        """Find out whether what was to get a certain place has got it, in a try that was not answered.

        Raises ConditionError if the place is not to be had. Else what is not known to be stored yet can be sent again.
        """
        if number not in (_DUPLICATES, _WRONG_SEQUENCE):
            raise ApiError(self._topic, answer["error"])
        assert self._expect is not None
        info = await self._info()
        first = self._pending[0]
        if self.is_unknown:
            if info["state"]["first_seq"] > self._expect + 1:
                raise GaveUpError("what was stored there is gone")
            if await self._id_at(self._expect + 1) == self._ids[first]:
                if self._one_by_one:
                    self._found(first, self._expect)
                else:
                    await self._find_whole(self._expect + 1)
                return
        last = int(info["state"]["last_seq"])
        if number == _WRONG_SEQUENCE:
            last = _number_in(answer["error"]["description"], last)
        elif last == self._expect:
            self._one_by_one = True
            return
        raise ConditionError(self._topic, f"the next offset is {last}, not {self._expect}")

    def _found(self, place: int, offset: int, count: int = 1) -> None:
        """The events from `place` on are stored, from this offset on; nothing is expected of the next."""
        self.offsets[place : place + count] = range(offset, offset + count)
        self._expect = None

    async def _look_back(self) -> None:
        """After a refusal and a try without an answer: see whether some are among the last messages that there are."""
        places = {one: place for place, one in enumerate(self._ids)}
        try:
            last = (await self._info())["state"]["last_seq"]
            for sequence in range(last, max(0, last - _LOOK_BACK), -1):
                place = places.get(await self._id_at(sequence) or "")
                if place is not None:
                    self.offsets[place] = sequence - 1
                    self.is_unknown = False
                if place == 0:
                    return
        except (ApiError, Unanswered, NoResponders):
            self.is_unknown = True

    async def _id_at(self, sequence: int) -> str | None:
        """The id of the message with this sequence, or None if there is none."""
        try:
            verb = f"STREAM.MSG.GET.{self._stream}"
            found = await self._connection.api(verb, {"seq": sequence}, patience=max(self._left, _FIRST_TRY))
        except ApiError as error:
            if error.number == stream.NO_MESSAGE:
                return None
            raise
        head = b64decode(found["message"].get("hdrs", ""))
        return head.partition(f"\r\n{_MSG_ID}: ".encode())[2].partition(b"\r\n")[0].decode() or None

    async def _ask(self, body: bytes, headers: dict[str, str], *, decides: bool) -> dict[str, Any]:
        """Send one event and return the answer. decides: whether something is stored by that."""
        payload = encode(self._common, body)
        seconds = min(self._seconds + len(payload) / _SLOWEST, self._left)
        try:
            answer = await self._connection.request(self._subject, payload, headers, timeout=seconds)
        except (Unanswered, errors.Error, OSError):
            self.is_unknown |= decides
            self._seconds = min(2 * seconds, _LONGEST_TRY)
            raise
        parsed: dict[str, Any] = orjson.loads(answer.data) if answer.data else {}
        return parsed

    def _headers(self, place: int) -> dict[str, str]:
        if self._expect is not None and place == 0:
            return {_MSG_ID: self._ids[place], _EXPECTED: str(self._expect)}
        return {_MSG_ID: self._ids[place]}

    # Between two tries

    @property
    def _left(self) -> float:
        return max(0.05, self._deadline - self._connection.loop.time())

    async def _look(self, reason: str) -> None:
        """See what is there now; make the topic if it is missing; wait a little.

        Raises GaveUpError, and ConfigurationError if it is not made for that.
        """
        self._check_patience(reason)
        try:
            info = await self._info()
        except ApiError as error:
            if error.number != stream.NO_STREAM:
                raise
            await stream.make_missing(self._connection, self._topic)
        except (Unanswered, NoResponders) as error:
            raise GaveUpError(error.why) from error
        else:
            stream.check_takes(self._topic, info["config"])
            self._mind_window(info["config"].get("duplicate_window", 0) / 1e9)
        await self._rest(reason)

    async def _rest(self, reason: str) -> None:
        """Wait a little, longer each time, at first not at all. Raises GaveUpError."""
        self._check_patience(reason)
        await asyncio.sleep(min(self._wait, self._left))
        self._wait = min(2 * self._wait, _LONGEST_WAIT) or _SHORTEST_WAIT

    def _check_patience(self, reason: str) -> None:
        if self._connection.loop.time() >= self._deadline:
            raise GaveUpError(reason)

    def _mind_window(self, seconds: float) -> None:
        """Send nothing again that the server might not know any more. Raises GaveUpError."""
        if self.is_unknown and self._expect is None:
            self._deadline = min(self._deadline, self._first_try + _SAFE_PART * seconds)
            if self._connection.loop.time() >= self._deadline:
                raise GaveUpError(f"ids are remembered for {seconds:.3g} s only, so it must not be sent again")

    async def _info(self) -> dict[str, Any]:
        return await self._connection.api(f"STREAM.INFO.{self._stream}", patience=self._left)


def _error_of(answer: Mapping[str, Any]) -> int | None:
    """The number of the error that an answer is, None if it is none. Raises WillPassError for one that passes."""
    error = answer.get("error")
    if error is None:
        return None
    number = int(error.get("err_code", 0))
    if number in _WILL_PASS:
        raise WillPassError(error.get("description", "no reason given"))
    return number


def _number_in(description: str, otherwise: int) -> int:
    """The sequence in ``wrong last sequence: 7``."""
    digits = description.rpartition(" ")[2]
    return int(digits) if digits.isdecimal() else otherwise

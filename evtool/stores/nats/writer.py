"""The write side of a topic that is a stream: events in batches, one after another, so that their order is kept."""

from __future__ import annotations

import os
from concurrent import futures
from itertools import islice, takewhile

from evtool.errors import (
    BusyError,
    ConfigurationError,
    DataError,
    EvtoolError,
    PartialAppendError,
    StorageError,
    UnknownOutcomeError,
)
from evtool.stores.nats import batch, message, names, settings, stream
from evtool.stores.nats.batch import Batch, GaveUpError
from evtool.stores.nats.connection import ApiError, Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evtool.stores.nats.connection import Connection

PATIENCE = 30.0  # seconds; a cluster that has lost a leader has another one after 4 to 8
_USUAL_SECONDS = 0.5  # in which an answer is there, or it is said what we wait for
_ROOM = 1024  # bytes of a message for its headers and for attributes, unless there are many
_HEADERS = 160  # bytes of all headers, but for the id
_MOST_BYTES = 4 << 20  # of a batch, unless it has one event
_ATOMIC_OFF = 10174


class NatsWriter:
    """Appends to one topic; one that is missing is made by its first append."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self.name = topic
        self.connection = connection
        self.most = batch.MOST  # events in a batch
        self._limit: int | None = None
        self._prefix = os.urandom(8).hex()
        self._count = 0
        self._is_waiting = False

    @property
    def limit(self) -> int:
        """The most bytes that the data of one event may have. The server is asked for it, once."""
        if self._limit is None:
            try:
                config = self.connection.call(f"STREAM.INFO.{names.stream_of(self.name)}")["config"]
            except ApiError as error:
                if error.number != stream.NO_STREAM:
                    raise stream.refused(self.name, error) from error
                config = {}
            self._limit = min(self._room, settings.of_config(config).max_event_bytes)
        return self._limit

    def takes(self, size: int) -> bool:
        """Whether data of so many bytes may be stored. How much the topic itself takes its stream says later."""
        return size <= (self._room if self._limit is None else self._limit)

    @property
    def _room(self) -> int:
        """Bytes that data may have in the largest message that the server takes."""
        return max(0, self.connection.max_payload - _ROOM)

    def append(
        self,
        bodies: Sequence[bytes],
        common: bytes = b"",
        *,
        ids: Sequence[str | None] | None = None,
        tokens: Sequence[str] | None = None,
        expect: int | None = None,
        timeout: float | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Sequence[int]:
        """Store events in order and return the offset of each, as the server has acknowledged it.

        bodies, common: see `evtool.log.line`. ids: an event whose id the server knows (it remembers them for the
        topic's `dedupe` time) is not stored again; the offset of the first one is its answer. tokens: the same for ids
        that no producer has given; then the order is kept also if some are known. expect: store only if this is the
        next offset, else ConditionError. timeout: seconds for which to try while there is no answer, 30 if
        None. on_wait: called once if an answer is long in coming.

        Raises DataError, StorageError or BusyError if nothing was stored, PartialAppendError, UnknownOutcomeError.
        """
        seconds = PATIENCE if timeout is None else timeout
        in_order = tokens is not None
        append = _Append(self, bodies, common, tokens if in_order else ids, expect, seconds, in_order=in_order)
        return self._run(append, on_wait)

    def append_whole(
        self,
        batches: Iterable[Sequence[bytes]],
        common: bytes = b"",
        *,
        expect: int | None = None,
        timeout: float | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Sequence[int]:
        """Store all events of all batches or none; return their offsets. DataError if they are more than 1000.

        Arguments and errors as in `append`.
        """
        bodies = list(islice((body for bodies in batches for body in bodies), batch.MOST + 1))
        if len(bodies) > batch.MOST:
            raise too_many(self.name, batch.MOST)
        seconds = PATIENCE if timeout is None else timeout
        return self._run(_Append(self, bodies, common, None, expect, seconds, whole=True), on_wait)

    def sync(self) -> None:
        """Nothing is left to do: what is acknowledged the server keeps, as its `sync_interval` understands that."""

    def waits_for(self) -> str | None:
        """What an append that does not come back is waiting for; None if there is none."""
        return f"an answer of the server at {self.connection.address.shown}" if self._is_waiting else None

    def new_ids(self, count: int) -> list[str]:
        """Ids for messages that no other message has."""
        first = self._count
        self._count += count
        return [f"{self._prefix}-{number}" for number in range(first, self._count)]

    def _run(self, append: _Append, on_wait: Callable[[], None] | None) -> Sequence[int]:
        """Do it in the loop's thread, and wait."""
        append.check_sizes()
        future = self.connection.start(append.run())
        self._is_waiting = True
        try:
            if on_wait is not None and not futures.wait([future], _USUAL_SECONDS).done:
                on_wait()
            return future.result()
        except futures.CancelledError:
            raise Unanswered(self.connection.address.shown, "the connection was closed") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._is_waiting = False


class _Append:
    """One call of `append`. whole: all at once or not at all. in_order: even if some of the ids are known."""

    def __init__(
        self,
        writer: NatsWriter,
        bodies: Sequence[bytes],
        common: bytes,
        ids: Sequence[str | None] | None,
        expect: int | None,
        seconds: float,
        *,
        whole: bool = False,
        in_order: bool = False,
    ) -> None:
        self._writer = writer
        self._in_order = in_order
        self._common = common
        self._expect = expect
        self._seconds = seconds
        self._whole = whole
        self._are_own = ids is None
        self._places: Sequence[int] = range(len(bodies))  # of the events among those that are sent
        self._bodies = bodies
        self._ids = writer.new_ids(len(bodies))
        self._offsets: list[int] = []
        if ids is not None:
            self._leave_out_repeated(ids)

    def _leave_out_repeated(self, ids: Sequence[str | None]) -> None:
        """Send only the first of those that have the same id."""
        unlike: dict[str, int] = {}
        bodies: list[bytes] = []
        places: list[int] = []
        for body, given, own in zip(self._bodies, ids, self._ids, strict=True):
            place = unlike.setdefault(own if given is None else message.message_id(given), len(bodies))
            places.append(place)
            if place == len(bodies):
                bodies.append(body)
        self._bodies, self._places, self._ids = bodies, places, list(unlike)

    def check_sizes(self) -> None:
        """Raise the DataError of the first event whose message is larger than the server takes."""
        most = self._writer.connection.max_payload - len(self._common) - _HEADERS - 2
        if max(map(len, self._bodies), default=0) + message.LONGEST_ID <= most:
            return
        for number, place in enumerate(self._places, 1):
            if (size := len(self._bodies[place]) + len(self._ids[place])) > most:
                larger = size - most
                raise DataError(
                    f"{self._writer.name}: event {number}",
                    f"by {larger} bytes larger than the server takes",
                    hint=f"max_payload in its configuration is {self._writer.connection.max_payload}",
                )

    async def run(self) -> Sequence[int]:
        """Store all, and return the offsets."""
        while (start := len(self._offsets)) < len(self._bodies):
            end = self._end(start)
            one = Batch(
                self._writer.connection,
                self._writer.name,
                self._bodies[start:end],
                self._common,
                self._ids[start:end],
                are_own=self._are_own,
                in_order=self._in_order,
                expect=None if start else self._expect,
                seconds=self._seconds,
            )
            try:
                await one.store()
            except (GaveUpError, EvtoolError) as error:
                if isinstance(error, ApiError) and error.number == batch.TOO_MANY and not self._whole:
                    self._writer.most = (end - start) // 2
                    continue
                raise self._failure(one, error) from error
            self._offsets.extend(offset for offset in one.offsets if offset is not None)
        return self._result()

    def _end(self, start: int) -> int:
        """The end of the batch that begins with this event."""
        if self._whole:
            return len(self._bodies)
        end = min(start + self._writer.most, len(self._bodies))
        size = 0
        for place in range(start, end):
            size += len(self._bodies[place])
            if size > _MOST_BYTES:
                return max(place, start + 1)
        return end

    def _result(self) -> Sequence[int]:
        offsets = self._offsets
        if self._are_own and offsets and offsets[-1] - offsets[0] == len(offsets) - 1:
            return range(offsets[0], offsets[-1] + 1)
        return offsets if self._are_own else [offsets[place] for place in self._places]

    def _failure(self, one: Batch, error: GaveUpError | EvtoolError) -> EvtoolError:
        """What is to be said of an append that ends with this batch."""
        start = len(self._offsets)
        for offset in one.offsets:
            if offset is None:
                break
            self._offsets.append(offset)
        known = [self._offsets[place] for place in takewhile(len(self._offsets).__gt__, self._places)]
        stored, total = len(known), len(self._places)
        first, last = (known[0], known[-1]) if known else (0, 0)
        name = self._writer.name
        error = self._meaning(one, error) if isinstance(error, ApiError) else error
        reason = error.why if isinstance(error, EvtoolError) else str(error)
        if one.is_unknown and isinstance(error, (GaveUpError, StorageError)):
            sent = range(len(self._offsets), start + len(one.offsets))
            unknown = sum(place in sent for place in self._places)
            return UnknownOutcomeError(
                name, reason, stored=stored, unknown=unknown, total=total, first=first, last=last
            )
        if stored or isinstance(error, StorageError):
            return PartialAppendError(name, reason, stored=stored, total=total, first=first, last=last)
        return BusyError(name, f"not stored: {reason}") if isinstance(error, GaveUpError) else error

    def _meaning(self, one: Batch, error: ApiError) -> EvtoolError:
        """What an answer that is an error means for this batch."""
        name = self._writer.name
        if error.number == batch.TOO_LARGE:
            number = self._places.index(len(self._offsets) + one.largest) + 1
            hint = "max_msg_size in its configuration says how large"
            return DataError(f"{name}: event {number}", "larger than the topic's stream takes", hint=hint)
        if error.number == batch.TOO_MANY:
            return too_many(name, None)
        if error.number == _ATOMIC_OFF:
            return ConfigurationError(name, "its stream takes no batches: allow_atomic is off in its configuration")
        return stream.refused(name, error)


def too_many(topic: str, most: int | None) -> DataError:
    """What is said of more events than can be stored as a whole."""
    limit = f"at most {most} events" if most else "fewer events"
    return DataError(topic, f"NATS stores {limit} at once, or not at all", hint="the file store has no such limit")

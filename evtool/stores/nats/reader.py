"""The read side of a topic on NATS: a cursor over its events, out of an ordered consumer of our own making.

The consumer lives in the memory of one server, delivers every event once and in order, and wants no acknowledgement.
Its deliveries are numbered: one that is missing shows at the next. Whatever goes wrong (a gap, no heartbeat, another
leader, another connection) it is given up, and one made anew begins behind the last event that was given out.
"""

from __future__ import annotations

import functools
import os
import time

from evtool.errors import NotFoundError, StorageError
from evtool.log import files, line
from evtool.stores.nats import names, stream
from evtool.stores.nats.block import Block, end_before, removed
from evtool.stores.nats.connection import ApiError, Unanswered
from evtool.stores.nats.pull import DELETED, REFUSED, Pull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from evtool.stores.nats.connection import Connection

CHUNK = 1 << 16
_LARGEST_SEND = 1 << 18
_PREFIX = "=read-"  # no group is called so
_IDLE_SECONDS = 30  # after which the server forgets a consumer of which nobody asks for anything
_STALL_SECONDS = 0.5  # nothing has come for so long although something should: see why
_LOOK_SECONDS = 1.0
_FIRST_TRY, _LONGEST_TRY = 1.5, 3.0  # seconds that it may take to make a consumer before we try another one
_PAUSE_SECONDS = 0.2  # between two consumers that brought nothing


class NatsReader:
    """A cursor over one topic. `next_offset` is the least offset that the next line may have.

    offset: where to begin.
    on_missed: called with the first and the last offset of events that were removed before they were read, by limits of
        the topic or by `trim`; gaps that single removals have left are none.
    """

    def __init__(
        self, connection: Connection, topic: str, offset: int, on_missed: Callable[[int, int], None] | None = None
    ) -> None:
        self._leave: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._pull: Pull | None = None
        self.next_offset = offset
        self._connection = connection
        self._topic = topic
        self._stream = names.stream_of(topic)
        self._on_missed = on_missed
        self._consumer = ""
        self._created: str | None = None  # when the stream was made, which tells it from another of its name
        self._taken = 0  # deliveries of the consumer
        self._pending = 0  # what it has yet to deliver, as far as its server knows
        self._end = 0  # the next offset as the stream's leader knew it when the consumer was made
        self._opened = 0.0
        self._kept: tuple[int, bytes] | None = None  # lines taken and not given out, and the next offset behind them

    def __del__(self) -> None:
        self._hang_up()

    def read(self, limit: int = CHUNK) -> bytes:
        """The next lines, about `limit` bytes of them but at least one; empty at the end of what there is.

        Raises NotFoundError if the topic is not there any more, Unanswered if no server answers for too long.
        """
        if self._kept is not None:
            (self.next_offset, lines), self._kept = self._kept, None
            return lines
        deadline = time.monotonic() + self._connection.patience
        while True:
            pull = self._open() if self._pull is None else self._pull
            if messages := pull.take(limit):
                if lines := self._lines_of(messages):
                    return lines
            elif pull.failure is not None:
                self._give_up(pull)
            elif self._pending == 0 and self.next_offset >= self._end:
                return b""
            elif not pull.wait(_STALL_SECONDS):
                self._look(pull, deadline)

    def send(self, out: int, until: int | None = None) -> int:
        """Write the next lines to the descriptor `out`; return how many bytes that were.

        0 means the end of what there is. `until`: an offset not to reach. Raises OSError if `out` takes no more; what
        it took whole is then behind the cursor.
        """
        lines = self.read(_LARGEST_SEND)
        end = len(lines) if until is None else end_before(lines, until)
        rest, sent = memoryview(lines)[:end], 0
        try:
            while sent < end:
                sent += files.write_some(out, rest[sent:])
        finally:
            self._keep(lines, lines.rfind(b"\n", 0, sent) + 1)
        return sent

    def is_gone(self) -> bool:
        """Whether the topic was removed, or made anew, since. Asks nobody unless something is wrong."""
        if self._pull is not None and self._pull.failure is None:
            return False
        try:
            return not self._is_same(stream.info(self._connection, self._topic))
        except NotFoundError:
            return True

    def _keep(self, lines: bytes, end: int) -> None:
        """Lines up to `end` are given out; the others are the next ones."""
        if end < len(lines):
            self._kept = self.next_offset, lines[end:]
            self.next_offset = line.offset_of(lines[end : end + line.HEAD_LENGTH])

    # Out of the consumer

    def _lines_of(self, messages: list[tuple[bytes, str]]) -> bytes:
        """The lines of what was delivered, as far as nothing is missing before them and they are wanted."""
        block = Block(messages)
        end = block.run_from(self._taken + 1)
        self._taken += end
        self._pending = block.pending
        if end < len(messages):
            self._hang_up()
        start = 0
        while start < end and block.stream_seqs[start] <= self.next_offset:  # where we began beyond the end
            start += 1
        if start == end:
            return b""
        try:
            self._tell_of_gaps(block.stream_seqs[start:end])
            lines = block.lines(start, end)
        except BaseException:  # what was taken is not lost: another consumer brings it again
            self._hang_up()
            raise
        self.next_offset = block.stream_seqs[end - 1]
        return lines

    def _tell_of_gaps(self, sequences: list[int]) -> None:
        """If sequences before some of these are not there, tell which ones limits or a trim have taken."""
        if self._on_missed is None or sequences[-1] - self.next_offset == len(sequences):
            return
        try:
            first = stream.info(self._connection, self._topic)["state"]["first_seq"]
        except NotFoundError:
            raise self._removed() from None
        for low, high in removed(sequences, self.next_offset, first):
            self._on_missed(low, high)

    def _look(self, pull: Pull, deadline: float) -> None:
        """Nothing has come for a while: see whether there is nothing after all, or the consumer is not what it was."""
        if time.monotonic() > deadline:
            raise Unanswered(self._topic, f"nothing has come for {self._connection.patience:g} s, though there is more")
        try:
            if not self._is_at_end(pull):
                return
            first = self._ask(f"STREAM.INFO.{self._stream}")["state"]["first_seq"] - 1
        except Unanswered:  # we know no more than before
            if self._connection.is_hurried:
                raise
            return
        except ApiError as error:
            if error.number not in (stream.NO_CONSUMER, stream.NO_STREAM):
                raise
            self._hang_up()
            return
        self._pending = self._end = 0
        self._skip_to(first)

    def _is_at_end(self, pull: Pull) -> bool:
        """Whether neither the consumer nor, which may know more, the stream's leader has anything for us."""
        found = self._ask(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        if pull.count or found["num_pending"] or found["delivered"]["consumer_seq"] > self._taken:
            return False
        try:
            self._ask(f"STREAM.MSG.GET.{self._stream}", {"seq": self.next_offset + 1, "next_by_subj": ">"})
        except ApiError as error:
            if error.number == stream.NO_MESSAGE:
                return True
            raise
        return False

    def _ask(self, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._connection.call(verb, body, patience=_LOOK_SECONDS)

    def _skip_to(self, first: int) -> None:
        """The earliest event there is has this offset."""
        if first > self.next_offset:
            if self._on_missed is not None:
                self._on_missed(self.next_offset, first - 1)
            self.next_offset = first

    # The consumer itself

    def _open(self) -> Pull:
        """Make a consumer, and begin to pull. Raises NotFoundError."""
        wait = self._opened + _PAUSE_SECONDS - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._opened = time.monotonic()
        self._taken = 0
        try:
            found, made, self._pull = self._connection.run(self._make())
        except ApiError as error:
            if error.number == stream.NO_STREAM and self._created is not None:
                raise self._removed() from error
            raise stream.refused(self._topic, error) from error
        verb = f"CONSUMER.DELETE.{self._stream}.{self._consumer}"
        self._leave = functools.partial(_remove, self._connection, self._pull, verb)
        self._connection.watch_close(self._leave)
        if not self._is_same(found):
            self._hang_up()
            raise self._removed()
        self._created = found["created"]
        self._pending = made["num_pending"]
        self._end = found["state"]["last_seq"]
        self._skip_to(min(made["delivered"]["stream_seq"], found["state"]["first_seq"] - 1))
        return self._pull

    async def _make(self) -> tuple[dict[str, Any], dict[str, Any], Pull]:
        found = await self._connection.api(f"STREAM.INFO.{self._stream}")
        made = await self._make_consumer(_replicas(found["config"]))
        pull = Pull(self._connection, self._stream, self._consumer, is_ordered=True)
        await pull.open()
        return found, made, pull

    async def _make_consumer(self, replicas: int) -> dict[str, Any]:
        """Make a consumer; if there is no answer, another one.

        The first may have been given to a server that is dead and not yet known to be, and wait there for it to return.
        """
        deadline = self._connection.loop.time() + self._connection.patience
        seconds = _FIRST_TRY
        while True:
            self._consumer = _PREFIX + os.urandom(8).hex()
            verb = f"CONSUMER.CREATE.{self._stream}.{self._consumer}"
            left = deadline - self._connection.loop.time()
            try:
                return await self._connection.api(verb, self._wanted(replicas), patience=min(seconds, left))
            except Unanswered:
                if left <= seconds or self._connection.is_hurried:
                    raise
            seconds = min(2 * seconds, _LONGEST_TRY)

    def _wanted(self, replicas: int) -> dict[str, Any]:
        config = {
            "name": self._consumer,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.next_offset + 1,
            "mem_storage": True,
            "num_replicas": replicas,
            "inactive_threshold": _IDLE_SECONDS * 10**9,
        }
        return {"stream_name": self._stream, "config": config, "action": "create"}

    def _removed(self) -> NotFoundError:
        return NotFoundError(self._topic, "the topic was removed")

    def _is_same(self, found: dict[str, Any]) -> bool:
        return self._created in (None, found["created"])

    def _give_up(self, pull: Pull) -> None:
        """The pull has failed: let another consumer go on. Raises StorageError if that would not help."""
        if pull.failure == REFUSED:
            raise StorageError(self._topic, f"the server refuses what it is asked for: {pull.reason}")
        self._hang_up()

    def _hang_up(self) -> None:
        """Let the consumer go; the server forgets it by itself if it does not hear of that."""
        leave, self._leave, self._pull = self._leave, None, None
        if leave is not None:
            self._connection.unwatch_close(leave)
            try:
                self._connection.begin(leave())
            except Unanswered:  # closed, and this was done
                pass


async def _remove(connection: Connection, pull: Pull, verb: str) -> None:
    await pull.leave()
    if pull.failure != DELETED and connection.client.is_connected:
        await connection.client.publish(connection.subject_of_api(verb))


def _replicas(config: dict[str, Any]) -> int:
    """On how many servers a consumer is that may be lost: on one, where the stream lets it."""
    return 1 if config["retention"] == "limits" else int(config["num_replicas"])

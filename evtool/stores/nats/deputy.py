"""Committing for a process that gives events out and does not know what becomes of them: `subscribe --manual`.

JetStream takes an acknowledgement from anybody who can name the event, so the far end of the pipe sends them, also
when the near end has long come to its own.
"""

from __future__ import annotations

from evtool.errors import ConditionError
from evtool.log.ranges import Ranges
from evtool.stores.nats.acks import Acks
from evtool.stores.nats.consumer import Durable
from evtool.stores.nats.register import Record, Register
from evtool.stores.nats.standing import existing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evtool.stores.nats.connection import Connection
    from evtool.stores.nats.who import Answer


class NatsDeputy:
    """Commits for one member of a group; see `evtool.stores.protocol.Deputy`. Raises NotFoundError."""

    def __init__(self, connection: Connection, topic: str, group: str, member: str) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._member = member
        self._consumer = Durable(connection, topic, group)
        self._register = Register(connection)
        found = connection.run(existing(connection, topic, group))
        self._seeks = found.record.seeks
        self._first = found.first
        self._committed = found.committed or 0
        self._synced = self._committed
        self._acks = Acks(connection, self._consumer)

    @property
    def committed(self) -> int:
        """What the group has committed."""
        return self._committed

    def commit(self, offset: int) -> None:
        """Everything before `offset` is handled. Raises ConditionError if another one consumes for the group by now."""
        self._check(self._connection.run(self._read()))
        self._acknowledge(offset)

    def finish(self) -> None:
        """What the member has given out is handled, if it has come to a good end. Durable on return."""
        given = self._check(self._connection.run(self._read())).get("given")
        if given is not None:
            self._acknowledge(int(given))
        self.sync()

    def sync(self) -> None:
        """Return when the acknowledgements have arrived, and the record says the same."""
        if self._committed > self._synced:
            self._connection.run(self._sync())
            self._synced = self._committed

    def _acknowledge(self, offset: int) -> None:
        if offset > self._committed:
            start = max(self._committed, self._first)
            self._acks.add(self._consumer.ack_of(sequence) for sequence in range(start + 1, offset + 1))
            self._committed = offset

    async def _sync(self) -> None:
        await self._acks.confirm()
        info = await self._consumer.info()
        if info is not None and self._first <= info.floor < self._committed:
            # Delivered anew to a process that had lost its connection: it was not to be acknowledged for a moment.
            self._acks.add(self._consumer.ack_of(one) for one in range(info.floor + 1, self._committed + 1))
            await self._acks.confirm()

        def say(record: Record) -> bool:
            if record.seeks != self._seeks or self._member not in record.members:
                return False
            record.take_in(self._committed, Ranges())
            return True

        await self._register.update(self._topic, self._group, say)

    async def _read(self) -> Record:
        record, _ = await self._register.read(self._topic, self._group)
        return record

    def _check(self, record: Record) -> Answer:
        member = record.members.get(self._member)
        if member is None or record.seeks != self._seeks:  # who consumes by now has taken it out
            raise ConditionError(
                f"{self._topic}, group {self._group}",
                "another process consumes for the group by now; nothing more was committed for it",
                hint="what this pipe still had comes again, over there",
            )
        return member

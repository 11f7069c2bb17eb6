"""What a store is: the few methods on which delivery and the commands stand, whatever keeps the events.

    Store ─ topic(name) ─→ Topic ─ writer() ──────→ Writer        append, sync
      │                      ├──── reader(offset) ─→ Reader        read, again and again
      └─ watch(topics) ──→ Watch  └── group(name) ──→ Group        acquire, join, read, handle, sync
                                                     └ share() ─→ Share

There are two: `evtool.stores.file`, the default and the reference, and `evtool.stores.nats`. What they cannot make
equal is told by `Capabilities`, and in evtool-nats(7).

A group's delivery is a line that its reader, or its share, gives out. It is held from then on for as long as the
process lives, which the store sees to, and ends by `handle` or `commit`. They take ranges of offsets, not deliveries
one by one: at 100,000 events a second an object for each would cost more than the store. What was not handled when
the group is released, others get; trying again, and giving up, is the business of `evtool.delivery`.
"""

from __future__ import annotations

from evtool.log.offsets import ALONE as ALONE
from evtool.log.offsets import MANUAL as MANUAL
from evtool.log.offsets import SHARED as SHARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from evtool.log.check import Problem
    from evtool.log.offsets import Member
    from evtool.log.ranges import Ranges
    from evtool.log.state import Change

    OnMissed = Callable[[int, int], None]  # told the first and the last offset of events that are gone, unread

    class Store(Protocol):
        """Topics by name. Methods that take a name raise UsageError for what cannot be one."""

        @property
        def capabilities(self) -> Capabilities:
            """What this store promises beyond what all do."""

        def topics(self) -> list[str]:
            """The names of all topics, sorted."""

        def has(self, topic: str) -> bool:
            """Whether the topic exists."""

        def topic(self, topic: str) -> Topic:
            """A topic that exists. Raises NotFoundError, with the nearest name that does."""

        def ensure_topic(self, topic: str) -> Topic:
            """The same; one that is missing is made, at the latest by its first append."""

        def create(self, topic: str, chosen: Mapping[str, Any]) -> Settings:
            """Make a topic with these settings, or none at all. Raises ConditionError if it is there already."""

        def remove_topic(self, topic: str) -> None:
            """Remove a topic with all that is in it. Raises NotFoundError."""

        def watch(self, topics: Iterable[str], wake: int | None = None, *, new_topics: bool = False) -> Watch:
            """What waits for more in these topics and, with `new_topics`, for topics that are made or removed.

            wake: a descriptor that ends a wait when it can be read.
            """

        def persist(self) -> None:
            """Wait from now on for what does not answer as long as it takes, and say so: who follows has time."""

        def hurry(self) -> None:
            """The program was told to stop: wait no longer than a moment for what does not answer."""

        def close(self) -> None:
            """Let go of what is held open; whatever came from this store is of no use then."""

        @property
        def known_settings(self) -> Mapping[str, tuple[str | tuple[str, ...], float | str | None]]:
            """Every setting of a topic by name: its unit, or the words that it may be, and the default."""

    class Topic(Protocol):
        """One topic. Methods raise NotFoundError if it has been removed."""

        name: str

        def identity(self) -> str:
            """HOST:ID, the same for as long as this log exists, wherever it is kept, and that of no other log."""

        def writer(self) -> Writer:
            """What appends to it."""

        def reader(self, offset: int, on_missed: OnMissed | None = None) -> Reader:
            """A cursor, from `offset` on."""

        def bounds(self) -> Bounds:
            """Where it begins and ends."""

        def offset_at(self, moment: bytes) -> int:
            """The offset of the first event at or after `moment` (27 bytes, as in a line); else the next's."""

        def offset_back(self, count: int) -> int:
            """The offset of the event that is `count` before the end, or of the earliest if there are fewer."""

        def time_at(self, offset: int) -> bytes | None:
            """The time of the event with this offset, or of the next one there is; None at the end."""

        def line_at(self, offset: int) -> bytes | None:
            """The line of the event with this offset; None if there is none."""

        def newest_of_each(self, until: int | None) -> Iterator[bytes]:
            """The newest event of each key before an offset, or of all there are, as blocks of whole lines."""

        def newest_of(self, key: bytes, until: int | None) -> bytes | None:
            """The newest event of a key (a JSON string) before an offset; None if there is none, or a null."""

        def changes(self, since: int, until: int | None, key: bytes | None = None) -> Iterator[Change]:
            """The keys whose state is not the same before two offsets, the second of them maybe the end."""

        def settings(self) -> Settings:
            """Its settings."""

        def set(self, changes: Mapping[str, Any]) -> Settings:
            """Change settings, None back to the default, and return them all. Raises ConfigurationError."""

        def trimming(self, before: int | None) -> Trimming:
            """What `trim` would take away."""

        def trim(self, before: int | None) -> Trimming:
            """Remove the oldest events: those before an offset, or what its own limits do not allow."""

        def losers(self, before: int) -> dict[str, int]:
            """The groups that have not handled all before an offset, and how many events each would lose."""

        def verify(self, progress: Callable[[int], None] | None = None, seal: str | None = None) -> Report:
            """Whether all of it is what it should be. progress: told of bytes looked at."""

        def groups(self) -> list[str]:
            """The groups that consume it, sorted."""

        def group(self, group: str) -> Group:
            """A group, to consume for it. Nothing is locked or written yet."""

        def standing(self, group: str) -> Standing:
            """How a group stands. Raises NotFoundError, with the nearest name that does exist."""

        def seek(self, group: str, offset: int) -> None:
            """Let a group begin anew at `offset`, whoever consumes for it. Raises NotFoundError."""

        def call_again(self, group: str, offsets: Ranges) -> None:
            """Let a group get these events again. Raises NotFoundError."""

        def deputy(self, group: str, member: str) -> Deputy:
            """What commits for a member of a group that does not do so itself. Raises NotFoundError."""

        def remove_group(self, group: str, *, force: bool = False) -> None:
            """Forget a group. Raises NotFoundError, or BusyError if it is in use, unless by `force`."""

    class Bounds(Protocol):
        """first: the earliest offset that is left. next: what the next event will get. count: events in between.

        last_time: the time of the newest event (27 bytes), or None. size: bytes.
        """

        first: int
        next: int
        last_time: bytes | None

        @property
        def count(self) -> int:
            """How many events there are; where offsets may have gaps, at most so many in the file log."""

        @property
        def size(self) -> int:
            """Bytes of all that is kept."""

    class Writer(Protocol):
        """Appends to one topic."""

        name: str

        @property
        def limit(self) -> int:
            """The most bytes that the data of one event may have. A store may have to ask for it."""

        def takes(self, size: int) -> bool:
            """Whether data of so many bytes may be stored, as far as that is known without asking."""

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
            """Store events in order and return the offset of each. Acknowledged only after `sync`.

            bodies, common: see `evtool.log.line`. ids: an event whose id is there already is not stored again; the
            offset of the first one is its answer. tokens: in their place, of an event that may have been sent before,
            by a process that was killed; a store in which that could still arrive does not store it twice.
            expect: store only if this is the next offset, else ConditionError.
            timeout: seconds to wait for others, then BusyError. on_wait: called once if there is something to wait for.

            Raises PartialAppendError if only the first ones could be stored, UnknownOutcomeError if nobody knows of
            some, DataError for an event that can never be stored.
            """

        def append_whole(
            self,
            batches: Iterable[Sequence[bytes]],
            common: bytes = b"",
            *,
            expect: int | None = None,
            timeout: float | None = None,
            on_wait: Callable[[], None] | None = None,
        ) -> Sequence[int]:
            """Store all events of all batches or none; return their offsets. Durable on return."""

        def sync(self) -> None:
            """Make everything that was appended through this durable, as the store understands that."""

        def waits_for(self) -> str | None:
            """What an append that does not come back is waiting for, in words; None if it is not to be told."""

    class Reader(Protocol):
        """A cursor over events. `next_offset` is the least offset that the next line may have."""

        next_offset: int

        def read(self, limit: int = ...) -> bytes:
            """The next lines, about `limit` bytes of them but at least one; empty at the end of what there is."""

        def send(self, out: int, until: int | None = None) -> int:
            """Copy the next lines to a descriptor; return how many bytes, 0 at the end. `until`: an offset."""

        def is_gone(self) -> bool:
            """Whether the topic was removed, or made anew, since."""

    class Watch(Protocol):
        """Tells of changes since the last `wait`."""

        @property
        def fd(self) -> int | None:
            """A descriptor that can be read when there was a change; None if there is none."""

        def add(self, topic: str) -> None:
            """Watch one more topic."""

        def wait(self, timeout: float | None = None) -> bool:
            """Wait for a change, at most so many seconds; say whether there may have been one."""

    class Group(Protocol):
        """One group of one topic, consumed for by the process that has acquired it or, shared, by several."""

        name: str
        topic: str

        @property
        def member(self) -> str:
            """Under which name this process is known in it; empty before it is acquired."""

        def try_acquire(self, mode: str = ..., command: str = "") -> bool:
            """Become the one that consumes (ALONE, MANUAL), or one of several (SHARED); say whether that was so."""

        def release(self) -> None:
            """Let others consume, and have what was not handled."""

        @property
        def committed(self) -> int | None:
            """The offset of its next event; None if it is new. Raises ConditionError if the log was put back."""

        @property
        def state(self) -> State:
            """What is known of it as of the last look."""

        def join(self, start: int) -> int:
            """Say who consumes from now on, and where: at `start` if the group is new. Returns where. Raises Moved."""

        def reader(self, offset: int, on_missed: OnMissed | None = None) -> Reader:
            """Its events from where it has joined, which are held for this process once they are given out."""

        def share(self, offset: int, wants: Callable[[bytes], bytes], on_missed: OnMissed, seconds: float) -> Share:
            """Our part of a group that shares. wants: which of some whole lines are wanted. seconds: of a lease."""

        def commit(self, offset: int) -> None:
            """Everything before `offset` is handled. Durable after `sync`. Raises Moved."""

        def handle(self, handled: Ranges) -> None:
            """These offsets are handled. Durable after `sync`. Raises Moved."""

        def say(self, **fields: str) -> None:
            """Say something else as this member: `given`, the offset before which a MANUAL one has given out all."""

        def say_doing(self, doing: str) -> None:
            """Say what this member does, in words. Raises Moved."""

        def look(self) -> None:
            """Take in what others have said of the group. Raises Moved, NotFoundError if it was removed."""

        def sync(self) -> None:
            """Make the commits durable, as the store understands that."""

        @property
        def has_lapsed(self) -> bool:
            """Whether events were not kept for it, as it was away for too long."""

    class State(Protocol):
        """What is known of a group: its next offset, what is handled above that, and what is to come again."""

        committed: int | None
        handled: Ranges
        again: Ranges

    class Share(Protocol):
        """One member's part of a group that several processes share."""

        @property
        def group(self) -> Group:
            """The group."""

        @property
        def is_drained(self) -> bool:
            """Whether there was nothing left, for anybody, at the last look."""

        @property
        def count(self) -> int:
            """How many unhandled events there were at the last look, ours and those of others."""

        def take(self, limit: int) -> list[bytes]:
            """Lease some more events, at most so many; their lines. Raises Moved."""

        def handle(self, handled: Ranges) -> Ranges:
            """These are handled; returns those that are ours no more and were refused. Raises Moved."""

        def renew(self, held: Ranges) -> Ranges:
            """Hold on to what we have; returns those that are ours no more. Raises Moved."""

        def leave(self) -> None:
            """Let others have what is leased and not handled."""

        def is_gone(self) -> bool:
            """Whether the topic was removed."""

    class Deputy(Protocol):
        """Commits in place of a member that gives events out and does not know what becomes of them."""

        @property
        def committed(self) -> int:
            """What the group has committed."""

        def commit(self, offset: int) -> None:
            """Everything before `offset` is handled. Raises ConditionError if another one consumes by now."""

        def finish(self) -> None:
            """All that the member has given out is handled, if it has come to a good end. Durable on return."""

        def sync(self) -> None:
            """Make the commits durable."""

    class Settings(Protocol):
        """What may differ from topic to topic."""

        def values(self) -> dict[str, Any]:
            """All settings by their names."""

    class Trimming(Protocol):
        """What a trim takes away: the events from `first` to `end` - 1. None is what a store does not tell."""

        first: int
        end: int

        @property
        def count(self) -> int:
            """How many there are; where offsets may have gaps, at most so many in the file log."""

        @property
        def segments(self) -> int | None:
            """In how many segments they are."""

        @property
        def size(self) -> int | None:
            """In how many bytes."""

    class Report(Protocol):
        """What `verify` found; see `evtool.log.verify.Report`. None where a store has no such thing."""

        events: int
        size: int
        seal: str | None
        confirmed: int
        trimmed: int

        @property
        def segments(self) -> int | None:
            """How many there are."""

        @property
        def sealed(self) -> int | None:
            """How many of them have a good seal."""

        @property
        def problems(self) -> Sequence[tuple[str, Problem]]:
            """What is wrong, and where: the path of a file, or a stream."""


LAGGING = "lagging"  # the kind of a problem that is not one of what is stored: a copy of it is away, or behind


class Capabilities:
    """What one store promises and another does not.

    kind: "file" or "nats".
    has_gapless_offsets: whether events appended one after another have offsets one after another.
    atomic_limit: how many events `append_whole` takes at most; None for any number.
    dedupe: for how many seconds an id keeps another one out, unless the topic says otherwise.
    is_synced: whether an acknowledged event is on disk; else the server decides that.
    stamped_by: who says the time of an event, "producer" or "server".
    keeps_keys_apart: whether events with the same key keep their order when several processes share a group.
    is_local: whether takeovers and removals are seen at once, at no cost, and not after seconds.
    longest_stall: for how many seconds everything may stand still while nothing is wrong for good.
    """

    __slots__ = (
        "atomic_limit",
        "dedupe",
        "has_gapless_offsets",
        "is_local",
        "is_synced",
        "keeps_keys_apart",
        "kind",
        "longest_stall",
        "stamped_by",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        *,
        has_gapless_offsets: bool,
        atomic_limit: int | None,
        dedupe: float,
        is_synced: bool,
        stamped_by: str,
        keeps_keys_apart: bool,
        is_local: bool,
        longest_stall: float,
    ) -> None:
        self.kind = kind
        self.has_gapless_offsets = has_gapless_offsets
        self.atomic_limit = atomic_limit
        self.dedupe = dedupe
        self.is_synced = is_synced
        self.stamped_by = stamped_by
        self.keeps_keys_apart = keeps_keys_apart
        self.is_local = is_local
        self.longest_stall = longest_stall


class Standing:
    """How a group stands.

    committed: the offset of its next event. handled: what is handled above that, as far as it is told.
    lag: events that it has not handled. waiting: the offset of the oldest of them.
    is_active: whether a process consumes for it. members: those that do, or did last.
    pace: events a second by which it has gained on its topic lately; None if that is not known.
    """

    __slots__ = ("committed", "handled", "is_active", "lag", "members", "pace", "waiting")

    def __init__(
        self,
        committed: int,
        *,
        handled: Ranges,
        lag: int,
        waiting: int,
        is_active: bool,
        members: Sequence[Member],
        pace: float | None,
    ) -> None:
        self.committed = committed
        self.handled = handled
        self.lag = lag
        self.waiting = waiting
        self.is_active = is_active
        self.members = members
        self.pace = pace

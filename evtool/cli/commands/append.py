"""evtool append: events from arguments or from standard input into a topic."""

from __future__ import annotations

import os

from evtool.cli import home
from evtool.errors import (
    BusyError,
    DataError,
    EvtoolError,
    PartialAppendError,
    StorageError,
    SyncError,
    UnknownOutcomeError,
    UsageError,
)
from evtool.log import line, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evtool.cli.argv import Args
    from evtool.cli.encode import Encoder
    from evtool.stores.protocol import Writer

_NOTICE_SECONDS = 2


def run(args: Args) -> int:
    """Store the events and acknowledge them, in this order, with a sync in between."""
    _check_usage(args)
    from_input = not args.events or args.events == ["-"]
    if not args.events and os.isatty(0):
        raise UsageError(
            "append",
            "no events: standard input is a terminal",
            hint="pipe events in, give them as arguments, or say - to type them",
        )
    patience = _duration(args.timeout) or 0.0
    log = home.open_home(args, create=True, patience=patience).ensure_topic(args.topic).writer()
    appender = Appender(args, log)
    if from_input:
        from evtool.cli import intake

        return intake.run(args, appender)
    bodies, ids = _encode_arguments(appender, args.events)
    if args.atomic and len(bodies) > 1:
        appender.store_whole([bodies])
    else:
        appender.store(bodies, ids)
    appender.acknowledge()
    if args.verbose:
        home.note(appender.summary())
    return 0


def _encode_arguments(appender: Appender, events: list[str]) -> tuple[list[bytes], list[str | None] | None]:
    """The bodies and ids of the events. Raises the DataError of the first bad one, with its place: all or none."""
    bodies: list[bytes] = []
    ids: list[str | None] = []
    for number, event in enumerate(events, 1):
        try:
            body, event_id = appender.encode(event)
        except DataError as error:
            raise DataError(f"{appender.log.name}: event {number}", error.why) from None
        bodies.append(body)
        ids.append(event_id)
    return bodies, appender.ids(ids)


def _check_usage(args: Args) -> None:
    if args.id is not None and args.id_from is not None:
        raise UsageError("append", "--id and --id-from exclude each other")
    if args.key is not None and args.key_from is not None:
        raise UsageError("append", "--key and --key-from exclude each other")
    if args.text and (args.cloudevents or args.key_from or args.id_from):
        raise UsageError("append", "--text has no fields for --cloudevents, --key-from or --id-from")
    if args.expect_offset is not None and args.expect_offset < 0:
        raise UsageError("append", "--expect-offset is below 0")
    if args.atomic and (args.id is not None or args.id_from is not None or args.cloudevents):
        raise UsageError("append", "--atomic cannot leave out what is already there: --id, --id-from and --cloudevents")
    if args.id is not None and len(args.events) > 1:
        raise UsageError("append", "--id is for one event", hint="--id-from takes each event's own")


class Appender:
    """Stores events of one command in one topic and prints the offsets that are safe."""

    def __init__(self, args: Args, log: Writer) -> None:
        self._args = args
        self.log = log
        self.common = _attributes(args)
        self.stored = 0
        self._expect: int | None = args.expect_offset
        self._timeout = _duration(args.timeout)
        self._unacknowledged: list[Sequence[int]] = []
        self._range: list[int] = []
        self._made_encoder: Encoder | None = None
        self.has_one_id = args.id is not None
        self.takes_attributes = bool(args.key_from or args.id_from or args.cloudevents)

    def encode(self, event: str) -> tuple[bytes, str | None]:
        """The body of an event given as text, and its id if it has one. Raises DataError."""
        body = payload.encode_string(event) if self._args.text else payload.check(event)
        if not self.log.takes(len(body)):
            raise DataError("event", f"longer than {self.log.limit} bytes")
        return self._encoder().encode(body) if self.takes_attributes else (body, self._args.id)

    def ids(self, ids: list[str | None]) -> list[str | None] | None:
        """The ids of events as they are to be stored: None if no event can have one."""
        has_ids = self.has_one_id or self._args.id_from is not None or self._args.cloudevents
        return ids if has_ids else None

    def _encoder(self) -> Encoder:
        """What takes attributes out of the events themselves."""
        if self._made_encoder is None:
            from evtool.cli.encode import Encoder

            self._made_encoder = Encoder(self._args.key_from, self._args.id_from, self._args.cloudevents)
        return self._made_encoder

    def store(self, bodies: Sequence[bytes], ids: Sequence[str | None] | None) -> None:
        """Append events. Raises what `TopicLog.append` raises, once what was stored is synced.

        A PartialAppendError counts all events since the beginning of the command.
        """
        try:
            offsets = self.log.append(
                bodies, self.common, ids=ids, expect=self._expect, timeout=self._timeout, on_wait=self._on_wait
            )
        except (PartialAppendError, UnknownOutcomeError) as error:
            self.acknowledge()
            raise self._in_all(error) from error
        except EvtoolError as error:
            self.acknowledge()
            if self.stored and isinstance(error, (StorageError, BusyError)) and not isinstance(error, SyncError):
                raise self._after_some(error, len(bodies)) from error
            raise
        self._expect = None
        self._count(offsets)

    def store_whole(self, batches: Iterable[Sequence[bytes]]) -> None:
        """Append all events of a finite input, or none."""
        offsets = self.log.append_whole(
            batches, self.common, expect=self._expect, timeout=self._timeout, on_wait=self._on_wait
        )
        self._count(offsets)

    def acknowledge(self) -> None:
        """Make everything stored so far durable, unless that is not wanted, and print its offsets if that is."""
        if self._args.sync == "always":
            self.log.sync()
        if self._args.offsets:
            from evtool.cli.view import write

            for offsets in self._unacknowledged:
                write(b"".join(b"%d\n" % offset for offset in offsets))
        self._unacknowledged.clear()

    def summary(self) -> str:
        """What was stored, in words."""
        if not self._range:
            return f"{self.log.name}: stored no events"
        if self.stored == 1:
            return f"{self.log.name}: stored 1 event, offset {self._range[0]}"
        return f"{self.log.name}: stored {self.stored} events, offsets {self._range[0]} to {self._range[1]}"

    def _after_some(self, error: StorageError | BusyError, count: int) -> EvtoolError:
        """The error with which so many more events were refused, told of all since the beginning of the command."""
        stored, total, (first, last) = self.stored, self.stored + count, self._range
        if isinstance(error, StorageError):
            return PartialAppendError(self.log.name, error.why, stored=stored, total=total, first=first, last=last)
        stored_so_far = f"stored {stored} of {total} events, offsets {first} to {last}"
        return BusyError(self.log.name, f"{stored_so_far}: {error.why}", hint=error.hint)

    def _in_all(self, error: PartialAppendError | UnknownOutcomeError) -> EvtoolError:
        """The same error, told of all events since the beginning of the command."""
        if not self.stored:
            return error
        stored, total = self.stored + error.stored, self.stored + error.total
        first, last = self._range[0], error.last if error.stored else self._range[1]
        if isinstance(error, UnknownOutcomeError):
            return UnknownOutcomeError(
                self.log.name,
                error.reason,
                stored=stored,
                unknown=error.unknown,
                total=total,
                first=first,
                last=last,
            )
        return PartialAppendError(self.log.name, error.reason, stored=stored, total=total, first=first, last=last)

    def _count(self, offsets: Sequence[int]) -> None:
        if not offsets:
            return
        self.stored += len(offsets)
        self._range = [self._range[0] if self._range else offsets[0], offsets[-1]]
        if self._args.offsets:
            self._unacknowledged.append(offsets)

    def _on_wait(self) -> None:
        """Say who is in the way if the lock does not come soon."""
        if self._args.quiet or self._timeout is not None:
            return
        from evtool.cli import patience

        patience.explain_after(_NOTICE_SECONDS, self.log)


def _attributes(args: Args) -> bytes:
    """The attributes that all events of the command have, as the beginning of their bodies."""
    given = [(name, getattr(args, name)) for name in ("key", "type", "source", "id")]
    attributes = {name: value for name, value in given if value is not None}
    for one in args.attr:
        name, equals, value = one.partition("=")
        if name in line.RESERVED_ATTRIBUTES:
            raise UsageError(repr(one), f"{name} is a name of evtool's own")
        if not equals or not line.is_attribute_name(name):
            raise UsageError(repr(one), "not an attribute", hint="say NAME=VALUE, the name of 1 to 20 of a-z 0-9")
        if name in line.KNOWN_ATTRIBUTES:
            raise UsageError(repr(one), f"there is an option for that: --{name}")
        attributes[name] = value
    taken_from_events = args.key_from or args.id_from or args.cloudevents
    return payload.encode_attributes(attributes) + (b"" if taken_from_events else line.DATA)


def _duration(text: str | None) -> float | None:
    if text is None:
        return None
    from evtool.stores.where import duration

    return duration(text)

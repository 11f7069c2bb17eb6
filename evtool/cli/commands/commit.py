"""evtool commit: the far end of a pipe. What comes out of it is handled, and what was dropped on the way there too."""

from __future__ import annotations

import os
import time

import orjson

from evtool.cli import home
from evtool.delivery.stop import Stop
from evtool.errors import ConditionError, DataError, StorageError, UsageError
from evtool.log import files
from evtool.stores.protocol import MANUAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.stores.protocol import Deputy, Store

    Place = tuple[str, str, str]  # topic, group, member

_BLOCK = 1 << 16
_LONGEST_LINE = 64 << 20
_SYNC_SECONDS = 1.0
_HINT = "the filter must keep topic, evgroup, evmember and offset, one event a line: jq -c 'select(…)'"


def run(args: Args) -> int:
    """Commit as lines come in, to the end of the input."""
    if (args.topic is None) != (args.group is None):
        raise UsageError("commit", "a TOPIC and a --group go together")
    store = home.open_home(args)
    pipe = Pipe(store)
    if args.topic is not None:
        pipe.expect(args.topic, args.group)
    stop = Stop()
    stop.listen()
    stop.on_signal[id(store)] = lambda _number, _is_first: store.hurry()
    try:
        while not stop.is_set and (data := _read(stop)):
            pipe.take(data)
        if not stop.is_set:
            pipe.finish()
    finally:
        pipe.sync()
        if args.verbose:
            pipe.tell()
    if stop.signal_number is not None:
        from evtool.cli import border

        raise border.Ended(stop.signal_number)
    return 0


def _read(stop: Stop) -> bytes:
    """Some more of the input; nothing at its end, or when told to stop."""
    import select

    ready = select.select([0, stop.fd], [], [])[0]
    if 0 not in ready:
        return b""
    try:
        return os.read(0, _BLOCK)
    except OSError as error:
        raise StorageError("standard input", files.reason(error)) from error


class Pipe:
    """What has come through, and the groups for which it is committed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deputies: dict[Place, Deputy] = {}
        self._rest = b""
        self._lines = 0
        self._synced = time.monotonic()

    def expect(self, topic: str, group: str) -> None:
        """Nothing may come out of the pipe: this is the group at its other end. Raises ConditionError."""
        for member in self._store.topic(topic).standing(group).members:
            if member.mode == MANUAL:
                self._deputy((topic, group, member.name))
                return
        raise ConditionError(
            f"{topic}, group {group}", "nobody gives out its events to be committed", hint="subscribe with --manual"
        )

    def take(self, data: bytes) -> None:
        """Commit what these lines say. Raises DataError for one that did not come from `subscribe --manual`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise DataError(f"line {self._lines + 1}", "has no end")
        latest: dict[Place, int] = {}
        try:
            for text in lines:
                self._lines += 1
                if text.strip():
                    place, offset = self._parse(text)
                    latest[place] = max(offset + 1, latest.get(place, 0))
        finally:
            for place, offset in latest.items():
                self._deputy(place).commit(offset)
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self.sync()

    def finish(self) -> None:
        """The input has come to its end: what was dropped at the end is handled too."""
        if self._rest.strip():
            self.take(b"\n")
        for deputy in self._deputies.values():
            deputy.finish()

    def sync(self) -> None:
        """Make the commits durable."""
        for deputy in self._deputies.values():
            deputy.sync()
        self._synced = time.monotonic()

    def tell(self) -> None:
        """Say how far the groups are."""
        for (topic, group, _), deputy in self._deputies.items():
            home.note(f"{topic}: group {group} has committed offset {deputy.committed}")

    def _deputy(self, place: Place) -> Deputy:
        if place not in self._deputies:
            topic, group, member = place
            self._deputies[place] = self._store.topic(topic).deputy(group, member)
        return self._deputies[place]

    def _parse(self, text: bytes) -> tuple[Place, int]:
        event: Any = None
        try:
            event = orjson.loads(text)
            topic, group, member, offset = event["topic"], event["evgroup"], event["evmember"], event["offset"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise self._wrong() from None
        if not isinstance(offset, int) or not all(isinstance(one, str) for one in (topic, group, member)):
            raise self._wrong()
        return (topic, group, member), offset

    def _wrong(self) -> DataError:
        return DataError(f"line {self._lines}", "is no event that `subscribe --manual` gave out", hint=_HINT)

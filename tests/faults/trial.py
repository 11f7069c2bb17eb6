"""Whether a `Care` keeps its promises: what there is to see of a log, before, at every moment, and at the end."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from evtool.errors import NotFoundError
from evtool.stores import open_store
from tests.faults.care import AFTER
from tests.faults.history import Violation
from tests.faults.kill_at_call import copied, on
from tests.program import Program
from tests.topics import committed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from evtool.log.reader import Reader
    from evtool.stores.file import FileStore
    from tests.faults.care import Care, Event


def events(home: Path) -> list[Event]:
    """What a reader gets who begins now, as offsets and data; nothing if there is no topic."""
    store = _store(home)
    return [] if store is None else _events(_drain(store.topic("t").reader(0)))


def _store(home: Path) -> FileStore | None:
    try:
        store = open_store(str(home))
    except NotFoundError:
        return None
    return store if store.has("t") else None


def _drain(reader: Reader) -> bytes:
    blocks = []
    while block := reader.read():
        blocks.append(block)
    return b"".join(blocks)


def _events(seen: bytes) -> list[Event]:
    lines = seen.split(b"\n")
    if lines.pop() != b"":
        raise Violation(f"a torn line was given out: {seen[-80:]!r}")
    found = [_event(line) for line in lines]
    offsets = [offset for offset, _ in found]
    if offsets != sorted(set(offsets)):
        raise Violation(f"offsets do not rise: {offsets}")
    return found


def _event(line: bytes) -> Event:
    """Offset and data of a line; all of it as data if it is damaged."""
    try:
        return json.loads(line)["offset"], line.partition(b',"data":')[2][:-1].decode()
    except ValueError:
        return int(line[10 : line.index(b",")]), line.decode("utf-8", "replace")


class Outcome(NamedTuple):
    """All that a command can change, as it is seen from outside."""

    events: list[Event]
    settings: dict[str, Any]
    committed: int | None


def outcome(home: Path) -> Outcome:
    """What there is now."""
    settings = home / "topics/t/topic.json"
    chosen = json.loads(settings.read_bytes()) if settings.exists() else {}
    return Outcome(events(home), chosen, committed(Program(home)))


class Follower:
    """A reader that has read the first line before the command came, and goes on whenever `look` is called."""

    def __init__(self, home: Path) -> None:
        store = _store(home)
        self._reader = None if store is None else store.topic("t").reader(0)
        self._seen = b"" if self._reader is None else self._reader.read(1)

    def look(self) -> None:
        """See what there is by now."""
        if self._reader is not None:
            self._seen += _drain(self._reader)

    def check(self, end: list[Event], known: Iterable[Event]) -> None:
        """What it saw was there, in order; and it has missed nothing of what is still there at the end."""
        if self._reader is None:
            return
        self.look()
        seen = _events(self._seen)
        if invented := set(seen) - set(known):
            raise Violation(f"a reader saw what never was: {sorted(invented)}")
        if missed := set(end) - set(seen):
            raise Violation(f"a reader has missed {sorted(missed)}")


class Trial:
    """A care, and what it does if nothing comes in between. Each `victim` is then cut short, and looked at.

    program: may be one without a protection: it is that which is cut short, and which is run again.
    """

    def __init__(self, program: Program, care: Care) -> None:
        self.care = care
        self._program = program
        care.prepare(Program(program.home))
        self._before = outcome(program.home)
        self._said = self._constant(program.home)
        whole = self.victim(program.home.with_name("whole"))
        result = whole(*care.arguments)
        assert result.code == 0, result
        self._whole = outcome(whole.home)
        self._next = _append(Program(whole.home))
        remove(whole.home)

    def victim(self, place: Path) -> Program:
        """The program on a fresh copy of the topic's home."""
        return on(self._program, copied(self._program.home, place))

    def check_cut(self, home: Path, told: str) -> None:
        """Right after the command was cut short, having said this: nothing is lost, and readers see whole lines."""
        seen = events(home)
        if lost := set(self.care.keeps(self._before.events)) - set(seen):
            raise Violation(f"lost: {sorted(lost)}")
        known = {*self._before.events, *self._whole.events}
        if invented := set(seen) - known:
            raise Violation(f"invented: {sorted(invented)}")
        if self.care.atomic and seen not in (self._before.events, self._whole.events):
            raise Violation(f"done in part: {seen}")
        self._check_told(seen, told)
        self._check_treasure(home)
        if self._constant(home) != self._said:
            raise Violation(f"{self.care.constant} says something else now")

    def check_again(self, home: Path, told: str, follower: Follower) -> None:
        """Run the command again: it comes to its end, and all is as if it had done so the first time."""
        again = on(self._program, home)(*self.care.arguments)
        if again.code not in self.care.codes or (again.code and not again.err.startswith("evtool: ")):
            raise Violation(f"run again, it does not come to its end: {again}")
        now = outcome(home)
        if self.care.adds:
            self._check_told(now.events, told)
            self._check_told(now.events, again.out)
        elif now != self._whole:
            raise Violation(f"run again, it does not lead to {self._whole}, but to {now}")
        self._check_treasure(home)
        self._check_health(home, follower)

    def _check_health(self, home: Path, follower: Follower) -> None:
        """All is in order, the next event gets the next offset, and a reader that was there all the time sees it."""
        healthy = Program(home)
        verified = healthy("verify")
        if verified.code != 0:
            raise Violation(f"verify finds something: {verified}")
        follower.look()
        offset = _append(healthy)
        if offset < self._next or (offset > self._next and not self.care.adds):
            raise Violation(f"the next event got offset {offset}, not {self._next}")
        if self.care.followed:
            end = events(home)
            follower.check(end, {*self._before.events, *self._whole.events, *end})
        for command in self.care.then:
            if (further := healthy(*command)).code != 0:
                raise Violation(f"afterwards, {command} does not work: {further}")

    def _check_told(self, seen: list[Event], told: str) -> None:
        at = dict(seen)
        offsets = map(int, told[: told.rfind("\n") + 1].split()) if self.care.adds else ()
        for data, offset in zip(self.care.adds, offsets, strict=False):
            if at.get(offset) != data:
                raise Violation(f"lost: offset {offset}, which was acknowledged for {data}")

    def _check_treasure(self, home: Path) -> None:
        treasure = self.care.treasure
        paths = (home / "topics/t").rglob("*") if treasure else ()
        if treasure and not any(treasure in path.read_bytes() for path in paths if path.is_file()):
            raise Violation(f"the bytes {treasure!r} are gone")

    def _constant(self, home: Path) -> str:
        if not self.care.constant:
            return ""
        result = Program(home)(*self.care.constant)
        assert (result.code, result.err) == (0, ""), result
        return result.out


def _append(program: Program) -> int:
    result = program("append", "t", "--offsets", AFTER)
    if result.code != 0:
        raise Violation(f"nothing can be appended any more: {result}")
    return int(result.out)


def remove(home: Path) -> None:
    """Remove a home, if there is one."""
    if os.path.lexists(home):
        shutil.rmtree(home)

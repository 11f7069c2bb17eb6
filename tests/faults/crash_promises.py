"""What a topic must still be after a power cut, whatever state it left: the checks of crash states, in memory.

The checker reads the files by itself and knows what the program had said before the cut: offsets that it printed, and
that a command ended well. Of each state it demands:

- Every acknowledged event is there under its offset; offsets follow one upon the other, from segment to segment too;
  no event is there twice; every line is one that was written, byte by byte. Only before the first event there may be
  a gap, if the log was being trimmed; a log that was compacted may lack what is not the newest of its key.
- A torn line stands at the end of the last segment only. What is behind the last newline does not count: whoever
  appends next cuts it. A complete line that is no event (NUL bytes where its beginning should be) is damage, which
  evtool never mends unasked. It may be there only where nothing that was acknowledged stands behind it.
- The settings are those before or those after, whole. Once the command has ended they are those after.
- A group's committed offset is not behind what was acknowledged, nor beyond the end of the log that is on disk; and
  not before its beginning, if the log keeps what is not consumed.
- A segment for which seals count is there, and one of them is its digest (while it is replaced there are two). The
  chain is whole, but for its last entry, which does not count if it is torn. A seal may be missing.
- Bytes that were damaged before still stand somewhere: in their segment or among those that were put aside.

That a segment which is not the last one is not marked as sealed is no damage: `evtool repair` marks it.
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.history import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.crash_disk import Disk, File, State
    from tests.faults.crash_trace import Command, Operation

TOPIC = "home/topics/t"
_SETTINGS = f"{TOPIC}/topic.json"
_SUMS = f"{TOPIC}/SHA256SUMS"
_SEGMENT = re.compile(rf"{TOPIC}/([0-9]{{20}})\.jsonl")
_COMMITS = re.compile(rf"{TOPIC}/consumers/([a-z0-9]+)\.jsonl")
_EVENT = re.compile(rb'\{"offset":([0-9]+),"time":"[0-9TZ:.-]{27}",(?:"[a-z]+":"[^"]*",)*"data":.*\}\n')
_KEY = re.compile(rb',"key":"([^"]*)"')
_ENTRY = re.compile(rb"([ #])([0-9a-f]{64})  ([0-9]+\.[a-z]+)\n# seal ([0-9a-f]{64})\n")
_ENTRY_LENGTH = 1 + 64 + 2 + 26 + 1 + 7 + 64 + 1


class Segment(NamedTuple):
    """What is in a segment: the offsets of its events, up to the first damaged line. has_rest: bytes of a torn one."""

    offsets: list[int]
    missing: frozenset[int]
    is_damaged: bool
    has_rest: bool


class Found(NamedTuple):
    """What a state holds, as far as whoever opens it is to find the same.

    lines: all complete lines that are events, in order. end: the next offset. is_damaged: whether a line is none.
    committed: by group; None if its file cannot be read.
    """

    lines: bytes
    end: int
    is_damaged: bool
    committed: dict[str, int | None]


class Promises:
    """What was promised, at one place of a recording; `advance` goes to the next one."""

    def __init__(self, disk: Disk, commands: Sequence[Command], lines: dict[bytes, int]) -> None:
        """disk: as it is before. lines: all events that ever stand in the topic, each with its offset."""
        self.lines = lines
        self.highest = -1  # the last offset that was acknowledged
        self.damage: list[bytes] = []  # what was no event before
        self.compacts = any("compact" in one.arguments for one in commands)
        self._commands = commands
        self._keys = _newest(lines)
        self._first_sure = self._first_possible = 0
        self._settings: list[bytes | None] = []
        self._committed: dict[str, int] = {}
        state = disk.live()
        self._altered = set()  # all bytes of the segments in which that is
        for _, file in segments(state):
            damage = [one for one in file.data.split(b"\n") if one and one + b"\n" not in lines]
            self.damage += damage
            if damage:
                self._altered.add(file.data)
        self._begin(state)
        there = {offset for _, file in segments(state) for offset in self._parse(file).offsets}
        end = self.highest + 1 + len(self.damage)  # as far as offsets may have been given away
        self.gaps = frozenset(range(self._first_sure, end)) - there  # those that are missing before

    def advance(self, operation: Operation, disk: Disk) -> bool:
        """Go behind an operation, which is done to the disk; say whether more is promised now."""
        kind = operation.kind
        if kind == "told":
            offsets = [int(one) for one in operation.data.split(b"\n") if one.isdigit()]
            before, self.highest = self.highest, max([self.highest, *offsets])
            return self.highest > before
        state = disk.live()
        self._let_go_back(state)
        if kind == "done":
            command = self._commands[operation.at]
            self._begin(state, stored=command.syncs, trimmed="trim" in command.arguments)
            return True
        settings = _settings(state)
        if settings not in self._settings and (settings is None or _is_json(settings)):
            self._settings.append(settings)
        if kind == "unlink":
            self._first_possible = _first(state)
        return False

    def _let_go_back(self, state: State) -> None:
        """A group that is moved back may stand where it stood or where it will."""
        for group, least in self._committed.items():
            now = committed(state.files[f"{TOPIC}/consumers/{group}.jsonl"])
            self._committed[group] = least if now is None else min(least, now)

    def _begin(self, state: State, *, stored: bool = True, trimmed: bool = True) -> None:
        """From now on what a program sees is promised: what is stored, and that what was trimmed does not come back."""
        self._settings = [_settings(state)]
        for path, file in state.files.items():
            if match := _COMMITS.fullmatch(path):
                self._committed[match[1]] = committed(file) or 0
        if stored:
            there = [offset for _, file in segments(state) for offset in self._parse(file).offsets]
            self.highest = max([self.highest, *there])
        if trimmed:
            self._first_sure = self._first_possible = _first(state)

    def check(self, state: State) -> Found:
        """Check a state and return what is in it. Raises Violation."""
        found = self._check_log(state)
        self._check_settings(state)
        self._check_groups(state, found)
        if _SUMS in state.files:
            self._check_sums(state, state.files[_SUMS])
        if self.damage:
            self._check_kept(state)
        return found

    def _check_log(self, state: State) -> Found:
        there = segments(state)
        if not there and self.highest >= 0:
            raise Violation("lost: all of the log")
        if there and not self._first_sure <= there[0][0] <= self._first_possible:
            raise Violation(f"the log begins at {there[0][0]}: not from {self._first_sure} to {self._first_possible}")
        end, is_damaged = there[0][0] if there else 0, False
        for number, (first, file) in enumerate(there, 1):
            if not self._may_follow(end, first):
                raise Violation(f"the segment {first} comes after the offset {end - 1}")
            segment = self._parse(file)
            self._check_segment(first, segment)
            is_damaged = segment.is_damaged
            if number < len(there) and (is_damaged or segment.has_rest):
                raise Violation(f"the segment {first} is damaged or torn, and not the last one")
            end = segment.offsets[-1] + 1 if segment.offsets else first
        if end <= self.highest:
            raise Violation(f"lost: offsets {end} to {self.highest}, which were acknowledged")
        if self.compacts:
            self._check_newest(there)
        lines = b"".join(self._whole_lines(file) for _, file in there)
        return Found(lines, end, is_damaged, {})

    def _check_segment(self, first: int, segment: Segment) -> None:
        offsets = segment.offsets
        if offsets and not self._may_follow(first, offsets[0]):
            raise Violation(f"the segment {first} begins with the offset {offsets[0]}")
        if segment.missing and not self.compacts and not segment.missing <= self.gaps:
            raise Violation(f"the segment {first} lacks the offsets {sorted(segment.missing)}")

    def _may_follow(self, expected: int, offset: int) -> bool:
        """Whether an offset may stand where another one is expected."""
        return offset == expected or (
            offset > expected and (self.compacts or self.gaps.issuperset(range(expected, offset)))
        )

    def _check_newest(self, there: list[tuple[int, File]]) -> None:
        """Of each key the newest event that was acknowledged must be there."""
        offsets = {offset for _, file in there for offset in self._parse(file).offsets}
        for key, known in self._keys.items():
            newest = max((offset for offset in known if offset <= self.highest), default=None)
            if newest is not None and newest not in offsets:
                raise Violation(f"lost: offset {newest}, the newest event of the key {key!r}")

    def _parse(self, file: File) -> Segment:
        """What is in a segment. Raises Violation if it is in no order."""
        known = file.notes.get("segment")
        if known is None:
            known = file.notes["segment"] = self._parse_anew(file)
        return known

    def _parse_anew(self, file: File) -> Segment:
        *texts, rest = file.data.split(b"\n")
        offsets: list[int] = []
        is_damaged = False
        for text in texts:
            offset = self.lines.get(text + b"\n")
            if offset is not None:
                offsets.append(offset)
            elif text not in self.damage:
                is_damaged = True
                break
        if any(later <= earlier for earlier, later in pairwise(offsets)):
            raise Violation(f"these offsets stand one after the other: {offsets}")
        missing = frozenset(range(offsets[0], offsets[-1])).difference(offsets) if offsets else frozenset()
        return Segment(offsets, missing, is_damaged, bool(rest))

    def _whole_lines(self, file: File) -> bytes:
        known = file.notes.get("lines")
        if known is None:
            lines = (text + b"\n" for text in file.data.split(b"\n")[:-1])
            known = file.notes["lines"] = b"".join(line for line in lines if line in self.lines)
        return known

    def _check_settings(self, state: State) -> None:
        if _settings(state) not in self._settings:
            raise Violation(f"the settings are {_settings(state)!r}, and none of {self._settings}")

    def _check_groups(self, state: State, found: Found) -> None:
        for path, file in state.files.items():
            if match := _COMMITS.fullmatch(path) if "/consumers/" in path else None:
                found.committed[match[1]] = committed(file)
        for group, least in self._committed.items():
            stands = found.committed.get(group)
            if stands is None or stands < least:
                raise Violation(f"lost: the group {group} had committed {least}, and now {stands}")
        keeps_all = b'"consumed"' not in (_settings(state) or b"")
        for group, stands in found.committed.items():
            if stands is not None and stands > found.end:
                raise Violation(
                    f"the group {group} has committed {stands}, and the log on disk ends before {found.end}"
                )
            if not keeps_all and (stands or 0) < _first(state):
                raise Violation(f"the group {group} has committed {stands}, and the log begins at {_first(state)}")

    def _check_sums(self, state: State, sums: File) -> None:
        if "seals" not in sums.notes:
            sums.notes["seals"] = _parse_sums(sums.data)
        for name, digests in sums.notes["seals"].items():
            file = state.files.get(f"{TOPIC}/{name}")
            if file is None:
                raise Violation(f"{name} has a seal that counts, and is not there")
            if "digest" not in file.notes:
                file.notes["digest"] = hashlib.sha256(file.data).hexdigest().encode()
            if file.notes["digest"] not in digests and file.data not in self._altered:
                raise Violation(f"{name} is not what its seal says")

    def _check_kept(self, state: State) -> None:
        for bytes_ in self.damage:
            if not any(bytes_ in file.data for path, file in state.files.items() if path.startswith(TOPIC)):
                raise Violation(f"damaged bytes are gone, and were not put aside: {bytes_!r}")


def lines_of(data: bytes) -> dict[bytes, int]:
    """The events among these lines, each with its offset."""
    found = {}
    for text in data.split(b"\n")[:-1]:
        match = _EVENT.fullmatch(text + b"\n")
        if match is not None and _is_json(text):
            found[text + b"\n"] = int(match[1])
    return found


def segments(state: State) -> list[tuple[int, File]]:
    """The segments of the topic, each with the offset in its name."""
    return sorted(
        ((int(match[1]), file) for path, file in state.files.items() if (match := _SEGMENT.fullmatch(path))),
        key=lambda one: one[0],
    )


def committed(file: File) -> int | None:
    """What the last whole line of a group's file says that is a commit; None if there is none, and a line."""
    if "committed" not in file.notes:
        file.notes["committed"] = _committed(file.data)
    known: int | None = file.notes["committed"]
    return known


def _committed(data: bytes) -> int | None:
    for text in reversed(data.split(b"\n")[:-1]):
        if text.startswith(b'{"committed":') and _is_json(text):
            return int(json.loads(text)["committed"])
    return None


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _first(state: State) -> int:
    return min((first for first, _ in segments(state)), default=0)


def _settings(state: State) -> bytes | None:
    return state.files[_SETTINGS].data if _SETTINGS in state.files else None


def _newest(lines: dict[bytes, int]) -> dict[bytes, list[int]]:
    """The offsets of each key."""
    keys: dict[bytes, list[int]] = {}
    for line, offset in lines.items():
        if match := _KEY.search(line):
            keys.setdefault(match[1], []).append(offset)
    return keys


def _parse_sums(data: bytes) -> dict[str, set[bytes]]:
    """The digests that count, by segment. Raises Violation if the chain is broken."""
    found: dict[str, set[bytes]] = {}
    chain = b"0" * 64
    for position in range(0, len(data) - _ENTRY_LENGTH + 1, _ENTRY_LENGTH):
        match = _ENTRY.fullmatch(data, position, position + _ENTRY_LENGTH)
        if match is not None:
            chain = hashlib.sha256(b"%b\n%b  %b\n" % (chain, match[2], match[3])).hexdigest().encode()
        if match is None or match[4] != chain:
            if position + 2 * _ENTRY_LENGTH > len(data):  # the last one, which nobody has vouched for yet
                break
            raise Violation(f"the chain of seals is broken at byte {position}")
        if match[1] == b" ":
            found.setdefault(match[3].decode(), set()).add(match[2])
    return found

"""All states in which a power cut may leave a home while the real program works on it, replayed against a checker.

A scenario is recorded once, through the real command (`crash_trace`). Then, in memory, every state that a cut may
leave at any place of the recording (`crash_disk`) is held against what was promised until then (`crash_promises`);
where there are too many, random ones. Of some a real directory is made, on which the program goes on (`crash_reopen`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from evtool.stores import open_store
from tests.faults.crash_disk import Disk
from tests.faults.crash_promises import Promises, lines_of
from tests.faults.crash_reopen import reopen
from tests.faults.crash_trace import Command, Operation, record
from tests.faults.history import Violation
from tests.program import Program
from tests.topics import commits_file, moment, small_segments, write_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.crash_disk import State

STATES = 200_000  # of one recording, if there are so many
REOPENED = 400
ROUND_SECONDS = 10.0
_LONG = 240  # bytes of a file or an operation that a story shows


class Scenario(NamedTuple):
    """What is there before, made by `prepare`, and the commands that are recorded, in order."""

    prepare: Callable[[Program, Random], None]
    commands: Callable[[Random], list[Command]]


class Recording(NamedTuple):
    """What commands did to a directory. before: as it was."""

    name: str
    seed: int
    before: Disk
    commands: list[Command]
    operations: list[Operation]
    lines: dict[bytes, int]

    def disk(self) -> Disk:
        """A disk on which it can be done again."""
        return self.before.copy()


# What is there before


def nothing(_evtool: Program, _random: Random) -> None:
    pass


def some(evtool: Program, random: Random) -> None:
    """A few events."""
    _store(evtool, _events(random, "before", random.randint(1, 4)))


def segments(evtool: Program, random: Random, *, keys: int = 0, most: int = 6) -> None:
    """Several segments, all but the last of them sealed."""
    small_segments(evtool, "t", random.randint(200, 600))
    for number in range(random.randint(3, most)):
        key = f'"key":"k{random.randrange(keys)}",' if keys else ""
        _store(evtool, _events(random, f"before-{number}", random.randint(1, 4)), key)


def keyed(evtool: Program, random: Random) -> None:
    """Several segments with events of few keys."""
    segments(evtool, random, keys=3, most=9)


def torn(evtool: Program, random: Random) -> None:
    """A torn line at the end."""
    some(evtool, random)
    _append_bytes(evtool, b'{"offset":9,"time":"2026-11-24T00:00:00.000000Z","data":"torn'[: random.randint(5, 60)])


def damaged(evtool: Program, random: Random) -> None:
    """Several segments, and in one of them bytes of a line that are no event."""
    segments(evtool, random)
    path = random.choice(evtool.segments("t"))
    lines = path.read_bytes().splitlines(keepends=True)
    number = random.randrange(len(lines))
    lines[number] = lines[number][:30] + bytes(8) + lines[number][38:]
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(b"".join(lines))
    path.chmod(mode)


def limited(evtool: Program, random: Random) -> None:
    """Several segments, and a limit, so that the next one may cost the first."""
    segments(evtool, random)
    open_store(str(evtool.home)).topic("t").set({"max-events": random.randint(3, 8)})


def shut(evtool: Program, random: Random) -> None:
    """A log whose last segment bears the mark of a sync that failed."""
    segments(evtool, random)
    evtool.segments("t")[-1].chmod(0o400)


def consumed(evtool: Program, random: Random) -> None:
    """Several segments of a topic that keeps only what its group has not consumed."""
    segments(evtool, random)
    open_store(str(evtool.home)).topic("t").set({"retention": "consumed"})


def far_group(evtool: Program, random: Random) -> None:
    """A group that has consumed all."""
    some(evtool, random)
    write_commit(evtool, open_store(str(evtool.home)).topic("t").bounds().next)


def many_commits(evtool: Program, random: Random) -> None:
    """A group whose commit log is to be written anew with the next commits."""
    some(evtool, random)
    path = commits_file(evtool)
    path.parent.mkdir(mode=0o700)
    line = f'{{"committed":0,"time":"{moment(1e9)}"}}\n'
    path.write_text(line * ((65_536 - random.randint(0, 100)) // len(line)))
    path.chmod(0o600)


def torn_commit(evtool: Program, random: Random) -> None:
    """A group with a commit, and behind it a torn one."""
    some(evtool, random)
    write_commit(evtool, 0)
    with commits_file(evtool).open("a") as file:
        file.write('{"committed":1,"time":"2026-11-25T00'[: random.randint(1, 36)])


def _store(evtool: Program, events: list[str], key: str = "") -> None:
    """One append, made without the command, as it is not what is looked at."""
    log = open_store(str(evtool.home), create=True).ensure_topic("t").writer()
    log.append([event.encode() for event in events], f'{key}"data":'.encode())
    log.sync()


def _append_bytes(evtool: Program, data: bytes) -> None:
    with evtool.segments("t")[-1].open("ab") as segment:
        segment.write(data)


# What is recorded


def _append(*options: str) -> Callable[[Random], list[Command]]:
    return lambda random: [
        Command(["append", "t", "--offsets", *options, *_events(random, "new", random.randint(1, 5))])
    ]


def _stream(random: Random) -> list[Command]:
    """Batches, some with a pause for their sync behind them."""
    pieces = []
    for number in range(random.randint(3, 7)):
        pieces.append("".join(f"{one}\n" for one in _events(random, f"new-{number}", random.randint(1, 4))))
        pieces += [""] * (random.random() < 0.4)
    return [Command(["append", "t", "--offsets"], pieces)]


def _atomic(random: Random) -> list[Command]:
    lines = "".join(f"{one}\n" for one in _events(random, "new", random.randint(2, 6)))
    return [Command(["append", "t", "--offsets", "--atomic"], [lines])]


_CONSUME = Command(["subscribe", "t", "--group", "g", "--from", "earliest", "--drain", "--quiet"])


def _consume_unsynced(random: Random) -> list[Command]:
    return [Command(["append", "t", "--sync", "never", *_events(random, "new", random.randint(2, 4))]), _CONSUME]


def _trim(random: Random) -> list[Command]:
    return [Command(["trim", "t", "--before", f"-{random.randint(1, 5)}", "--yes"])]


def _set(random: Random) -> list[Command]:
    return [Command(["set", "t", f"segment-bytes={random.randint(200, 900)}", f"max-events={random.randint(50, 90)}"])]


def _command(*arguments: str) -> Callable[[Random], list[Command]]:
    return lambda _: [Command(arguments)]


SCENARIOS = {
    "first": Scenario(nothing, _append()),
    "several": Scenario(some, _append()),
    "stream": Scenario(segments, _stream),
    "first stream": Scenario(lambda evtool, random: small_segments(evtool, "t", random.randint(200, 600)), _stream),
    "long lines": Scenario(
        some, lambda random: [Command(["append", "t", "--offsets", *_events(random, "long", 3, 6000)])]
    ),
    "atomic": Scenario(some, _atomic),
    "first atomic": Scenario(nothing, _atomic),
    "heal": Scenario(torn, _append()),
    "heal, atomic": Scenario(torn, _atomic),
    "group": Scenario(some, lambda _: [_CONSUME]),
    "group, unsynced events": Scenario(some, _consume_unsynced),
    "group, events go when consumed": Scenario(consumed, lambda _: [_CONSUME]),
    "seek": Scenario(far_group, _command("seek", "t", "--group", "g", "--to", "earliest")),
    "group, torn commit": Scenario(torn_commit, lambda _: [_CONSUME]),
    "commits written anew": Scenario(many_commits, lambda _: [_CONSUME]),
    "trim": Scenario(segments, _trim),
    "retention": Scenario(limited, _stream),
    "set": Scenario(some, _set),
    "set again": Scenario(segments, _set),
    "create": Scenario(nothing, _command("create", "t", "max-events=100")),
    "repair": Scenario(damaged, _command("repair", "t", "--yes")),
    "repair a torn line": Scenario(torn, _command("repair", "t", "--yes")),
    "repair after a failed sync": Scenario(shut, _command("repair", "t", "--yes")),
    "compact": Scenario(keyed, _command("compact", "t", "--yes")),
}


def _events(random: Random, name: str, count: int, most: int = 120) -> list[str]:
    return [f'{{"by":"{name}","n":{number},"text":"{"x" * random.randrange(most)}"}}' for number in range(count)]


# Recording and replay


def make(name: str, seed: int, directory: Path, program: Callable[[Path], Program] = Program) -> Recording:
    """Record a scenario in an empty directory. program: what is recorded, if not evtool as it is."""
    random = Random(seed)
    scenario = SCENARIOS[name]
    scenario.prepare(Program(directory / "home"), random)
    before = Disk(directory)
    commands = scenario.commands(random)
    recorded = program(directory / "home")
    operations = [
        one for number, command in enumerate(commands) for one in record(recorded, directory, command, number)
    ]
    return Recording(name, seed, before, commands, operations, _all_lines(before.copy(), operations))


def _all_lines(disk: Disk, operations: list[Operation]) -> dict[bytes, int]:
    """Every event that at some time stood in a file of the topic, or was to."""
    lines = {}
    for file in disk.live().files.values():
        lines.update(lines_of(file.data))
    for operation in operations:
        disk.apply(operation)
        if operation.kind == "write" and ".jsonl" in operation.path:
            lines.update(lines_of(disk.live().files[operation.path].data))
    return lines


def replay(recording: Recording, *, states: int = STATES, reopened: int = REOPENED) -> Counter[str]:
    """Check about so many states of a recording, open some of them with the program, and count both."""
    random = Random(recording.seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=_fast()) as scratch:
        place = Path(scratch, "place")
        for step, promises, state in _cuts(recording, random, max(50, states // len(recording.operations))):
            counts["states"] += 1
            try:
                found = promises.check(state)
                if _is_chosen(counts["states"], states, reopened):
                    counts["reopened"] += 1
                    reopen(state, found, promises, place)
            except Violation as violation:
                raise Violation(_story(recording, step, state, violation)) from violation
    return counts


def _is_chosen(number: int, states: int, reopened: int) -> bool:
    """Whether a state is to be opened: some of the first ones, as there may be no more, and some of all."""
    return number <= reopened // 2 or (reopened > 0 and number % max(1, 2 * states // reopened) == 0)


def _cuts(recording: Recording, random: Random, share: int) -> Iterator[tuple[int, Promises, State]]:
    """The states after each operation, with what is promised by then; each once, unless more was promised meanwhile."""
    disk = recording.disk()
    promises = Promises(disk, recording.commands, recording.lines)
    for step, operation in enumerate(recording.operations):
        is_new = disk.apply(operation)
        is_promise = promises.advance(operation, disk)
        if is_new or is_promise:
            for state in disk.states(random, share, all_of_them=is_promise):
                yield step, promises, state


def _story(recording: Recording, step: int, state: State, violation: Violation) -> str:
    """What is to be known of a violation."""
    told = [f"{violation}", f"scenario {recording.name!r}, seed {recording.seed}; these were done:"]
    told += [f"  {str(one)[:_LONG]}" for one in recording.operations[: step + 1]]
    told += ["and this is left:"]
    for path, file in state.files.items():
        end = re.sub(rb"\0{9,}", lambda nul: b"<%d NUL>" % len(nul[0]), file.data)[-_LONG:]
        told += [f"  {path} {file.mode:o} {len(file.data)} bytes, the last ones: {end!r}"]
    return "\n".join(told)


def _fast() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def work(directory: Path, random: Random) -> Counter[str]:
    """One round of a few seconds: record scenarios and replay them; returns the counts of all."""
    counts: Counter[str] = Counter()
    place = Path(directory, "recorded")
    end = time.monotonic() + ROUND_SECONDS
    names = [*SCENARIOS]
    while time.monotonic() < end:
        place.mkdir(parents=True)
        try:
            counts += replay(make(random.choice(names), random.randrange(1 << 32), place))
            counts["recordings"] += 1
        finally:
            shutil.rmtree(place)
    return counts

"""Row 11, hostile input: each line is stored or refused as an oracle says, in little memory, and nothing crashes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.history import Violation
from tests.faults.hostile_files import CRASHED
from tests.faults.hostile_lines import Lines
from tests.faults.oracle import Event, Oracle, RefusedError
from tests.program import Program
from tests.topics import small_segments

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable
    from pathlib import Path

_LINES = 30_000  # of one process
_LIMIT, _HIGHEST_LIMIT = 3000, 1 << 20
_MEMORY = 64 << 20
OPTIONS: tuple[list[str], ...] = (
    [], ["-0"], ["--text"], ["--text", "-0"], ["--key-from", ".k"], ["--id-from", ".id"], ["--cloudevents"],
    ["--key-from", ".k", "--id-from", ".id", "-0"], ["--atomic"], ["--type", "t", "--attr", "a=\\\"%"],
)  # fmt: skip
_BAD = (0, 0.0005, 0.5)  # where few lines are bad, whole chunks are checked at once
# Starts a command and says what it has cost: one is charged with the memory of the process that starts it.
_LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print("\\nPEAK", usage.ru_maxrss << 10, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Fed(NamedTuple):
    """What the program made of its input: exit code, what it said, and the most memory that it had, in bytes."""

    code: int
    said: str
    peak: int


def work(directory: Path, random: random.Random) -> Counter[str]:
    """Feed one process many lines, with options that chance has chosen."""
    limit = random.choice((_LIMIT, _LIMIT, _LIMIT, _HIGHEST_LIMIT))
    return feed_lines(Program(directory / "home"), random, list(random.choice(OPTIONS)), limit, _LINES)


def feed_lines(program: Program, random: random.Random, options: list[str], limit: int, count: int) -> Counter[str]:
    """Feed a process so many lines and check what was stored and what was refused; return the counts."""
    small_segments(program, "t", 1 << 20)
    (program.topic("t") / "topic.json").write_text(f'{{"segment-bytes":1000000,"max-event-bytes":{limit}}}')
    delimiter = b"\0" if "-0" in options else b"\n"
    lines = Lines(random, delimiter, limit, random.choice(_BAD)).take(count)
    events, refused = _judge(Oracle(options, limit), lines)
    if "--atomic" in options and refused and random.random() < 0.5:
        lines = [one for one in lines if one not in set(refused)]
        refused = []
    rejects = program.home.with_name("rejects")
    end = random.choice((delimiter, b""))
    fed = feed(program, [delimiter.join(lines) + end], *options, "--rejects", str(rejects))
    if "--atomic" in options and refused:
        events = []
    _check_fed(fed, 65 if refused else 0)
    _check_stored(program.log("t"), events)
    kept = rejects.read_bytes() if rejects.exists() else b""
    if kept != b"".join(one + b"\n" for one in refused):
        raise Violation(f"what was refused was not kept as it was: {_difference(kept, refused)}")
    return Counter({"cases": len(lines), "refused": len(refused)})


def long_line(directory: Path, random: random.Random) -> Counter[str]:
    """A line of a gigabyte, which is made as it is read."""
    options = random.choice(([], ["--text"], ["--key-from", ".k"], ["--atomic"]))
    return feed_long_line(Program(directory / "home"), random, options, 1 << 30)


def feed_long_line(program: Program, random: random.Random, options: list[str], size: int) -> Counter[str]:
    """Feed a process a line of so many bytes, between two good ones."""
    block = bytes(random.choices(b'[{"x\\ \0\xff1,', k=1 << 20))
    blocks = [b"1\n", *[block] * (size >> 20), b"\n2\n"]
    _check_fed(feed(program, blocks, *options), 65)
    good = [Event({}, None, text) if options == ["--text"] else Event({}, text.encode()) for text in ("1", "2")]
    _check_stored(program.log("t"), [] if options == ["--atomic"] else good)
    return Counter({"cases": 1, "long lines": 1})


def feed(program: Program, blocks: Iterable[bytes], *options: str) -> Fed:
    """Let `append` read these blocks from a pipe."""
    command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *program.command("append", "t", *options)]
    environment = program.environment({})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with process.stdin as pipe:
                for block in blocks:
                    pipe.write(block)
        except BrokenPipeError:
            pass
        said, _, peak = process.stderr.read().decode("utf-8", "replace").rpartition("\nPEAK ")
    return Fed(process.returncode, said, int(peak))


def _judge(oracle: Oracle, lines: list[bytes]) -> tuple[list[Event], list[bytes]]:
    events, refused = [], []
    for one in lines:
        try:
            event = oracle.judge(one)
        except RefusedError:
            refused.append(one)
        else:
            if event is not None:
                events.append(event)
    return events, refused


def _check_fed(fed: Fed, code: int) -> None:
    if any(one in fed.said for one in CRASHED) or fed.code != code:
        raise Violation(f"it ended with {fed.code} instead of {code} and said: {fed.said[-2000:]}")
    if fed.peak > _MEMORY:
        raise Violation(f"it had {fed.peak >> 20} MB of memory")


def _check_stored(log: bytes, events: list[Event]) -> None:
    """Check that just these events are in the log."""
    lines = log.split(b"\n")[:-1]
    for offset, (text, event) in enumerate(zip(lines, events, strict=False)):
        head, _, data = text.partition(b',"data":')
        attributes = json.loads(head + b"}")
        if attributes.pop("offset") != offset:
            raise Violation(f"offset {offset} is {text!r}")
        for name in ("time", "crc", "type", "a"):
            attributes.pop(name, None) if name not in event.attributes else None
        if attributes != event.attributes or not _is_same(data[:-1], event):
            raise Violation(f"offset {offset} is {text[:1000]!r}, and should be {event!r}"[:3000])
    if len(lines) != len(events):
        raise Violation(f"{len(lines)} events are stored, and {len(events)} should be")


def _is_same(data: bytes, event: Event) -> bool:
    import orjson

    return data == event.data if event.data is not None else bool(orjson.loads(data) == event.value)


def _difference(kept: bytes, refused: list[bytes]) -> str:
    for one, other in zip(kept.split(b"\n"), b"".join(one + b"\n" for one in refused).split(b"\n"), strict=False):
        if one != other:
            return f"{one[:200]!r} instead of {other[:200]!r}"
    return "there is less or more of it"

"""Topics and groups as tests make them, by the program or by hand, and what stands in them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from evtool.log.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program


def append(program: Program, topic: str, *events: str, **options: Any) -> None:
    """Append these events."""
    result = program("append", topic, *events, **options)
    assert (result.code, result.out, result.err) == (0, "", "")


def stored(program: Program, topic: str) -> str:
    """The lines of a topic."""
    return program.log(topic).decode()


def stored_lines(program: Program, topic: str) -> list[str]:
    """The lines of a topic, one by one."""
    return [f"{line}\n" for line in stored(program, topic).split("\n")[:-1]]


def numbers(first: int, last: int) -> list[str]:
    """Events from one number to another, inclusive."""
    return [str(number) for number in range(first, last + 1)]


def small_segments(program: Program, topic: str, size: int = 200) -> None:
    """Make a topic whose segments hold only a few events."""
    for path in (program.home, program.home / "topics", program.topic(topic)):
        path.mkdir(mode=0o700, exist_ok=True)
    (program.topic(topic) / "topic.json").write_text(f'{{"segment-bytes":{size}}}')


def write_log(program: Program, topic: str, times: list[str], *, first: int = 0, head: str = "") -> list[str]:
    """Write a topic by hand: one event for each of these times, its data being its offset; return the lines.

    head: other attributes that all have, such as ``"key":"a",``.
    """
    directory = program.topic(topic)
    for path in (program.home, program.home / "topics", directory):
        path.mkdir(mode=0o700, exist_ok=True)
    lines = [
        f'{{"offset":{offset},"time":"{moment}",{head}"data":{offset}}}\n' for offset, moment in enumerate(times, first)
    ]
    segment = directory / f"{first:020d}.jsonl"
    segment.write_text("".join(lines))
    segment.chmod(0o600)
    return lines


def moment(seconds: float) -> str:
    """A time since the epoch as a line has it."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{rest:06d}Z"


def commits_file(program: Program, topic: str = "t", group: str = "g") -> Path:
    """The commit log of a group."""
    return program.topic(topic) / "consumers" / f"{group}.jsonl"


def committed(program: Program, topic: str = "t", group: str = "g") -> int | None:
    """What a group has committed: the last whole line of its file counts."""
    path = commits_file(program, topic, group)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return int(json.loads(lines[-1])["committed"]) if lines else None


def write_commit(
    program: Program, offset: int, topic: str = "t", group: str = "g", *, seconds: float | None = None
) -> None:
    """Let a group have committed this offset: now, or so many seconds after the epoch."""
    path = commits_file(program, topic, group)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(f'{{"committed":{offset},"time":"{moment(seconds or time.time())}"}}\n')
    path.chmod(0o600)


def open_directory(path: Path) -> Directory:
    """A directory as the log has it, made if it is missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Directory(str(path), os.open(path, os.O_RDONLY))

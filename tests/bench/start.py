"""One event, one process: what a shell loop, a cron job or a prompt pays each time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.bench import peers
from tests.bench.measure import Row, SkippedError, compare, in_turn, milliseconds, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench, Command

EVENT = '{"a":1}'
_SYNCED = """
import os
fd = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(fd, b'{{"a":1}}\\n')
os.fdatasync(fd)
"""


def rows(bench: Bench) -> Iterator[Row]:
    home = bench.home("start")
    with ExitStack() as stack:
        others, missing = _others(bench, home, stack)
        jobs: dict[str, Command] = {
            "bare": bench.bare,
            "append": [bench.evtool, "append", "t", EVENT],
            "tail": [bench.evtool, "tail", "t", "-n", "1"],
            "topics": [bench.evtool, "topics"],
            **others,
        }
        median = in_turn(
            {name: lambda job=job: bench.seconds(job, home=home) for name, job in jobs.items()}, bench.pick(60, 15)
        )
    bare = f"bare start {milliseconds(median['bare'])}"
    for name, limit, what in (
        ("append", 1.5, "append one event, durable"),
        ("tail", 1.6, "tail -n 1"),
        ("topics", 1.6, "topics"),
    ):
        yield compare(what, milliseconds(median[name]), bare, median[name] / median["bare"], at_most=limit)
    ours = median["append"]
    for name in others:
        theirs = f"{name} {milliseconds(median[name])}"
        yield compare("append one event, durable", milliseconds(ours), theirs, ours / median[name])
    for name, why in missing.items():
        yield skipped(f"append one event, beside {name}", why)


def _others(bench: Bench, home: Path, stack: ExitStack) -> tuple[dict[str, Command], dict[str, str]]:
    """What else stores one event, and what would but is not here."""
    plain = str(bench.path("plain.jsonl"))
    table = str(bench.path("queue.db"))
    found: dict[str, Command] = {
        "bare start, write, fdatasync": [bench.python, "-c", _SYNCED.format(path=plain)],
        "sh -c 'echo … >> file', not synced": ["sh", "-c", 'echo "$1" >> "$2"', "sh", EVENT, plain],
    }
    missing: dict[str, str] = {}
    try:
        peers.need("sqlite3")
        bench.seconds(["sqlite3", table, "create table t (id integer primary key, time text, data text)"])
        insert = f"insert into t (time, data) values (datetime('now'), '{EVENT}')"
        found["sqlite3 insert, synced"] = ["sqlite3", table, insert]
    except SkippedError as why:
        missing["sqlite3"] = str(why)
    try:
        path = stack.enter_context(peers.redis(bench.path("redis")))
        found["redis-cli XADD, everysec"] = ["redis-cli", "-s", path, "XADD", "t", "*", "data", EVENT]
    except SkippedError as why:
        missing["redis"] = str(why)
    return found, missing

"""Many small events from a pipe: how fast they are stored and how much memory that takes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.bench import corpus, peers
from tests.bench.measure import Row, SkippedError, compare, in_turn, megabytes, rate, skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bench.measure import Bench

_BYTES_LOOP = "import sys, orjson\nfor line in sys.stdin.buffer: orjson.loads(line)"
_TEXT_LOOP = "import sys, orjson\nfor line in sys.stdin: orjson.loads(line)"
_MOST_MEMORY = 40e6
_LARGER = 5


def rows(bench: Bench) -> Iterator[Row]:
    count = bench.pick(500_000, 150_000)
    input = bench.path("input")
    corpus.write_events(input, count)
    yield from _rates(bench, input, count)
    yield _memory(bench, input, count)
    corpus.write_events(input, _LARGER * count)
    yield _memory(bench, input, _LARGER * count)
    input.unlink()


def _rates(bench: Bench, input: Path, count: int) -> Iterator[Row]:
    work = f"append {count:,} events of {corpus.EVENT_BYTES} bytes from a pipe"
    jobs: dict[str, Callable[[], float]] = {
        "bytes": lambda: bench.seconds([bench.python, "-c", _BYTES_LOOP], input=input),
        "text": lambda: bench.seconds([bench.python, "-c", _TEXT_LOOP], input=input),
        "ours": lambda: _append(bench, input),
    }
    why = None
    with ExitStack() as stack:
        try:
            jobs["redis"] = _redis(bench, input, stack)
        except SkippedError as reason:
            why = reason
        median = in_turn(jobs, bench.pick(7, 3))
    _check_stored(bench, count)
    speed = {name: count / seconds for name, seconds in median.items()}
    for name, what in (("bytes", "for line in sys.stdin.buffer"), ("text", "for line in sys.stdin")):
        theirs = f"{what}: orjson.loads(line) {rate(speed[name])}"
        yield compare(work, rate(speed["ours"]), theirs, median["ours"] / median[name], at_most=1.5)
    if why is None:
        theirs = f"redis-cli --pipe XADD, everysec {rate(speed['redis'])}"
        yield compare(f"{work}, rate", rate(speed["ours"]), theirs, speed["ours"] / speed["redis"], at_least=2)
    else:
        yield skipped(f"{work}, beside redis-cli --pipe", why)


def _append(bench: Bench, input: Path) -> float:
    """Into a new topic, onto a disk that has nothing else to write."""
    home = bench.home("bulk")
    os.sync()
    return bench.seconds([bench.evtool, "append", "t"], home=home, input=input)


def _redis(bench: Bench, input: Path, stack: ExitStack) -> Callable[[], float]:
    path = stack.enter_context(peers.redis(bench.path("redis")))
    wire = bench.path("wire")
    stack.callback(wire.unlink, missing_ok=True)
    with wire.open("wb") as out, input.open("rb") as events:
        out.writelines(peers.redis_command(b"XADD", b"t", b"*", b"data", event[:-1]) for event in events)

    def once() -> float:
        peers.ask_redis(path, b"DEL", b"t")
        os.sync()
        return bench.seconds(["redis-cli", "-s", path, "--pipe"], input=wire)

    return once


def _check_stored(bench: Bench, count: int) -> None:
    stored = bench.output([bench.evtool, "tail", "t", "-n", "1"], home=bench.path("bulk"))
    if not stored.startswith(b'{"offset":%d,' % (count - 1)):
        raise RuntimeError(f"{count} events went in, and the last is {stored!r}")


def _memory(bench: Bench, input: Path, count: int) -> Row:
    home = bench.home("bulk")
    peak = bench.peak_memory([bench.evtool, "append", "t"], home=home, input=input)
    _check_stored(bench, count)
    bench.home("bulk")
    work = f"append {count:,} events from a pipe, peak memory"
    goal = f"< {_MOST_MEMORY / 1e6:g} MB"
    return Row(
        work, f"{peak / 1e6:.1f} MB", f"input of {megabytes(input.stat().st_size)}", None, goal, peak < _MOST_MEMORY
    )

"""Many processes that append one event at a time through the Python API, beside the bare system calls."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.bench.measure import Row, compare, in_turn, milliseconds, rate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench

_PROCESSES = 8
_LONGEST_WAIT = 0.1
_READY, _GO = b".", b"g"
# Each process says when it is ready, begins when all are, and prints when it began and ended and its longest wait.
_RUN = """
import os, sys, time
path, count = sys.argv[1], int(sys.argv[2])
{setup}
os.write(1, b".")
os.read(0, 1)
longest = 0.0
began = time.monotonic()
for number in range(count):
    start = time.perf_counter()
    {step}
    longest = max(longest, time.perf_counter() - start)
print(began, time.monotonic(), longest)
"""
_BARE = _RUN.format(
    setup="""
from fcntl import flock
lock = os.open(path + "/lock", os.O_RDWR | os.O_CREAT)
file = os.open(path + "/file", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
line = b'{"offset":123456,"time":"2026-11-24T02:56:17.844405Z","crc":"abcdef01","data":{"n":12345}}\\n'
""",
    step="flock(lock, 2); os.write(file, line); flock(lock, 8)",
)
_OURS = _RUN.format(
    setup="""
import evtool
topic = evtool.open(path).topic("t", sync=sys.argv[3])
topic.append(0)
""",
    step='topic.append({"n": number})',
)


def rows(bench: Bench) -> Iterator[Row]:
    yield from _unsynced(bench)
    yield _synced(bench)


def _unsynced(bench: Bench) -> Iterator[Row]:
    count = bench.pick(10_000, 3_000)
    longest: dict[str, list[float]] = {"bare": [], "ours": []}

    def once(name: str, program: str) -> float:
        speed, wait = _together(bench, program, _PROCESSES, count, "never")
        longest[name].append(wait)
        return speed

    median = in_turn({"ours": lambda: once("ours", _OURS), "bare": lambda: once("bare", _BARE)}, bench.pick(7, 3))
    work = f"{_PROCESSES} processes append through the API, sync=never"
    theirs = f"bare flock and write {rate(median['bare'])}"
    yield compare(work, rate(median["ours"]), theirs, median["bare"] / median["ours"], at_most=2)
    worst = max(longest["ours"])
    goal = f"< {milliseconds(_LONGEST_WAIT)}"
    theirs = f"bare {milliseconds(max(longest['bare']))}"
    yield Row(f"{work}, longest wait", milliseconds(worst), theirs, None, goal, worst < _LONGEST_WAIT)


def _synced(bench: Bench) -> Row:
    """Producers that wait for the disk share its syncs, so that more of them get more done."""
    count = bench.pick(500, 100)
    crowds = (1, 2, 4, 8)
    jobs = {
        str(crowd): lambda crowd=crowd: _together(bench, _OURS, crowd, count, "always")[0]  # type: ignore[misc]
        for crowd in crowds
    }
    median = in_turn(jobs, bench.pick(5, 2))
    ours = ", ".join(f"{crowd}: {rate(median[str(crowd)])}" for crowd in crowds)
    ratio = median["8"] / median["1"]
    return Row("1, 2, 4, 8 processes append, sync=always", ours, "one process", round(ratio, 2), "rises", ratio > 1)


def _together(bench: Bench, program: str, crowd: int, count: int, sync: str) -> tuple[float, float]:
    """So many processes at once: events a second of all together, and the longest that one of them took for one."""
    home = bench.home("contention")
    command = [bench.python, "-c", program, str(home), str(count), sync]
    processes = [_start(bench, home, command) for _ in range(crowd)]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.read(1) != _READY:
            raise RuntimeError("a producer did not start")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(_GO)
        process.stdin.flush()
    answers = [[float(word) for word in process.communicate()[0].split()] for process in processes]
    began, ended, longest = zip(*answers, strict=True)
    return crowd * count / (max(ended) - min(began)), max(longest)


def _start(bench: Bench, home: Path, command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=bench.on(home), bufsize=0)

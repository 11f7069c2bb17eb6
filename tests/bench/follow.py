"""From another process's write to our standard output, beside `tail -F` and two brokers; and what waiting costs."""

from __future__ import annotations

import os
import re
import select
import statistics
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.bench import peers
from tests.bench.measure import ROOT, Row, SkippedError, compare, percentile, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench

_STAMP = re.compile(rb'"at":(\d+)}')
_PATIENCE = 20.0
_IDLE_SECONDS = 1.0
_MOST_IDLE_MS = 0.1  # a process that nothing wakes has exactly 0
_OURS, _TAIL = "evtool tail -f", "tail -F"


class Channel:
    """A follower and what it has given out: how many nanoseconds each line took."""

    def __init__(self, process: subprocess.Popen[bytes], producer: str) -> None:
        assert process.stdout is not None
        self.process = process
        self.fd = process.stdout.fileno()
        self.producer = producer  # how `workers.py stamp` is told where to write
        self.taken: list[int] = []
        self._rest = b""

    def read(self) -> None:
        """Take what has come. The moment is taken first; what this costs is the same for every follower."""
        data = os.read(self.fd, 65536)
        now = time.monotonic_ns()
        if not data:
            raise RuntimeError(f"{self.process.args!r}: ended")
        self._rest += data
        end = 0
        for match in _STAMP.finditer(self._rest):
            self.taken.append(now - int(match[1]))
            end = match.end()
        self._rest = self._rest[end:]


def rows(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        channels, missing = _open(bench, stack)
        blocks = _measure(bench, channels, stack)
        idle = {name: _idle_milliseconds(channels[name].process.pid) for name in (_OURS, _TAIL)}
    for what, share in (("p50", 0.5), ("p99", 0.99)):
        figures = {
            name: statistics.median(percentile(block, share) / 1e3 for block in blocks[name]) for name in channels
        }
        ours = figures.pop(_OURS)
        for name, theirs in figures.items():
            limit = 1.5 if name == _TAIL else None
            work = f"follow, from write to stdout, {what}"
            yield compare(work, f"{ours:.0f} µs", f"{name} {theirs:.0f} µs", ours / theirs, at_most=limit)
    yield _idle_row(idle)
    for name, why in missing.items():
        yield skipped(f"follow, beside {name}", why)


def _open(bench: Bench, stack: ExitStack) -> tuple[dict[str, Channel], dict[str, str]]:
    """All followers that there are here, and those that are not."""

    def start(*command: str | Path, home: Path | None = None) -> subprocess.Popen[bytes]:
        environment = bench.environment if home is None else bench.on(home)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
        stack.callback(_end, process)
        return process

    home = bench.home("follow")
    bench.seconds([bench.evtool, "append", "t", "0"], home=home)
    segment = home / "topics" / "t" / f"{0:020d}.jsonl"
    plain = bench.home("plain") / "file"
    plain.touch()
    channels = {
        _OURS: Channel(start(bench.evtool, "tail", "t", "-f", "-n", "0", home=home), f"file:{segment}"),
        _TAIL: Channel(start("tail", "-F", "-n", "0", plain), f"file:{plain}"),
    }
    missing = {}
    try:
        path = stack.enter_context(peers.redis(bench.path("redis")))
        follower = start("redis-cli", "-s", path, "SUBSCRIBE", "t")
        channels["redis-cli SUBSCRIBE"] = Channel(follower, f"redis:{path}")
    except SkippedError as why:
        missing["redis-cli SUBSCRIBE"] = str(why)
    try:
        port = stack.enter_context(peers.mosquitto(bench.path("mosquitto")))
        follower = start("mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "t")
        channels["mosquitto_sub"] = Channel(follower, f"mqtt:{port}")
    except SkippedError as why:
        missing["mosquitto_sub"] = str(why)
    return channels, missing


def _measure(bench: Bench, channels: dict[str, Channel], stack: ExitStack) -> dict[str, list[list[int]]]:
    """Let one producer write to all in turn, a block of rounds after the other; return each block's times."""
    command = [bench.python, "-m", "tests.bench.workers", "stamp", *(one.producer for one in channels.values())]
    producer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=bench.environment, cwd=ROOT)
    stack.callback(_end, producer)
    assert producer.stdout is not None
    producer.stdout.readline()
    _warm_up(producer, channels)
    blocks: dict[str, list[list[int]]] = {name: [] for name in channels}
    rounds = bench.pick(400, 150)
    for _ in range(bench.pick(7, 5)):
        for channel in channels.values():
            channel.taken = []
        if not _produce(producer, list(channels.values()), rounds):
            lost = {name: rounds - len(channel.taken) for name, channel in channels.items()}
            raise RuntimeError(f"of {rounds} events, these did not come: {lost}")
        for name, channel in channels.items():
            blocks[name].append(channel.taken)
    return blocks


def _warm_up(producer: subprocess.Popen[bytes], channels: dict[str, Channel]) -> None:
    """Write until every follower has begun to follow, and a little more."""
    deadline = time.monotonic() + _PATIENCE
    for patience in (0.1, 0.1, _PATIENCE):
        while not all(channel.taken for channel in channels.values()):
            _produce(producer, list(channels.values()), 1, patience=0.1)
            if time.monotonic() > deadline:
                deaf = [name for name, channel in channels.items() if not channel.taken]
                raise RuntimeError(f"waited in vain for {' and '.join(deaf)} to follow")
        for channel in channels.values():
            channel.taken = []
        _produce(producer, list(channels.values()), 20, patience=patience)


def _produce(
    producer: subprocess.Popen[bytes], channels: list[Channel], rounds: int, patience: float = _PATIENCE
) -> bool:
    """Let the producer write so many rounds, and read till all of them have come; say whether they have."""
    assert producer.stdin is not None
    assert producer.stdout is not None
    poll = select.poll()
    by_fd = {channel.fd: channel for channel in channels}
    for fd in (*by_fd, producer.stdout.fileno()):
        poll.register(fd, select.POLLIN)
    producer.stdin.write(b"%d\n" % rounds)
    producer.stdin.flush()
    writing = True
    deadline = time.monotonic() + 60
    while writing or not all(len(channel.taken) >= rounds for channel in channels):
        ready = poll.poll(patience * 1000)
        if (not ready and not writing) or time.monotonic() > deadline:
            return False
        for fd, _ in ready:
            if fd in by_fd:
                by_fd[fd].read()
            else:
                os.read(fd, 100)
                writing = False
    return True


def _idle_milliseconds(pid: int) -> float | None:
    """The time on a processor that a process takes in a second in which nothing happens; None if nobody tells."""
    try:
        before = _nanoseconds_on_cpu(pid)
        time.sleep(_IDLE_SECONDS)
        return (_nanoseconds_on_cpu(pid) - before) / 1e6
    except OSError:
        return None


def _nanoseconds_on_cpu(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


def _idle_row(idle: dict[str, float | None]) -> Row:
    work = f"follow, processor time in {_IDLE_SECONDS:g} s without events"
    ours, theirs = idle[_OURS], idle[_TAIL]
    if ours is None or theirs is None:
        return skipped(work, "no /proc/PID/schedstat")
    return Row(work, f"{ours:.2f} ms", f"{_TAIL} {theirs:.2f} ms", None, "0 ms", ours < _MOST_IDLE_MS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()

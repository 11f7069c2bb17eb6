"""Following: from another process's write to a line on the follower's output, and what waiting costs."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import peers
from tests.bench.measure import Row, SkippedError, compare, percentile, skipped, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.measure import Bench, Command

    Send = Callable[[int], None]

_PAUSE = 0.001  # between two events, long enough for the follower to have gone to sleep
_LINE = b'{"offset":%d,"time":"%b","data":{"n":%d}}\n'


def rows(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        followers = {
            "ours": stack.enter_context(_evtool(bench)),
            "tail -F": stack.enter_context(_tail(bench)),
        }
        missing: dict[str, object] = {}
        for name, other in (("redis-cli SUBSCRIBE", _redis), ("mosquitto_sub", _mosquitto)):
            try:
                followers[name] = stack.enter_context(other(bench))
            except SkippedError as why:
                missing[name] = why
        delays: dict[str, list[float]] = {name: [] for name in followers}
        for _ in range(bench.pick(20, 8)):
            for name, follower in followers.items():
                delays[name] += follower.delays(bench.pick(300, 100))
        idle = followers["ours"].cpu_while_idle(bench.pick(3, 1))
    yield from _compared(delays)
    for name, why in missing.items():
        yield skipped(f"follow, beside {name}", why)
    yield Row("follow, processor time while nothing happens", f"{idle * 1e3:.0f} ms", "", None, "0 ms", idle == 0)


def _compared(delays: dict[str, list[float]]) -> Iterator[Row]:
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        ours, tail = percentile(delays["ours"], share), percentile(delays["tail -F"], share)
        yield compare(
            f"follow, write to read, {label}", _micro(ours), f"tail -F {_micro(tail)}", ours / tail, at_most=1.5
        )
    ours = percentile(delays["ours"], 0.5)
    for name, values in delays.items():
        if name not in ("ours", "tail -F"):
            theirs = percentile(values, 0.5)
            yield compare("follow, write to read, p50", _micro(ours), f"{name} {_micro(theirs)}", ours / theirs)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


class _Follower:
    """A program that follows something, and how to send it an event."""

    def __init__(self, process: subprocess.Popen[bytes], send: Send) -> None:
        assert process.stdout is not None
        self._process = process
        self._out = process.stdout.fileno()
        self._send = send
        self._sent = 0

    def delays(self, count: int) -> list[float]:
        """Send so many events, one at a time; how long each took to come out, in seconds."""
        found = []
        for _ in range(count):
            time.sleep(_PAUSE)
            number = self._next()
            start = time.perf_counter()
            self._send(number)
            came = os.read(self._out, 65536)
            found.append(time.perf_counter() - start)
            if b"%d" % number not in came:
                raise RuntimeError(f"event {number} was sent, and {came!r} came")
        return found

    def settle(self) -> None:
        """Wait until it follows: events are sent until one comes out."""
        os.set_blocking(self._out, False)
        wait_until(self._answers, "a follower")
        time.sleep(0.2)  # for what is still under way
        wait_until(lambda: self._read() is None, "silence")
        os.set_blocking(self._out, True)

    def cpu_while_idle(self, seconds: float) -> float:
        """The processor time that it takes in so many seconds in which nothing happens."""
        before = self._cpu()
        time.sleep(seconds)
        return self._cpu() - before

    def _next(self) -> int:
        self._sent += 1
        return self._sent

    def _answers(self) -> bool:
        if self._read() is not None:
            return True
        self._send(self._next())
        return False

    def _read(self) -> bytes | None:
        try:
            return os.read(self._out, 65536)
        except BlockingIOError:
            return None

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(bench: Bench, command: Command, home: Path | None, send: Send) -> Iterator[_Follower]:
    environment = bench.environment if home is None else bench.on(home)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            follower = _Follower(process, send)
            follower.settle()
            yield follower
        finally:
            process.kill()


@contextmanager
def _evtool(bench: Bench) -> Iterator[_Follower]:
    """`tail -f`, of a segment that is written to just as the file of `tail -F` is: with one bare write."""
    home = bench.home("follow")
    bench.output([bench.evtool, "append", "t", "0"], home=home)
    (segment,) = (home / "topics" / "t").glob("*.jsonl")
    moment = segment.read_bytes().split(b'"')[5]
    fd = os.open(segment, os.O_WRONLY | os.O_APPEND)
    try:
        command = [bench.evtool, "tail", "t", "-n", "0", "-f"]
        with _running(bench, command, home, lambda n: _write(fd, _LINE % (n, moment, n))) as follower:
            yield follower
    finally:
        os.close(fd)


@contextmanager
def _tail(bench: Bench) -> Iterator[_Follower]:
    path = bench.path("followed")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    moment = b"2026-11-24T02:56:17.844405Z"
    try:
        command = ["tail", "-n", "0", "-F", path]
        with _running(bench, command, None, lambda n: _write(fd, _LINE % (n, moment, n))) as follower:
            yield follower
    finally:
        os.close(fd)


def _write(fd: int, line: bytes) -> None:
    os.write(fd, line)


@contextmanager
def _redis(bench: Bench) -> Iterator[_Follower]:
    with peers.redis(bench.path("redis")) as path, peers.connected_to_redis(path) as publish:
        command = ["redis-cli", "-s", path, "SUBSCRIBE", "t"]
        with _running(bench, command, None, lambda n: publish(b"PUBLISH", b"t", b"%d" % n)) as follower:
            yield follower


@contextmanager
def _mosquitto(bench: Bench) -> Iterator[_Follower]:
    with peers.mosquitto(bench.path("mosquitto")) as port, peers.connected_to_mosquitto(port) as publish:
        command = ["mosquitto_sub", "-p", str(port), "-t", "t"]
        with _running(bench, command, None, lambda n: publish(b"t", b"%d" % n)) as follower:
            yield follower

"""The store on NATS JetStream: real servers on this machine, which they share with what is measured.

Beside each stands what a program by hand would do with the same client library.
"""

from __future__ import annotations

import importlib.util
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench.measure import Row, SkippedError, compare, in_turn, megabytes, milliseconds, percentile, rate
from tests.bench.nats_scripts import APPEND, FOLLOW, ONE_SHOT, READ, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.measure import Bench, Command
    from tests.nats.server import Cluster, Server

_EVENT = b'{"user":"u%06d","amount":%8.2f,"type":"order.paid","text":"padding to a hundred","n":%d}\n'
_MEMORY_GROWTH = 1.2


def rows(bench: Bench) -> Iterator[Row]:
    if importlib.util.find_spec("nats") is None:
        raise SkippedError("nats-py is not installed: evtool[nats]")
    count = bench.pick(300_000, 50_000)
    events = bench.path("events")
    _write_events(events, count)
    with _one(bench) as server:
        yield from _append(bench, server.url, events, count, "one node, default sync", 70_000)
        yield from _mirror(bench, server, bench.pick(500_000, 100_000))
        yield from _one_shot(bench, server.url)
    with _three(bench) as cluster:
        yield from _append(bench, cluster.url, events, count, "three replicas, sync always", 35_000)
        yield from _replay(bench, cluster.url, count)
        yield from _work(bench, cluster.url, count)
        yield from _follow(bench, cluster.url)
    events.unlink()


def _append(bench: Bench, url: str, events: Path, count: int, what: str, goal: float) -> Iterator[Row]:
    topics = iter(range(1000))
    median = in_turn(
        {
            "ours": lambda: bench.seconds(_on(url, bench.evtool, "append", f"t{next(topics)}"), input=events),
            "by hand": lambda: bench.seconds([bench.python, "-c", APPEND, url, f"s{next(topics)}"], input=events),
        },
        bench.pick(3, 1),
    )
    _keep_only(bench, url, "t0", count)
    yield _at_least(f"append {count:,} events of 100 bytes, {what}", count, median, "publish_async", goal)


def _replay(bench: Bench, url: str, count: int) -> Iterator[Row]:
    median = in_turn(
        {
            "ours": lambda: bench.drained(_on(url, bench.evtool, "replay", "t0"))[0],
            "by hand": lambda: bench.drained([bench.python, "-c", READ, url, "t0", str(count)])[0],
        },
        bench.pick(3, 1),
    )
    yield _at_least(f"replay {count:,} events from a cluster", count, median, "fetch and ack", 30_000)


def _work(bench: Bench, url: str, count: int) -> Iterator[Row]:
    groups = iter(range(1000))

    def work() -> float:
        options = ("--group", f"g{next(groups)}", "--from", "earliest", "--drain", "--worker", "--jobs", "1")
        handler = (bench.python, "-c", WORKER)
        return bench.seconds(_on(url, bench.evtool, "subscribe", "t0", *options, "--", *handler))

    median = in_turn({"ours": work}, bench.pick(3, 1))
    speed = count / median["ours"]
    yield Row(f"a group with --worker, {count:,} events", rate(speed), "", None, f"≥ {rate(20_000)}", speed >= 20_000)


def _follow(bench: Bench, url: str) -> Iterator[Row]:
    """From a publish by hand on a connection that is open to a line on the follower's output."""
    run = subprocess.run(
        [bench.python, "-c", FOLLOW, url, str(bench.pick(500, 100)), bench.evtool],
        env={**bench.environment, "EVTOOL_STORE": url},
        stdout=subprocess.PIPE,
        check=True,
    )
    delays = [float(one) for one in run.stdout.split()]
    half, most = percentile(delays, 0.5), percentile(delays, 0.99)
    ours = f"p50 {milliseconds(half)}, p99 {milliseconds(most)}"
    yield Row("follow a cluster, from append to output", ours, "", None, "p50 ≤ 5 ms", half <= 0.005)


def _mirror(bench: Bench, server: Server, count: int) -> Iterator[Row]:
    events = bench.path("some")
    seconds, peaks = [], []
    for size in (count, count // 5):
        _write_events(events, size)
        source = bench.home(f"mirror{size}")
        bench.seconds([bench.evtool, "append", f"m{size}", "--sync", "never"], home=source, input=events)
        command = [bench.evtool, "mirror", f"file:{source}", server.url, "--quiet"]
        start = time.perf_counter()
        peaks.append(bench.peak_memory(command, home=source, input=events))
        seconds.append(time.perf_counter() - start)
    speed = count / seconds[0]
    yield Row(f"mirror {count:,} events to one node", rate(speed), "", None, f"≥ {rate(50_000)}", speed >= 50_000)
    reference = f"{megabytes(peaks[1])} for {count // 5:,}"
    yield compare("the same, memory", megabytes(peaks[0]), reference, peaks[0] / peaks[1], at_most=_MEMORY_GROWTH)
    events.unlink()


def _one_shot(bench: Bench, url: str) -> Iterator[Row]:
    bench.seconds(_on(url, bench.evtool, "append", "once", "1"))
    median = in_turn(
        {
            "ours": lambda: bench.seconds(_on(url, bench.evtool, "append", "once", '{"n":1}')),
            "by hand": lambda: bench.seconds(_on(url, bench.python, "-c", ONE_SHOT, url)),
        },
        bench.pick(21, 7),
    )
    ours, theirs = milliseconds(median["ours"]), f"nats-py, connect and publish {milliseconds(median['by hand'])}"
    yield compare("append one event to a server", ours, theirs, median["ours"] / median["by hand"], at_most=1.3)


def _at_least(work: str, count: int, median: dict[str, float], what: str, goal: float) -> Row:
    speed, theirs = count / median["ours"], count / median["by hand"]
    return Row(
        work, rate(speed), f"nats-py, {what} {rate(theirs)}", round(speed / theirs, 2), f"≥ {rate(goal)}", speed >= goal
    )


def _on(url: str, *command: str) -> Command:
    return ["env", f"EVTOOL_STORE={url}", *command]


def _keep_only(bench: Bench, url: str, topic: str, count: int) -> None:
    """Remove all other topics; this one must have so many events."""
    rows = bench.output(_on(url, bench.evtool, "topics")).decode().splitlines()
    if dict(row.split("\t")[:2] for row in rows)[topic] != str(count):
        raise RuntimeError(f"not all was stored: {rows}")
    for row in rows:
        if (name := row.split("\t")[0]) != topic:
            bench.output(_on(url, bench.evtool, "rm", name, "--yes", "--quiet"))


def _write_events(path: Path, count: int) -> None:
    with path.open("wb") as file:
        file.writelines(_EVENT % (n % 1000, n % 10_000 / 3, 10_000_000 + n) for n in range(count))


@contextmanager
def _one(bench: Bench) -> Iterator[Server]:
    from tests.nats.server import Server

    with Server(bench.path("server")) as server:
        yield server


@contextmanager
def _three(bench: Bench) -> Iterator[Cluster]:
    from tests.nats.server import Cluster

    with Cluster(bench.path("cluster")) as cluster:
        yield cluster

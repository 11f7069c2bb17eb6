"""Events handed to commands, workers, several processes, several files and a filter."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from tests.bench import corpus
from tests.bench.measure import Row, compare, in_turn, milliseconds, rate, skipped, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.bench.measure import Bench

_RUNS = 1000
_SHARED, _EACH = 2000, 0.005
_SINKS = 3
_WORKER = """
import os
rest = b""
while data := os.read(0, 1 << 18):
    *lines, rest = (rest + data).split(b"\\n")
    os.write(1, b"".join([line[10:line.index(b",", 10)] + b"\\n" for line in lines]))
"""
_SLEEPER = """
import sys, time
for line in sys.stdin:
    time.sleep(%g)
    print(line[10:line.index(",")], flush=True)
"""


class Groups:
    """A new group for each run: one that has everything would have nothing to do."""

    def __init__(self, bench: Bench, home: Path) -> None:
        self._bench = bench
        self._home = home
        self._count = 0

    def command(self, *options: str, handler: Sequence[str] = ()) -> list[str]:
        """The command line of a subscriber that drains the topic."""
        self._count += 1
        base = [self._bench.evtool, "subscribe", "t", "--group", f"g{self._count}", "--from", "earliest", "--drain"]
        return [*base, *options, *(["--", *handler] if handler else [])]

    def seconds(self, *options: str, handler: Sequence[str] = ()) -> float:
        """How long it takes."""
        return self._bench.seconds(self.command(*options, handler=handler), home=self._home)


def rows(bench: Bench) -> Iterator[Row]:
    yield from _runs(bench)
    count = bench.pick(500_000, 100_000)
    home = bench.home("delivery")
    segments = corpus.write_topic(home, "t", count, corpus.order)
    groups = Groups(bench, home)
    yield from _rates(bench, home, groups, count)
    yield from _fanout(bench, home, segments, count)
    yield _filter(bench, home, segments, count)
    yield _takeover(bench)
    yield _shared(bench)
    bench.home("delivery")


def _runs(bench: Bench) -> Iterator[Row]:
    """A command for each event, beside `xargs`."""
    home = bench.home("runs")
    corpus.write_topic(home, "t", _RUNS, lambda number: b'"data":%d' % number)
    lines = bench.path("lines")
    lines.write_text("".join(f"{number}\n" for number in range(_RUNS)))
    groups = Groups(bench, home)

    def xargs(*options: str) -> float:
        return bench.seconds(["xargs", "-n1", *options, "/bin/true"], input=lines)

    jobs = {
        "ours": lambda: groups.seconds(handler=["/bin/true"]),
        "xargs": xargs,
        "ours 2": lambda: groups.seconds("--jobs", "2", handler=["/bin/true"]),
        "xargs 2": lambda: xargs("-P2"),
    }
    median = in_turn(jobs, bench.pick(7, 3))
    for suffix, options, limit in (("", "", 1.6), (" 2", " --jobs 2", 1.2)):
        ours, theirs = median[f"ours{suffix}"], median[f"xargs{suffix}"]
        work = f"subscribe{options} -- /bin/true, {_RUNS:,} events"
        reference = f"xargs -n1{' -P2' if suffix else ''} {rate(_RUNS / theirs)}"
        yield compare(work, rate(_RUNS / ours), reference, ours / theirs, at_most=limit)


def _rates(bench: Bench, home: Path, groups: Groups, count: int) -> Iterator[Row]:
    """A worker that answers at once, and a group that reads into a pipe: the rates, and the memory."""
    worker = bench.path("worker.py")
    worker.write_text(_WORKER)
    handler = [bench.python, str(worker)]
    jobs = {
        "worker": lambda: groups.seconds("--worker", handler=handler),
        "pipe": lambda: bench.drained(groups.command(), home=home)[0],
    }
    median = in_turn(jobs, bench.pick(5, 2))
    for name, work, least in (("worker", "subscribe --worker", 150_000), ("pipe", "subscribe --group", 700_000)):
        figure = count / median[name]
        yield Row(f"{work}, {count:,} events", rate(figure), "", goal=f"≥ {rate(least)}", reached=figure >= least)
    for options, work in ((["--worker"], "subscribe --worker"), ([], "subscribe --group")):
        command = shlex.join(groups.command(*options, handler=handler if options else ()))
        peak = bench.peak_memory(["/bin/sh", "-c", f"exec {command} >/dev/null"], home=home, input=bench.path("lines"))
        yield Row(f"{work}, peak memory", f"{peak / 1e6:.1f} MB", "", goal="< 40 MB", reached=peak < 40e6)


def _fanout(bench: Bench, home: Path, segments: list[Path], count: int) -> Iterator[Row]:
    """To several files, beside one `cat` of the topic for each; ours are on disk then, those of `cat` after `sync`."""
    files = [bench.path(f"sink{number}") for number in range(_SINKS)]

    def ours() -> float:
        shutil.rmtree(home / "topics" / "t" / "consumers", ignore_errors=True)
        for file in files:
            file.unlink(missing_ok=True)
        to = [part for file in files for part in ("--to", f"file:{file}")]
        return bench.seconds([bench.evtool, "fanout", "t", *to, "--from", "earliest", "--drain"], home=home)

    def cat(*then: str) -> float:
        for file in files:
            file.unlink(missing_ok=True)
        script = [f"cat {' '.join(map(str, segments))} > {file}" for file in files]
        return bench.seconds(["sh", "-c", "; ".join([*script, *then])])

    sync = f"sync {' '.join(map(str, files))}"
    median = in_turn({"ours": ours, "cat": cat, "synced": lambda: cat(sync)}, bench.pick(7, 3))
    work, mine = f"fanout of {count:,} events to {_SINKS} files", milliseconds(median["ours"])
    theirs = f"{_SINKS} times cat, not synced {milliseconds(median['cat'])}"
    yield compare(work, mine, theirs, median["ours"] / median["cat"], at_most=1.5)
    theirs = f"{_SINKS} times cat, and sync {milliseconds(median['synced'])}"
    yield compare(work, mine, theirs, median["ours"] / median["synced"])


def _filter(bench: Bench, home: Path, segments: list[Path], count: int) -> Row:
    """An expression, beside the same in jq."""
    work = f"replay --where 'data.amount > 50', {count:,} events"
    if shutil.which("jq") is None:
        return skipped(work, "there is no jq")
    command = [bench.evtool, "replay", "t", "--where", "data.amount > 50"]
    theirs = ["jq", "-c", "select(.data.amount > 50)", *segments]
    found = bench.output(command, home=home).count(b"\n")
    if found != bench.output(theirs).count(b"\n"):
        raise RuntimeError("--where and jq did not find the same")
    jobs = {
        "ours": lambda: bench.drained(command, home=home)[0],
        "jq": lambda: bench.drained(theirs)[0],
    }
    median = in_turn(jobs, bench.pick(3, 1))
    reference = f"jq -c {rate(count / median['jq'])}"
    return compare(work, rate(count / median["ours"]), reference, median["jq"] / median["ours"], at_least=4)


def _takeover(bench: Bench) -> Row:
    """From the death of a consumer to the first event that the one standing by gives out."""
    home = bench.home("takeover")
    corpus.write_topic(home, "t", 10, lambda number: b'"data":%d' % number)
    figures = []
    for number in range(bench.pick(9, 3)):
        group = f"g{number}"
        command = [bench.evtool, "subscribe", "t", "--group", group, "--from", "earliest", "--", "sleep", "5"]
        busy = subprocess.Popen(command, env=bench.on(home), start_new_session=True)
        log = home / "topics" / "t" / "consumers" / f"{group}.jsonl"
        wait_until(lambda log=log: log.exists() and '"pid"' in log.read_text(), "the consumer")  # type: ignore[misc]
        standby = subprocess.Popen(
            [bench.evtool, "subscribe", "t", "--group", group],
            env=bench.on(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert standby.stdout is not None
        assert standby.stderr is not None
        standby.stderr.readline()  # that it stands by
        began = time.perf_counter()
        busy.kill()
        os.read(standby.stdout.fileno(), 1)
        figures.append(time.perf_counter() - began)
        busy.wait()
        standby.kill()
        standby.wait()
    figure = max(figures)
    return Row(
        "standby takes over after SIGKILL, longest",
        milliseconds(figure),
        "",
        goal="< 200 ms",
        reached=figure < 0.2,
    )


def _shared(bench: Bench) -> Row:
    """Four processes of a group beside one, where each event takes 5 ms of waiting."""
    home = bench.home("shared")
    count = bench.pick(_SHARED, 400)
    corpus.write_topic(home, "t", count, lambda number: b'"data":%d' % number)
    script = bench.path("sleeper.py")
    script.write_text(_SLEEPER % _EACH)
    groups = Groups(bench, home)
    handler = [bench.python, str(script)]

    def run(processes: int) -> float:
        command = groups.command("--share", "--worker", handler=handler)
        start = time.perf_counter()
        started = [subprocess.Popen(command, env=bench.on(home)) for _ in range(processes)]
        codes = [process.wait() for process in started]
        if any(codes):
            raise RuntimeError("a sharing process has failed")
        return time.perf_counter() - start

    median = in_turn({"one": lambda: run(1), "four": lambda: run(4)}, bench.pick(3, 1))
    work = f"--share, 4 processes, {count:,} events of {_EACH * 1e3:g} ms"
    reference = f"1 process {rate(count / median['one'])}"
    return compare(work, rate(count / median["four"]), reference, median["one"] / median["four"], at_least=3.5)

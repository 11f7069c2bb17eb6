"""How fast a topic is verified: by its seals, and line by line where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evtool.log import line, seals
from tests.bench import corpus
from tests.bench.measure import Row, compare, in_turn, megabytes, rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Bench

_LEAST_SPEED = 400e6
_NOTHING = Path("/dev/null")


def rows(bench: Bench, home: Path, segments: list[Path]) -> Iterator[Row]:
    """Of a topic whose segments are sealed, all but the last."""
    work = f"verify {megabytes(corpus.size_of(segments))}"
    yield from _by_seals(bench, home, segments, f"{work}, sealed")
    sums = segments[0].with_name(seals.FILE_NAME)
    aside = sums.rename(bench.path("sums"))
    yield from _by_lines(bench, home, segments, f"{work}, not sealed")
    aside.rename(sums)
    home = bench.home("single")
    segments = _write_singly(home, bench.pick(1_000_000, 300_000))
    yield from _by_lines(
        bench, home, segments, f"verify {megabytes(corpus.size_of(segments))}, a checksum in each line"
    )
    bench.home("single")


def _by_seals(bench: Bench, home: Path, segments: list[Path], work: str) -> Iterator[Row]:
    """With a seal the digest is enough. The last segment has none, and is gone through line by line."""
    size = corpus.size_of(segments)
    jobs = {
        "ours": lambda: bench.seconds(_verify(bench), home=home),
        "sha256sum": lambda: bench.seconds(["sha256sum", *segments]),
        "cksum": lambda: bench.seconds(["cksum", *segments]),
    }
    median = in_turn(jobs, bench.pick(5, 3))
    speed = {name: size / seconds for name, seconds in median.items()}
    beside = f"sha256sum {rate(speed['sha256sum'], 'B')}"
    ratio = round(median["ours"] / median["sha256sum"], 2)
    goal = f"≥ {rate(_LEAST_SPEED, 'B')}"
    yield Row(work, rate(speed["ours"], "B"), beside, ratio, goal, speed["ours"] >= _LEAST_SPEED)
    yield compare(
        work, rate(speed["ours"], "B"), f"cksum {rate(speed['cksum'], 'B')}", median["ours"] / median["cksum"]
    )
    yield _memory(bench, home, work)


def _by_lines(bench: Bench, home: Path, segments: list[Path], work: str) -> Iterator[Row]:
    """Every line is gone through, as it is before a segment gets its seal. It takes long enough to be done once."""
    size = corpus.size_of(segments)
    jobs = {
        "ours": lambda: bench.seconds(_verify(bench), home=home),
        "cksum": lambda: bench.seconds(["cksum", *segments]),
    }
    median = in_turn(jobs, 1)
    ours, theirs = (rate(size / median[name], "B") for name in ("ours", "cksum"))
    yield compare(work, ours, f"cksum {theirs}", median["ours"] / median["cksum"])
    yield _memory(bench, home, work)


def _verify(bench: Bench) -> list[str]:
    return [bench.evtool, "verify", "t", "-q"]


def _memory(bench: Bench, home: Path, work: str) -> Row:
    command = ["/bin/sh", "-c", 'exec "$@" >/dev/null', "sh", *_verify(bench)]
    peak = bench.peak_memory(command, home=home, input=_NOTHING)
    return Row(f"{work}, peak memory", f"{peak / 1e6:.1f} MB", "")


def _write_singly(home: Path, count: int) -> list[Path]:
    """A topic of which every event was appended by itself."""
    first = corpus.write_topic(home, "t", 1, corpus.order)[0]
    moment = line.stamp(0)
    with first.open("wb") as file:
        file.writelines(line.render(number, moment, b"", [corpus.order(number)], 0) for number in range(count))
    return [first]

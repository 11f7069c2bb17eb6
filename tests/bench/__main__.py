"""Print the figures that evtool is to reach as one table: python -m tests.bench [--quick] [KIND…]

Every speed is a ratio to something that stands still, measured in the same run; the runs of both are interleaved, and
medians are compared. On a machine that is busy with something else the figures mean little.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import bulk, contention, dedupe, filter, follow, replay, start
from tests.bench.measure import Bench, Row, in_turn, milliseconds, temporary_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KINDS = {
    "start": start.rows,
    "bulk": bulk.rows,
    "replay": replay.rows,
    "follow": follow.rows,
    "contention": contention.rows,
    "filter": filter.rows,
    "dedupe": dedupe.rows,
}
_HEADINGS = ("work", "ours", "reference", "ratio", "goal", "reached")


def main() -> int:
    """Measure, print, and say by the exit code whether every kind of work could be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="The figures that evtool is to reach.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds: a trial, no proof")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"which of: {' '.join(KINDS)} (all)")
    given = parser.parse_args()
    if unknown := [name for name in given.kinds if name not in KINDS]:
        parser.error(f"no such kind: {' '.join(unknown)}; there are {' '.join(KINDS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with temporary_directory() as directory:
        bench = Bench(Path(directory), quick=given.quick)
        failed: list[str] = []
        rows = [row for name in given.kinds or KINDS for row in _rows(bench, name, failed)]
        print("\n".join([*_machine(bench), "", *_table(rows), "", _summary(rows, failed)]))
    return 1 if failed else 0


def _rows(bench: Bench, name: str, failed: list[str]) -> Iterator[Row]:
    """The rows of one kind; if it fails, the others are measured all the same."""
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    try:
        yield from KINDS[name](bench)
    except Exception as error:
        traceback.print_exc()
        failed.append(name)
        yield Row(name, f"failed: {error}", "", None, "measured", False)


def _machine(bench: Bench) -> list[str]:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    load = f"load {os.getloadavg()[0]:.1f}"
    cores = f"{os.cpu_count()} cores"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    words = [_processor(), cores, python, f"{platform.system()} {platform.release()}", _file_system(bench.directory)]
    lines = [", ".join((*words, load, now)), _starts(bench)]
    if bench.quick:
        lines.append("--quick: smaller sizes and fewer rounds than the goals are about; a trial, no proof")
    return lines


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _file_system(directory: Path) -> str:
    """The kind of file system that a directory is on: on one in memory, "durable" means nothing."""
    best, kind = "", "unknown file system"
    try:
        with open("/proc/self/mounts") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return kind
    path = str(directory.resolve())
    for place, name in mounts:
        if len(place) >= len(best) and (path + "/").startswith(place.rstrip("/") + "/"):
            best, kind = place, name
    return f"{kind} (in memory: syncs cost nothing)" if kind in ("tmpfs", "ramfs") else kind


def _starts(bench: Bench) -> str:
    """What a bare start is here. What is installed beside evtool may hook into it, which makes our ratios look better."""
    jobs = {
        "bare": lambda: bench.seconds(bench.bare),
        "isolated": lambda: bench.seconds([bench.python, "-I", "-S", "-c", "pass"]),
    }
    median = in_turn(jobs, bench.pick(20, 8))
    return (
        f"a bare start is `{Path(bench.python).name} -c pass`: {milliseconds(median['bare'])}; "
        f"without site-packages {milliseconds(median['isolated'])}"
    )


def _table(rows: Sequence[Row]) -> list[str]:
    """The rows under each other, columns as wide as their widest cell."""
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*((*row[:1], *row[2:]) for row in cells), strict=True)]
    spacious = [len(row[1]) for row in cells if not row[1].startswith(("skipped", "failed"))]
    widths.insert(1, max(spacious))  # a reason may run over, as nothing stands behind it
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    reached = "" if row.reached is None else "yes" if row.reached else "no"
    return row.work, row.ours, row.reference, ratio, row.goal, reached


def _summary(rows: Sequence[Row], failed: Sequence[str]) -> str:
    judged = [row for row in rows if row.reached is not None]
    said = f"{sum(bool(row.reached) for row in judged)} of {len(judged)} goals reached"
    return f"{said}; could not be measured: {', '.join(failed)}" if failed else said


if __name__ == "__main__":
    sys.exit(main())

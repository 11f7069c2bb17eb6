"""The figures: `python -m tests.bench [--quick] [NAME…]` prints one table of all, or of those that are named.

Each is a ratio against something that stands still, measured in the same run; see `measure`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.measure import Bench, Row, SkippedError, skipped, temporary_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("start", "bulk", "replay", "follow", "contention", "dedupe", "delivery", "care")
APART = ("nats",)  # only if named: they need a server
_HEAD = ("work", "evtool", "beside", "ratio", "goal", "reached")


def main() -> int:
    """Measure and print; 1 if a goal was not reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure evtool.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which kinds of work: {', '.join(NAMES + APART)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: a rough picture")
    said = parser.parse_args()
    if unknown := sorted(set(said.names) - {*NAMES, *APART}):
        parser.error(f"no such work: {', '.join(unknown)}")
    print(_machine(quick=said.quick), end="\n\n")
    print("|".join(["", *(f" {title} " for title in _HEAD), ""]))
    print("|---" * len(_HEAD) + "|")
    missed = 0
    with temporary_directory() as directory:
        bench = Bench(Path(directory), quick=said.quick)
        for name in said.names or NAMES:
            for row in _rows(bench, name):
                print(_cells(row), flush=True)
                missed += row.reached is False
    return 1 if missed else 0


def _rows(bench: Bench, name: str) -> Iterator[Row]:
    try:
        yield from importlib.import_module(f"tests.bench.{name}").rows(bench)
    except SkippedError as why:
        yield skipped(name, why)


def _cells(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    reached = {None: "", True: "yes", False: "no"}[row.reached]
    cells = (row.work, row.ours, row.reference, ratio, row.goal, reached)
    return "|".join(["", *(f" {cell.replace('|', '/')} " for cell in cells), ""])


def _machine(*, quick: bool) -> str:
    """Where and when this was measured, and how thoroughly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [
        f"{_processor()}, {cores} cores",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        time.strftime("%Y-%m-%d"),
    ]
    return "; ".join([*words, "quick: small sizes, few rounds"] if quick else words)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as table:
            names = [row.partition(":")[2].strip() for row in table if row.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


sys.exit(main())

"""The board: `python -m tests.faults [--minutes 60] [--rows 1,4,9] [--seed N]` tortures evtool and keeps the score.

Each row of the scoreboard gets its share of the time, and what it finds is printed
with the command that brings it back. Exit 1 if anything was found.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time

from tests.faults.board import ROWS, Board, table


def main() -> int:
    """Go through the board and print the score."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Torture evtool.")
    parser.add_argument("--minutes", type=float, help="how long; without it, one piece of each row")
    parser.add_argument("--rows", help="numbers of rows, as in 1,4,9; all if not given")
    parser.add_argument("--seed", type=int, help="what chance begins with; by chance if not given")
    said = parser.parse_args()
    wanted = {int(one) for one in said.rows.split(",")} if said.rows else {row.number for row in ROWS}
    if unknown := wanted - {row.number for row in ROWS}:
        parser.error(f"no such row: {sorted(unknown)}")
    seed = random.randrange(1_000_000) if said.seed is None else said.seed
    _prepare()
    print(f"seed {seed}, {time.strftime('%Y-%m-%d %H:%M')}", flush=True)
    board = Board([row for row in ROWS if row.number in wanted], seed, lambda text: print(text, flush=True))
    board.run(said.minutes and said.minutes * 60)
    print(f"\n{table(board.scores)}")
    return 1 if any(score.violations for score in board.scores) else 0


def _prepare() -> None:
    """Work in memory, in an environment without anything that changes what evtool does."""
    for name in [name for name in os.environ if name.startswith("EVTOOL_")]:
        del os.environ[name]
    os.environ["TZ"] = "UTC"
    if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK):
        os.environ["TMPDIR"] = tempfile.tempdir = "/dev/shm"


sys.exit(main())

"""The rows of the scoreboard: what each does, what it is to reach, and how it is gone through again and again.

A row's work is a function `work(directory, random)` somewhere in this package, which does a piece of the row in a fresh
directory and counts what it did. All that is by chance in it comes from `random`, so a seed brings a piece back.
"""

from __future__ import annotations

import importlib
import itertools
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Work = Callable[[Path, random.Random], Counter[str]]

_HANGS_AFTER = 900  # seconds; no piece of work takes as long
_ENOUGH_VIOLATIONS = 5  # the sixth would tell nothing new


@dataclass(frozen=True)
class Row:
    """One row. works: where its functions are, `module:name`. goal: what is to count as much. weight: share of time.

    why_not: why there is nothing to do here for it.
    """

    number: int
    what: str
    works: tuple[str, ...]
    goal: Mapping[str, int]
    weight: int = 1
    why_not: str = ""


_SPECIMENS = ("active", "sealed", "without a seal", "seals")
ROWS = (
    Row(
        1,
        "SIGKILL at every call that changes something",
        ("rounds:append_kills", "test_care_kill:work"),
        {"points": 5000},
        4,
    ),
    Row(2, "random SIGKILL, 16 producers", ("random_kill:work",), {"kills": 100_000, "torn tails": 500}, 6),
    Row(3, "a write torn at every byte of a batch", ("rounds:torn_writes",), {"tears": 200}, 2),
    Row(4, "power cut, both flags", ("outage:ext4", "outage:xfs"), {"cuts": 10_000, "on ext4": 1, "on xfs": 1}, 12),
    Row(5, "crash states replayed", ("crash_states:work",), {"states": 1_000_000}, 3),
    Row(
        6, "EIO at every write, sync, rename, truncate", ("test_failing_call:work",), {"once": 200, "for good": 200}, 2
    ),
    Row(7, "ENOSPC at every byte", ("rounds:full_disks", "test_full_disk_care:work"), {"rooms": 200, "trim": 3}, 2),
    Row(8, "16 producers, 8 readers, checked as a history", ("bustle:work",), {"events": 10_000_000}, 6),
    Row(9, "a consumer killed at every system call", ("consumer_kill:work",), {"points": 1000}, 4),
    Row(10, "every bit of 64 KiB flipped", ("test_flipped_bits:work",), dict.fromkeys(_SPECIMENS, 128 << 10), 3),
    Row(
        11,
        "hostile input, fuzzed",
        ("fuzz:work", "hostile_files:work", "fuzz:work", "fuzz:long_line"),
        {"cases": 1_000_000, "files spoilt": 400, "long lines": 3},
        4,
    ),
    Row(12, "hostile names, links and directories", ("test_hostile_names:work",), {"names": 200}, 2),
    Row(13, "clock ±1 h, ±10 years", ("test_clock:work",), {"jumps": 200}, 2),
    Row(14, "negative controls", ("controls:work",), {"controls caught": 1}, 2),
    Row(15, "branch coverage of the core, mutants killed", (), {}, why_not="see `make mutants`"),
)


@dataclass
class Score:
    """How far a row has come."""

    row: Row
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    why_not: str = ""

    def __post_init__(self) -> None:
        self.why_not = self.row.why_not

    @property
    def reached(self) -> bool:
        """Whether all is counted that is to be, and nothing was found."""
        return (
            not self.violations
            and bool(self.row.goal)
            and all(self.counts[name] >= least for name, least in self.row.goal.items())
        )

    @property
    def is_done(self) -> bool:
        """Whether there is no sense in going on."""
        return self.reached or bool(self.why_not) or len(self.violations) >= _ENOUGH_VIOLATIONS

    @property
    def verdict(self) -> str:
        """One word, or why there is none."""
        if self.violations:
            return f"{len(self.violations)} violations"
        return "yes" if self.reached else self.why_not or "no"

    def counted(self) -> str:
        """The counts in words."""
        return ", ".join(f"{count:,} {name}" for name, count in self.counts.items())

    def goal(self) -> str:
        """The goal in words."""
        return ", ".join(f"{count:,} {name}" for name, count in self.row.goal.items())


class Board:
    """The rows that were chosen, and what has come of them.

    seed: with which seed each row begins; each further piece of it has the next one.
    tell: called with a line when there is something to say.
    """

    def __init__(self, rows: Sequence[Row], seed: int, tell: Callable[[str], None]) -> None:
        self.scores = [Score(row) for row in rows]
        self._seeds = {row.number: itertools.count(seed) for row in rows}
        self._tell = tell

    def run(self, seconds: float | None) -> None:
        """Go through the rows in turn for so long, or once. What a row leaves of its time the others get."""
        end = None if seconds is None else time.monotonic() + seconds
        while waiting := [score for score in self.scores if not score.is_done]:
            while waiting:
                score = waiting.pop(0)
                self._spend(score, _share(score, waiting, end))
            if end is None or time.monotonic() >= end:
                break

    def _spend(self, score: Score, seconds: float) -> None:
        begun = time.monotonic()
        while not score.is_done:
            self._piece(score)
            if time.monotonic() - begun >= seconds:
                break
        score.seconds += time.monotonic() - begun
        self._tell(f"row {score.row.number}: {score.counted() or 'nothing'} in {score.seconds:.0f} s: {score.verdict}")

    def _piece(self, score: Score) -> None:
        """Do one piece of a row's work."""
        seed = next(self._seeds[score.row.number])
        works = score.row.works
        name = works[seed % len(works)]
        try:
            with _fresh_directory() as directory, _limited(_HANGS_AFTER):
                score.counts += _find(name)(directory, random.Random(seed))
        except pytest.skip.Exception as why:
            score.why_not = f"skipped: {why}"
        except (Exception, pytest.fail.Exception) as error:
            score.violations.append(name)
            self._tell(_violation(score.row.number, seed, error))


def _share(score: Score, others: Sequence[Score], end: float | None) -> float:
    """How many seconds a row gets of those that are left, if these are still to come after it."""
    if end is None:
        return 0
    weights = score.row.weight + sum(other.row.weight for other in others)
    return (end - time.monotonic()) * score.row.weight / weights


def _violation(number: int, seed: int, error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    return (
        f"VIOLATION in row {number}: {type(error).__name__} at {place}: {str(error)[:2000]}\n"
        f"    repeat it: python -m tests.faults --rows {number} --seed {seed}"
    )


def _find(name: str) -> Work:
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(f"tests.faults.{module}"), function)
    return work


@contextmanager
def _fresh_directory() -> Iterator[Path]:
    """A directory in memory, where there is room for it."""
    directory = Path(tempfile.mkdtemp(prefix="evtool-torture-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise a TimeoutError in what takes longer than that."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"this has taken {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def table(scores: Sequence[Score]) -> str:
    """All of it as Markdown."""
    rows = [
        (str(one.row.number), one.row.what, one.counted(), one.goal(), one.verdict, f"{one.seconds:.0f}")
        for one in scores
    ]
    head = ("#", "what", "counted", "goal", "reached", "seconds")
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))

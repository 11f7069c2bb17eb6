"""Row 14: all negative controls of this package, as the test suite has them. Each has to catch what it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tests.faults.history import Violation

if TYPE_CHECKING:
    import random
    from pathlib import Path

_HERE = os.path.dirname(__file__)


def work(directory: Path, random: random.Random) -> Counter[str]:
    """Run them; one that passes has caught what was broken for it."""
    report = directory / "report.xml"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "test_control_", f"--junitxml={report}", _HERE]
    seed = str(random.randrange(1_000_000))
    environment = {**os.environ, "FAULT_SEED": seed}
    run = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    counts: Counter[str] = Counter()
    missed = []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            counts["controls skipped"] += 1
        elif case.find("failure") is None and case.find("error") is None:
            counts["controls caught"] += 1
        else:
            missed.append(case.get("name"))
    if missed or run.returncode:
        raise Violation(f"FAULT_SEED={seed}: not caught: {missed}: {run.stdout[-1000:]}")
    return counts

"""Work in a process of its own, which has no threads and little memory, so that it can fork a thousand times a second.

    python -m tests.faults.alone MODULE:FUNCTION DIRECTORY SEED PROTECTION [NUMBER…]

calls FUNCTION(DIRECTORY, random, *numbers) with a protection taken away, or with all of them if that is `-`.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import without
from tests.faults.history import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

_FOUND, _SKIPPED = 3, 4
_HANGS_AFTER = 300  # seconds


def alone(
    work: Callable[..., Counter[str]], directory: Path, random: random.Random, *numbers: int, protection: str = "-"
) -> Counter[str]:
    """Do this work and return what it has counted. Raises the Violation that it has found."""
    name = f"{work.__module__}:{work.__name__}"
    words = [name, str(directory), str(random.randrange(1 << 40)), protection, *map(str, numbers)]
    run = subprocess.run([sys.executable, "-m", "tests.faults.alone", *words], stdout=subprocess.PIPE, check=False)
    if run.returncode == _FOUND:
        raise Violation(run.stdout.decode())
    if run.returncode == _SKIPPED:
        pytest.skip(run.stdout.decode())
    if run.returncode:
        raise AssertionError(f"{name} ended with {run.returncode}")
    return Counter(json.loads(run.stdout))


def _give_up(*_: object) -> None:
    raise TimeoutError(f"this has taken {_HANGS_AFTER} s")


def main() -> int:
    """Do what the command line says."""
    name, directory, seed, protection, *numbers = sys.argv[1:]
    module, _, function = name.partition(":")
    work = getattr(importlib.import_module(module), function)
    if protection != "-":
        without.take_away(protection)
    gc.freeze()
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_HANGS_AFTER)
    try:
        counts = work(Path(directory), random.Random(int(seed)), *map(int, numbers))
    except Violation as violation:
        print(violation, end="")
        return _FOUND
    except pytest.skip.Exception as why:
        print(why, end="")
        return _SKIPPED
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())

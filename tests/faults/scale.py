"""How much of each fault there is. FAULT_SCALE=10 makes ten times as much of it, which takes ten times as long."""

from __future__ import annotations

import os
import random

SCALE = float(os.environ.get("FAULT_SCALE", "1"))


def scaled(number: int) -> int:
    """A number of repetitions, scaled."""
    return max(1, round(number * SCALE))


def step(number: int) -> int:
    """A distance between the places that are tried, scaled: the more there is to be, the smaller."""
    return max(1, round(number / SCALE))


def seeded() -> random.Random:
    """Random numbers; what they begin with is shown when a test fails, and FAULT_SEED brings them back."""
    seed = int(os.environ.get("FAULT_SEED") or random.randrange(1_000_000))
    print(f"FAULT_SEED={seed}")
    return random.Random(seed)

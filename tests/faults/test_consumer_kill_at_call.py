"""A consumer killed at any system call, with jobs, workers and sharing too: a sample of row 9, with its controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import strace
from tests.faults.consumer_kill import check_kills
from tests.faults.history import Violation
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without

if TYPE_CHECKING:
    from tests.program import Program

pytestmark = strace.needed


@pytest.mark.parametrize("mode", ["jobs", "share"])
def test_a_kill_at_any_call_leaves_nothing_unhandled(evtool: Program, mode: str) -> None:
    random = seeded()
    assert check_kills(evtool, mode, lambda names: random.sample(names, scaled(2)), stride=9) >= 1


@pytest.mark.parametrize(
    ("mode", "protection"),
    [("plain", "waiting-to-commit"), ("jobs", "waiting-for-handlers"), ("share alone", "waiting-while-sharing")],
)
def test_control_an_early_acknowledgement_shows(evtool: Program, mode: str, protection: str) -> None:
    starts_handlers = ("clone", "fork", "vfork")  # by whichever name

    def check_some() -> None:
        check_kills(
            Without(evtool.home, protection),
            mode,
            lambda names: [one for one in names if one == "write" or one.startswith(starts_handlers)],
        )

    with pytest.raises(Violation, match="never handled"):
        check_some()

"""Hostile input and hostile files: what is good is stored, the rest is kept aside, and nothing ever crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import fuzz, hostile_files
from tests.faults.alone import alone
from tests.faults.history import Violation
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without
from tests.running import linux

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program

pytestmark = linux

LIMIT = 3000


@pytest.mark.parametrize("options", fuzz.OPTIONS, ids=" ".join)
def test_each_line_is_stored_or_refused_as_it_should_be(evtool: Program, options: list[str]) -> None:
    assert fuzz.feed_lines(evtool, seeded(), options, LIMIT, scaled(4000))["cases"] > 0


def test_lines_as_long_as_they_may_be(evtool: Program) -> None:
    fuzz.feed_lines(evtool, seeded(), [], 1 << 20, scaled(1000))


@pytest.mark.parametrize("options", [[], ["--text"], ["--atomic"], ["--key-from", ".k"]], ids=" ".join)
def test_a_line_without_an_end_takes_little_memory(evtool: Program, options: list[str]) -> None:
    fuzz.feed_long_line(evtool, seeded(), options, 128 << 20)


@pytest.mark.parametrize(
    ("protection", "what"),
    [("validation", "ended with|offset|delimiter"), ("limit", "ended with|offset"), ("set-aside", "was not kept")],
)
def test_control_lines_show_what_is_missing(evtool: Program, protection: str, what: str) -> None:
    def feed_some() -> None:
        for number in range(20):  # a third of all inputs have not one bad line
            crippled = Without(evtool.home.with_name(f"home{number}"), protection)
            fuzz.feed_lines(crippled, seeded(), [], LIMIT, 4000)

    with pytest.raises((Violation, ValueError), match=what):
        feed_some()


def test_control_a_line_that_is_kept_in_memory_shows(evtool: Program) -> None:
    with pytest.raises(Violation, match="MB of memory"):
        fuzz.feed_long_line(Without(evtool.home, "forgetting"), seeded(), [], 128 << 20)


def test_hostile_files_make_no_command_crash(tmp_path: Path) -> None:
    assert alone(hostile_files.spoil, tmp_path, seeded(), scaled(8))["cases"] > 100


def test_control_an_error_that_nobody_foresaw_shows(tmp_path: Path) -> None:
    rounds = 500  # one in forty shows it
    with pytest.raises(Violation, match="Traceback|a defect of evtool"):
        alone(hostile_files.spoil, tmp_path, seeded(), rounds, protection="doubt-of-lines")

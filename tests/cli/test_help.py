"""Help, version, and what is said to a command line that Typer does not understand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import evtool as package
from evtool.cli._table import COMMANDS

if TYPE_CHECKING:
    from tests.program import Program

SHOWN = [name for name in COMMANDS if not name.startswith("_")]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command_once(evtool: Program, flag: str) -> None:
    result = evtool(flag)
    assert (result.code, result.err) == (0, "")
    listed = re.findall(r"^  (\S+)  +\S", result.out.partition("Commands:")[2], re.M)
    assert listed == SHOWN
    assert "\x1b" not in result.out


@pytest.mark.parametrize("command", SHOWN)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_command_lists_its_options(evtool: Program, command: str, flag: str) -> None:
    result = evtool(command, flag)
    assert (result.code, result.err) == (0, "")
    listed = set(re.findall(r"(?<![\w-])--?[a-z0-9][a-z-]*", result.out.partition("Options:")[2]))
    assert set(COMMANDS[command]["options"]) <= listed
    assert result.out.startswith(f"Usage: evtool {command} ")
    assert max(map(len, result.lines)) <= 80


def test_nothing_said_gets_the_help_as_an_error(evtool: Program) -> None:
    result = evtool()
    assert (result.code, result.out) == (2, "")
    assert "Commands:" in result.err


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version(evtool: Program, flag: str) -> None:
    result = evtool(flag)
    assert (result.code, result.out, result.err) == (0, f"evtool {package.__version__}\n", "")
    assert package.__version__ in Path(__file__).parents[2].joinpath("CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["tial", "t"], "tial: no such command\nhint: did you mean tail?"),
        (["zzz"], "zzz: no such command\nhint: see evtool --help"),
        (["--nosuch"], "usage: no such option: --nosuch\nhint: see evtool --help"),
        (["append"], "append: missing argument 'TOPIC'\nhint: see evtool append --help"),
        (["tail", "t", "--nosuch"], "tail: no such option: --nosuch\nhint: see evtool tail --help"),
        (["tail", "t", "-n", "x"], "tail: invalid value for '--count' / '-n': "),
        (["append", "t", "--sync", "often"], "append: invalid value for '--sync': 'often' is not one of"),
    ],
)
def test_a_command_line_that_is_wrong_is_told_in_one_line_with_2(
    evtool: Program, arguments: list[str], complaint: str
) -> None:
    result = evtool(*arguments, input="1\n")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"evtool: {complaint}")
    assert result.err.count("\n") == 2
    assert not evtool.home.exists()

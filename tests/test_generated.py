"""Argument table, completions and the OPTIONS of the man pages follow from the declaration, and are checked to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
GENERATED = [
    "evtool/cli/_table.py",
    "completions/evtool.bash",
    "completions/_evtool",
    "completions/evtool.fish",
    "man/evtool-append.1",
    "man/evtool-groups.1",
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project without what it does not need for this."""
    for name in ("evtool", "completions", "man"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evtool.cli.generate", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_what_is_generated_is_current(copy: Path) -> None:
    run = generate(copy, "--check")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("name", GENERATED)
def test_control_a_file_that_is_not_current_is_named_and_made_so(copy: Path, name: str) -> None:
    path = copy / name
    before = path.read_text()
    lines = before.splitlines(keepends=True)
    begin = next((number for number, text in enumerate(lines) if "BEGIN OPTIONS" in text), 0)
    at = next(at for at in range(begin, len(lines)) if "verbose" in lines[at] or "json" in lines[at])
    path.write_text(
        "".join([*lines[:at], lines[at].replace("json", "jsno").replace("verbose", "terse"), *lines[at + 1 :]])
    )
    run = generate(copy, "--check")
    assert (run.returncode, run.stdout) == (1, f"{name}: not current, run `make generate`\n")
    run = generate(copy)
    assert (run.returncode, run.stdout) == (0, f"{name}: written\n")
    assert path.read_text() == before


def test_a_new_option_is_everywhere(copy: Path) -> None:
    declaration = copy / "evtool/cli/app.py"
    text = declaration.read_text()
    new = '    shiny: Annotated[bool, typer.Option("--shiny", help="Make it shine.")] = False,\n'
    before = "    verbose: Annotated["
    declaration.write_text(text.replace(before, new + before, 1))
    run = generate(copy)
    assert run.returncode == 0, run.stderr
    written = {line.split(":")[0] for line in run.stdout.splitlines()}
    assert written == {"evtool/cli/_table.py", *GENERATED[1:4], "man/evtool-append.1"}
    assert all("shiny" in (copy / name).read_text() for name in written)

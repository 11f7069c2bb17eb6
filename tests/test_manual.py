"""The manual is true: every example with a `$ ` in front is run, page by page, and must write what the page says.

What differs from run to run (times, checksums, ages, processes) is compared as a form; everything else word for word.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "man").glob("evtool*"))
ELSEWHERE = "evtool-nats.7"  # needs a server; see tests/nats/test_manual_nats.py
TOOLS = ("mandoc", "jq", "flock", "seq")
MARK = "~~ end of a command ~~"
VARYING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?", "TIME"),
    (r'"crc":"[0-9a-f]{8}"', '"crc":"CRC"'),
    (r'("age_seconds"|"lag_seconds"):[\d.]+', r"\1:AGE"),
    (r"(\t| )+\d+\.\d{3,6}\b", " AGE"),
    (r"process \d+", "process PID"),
    (r"@(\d+)\.\d{15,}", r"@\1.TIME"),  # in the name of a file of damaged bytes
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"\s+", " "),
)

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"the examples need {', '.join(TOOLS)}"
)


def examples(page: Path) -> list[tuple[str, list[str]]]:
    """The commands of a page, each with the lines that it is said to write."""
    rendered = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=100", str(page)], capture_output=True, text=True, check=True
    ).stdout
    found: list[tuple[str, list[str]]] = []
    indent, is_inside = "", False
    for line in re.sub(r".\x08", "", rendered).splitlines():
        if start := re.match(r"( *)\$ (.*)", line):
            indent, is_inside = start[1], True
            found.append((start[2], []))
        elif not is_inside or not line.strip() or not line.startswith(indent):
            is_inside = False
        elif line.startswith(f"{indent}> "):
            found[-1] = (f"{found[-1][0]}\n{line[len(indent) + 2 :]}", [])
        else:
            found[-1][1].append(line[len(indent) :])
    return found


def form(text: str) -> str:
    """A text with what differs from run to run taken out of it."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text.strip()


def outputs(commands: list[str], directory: Path) -> list[str]:
    """What these commands write, run one after the other by one shell in a fresh home."""
    programs, work = directory / "bin", directory / "work"
    programs.mkdir()
    work.mkdir()
    program = programs / "evtool"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evtool "$@"\n')
    program.chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)
    script = "exec 2>&1\n" + "".join(f"{one}\n_code=$?; echo; echo '{MARK}'; (exit $_code)\n" for one in commands)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "EVTOOL_HOME": str(directory / "home"),
        "LC_ALL": "C.UTF-8",
    }
    run = subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, env=environment, cwd=work, timeout=100, check=False
    )
    whole = run.stdout.replace(str(directory / "home"), "~/.local/share/evtool")
    return whole.split(f"\n{MARK}\n")[: len(commands)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != ELSEWHERE], ids=lambda page: page.name)
def test_every_example_of_the_page_writes_what_the_page_says(page: Path, tmp_path: Path) -> None:
    known = examples(page)
    written = outputs([command for command, _ in known], tmp_path)
    for (command, expected), output in zip(known, written, strict=True):
        assert form(output) == form("\n".join(expected)), command


def test_the_pages_have_examples() -> None:
    """If the pages came to be written in another way, the test above would find nothing to run and be content."""
    assert len(PAGES) == 27
    assert sum(len(examples(page)) for page in PAGES) > 150


def test_a_wrong_line_is_noticed(tmp_path: Path) -> None:
    """The negative control: a page that claims another output than there is."""
    page = tmp_path / "page.1"
    page.write_text(".TH P 1\n.SH EXAMPLES\n.nf\n$ evtool append t 1 \\-\\-offsets\n7\n.fi\n")
    ((command, expected),) = examples(page)
    (output,) = outputs([command], tmp_path)
    assert (form(output), expected) == ("0", ["7"])

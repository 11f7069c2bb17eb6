"""The README is true: what it shows has been run, word for word.

Its blocks in ```console are run in a terminal, one after the other in one home, and must show what they say; ``…``
in a line stands for what differs from run to run, a line of nothing but ``…`` for any lines. A block in ```python is
the file that its first line names. Blocks in ```sh cannot be run here (they are for mail, sensors, other programs):
their lines of evtool are read by evtool itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Shell = Callable[[list[str]], list[list[str]]]

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "~~ end of a command ~~"


def blocks(*languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of the README in these languages, in order: language and text."""
    return [(language, text) for language, text in FENCE.findall(README) if language in languages]


def transcript(block: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it is said to write."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *rest = part.splitlines()
        while rest and rest[0].startswith("> "):
            command += "\n" + rest.pop(0)[2:]
        yield command, rest


def pattern(expected: list[str]) -> re.Pattern[str]:
    """What lines must match to be these."""
    lines = [r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".+") + r" *\n" for line in expected]
    return re.compile("".join(lines))


def difference(expected: list[str], output: list[str]) -> str:
    """What to say if a command did not write what it is said to write; empty if it did."""
    text = "".join(f"{line.rstrip()}\n" for line in output)
    stripped = re.sub(r"\A\n+|(?<=\n)\n+\Z", "", text)
    if pattern(expected).fullmatch(stripped):
        return ""
    return f"is said to write\n{chr(10).join(expected)}\n\nbut wrote\n{stripped}"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs commands in one shell on a terminal, as a user with a home of their own, and gives out what each wrote."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, arguments in (("evtool", " -m evtool"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    user = tmp_path / "user"
    user.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVTOOL_", "XDG_"))}
    environment = kept | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(user),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }

    def run(commands: list[str]) -> list[list[str]]:
        script = "".join(f"{command}\n{{ _code=$?; echo; echo '{MARK}'; (exit $_code); }}\n" for command in commands)
        wrote = on_terminal(["/bin/sh", "-c", script], environment, user)
        parts = wrote.split(f"\n{MARK}\n")
        assert len(parts) == len(commands) + 1, wrote
        return [part.split("\n") for part in parts[:-1]]

    return run


def on_terminal(command: list[str], environment: dict[str, str], directory: Path) -> str:
    """Run a command whose output goes to a terminal, and return what it wrote there."""
    ours, terminal = os.openpty()
    flags = termios.tcgetattr(terminal)
    flags[1] &= ~termios.OPOST  # newlines stay newlines
    termios.tcsetattr(terminal, termios.TCSANOW, flags)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment, cwd=directory
    )
    os.close(terminal)
    wrote = b""
    try:
        while chunk := read_some(ours):
            wrote += chunk
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return wrote.decode()


def read_some(fd: int) -> bytes:
    """What comes next from a terminal, or nothing when nobody writes to it any more."""
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: Linux says so when the other side is closed
        return b""


def test_every_transcript_shows_what_the_program_writes(tmp_path: Path, shell: Shell) -> None:
    """All console blocks, in order, in one home; Python blocks are the files that they name."""
    ran = 0
    for language, text in blocks("console", "python"):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"the first line of a Python block names its file: {text}"
            (tmp_path / "user" / name[1]).write_text(text)
            continue
        steps = list(transcript(text))
        for (command, expected), output in zip(steps, shell([command for command, _ in steps]), strict=True):
            wrong = difference(expected, output)
            assert not wrong, f"$ {command}\n{wrong}"
            ran += 1
    assert ran >= 20


def test_every_python_file_of_the_readme_is_run_by_a_transcript() -> None:
    names = [text.split()[1] for _, text in blocks("python")]
    assert names
    assert [name for name in names if f"$ python3 {name}" not in README] == []


@pytest.mark.parametrize(
    ("expected", "fits"),
    [
        (["one", "     0  …  {}"], True),
        (["one", "…"], True),
        (["…", "     0  2026  {}"], True),
        (["one"], False),
        (["one", "     1  …  {}"], False),
        (["one", "…  {}", "more"], False),
        (["on.", "     0  …  {}"], False),
        (["one…", "     0  …  {}"], False),
        (["one … {}"], False),
        ([], False),
    ],
)
def test_a_transcript_that_is_not_what_was_written_is_caught(expected: list[str], fits: bool) -> None:
    """The negative control of the comparison: ``…`` is at least one character, and of one line."""
    assert (not difference(expected, ["", "one", "     0  2026  {}  ", "", ""])) is fits


def test_a_wrong_digit_in_the_first_transcript_is_caught(shell: Shell) -> None:
    """The negative control of the whole: the README's own first block, with one figure changed at a time."""
    steps = list(transcript(blocks("console")[0][1]))
    outputs = shell([command for command, _ in steps])
    assert not any(difference(expected, output) for (_, expected), output in zip(steps, outputs, strict=True))
    changed = 0
    for (_, expected), output in zip(steps, outputs, strict=True):
        for at, line in enumerate(expected):
            wrong = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), line, count=1)
            if wrong != line:
                assert difference([*expected[:at], wrong, *expected[at + 1 :]], output)
                changed += 1
    assert changed >= 3


READER = """#!{python}
import sys
sys.path.insert(0, {root!r})
from evtool.cli import argv
words, handler = argv.split_handler(sys.argv[1:])
understood = argv.recognise(words) is not None or words in (["--version"], ["--help"])
with open({record!r}, "a") as record:
    record.write(__import__("json").dumps([understood, sys.argv[1:]]) + "\\n")
"""


def read_by_evtool(script: str, directory: Path) -> list[tuple[bool, list[str]]]:
    """The command lines that a shell gives evtool in this script, and whether evtool understands each.

    Nothing else can run: there is no other program on the PATH.
    """
    record = directory / "record"
    record.touch()
    reader = directory / "bin" / "evtool"
    reader.parent.mkdir(parents=True)
    reader.write_text(READER.format(python=sys.executable, root=str(ROOT), record=str(record)))
    reader.chmod(0o755)
    environment = {"PATH": str(reader.parent)}
    run = subprocess.run(
        ["/bin/sh"], input=script, text=True, capture_output=True, timeout=60, cwd=directory, env=environment
    )
    assert "yntax error" not in run.stderr, run.stderr
    return [(understood, arguments) for understood, arguments in map(json.loads, record.read_text().splitlines())]


def test_evtool_understands_every_command_line_in_the_readme(tmp_path: Path) -> None:
    """The sh blocks, read by a shell and by evtool's own reader of arguments."""
    scripts = [text for _, text in blocks("sh")]
    seen = []
    for number, script in enumerate(scripts):
        directory = tmp_path / str(number)
        directory.mkdir()
        seen += read_by_evtool(script, directory)
    assert [arguments for understood, arguments in seen if not understood] == []
    assert len(seen) >= sum(len(re.findall(r"^evtool |\| evtool ", script, re.MULTILINE)) for script in scripts) > 8


def test_an_option_that_is_none_would_be_caught(tmp_path: Path) -> None:
    """The negative control of that."""
    assert read_by_evtool("cat x | evtool append t --txet", tmp_path) == [(False, ["append", "t", "--txet"])]


def test_the_readme_names_the_two_commands_on_its_first_screen() -> None:
    first = "\n".join(README.splitlines()[:40])
    assert "make demo" in first
    assert "make test" in first


def test_links_of_the_readme_lead_to_files_that_are_there() -> None:
    places = [place for place in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in place]
    assert places
    assert [place for place in places if not (ROOT / place).exists()] == []

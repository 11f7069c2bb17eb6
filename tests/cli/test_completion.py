"""Completion: what the program offers, and what each shell makes of it when TAB is pressed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.program import PATIENCE, Program
from tests.topics import append, write_commit

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).resolve().parents[2] / "completions"

# What is typed before TAB, and what its last word becomes; one that is the only one that fits.
COMPLETED = {
    "evtool app": "append",
    "evtool subscr": "subscribe",
    "evtool append ord": "orders",
    "evtool tail users ord": "orders",
    "evtool tail ord": "orders",
    "evtool topics us": "users",
    "evtool tail orders --fol": "--follow",
    "evtool tail orders --output pre": "pretty",
    "evtool append orders --sync al": "always",
    "evtool subscribe orders --group bil": "billing",
    "evtool subscribe orders -g bil": "billing",
    "evtool replay orders --from earl": "earliest",
    "evtool replay orders --until lat": "latest",
    "evtool diff orders lat": "latest",
    "evtool seek orders --group billing --to ear": "earliest",
    "evtool fanout orders --to fi": "file:",
    "evtool set orders retention=k": "retention=keep",
    "evtool set orders max-a": "max-age=",
    "evtool seek users -g wa": "wages",
    "evtool diff users group:": "group:wages",
    "evtool rm orders --group ": "billing",
}
# What is left as it was typed: nothing fits, or only the user knows.
LEFT = (
    "evtool tail nosuch",
    "evtool append orders --key ord",
    "evtool compact orders --grace yest",
    "evtool create ord",
    "evtool rm users --group bil",
    "evtool diff users group:bil",
    "evtool append orders --attr max",
)
SHORTER_IN_BASH = {  # it splits words there
    "evtool set orders retention=k": "keep",
    "evtool diff users group:": "wages",
}


@pytest.fixture(autouse=True)
def topics(evtool: Program) -> None:
    for topic in ("orders", "users"):
        append(evtool, topic, "1")
    write_commit(evtool, 0, "orders", "billing")
    write_commit(evtool, 0, "users", "wages")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an `evtool` where shells find it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    script = directory / "evtool"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evtool "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


# The program


def offered(evtool: Program, *arguments: str) -> list[str]:
    result = evtool("__complete", *arguments)
    assert (result.code, result.err) == (0, "")
    return result.lines


def test_the_program_offers_what_there_is(evtool: Program) -> None:
    assert offered(evtool, "topics") == ["orders", "users"]
    assert offered(evtool, "topics", "u") == ["users"]
    assert offered(evtool, "groups") == ["billing", "wages"]
    assert {"earliest", "latest", "group:billing", "group:wages"} <= set(offered(evtool, "where"))
    assert {"max-age=", "retention=keep", "retention=consumed"} <= set(offered(evtool, "settings"))
    assert {"topic:orders", "file:", "exec:"} <= set(offered(evtool, "sinks"))
    assert offered(evtool, "nosuch") == []


def test_the_program_offers_groups_of_the_topics_that_were_said(evtool: Program) -> None:
    assert offered(evtool, "groups", "", "users") == ["wages"]
    assert offered(evtool, "groups", "", "users", "orders") == ["billing", "wages"]
    assert offered(evtool, "groups", "b", "users") == []
    assert offered(evtool, "groups", "", "none", "../users", "") == ["billing", "wages"]
    where = offered(evtool, "where", "", "orders", "earliest")
    assert [word for word in where if word.startswith("group:")] == ["group:billing"]


def test_the_program_is_silent_where_there_is_nothing_to_offer(evtool: Program) -> None:
    for kind in ("topics", "groups"):
        result = evtool("__complete", kind, env={"EVTOOL_HOME": "/nonexistent"})
        assert (result.code, result.out, result.err) == (0, "", "")
    evtool.home.chmod(0o777)
    result = evtool("__complete", "topics")
    assert (result.code, result.out, result.err) == (0, "", "")


# bash

IN_BASH = """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
read -ra COMP_WORDS <<< "$COMP_LINE"
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
$(complete -p evtool | sed -n 's/.*-F \\([^ ]*\\) .*/\\1/p')
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(typed: str) -> list[str]:
    command = ["bash", "--norc", "-c", IN_BASH, "bash", str(SCRIPTS / "evtool.bash"), typed]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert run.stderr == ""
    return [word.rstrip() for word in run.stdout.splitlines()]


@needs("bash")
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("typed", COMPLETED)
def test_bash_completes(typed: str) -> None:
    assert in_bash(typed) == [SHORTER_IN_BASH.get(typed, COMPLETED[typed])]


@needs("bash")
@pytest.mark.usefixtures("path")
def test_bash_completes_behind_its_own_separators() -> None:
    assert in_bash("evtool tail orders --output=pre") == ["pretty"]
    assert in_bash("evtool replay orders --from group:bil") == ["billing"]


@needs("bash")
@pytest.mark.usefixtures("path")
def test_bash_offers_nothing_for_what_only_the_user_knows() -> None:
    for typed in LEFT:
        assert in_bash(typed) == [""], typed


# fish


@needs("fish")
@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("typed", COMPLETED)
def test_fish_completes(typed: str, tmp_path: Path) -> None:
    code = 'source $argv[1]; complete -C "$argv[2]"'
    run = subprocess.run(
        ["fish", "--no-config", "-c", code, str(SCRIPTS / "evtool.fish"), typed],
        env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert [line.split("\t")[0] for line in run.stdout.splitlines()] == [COMPLETED[typed]]


# zsh


class Zsh:
    """An interactive zsh with our completion, on a terminal. What it would run it prints."""

    def __init__(self, directory: Path) -> None:
        shutil.copy(SCRIPTS / "_evtool", directory)
        pid, self._fd = pty.fork()
        if pid == 0:
            environment = {**os.environ, "TERM": "dumb", "ZDOTDIR": str(directory), "HOME": str(directory)}
            os.execvpe("zsh", ["zsh", "-f", "-i"], environment)
        self._pid = pid
        self._seen = ""
        self.type(f"PS1= PS2= ; fpath=({directory} $fpath); autoload -U compinit; compinit -u -D\n")
        self.type('evtool() { [[ $1 == __complete ]] && command evtool "$@" || print -r -- RAN: ${(qq)@} END }\n')
        self.type("print READY$((1))\n")
        self.expect("READY1")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, text: str) -> str:
        """What it prints up to this text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._fd], [], [], 0.1)[0]:
                self._seen += os.read(self._fd, 4096).decode(errors="replace")
        before, _, self._seen = self._seen.partition(text)
        return before

    def completed(self, typed: str) -> list[str]:
        """The words of a command line after TAB."""
        self.type(f"{typed}\t\n")
        self.expect("RAN: ")
        return [word.strip("'") for word in self.expect(" END").split()]

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)


@pytest.fixture
def zsh(path: None, tmp_path: Path) -> Iterator[Zsh]:
    shell = Zsh(tmp_path)
    yield shell
    shell.close()


@needs("zsh")
def test_zsh_completes(zsh: Zsh) -> None:
    for typed, word in COMPLETED.items():
        before = typed.rpartition(" ")[0]
        assert zsh.completed(typed) == [*before.split()[1:], word]


@needs("zsh")
def test_control_zsh_leaves_alone_what_it_does_not_know(zsh: Zsh) -> None:
    for typed in LEFT:
        assert zsh.completed(typed) == typed.split()[1:]

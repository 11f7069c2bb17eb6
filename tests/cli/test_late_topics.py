"""A topic that is waited for and appears before the first look at it: all of it is given out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program

# Appends once the program has looked whether the topic is there. MISTAKEN: as if it had been there.
CODE = """
import os
from evtool.cli import reading
check = reading.check_there
def check_there(args, store, patterns, *, wait):
    there = check(args, store, patterns, wait=wait)
    writer = store.ensure_topic("o.t").writer()
    writer.append([b'"data":%d' % number for number in range(20)])
    return ["o.t"] if os.environ.get("MISTAKEN") else there
reading.check_there = check_there
from evtool.__main__ import main
main()
"""
COMMANDS = [
    "tail o.t -f",
    "replay o.t --from latest -f",
    "subscribe o.t",
    "subscribe o.*",
    "subscribe o.t -g g",
    "subscribe o.t -g g -- cat",
    "subscribe o.t -g g --share -- cat",
    "fanout o.t --to file:./copy",
    "mirror . ./other o.t --from latest --follow",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_of_a_topic_that_was_waited_for_comes(evtool: Program, tmp_path: Path, command: str) -> None:
    with _started(evtool, tmp_path, command) as running:
        wait_until(lambda: _given(running, tmp_path) == list(range(20)), "all events")


@pytest.mark.parametrize("command", COMMANDS)
def test_control_of_one_that_was_there_only_the_end_comes(evtool: Program, tmp_path: Path, command: str) -> None:
    """The last ten of `tail`; nothing of all others, which is known once what comes next is there."""
    with _started(evtool, tmp_path, command, MISTAKEN="1") as running:
        known = list(range(10, 20)) if command.startswith("tail") else []
        number = 20
        while not (given := _given(running, tmp_path)[len(known) :]):
            assert evtool("append", "o.t", str(number)).code == 0
            number += 1
        assert 20 <= given[0] < number


def _started(evtool: Program, tmp_path: Path, command: str, **env: str) -> Running:
    arguments = command.replace(" . ", f" {evtool.home} ").replace("./", f"{tmp_path}/").split()
    return Running(evtool, *arguments, code=CODE, env=env)


def _given(running: Running, tmp_path: Path) -> list[int]:
    """The data of what was given out so far, on standard output, in a file, or in another log."""
    files = [tmp_path / "copy", *tmp_path.glob("other/topics/o.t/*.jsonl")]
    lines = running.out + "".join(path.read_text() for path in files if path.exists())
    return [json.loads(line)["data"] for line in lines.split("\n")[:-1]]

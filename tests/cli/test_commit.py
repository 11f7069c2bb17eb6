"""evtool subscribe --manual | … | evtool commit: the group moves over what came out at the far end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.program import PATIENCE, Program, Result, wait_until
from tests.running import Running
from tests.topics import append, committed, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

MANUAL = ["subscribe", "t", "-g", "g", "--from=earliest", "--manual"]
ROOT = str(Path(__file__).parents[2])


def pipe(evtool: Program, script: str) -> Result:
    """Run a shell script in which evtool is the program."""
    prelude = f'evtool() {{ "{sys.executable}" -m evtool "$@"; }}\n'
    environment = evtool.environment({}) | {"PYTHONPATH": ROOT}
    run = subprocess.run(["bash", "-c", prelude + script], env=environment, capture_output=True, timeout=PATIENCE)
    return Result(run.returncode, run.stdout, run.stderr)


def given(evtool: Program, *options: str) -> Sequence[str]:
    """The lines that are given out to be committed."""
    return [f"{line}\n" for line in evtool(*MANUAL, "--drain", *options).lines]


def test_nothing_is_committed_by_giving_out(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 4))
    first = evtool(*MANUAL, "--drain")
    assert committed(evtool) == 0
    assert [event["data"] for event in first.events] == list(range(5))
    assert {(event["topic"], event["evgroup"]) for event in first.events} == {("t", "g")}


def test_what_comes_out_is_committed_and_what_was_dropped_before_it(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 4))
    lines = given(evtool)
    assert evtool("commit", input=lines[0]).code == 0
    # the giver had come to its end, so what did not come out was dropped
    assert committed(evtool) == 5


def test_a_pipe_that_was_cut_commits_only_what_came_out(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 9))
    with Running(evtool, *MANUAL) as giver:
        wait_until(lambda: giver.out.count("\n") == 10)
        lines = giver.out.splitlines(keepends=True)
        result = evtool("commit", "-v", input=lines[0] + lines[3] + lines[5])
        assert (result.code, result.err) == (0, "evtool: t: group g has committed offset 6\n")
        assert committed(evtool) == 6
        giver.end(signal.SIGKILL)
    assert evtool("commit", input=lines[6]).code == 0
    assert committed(evtool) == 7
    assert [event["data"] for event in evtool(*MANUAL, "--drain").events] == [7, 8, 9]


def test_a_whole_pipeline_with_a_filter(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 99))
    result = pipe(evtool, f"evtool {' '.join(MANUAL)} --drain | grep '5}}$' | evtool commit")
    assert (result.code, result.err) == (0, "")
    assert committed(evtool) == 100


def test_a_filter_that_drops_all_moves_a_group_that_is_named(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 4))
    pipe(evtool, f"evtool {' '.join(MANUAL)} --drain | grep nothing | evtool commit")
    assert committed(evtool) == 0
    result = pipe(
        evtool, f"evtool {' '.join(MANUAL)} --drain | grep nothing | {{ cat; evtool commit t -g g </dev/null; }}"
    )
    assert (result.code, result.err) == (0, "")
    assert committed(evtool) == 5


def test_nobody_commits_for_a_group_that_another_has_taken_over(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 4))
    lines = given(evtool)
    with Running(evtool, *MANUAL, "--count=9"):
        wait_until(lambda: evtool("groups", "--json").events[0]["active"])
        wait_until(lambda: refused(evtool, lines), "the refusal")
    assert committed(evtool) == 0


def refused(evtool: Program, lines: Sequence[str]) -> bool:
    result = evtool("commit", input=lines[0])
    return result.code == 4 and "another process consumes for the group by now" in result.err


def test_what_did_not_come_from_there_is_refused_with_its_number(evtool: Program) -> None:
    append(evtool, "t", "0", "1")
    lines = given(evtool)
    for bad in ("no\n", "{}\n", "5\n", '{"topic":"t","evgroup":"g","evmember":"x","offset":"1"}\n', "[1]\n"):
        result = evtool("commit", input=lines[0] + bad)
        assert result.code == 65, bad
        assert result.err.startswith("evtool: line 2: is no event that `subscribe --manual` gave out\nhint: ")
    assert committed(evtool) == 1


def test_it_asks_for_lines_of_manual_and_not_of_a_handler(evtool: Program) -> None:
    append(evtool, "t", "0")
    result = evtool("subscribe", "t", "--manual")
    assert (result.code, result.err) == (2, "evtool: subscribe: --manual needs a --group\n")
    assert evtool("commit", "t").code == 2


def test_several_topics_are_committed_each_by_itself(evtool: Program) -> None:
    append(evtool, "a", "0", "1")
    append(evtool, "b", "0")
    options = ["a", "b", "-g", "g", "--from=earliest", "--manual", "--drain"]
    assert evtool("commit", input=evtool("subscribe", *options).raw).code == 0
    assert (committed(evtool, "a"), committed(evtool, "b")) == (2, 1)

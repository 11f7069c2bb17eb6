"""evtool subscribe --manual | … | evtool commit: the group moves over what came out at the far end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.conformance.subject import Subject, await_lines, numbered, succeed
from tests.program import PATIENCE, Result, wait_until
from tests.running import Running

MANUAL = ["subscribe", "t", "-g", "g", "--from=earliest", "--manual"]
ROOT = str(Path(__file__).parents[2])


def pipe(evtool: Subject, script: str) -> Result:
    """Run a shell script in which evtool is the program, and GIVE and KEEP the two ends of the pipe."""
    prelude = f'evtool() {{ "{sys.executable}" -m evtool "$@"; }}\n'
    environment = evtool.environment({}) | {"PYTHONPATH": ROOT}
    run = subprocess.run(["bash", "-c", prelude + script], env=environment, capture_output=True, timeout=PATIENCE)
    return Result(run.returncode, run.stdout, run.stderr)


def test_a_pipeline_commits_what_came_out_and_what_was_dropped_on_the_way(evtool: Subject) -> None:
    offsets = evtool.put("t", input=numbered(100))
    succeed(pipe(evtool, f"evtool {' '.join(MANUAL)} --drain | grep '5}}$' | evtool commit"))
    assert evtool.committed() == offsets[-1] + 1
    (last,) = evtool.put("t", "100")
    end = "{ cat; evtool commit t -g g </dev/null; }"
    succeed(pipe(evtool, f"evtool {' '.join(MANUAL)} --drain | grep nothing | {end}"))
    assert evtool.committed() == last + 1


def test_giving_out_commits_nothing_and_a_cut_pipe_what_came_out(evtool: Subject) -> None:
    """Lines say their topic, group and member; the next one begins where the pipe was cut."""
    offsets = evtool.put("t", input=numbered(10))
    with Running(evtool, *MANUAL) as giver:
        lines = await_lines(giver, 10)
        assert evtool.committed() == offsets[0]
        result = evtool("commit", "-v", input=lines[0] + lines[3] + lines[5])
        assert (result.code, result.err) == (0, f"evtool: t: group g has committed offset {offsets[5] + 1}\n")
        assert evtool.committed() == offsets[6]
        giver.end(signal.SIGKILL)
    assert evtool("commit", input=lines[6]).code == 0
    again = succeed(evtool(*MANUAL, "--drain")).events
    assert [event["data"] for event in again] == [7, 8, 9]
    assert {(event["topic"], event["evgroup"]) for event in again} == {("t", "g")}


def test_nobody_commits_for_a_group_that_another_has_taken_over(evtool: Subject) -> None:
    offsets = evtool.put("t", "0", "1")
    lines = evtool(*MANUAL, "--drain").out.splitlines(keepends=True)
    with Running(evtool, *MANUAL) as other:
        await_lines(other, 2)
        wait_until(lambda: evtool("commit", input=lines[0]).code == 4, "the refusal")
        refused = evtool("commit", input=lines[0])
        assert "another process consumes for the group by now" in refused.err
        assert evtool.committed() == offsets[0]
        other.end(signal.SIGTERM)


def test_what_was_not_given_out_is_refused(evtool: Subject) -> None:
    offsets = evtool.put("t", "0", "1")
    lines = evtool(*MANUAL, "--drain").out.splitlines(keepends=True)
    result = evtool("commit", input=lines[0] + "{}\n")
    assert result.code == 65
    assert result.err.startswith("evtool: line 2: is no event that `subscribe --manual` gave out\n")
    assert evtool.committed() == offsets[1]
    assert evtool("commit", "none", "-g", "g").code == 3


def test_several_topics_are_committed_each_by_itself(evtool: Subject) -> None:
    evtool.put("a", "0", "1")
    evtool.put("b", "0")
    given = evtool("subscribe", "a", "b", "-g", "g", "--from=earliest", "--manual", "--drain")
    succeed(evtool("commit", input=given.raw))
    for topic in ("a", "b"):
        row = evtool.row(topic)
        assert (row["committed"], row["lag"]) == (row["end"], 0)

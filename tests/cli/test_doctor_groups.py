"""evtool doctor on groups: those that stand nowhere, that wait for somebody, or that hold something back."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.doctor import finding, findings, locked, mend, segments_of, text_of
from tests.program import Program, wait_until
from tests.running import Running, linux
from tests.topics import append, commits_file, numbers, write_commit

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400.0
GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]


def test_a_group_beyond_the_end_is_found(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 4))
    write_commit(evtool, 5)
    assert findings(evtool) == []
    write_commit(evtool, 6)
    found = finding(evtool)
    assert found["severity"] == "problem"
    assert (found["what"], found["why"]) == ("t, group g", "has committed offset 6, but the log ends before 5")
    mend(evtool, found)
    assert findings(evtool) == []


def test_a_group_whose_commits_are_damaged_is_found(evtool: Program) -> None:
    append(evtool, "t", "1")
    write_commit(evtool, 1)
    commits_file(evtool).write_text("no commit\n")
    found = finding(evtool)
    assert (found["severity"], found["what"], found["mend"]) == ("problem", "t, group g", "evtool repair t")
    mend(evtool, found, "--yes")
    assert findings(evtool) == []


def test_a_group_that_will_miss_events_is_told_how_many(evtool: Program) -> None:
    segments_of(evtool, "t")
    write_commit(evtool, 1)
    write_commit(evtool, 8, group="ahead")
    assert findings(evtool) == []
    assert evtool("trim", "t", "--before=6", "--yes").code == 0
    earliest = int(evtool.segments("t")[0].stem)
    assert earliest > 2
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", "t, group g")
    assert found["why"].startswith(f"will miss {earliest - 1} events, ")
    mend(evtool, found)
    assert findings(evtool) == []


def test_dead_letters_wait_until_they_are_sent_through_again(evtool: Program) -> None:
    append(evtool, "t", *numbers(0, 1))
    evtool(*GROUP, "--drain", "--retries=0", "--", "false")
    found = finding(evtool)
    assert (found["severity"], found["what"], found["mend"]) == ("advice", "t", "evtool dead t")
    assert found["why"] == "2 events could not be handled and are set aside"
    mend(evtool, found)
    assert evtool("redrive", "t", "--offset=0").code == 0
    assert finding(evtool)["why"] == "1 event could not be handled and is set aside"
    assert evtool("redrive", "t", "--all").code == 0
    assert findings(evtool) == []


@linux
def test_leases_of_a_process_that_is_gone_wait_for_a_consumer(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 4))
    block, handler = tmp_path / "block", tmp_path / "handler"
    block.touch()
    handler.write_text(f"#!/bin/sh\nwhile test -e {block}; do sleep 0.01; done\n")
    handler.chmod(0o755)
    with Running(evtool, *GROUP, "--share", "--lease=1s", "--", str(handler)) as consumer:
        wait_until(lambda: '"lease"' in text_of(commits_file(evtool)))
        assert findings(evtool) == []
        consumer.end(signal.SIGKILL)
    block.unlink()
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", "t, group g")
    assert f"process {consumer.process.pid} on {os.uname().nodename} left with " in found["why"]
    assert found["mend"] == f"evtool subscribe t --group g --share -- {handler}"
    mend(evtool, found, "& until evtool groups t | cut -f 5 | grep -qx 0; do sleep 0.1; done; kill $!; wait")
    assert findings(evtool) == []


def test_a_command_that_cannot_be_told_from_the_commits_is_left_open(evtool: Program) -> None:
    """A handler's words are joined there, so that what was quoted cannot be seen."""
    append(evtool, "t", *numbers(0, 4))
    with Running(evtool, *GROUP, "--share", "--", "sh", "-c", "sleep 2; true") as consumer:
        wait_until(lambda: '"lease"' in text_of(commits_file(evtool)))
        consumer.end(signal.SIGKILL)
    assert finding(evtool)["mend"] == "evtool subscribe t --group g --share -- COMMAND"


def test_a_group_that_nobody_serves_and_that_keeps_segments_from_going_is_found(evtool: Program) -> None:
    segments_of(evtool, "t", "retention=consumed")
    write_commit(evtool, 0, seconds=1e9)
    write_commit(evtool, 1, group="behind")
    write_commit(evtool, 10, group="ahead")
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("advice", "t, group behind")  # the first one has lapsed long ago
    assert found["mend"] == "evtool rm t --group behind"
    lock = commits_file(evtool).with_name("behind.lock")
    lock.touch(0o600)
    with locked(lock):  # as by whoever consumes for it
        assert findings(evtool) == []
    mend(evtool, finding(evtool), "--yes")
    assert findings(evtool) == []

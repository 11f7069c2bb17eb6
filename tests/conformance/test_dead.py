"""evtool dead and redrive: what could not be handled, and once more through the group."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.conformance.subject import Subject, await_that, numbered, succeed
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path


def fail(evtool: Subject, fixed: Path, group: str = "g") -> int:
    """Let a group set aside all that it has, unless the file is there."""
    command = ["subscribe", "t", "-g", group, "--from=earliest", "--drain", "--retries=0", "-q"]
    return evtool(*command, "--", "sh", "-c", f"test -e {fixed} && echo $EVTOOL_OFFSET >>{fixed}").code


def test_letters_are_listed_and_sent_through_again(evtool: Subject, tmp_path: Path) -> None:
    """Each once, to the group that had set them aside alone; those that went are listed with --all."""
    offsets = evtool.put("t", "0", "1", "2")
    fixed = tmp_path / "fixed"
    assert succeed(evtool("dead", "t")).out == ""
    assert [fail(evtool, fixed), fail(evtool, fixed, "h")] == [1, 1]
    letters = succeed(evtool("dead", "t", "-g", "g", "--json")).events
    assert [(letter["offset"], letter["group"], letter["attempts"]) for letter in letters] == [
        (offset, "g", 1) for offset in offsets
    ]
    assert letters[0]["event"] == evtool("replay", "t", "-n1").events[0]
    assert letters[0]["why"].startswith("exit 1: sh exited with 1")
    dry = evtool("redrive", "t", "-g", "g", "--all", "--dry-run")
    assert (dry.code, dry.err) == (0, "evtool: t: would send 3 events through again\n")
    fixed.touch()
    one = evtool("redrive", "t", "-g", "g", f"--offset={offsets[1]}")
    assert (one.code, one.err) == (0, "evtool: t: 1 event goes through again\n")
    assert evtool.row()["lag"] == 1
    assert fail(evtool, fixed) == 0
    assert fixed.read_text() == f"{offsets[1]}\n"
    assert len(evtool("dead", "t", "-g", "g").lines) == 2
    assert len(evtool("dead", "t", "-g", "g", "--all").lines) == 3
    assert len(evtool("dead", "t", "-g", "h").lines) == 3
    assert evtool("redrive", "t", "--all", "-g", "g").code == 0
    assert [fail(evtool, fixed), fail(evtool, fixed), fail(evtool, fixed, "h")] == [0, 0, 0]
    assert sorted(map(int, fixed.read_text().split())) == offsets


def test_one_that_fails_again_is_a_new_letter(evtool: Subject, tmp_path: Path) -> None:
    (offset,) = evtool.put("t", "0")
    fail(evtool, tmp_path / "fixed")
    assert evtool("redrive", "t", "--all").code == 0
    assert evtool("dead", "t").out == ""
    fail(evtool, tmp_path / "fixed")
    (letter,) = evtool("dead", "t", "--json").events
    assert (letter["offset"], letter["redriven"]) == (offset, False)
    assert evtool("redrive", "t", "--offset=99").code == 3


def test_a_consumer_at_work_gets_them_at_once(evtool: Subject, tmp_path: Path) -> None:
    evtool.put("t", input=numbered(3))
    fixed, out = tmp_path / "fixed", tmp_path / "out"
    script = f"test -e {fixed} && cat >>{out}"
    command = ["subscribe", "t", "-g", "g", "--from=earliest", "--retries=0", "--", "sh", "-c", script]
    with Running(evtool, *command) as consumer:
        await_that(consumer, lambda: consumer.err.count("set aside") == 3, "three to be set aside")
        evtool.await_committed(evtool.row()["end"])
        fixed.touch()
        assert evtool("redrive", "t", "--all").code == 0
        await_that(consumer, lambda: out.exists() and out.read_text().count("\n") == 3, "them to come again")
        consumer.end(signal.SIGTERM)
    assert out.read_text() == evtool("replay", "t").out
    assert evtool.row()["lag"] == 0

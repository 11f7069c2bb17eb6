"""evtool fanout: every event to every sink, each at its own pace and with a memory of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.conformance.subject import Subject, await_that, numbered, succeed
from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path


def to(*sinks: str) -> list[str]:
    """The command line for these sinks."""
    return ["fanout", "t", "--from=earliest", *(part for sink in sinks for part in ("--to", sink))]


def test_all_kinds_of_sinks_get_every_event_once(evtool: Subject, tmp_path: Path) -> None:
    """A restart goes on where it left off; attributes and data reach a topic as they are."""
    evtool.put("t", '{"a":1.0, "a":2e0}', "--key=k", "--type=y", "--attr=trace=z")
    command = to(f"file:{tmp_path}/f", "topic:copy", "exec:cat")
    first = succeed(evtool(*command, "--drain"))
    evtool.put("t", input=numbered(30))
    second = succeed(evtool(*command, "--drain"))
    succeed(evtool(*command, "--drain"))
    stored = evtool("replay", "t").out
    assert (tmp_path / "f").read_text() == first.out + second.out == stored
    assert evtool.data("copy") == ['{"a":1.0, "a":2e0}', *numbered(30).split()]
    (event,) = evtool("replay", "copy", "-n1").events
    assert (event["key"], event["type"], event["trace"]) == ("k", "y", "z")
    lags = [row["lag"] for row in evtool("groups", "t", "--json").events]
    assert lags == [0, 0, 0]


def test_ids_keep_a_topic_sink_from_storing_twice(evtool: Subject) -> None:
    evtool.put("t", "1", "--id=a")
    succeed(evtool(*to("topic:copy"), "--drain"))
    succeed(evtool(*to("topic:copy"), "--drain", "--name=again"))
    assert evtool.data("copy") == ["1"]


def test_a_broken_sink_holds_up_no_other(evtool: Subject, tmp_path: Path) -> None:
    offsets = evtool.put("t", "1", "2")
    command = to("exec:exit 7", "file:/no/such/directory/f", "topic:copy")
    result = evtool(*command, "--drain", "--retries=0")
    assert result.code == 1
    assert evtool.data("copy") == ["1", "2"]
    letters = evtool("dead", "t", "--json").events
    assert [letter["offset"] for letter in letters] == offsets


def test_it_goes_on_with_what_comes_until_it_is_stopped(evtool: Subject, tmp_path: Path) -> None:
    """A new sink begins at the end unless it is told; --name is the group."""
    evtool.put("t", "1")
    out = tmp_path / "out"
    with Running(evtool, "fanout", "t", "--to", f"file:{out}", "--name=sink") as running:
        evtool.await_active("t", "sink")
        offsets = evtool.put("t", "2", "3")
        await_that(running, lambda: out.exists() and out.read_text().count("\n") == 2, "two lines")
        evtool.await_standing(lambda standing: standing.lag == 0, "it to be written down", "t", "sink")
        assert running.end(signal.SIGTERM).code == -signal.SIGTERM
    assert out.read_text() == evtool("replay", "t", f"--from={offsets[0]}").out


def test_a_topic_that_is_missing(evtool: Subject) -> None:
    assert evtool(*to("topic:copy"), "--drain").code == 3
    with Running(evtool, *to("topic:copy")) as running:
        running.await_err("evtool: t: no such topic yet, waiting for it\n")
        evtool.put("t", "1")
        wait_until(lambda: evtool("replay", "copy", "--data").out == "1\n", "the copy")
        running.end(signal.SIGTERM)

"""evtool topics and groups: how things stand."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.conformance.subject import Subject, numbered, succeed
from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.protocol import Standing


def test_topics_are_listed_with_their_figures(evtool: Subject) -> None:
    offsets = evtool.put("orders", "1", "2", "3")
    succeed(evtool("create", "empty", "-q"))
    succeed(evtool("subscribe", "orders", "-g", "g", "--from=earliest", "-n2"))
    empty, orders = succeed(evtool("topics", "--json")).events
    assert list(orders) == ["topic", "events", "first", "next", "bytes", "age_seconds", "groups"]
    assert (orders["topic"], orders["events"], orders["groups"]) == ("orders", 3, {"g": 1})
    assert (orders["first"], orders["next"]) == (offsets[0], offsets[-1] + 1)
    assert orders["bytes"] > 100
    assert 0 <= orders["age_seconds"] < 60
    assert (empty["topic"], empty["events"], empty["age_seconds"], empty["groups"]) == ("empty", 0, None, {})
    assert empty["first"] == empty["next"]
    assert [line.split("\t")[0] for line in evtool("topics", "or*", "empty").lines] == ["empty", "orders"]
    missing = evtool("topics", "order")
    assert (missing.code, missing.err) == (3, "evtool: order: no such topic\nhint: did you mean orders?\n")


def test_groups_are_listed_with_how_far_behind_they_are(evtool: Subject) -> None:
    offsets = evtool.put("t", input=numbered(10))
    succeed(evtool("subscribe", "t", "-g", "slow", "--from=earliest", "-n2"))
    succeed(evtool("subscribe", "t", "-g", "done", "--drain"))
    done, slow = succeed(evtool("groups", "--json")).events
    assert list(slow)[:9] == [
        "topic", "group", "committed", "end", "lag", "lag_seconds", "active", "catch_up_seconds", "members",
    ]  # fmt: skip
    assert (slow["topic"], slow["group"], slow["committed"], slow["lag"]) == ("t", "slow", offsets[2], 8)
    assert (slow["active"], slow["members"], slow["end"]) == (False, [], offsets[-1] + 1)
    assert 0 < slow["lag_seconds"] < 60
    assert (done["committed"], done["lag"], done["lag_seconds"]) == (offsets[-1] + 1, 0, 0)
    assert evtool("groups", "t").lines[1].split("\t")[:5] == ["t", "slow", str(offsets[2]), str(offsets[-1] + 1), "8"]
    assert evtool("groups", "none").code == 3


def test_a_member_is_told_of_while_it_is_at_work(evtool: Subject, tmp_path: Path) -> None:
    evtool.put("t", "0", "1")
    go = tmp_path / "go"
    script = f"until test -e {go}; do sleep 0.01; done"
    command = ["subscribe", "t", "-g", "g", "--from=earliest", "--", "sh", "-c", script]
    with Running(evtool, *command) as one:
        evtool.await_standing(lambda standing: "in flight" in _doing(standing), "it to say what it does")
        row = evtool.row()
        (member,) = row["members"]
        assert (row["active"], row["lag"]) == (True, 2)
        assert (member["pid"], member["mode"], member["host"]) == (one.process.pid, "alone", os.uname().nodename)
        assert "1 in flight" in member["doing"]
        assert member["command"].startswith("sh -c until")
        go.touch()
        evtool.await_standing(lambda standing: standing.lag == 0, "it to be through")
        one.end(signal.SIGTERM)
    assert (evtool.row()["active"], evtool.row()["members"]) == (False, [])


def test_several_that_share_are_all_told_of(evtool: Subject) -> None:
    evtool.put("t", "0")
    command = ["subscribe", "t", "-g", "g", "--share", "--", "true"]
    with Running(evtool, *command) as one, Running(evtool, *command) as other:
        wait_until(lambda: len(evtool.row().get("members", [])) == 2, "both to be seen")
        members = evtool.row()["members"]
        assert {member["pid"] for member in members} == {one.process.pid, other.process.pid}
        assert {member["mode"] for member in members} == {"shared"}
        other.end(signal.SIGTERM)
        wait_until(lambda: len(evtool.row()["members"]) == 1, "one to be gone")
        one.end(signal.SIGTERM)


def _doing(standing: Standing) -> str:
    return " ".join(member.doing for member in standing.members)

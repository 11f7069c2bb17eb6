"""evtool trim: the oldest events go; whoever loses some is named before, and told afterwards."""

from __future__ import annotations

from tests.conformance.subject import Subject, numbered, succeed

NAMES = ["topic", "first", "to", "events", "segments", "bytes", "groups", "done"]


def made(evtool: Subject) -> list[int]:
    """A topic of 400 events, from which the file log can cut hundreds; group g has handled five."""
    by_segments = ["segment-bytes=4KiB"] if evtool.capabilities.kind == "file" else []
    succeed(evtool("create", "t", "-q", *by_segments))
    offsets = [offset for first in range(0, 400, 100) for offset in evtool.put("t", input=numbered(100, first))]
    succeed(evtool("subscribe", "t", "-g", "g", "--from=earliest", "-n5"))
    return offsets


def test_what_lies_before_a_place_goes_and_losers_are_told(evtool: Subject) -> None:
    """A dry run says the same and removes nothing; without --yes and a terminal it is refused."""
    offsets = made(evtool)
    before = f"--before={offsets[200]}"
    assert evtool("trim", "t", before).code == 2
    dry = evtool("trim", "t", before, "--dry-run", "--json")
    assert (dry.code, dry.err) == (0, "evtool: t: group g would lose 195 events\n")
    (row,) = dry.events
    assert list(row) == NAMES
    assert (row["first"], row["to"], row["events"], row["groups"]) == (offsets[0], offsets[200], 200, {"g": 195})
    assert row["done"] is False
    assert len(evtool.data("t")) == 400
    result = evtool("trim", "t", before, "--yes", "--json")
    assert (result.code, result.err) == (0, "evtool: t: group g lost 195 events\n")
    assert result.events == [row | {"done": True}]
    assert evtool.data("t") == numbered(200, 200).split()
    assert evtool("replay", "t", "--from=earliest", "-n1").events[0]["offset"] == offsets[200]
    told = evtool("subscribe", "t", "-g", "g", "-n1", "--data")
    assert (told.code, told.out) == (0, "200\n")
    missed = f"offsets {offsets[5]} to {offsets[199]} are gone, trimmed or lost before they were read"
    assert told.err == f"evtool: t: {missed}\n"
    assert evtool.committed() == offsets[201]
    again = succeed(evtool("trim", "t", before, "--yes")).out.split("\t")
    assert again[1:4] == [str(offsets[200]), str(offsets[200]), "0"]


def test_what_a_group_has_handled_goes_without_loss(evtool: Subject) -> None:
    offsets = made(evtool)
    succeed(evtool("subscribe", "t", "-g", "g", "-n95"))
    result = succeed(evtool("trim", "t", "--before=group:g", "--yes"))
    assert result.out.split("\t")[:4] == ["t", str(offsets[0]), str(offsets[100]), "100"]
    assert result.out.endswith("\t-\tyes\n")
    assert succeed(evtool("subscribe", "t", "-g", "g", "--drain", "--data")).lines == numbered(300, 100).split()


def test_offsets_are_never_used_again_and_the_newest_event_stays(evtool: Subject) -> None:
    offsets = made(evtool)
    assert evtool("trim", "t", "--before=latest", "--yes", "-q").code == 0
    assert evtool.data("t")[-1] == "399"
    (more,) = evtool.put("t", "400")
    assert more > offsets[-1]
    for where, code in [("nonsense", 2), (str(more + 2), 4), ("group:none", 3)]:
        assert evtool("trim", "t", f"--before={where}", "--yes").code == code, where
    assert evtool("trim", "none", "--before=0", "--yes").code == 3


def test_a_topic_without_limits_loses_nothing(evtool: Subject) -> None:
    evtool.put("t", "1", "2")
    assert succeed(evtool("trim")).out == ""
    assert succeed(evtool("trim", "t")).out.split("\t")[:4] == ["t", "0", "0", "0"]
    assert evtool.data("t") == ["1", "2"]

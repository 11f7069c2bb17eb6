"""evtool create, set and rm: topics made with settings of their own, changed, and removed."""

from __future__ import annotations

from tests.conformance.subject import Subject, numbered, succeed
from tests.program import finish, wait_until


def test_a_topic_is_made_once(evtool: Subject) -> None:
    """Of several who make it one succeeds; what cannot be a setting makes nothing."""
    for setting, code in [("max-events=0", 2), ("nonsense=1", 2), ("max-age=5", 2)]:
        assert evtool("create", "t", setting).code == code
    assert evtool("topics").out == ""
    started = [evtool.start("create", "t", "max-events=1000") for _ in range(3)]
    results = sorted(((one.code, one.err) for one in map(finish, started)), key=lambda one: one[0])
    exists = (4, "evtool: t: the topic is there already\nhint: see evtool set t\n")
    assert results == [(0, "evtool: created topic t\n"), exists, exists]
    assert evtool("set", "t", "--json").events[0]["max-events"] == 1000


def test_settings_are_shown_changed_and_brought_back(evtool: Subject) -> None:
    evtool.put("t", "1")
    before = succeed(evtool("set", "t", "--json")).events[0]
    assert (before["topic"], before["max-age"], before["max-bytes"], before["retention"]) == ("t", None, None, "keep")
    succeed(evtool("set", "t", "max-age=7d", "max-bytes=1GiB"))
    assert evtool("set", "t", "--json").events == [before | {"max-age": 7 * 86400, "max-bytes": 2**30}]
    refused = evtool("set", "t", "max-events=10", "max-bytes=0")
    assert (refused.code, refused.err) == (2, "evtool: max-bytes=0: not a number above 0\n")
    assert "max-age\t7d\n" in evtool("set", "t").out
    succeed(evtool("set", "t", "max-age=", "max-bytes="))
    assert evtool("set", "t", "--json").events == [before]
    assert evtool("set", "none", "max-age=7d").code == 3
    assert evtool.data("t") == ["1"]


def test_what_is_written_may_be_given_to_another_topic(evtool: Subject) -> None:
    succeed(evtool("create", "a", "-q", "max-events=5000", "max-age=90m", "dedupe=1h", "max-event-bytes=1000"))
    rows = dict(line.split("\t") for line in evtool("set", "a").lines)
    succeed(evtool("create", "b", "-q", *(f"{name}={value}" for name, value in rows.items() if value != "-")))
    assert evtool("set", "a").out == evtool("set", "b").out


def test_the_size_of_events_and_the_time_of_ids_may_be_set(evtool: Subject) -> None:
    succeed(evtool("create", "t", "-q", "max-event-bytes=10", "dedupe=500ms"))
    result = evtool("append", "t", input='"12345678"\n"123456789"\n')
    assert (result.code, evtool.data("t")) == (65, ['"12345678"'])
    first = evtool.put("t", "1", "--id=x")
    wait_until(lambda: evtool.put("t", "2", "--id=x") != first, "the id to be forgotten")
    assert evtool.data("t") == ['"12345678"', "1", "2"]


def test_what_is_above_a_limit_goes_the_oldest_first(evtool: Subject) -> None:
    """The newest stay; how many more than those is the store's affair (the file log drops whole segments)."""
    by_segments = ["segment-bytes=4KiB"] if evtool.capabilities.kind == "file" else []
    succeed(evtool("create", "t", "-q", "max-events=150", *by_segments))
    for first in range(0, 600, 100):
        evtool.put("t", input=numbered(100, first))
    succeed(evtool("trim", "t", "-q"))
    left = [int(one) for one in evtool.data("t")]
    assert left == list(range(left[0], 600))
    assert 150 <= len(left) <= (150 if not by_segments else 300)
    row = evtool("topics", "t", "--json").events[0]
    assert (row["first"], row["next"]) == (evtool("replay", "t", "-n1").events[0]["offset"], row["first"] + len(left))


def test_what_is_older_than_allowed_goes(evtool: Subject) -> None:
    """No event goes before it is that old; whether the last ones go too is the store's affair."""
    by_segments = ["segment-bytes=4KiB"] if evtool.capabilities.kind == "file" else []
    succeed(evtool("create", "t", "-q", "max-age=1h", *by_segments))
    for first in (0, 100):
        evtool.put("t", input=numbered(100, first))
    succeed(evtool("trim", "t", "-q"))
    assert evtool.data("t") == numbered(200).split()
    succeed(evtool("set", "t", "max-age=100ms"))

    def left() -> list[str]:
        return evtool("replay", "t", "--data").lines  # which may say that events go while it looks

    wait_until(lambda: evtool("trim", "t", "-q").code == 0 and len(left()) < 200, "the first to go")
    wait_until(lambda: left() in ([], numbered(100, 100).split()), "whole segments, or all, to be gone")


def test_what_all_groups_have_handled_goes_if_that_is_wanted(evtool: Subject) -> None:
    """As long as there is no group all of it stays, and what one of them has not handled stays, too."""
    by_segments = ["segment-bytes=4KiB"] if evtool.capabilities.kind == "file" else []
    succeed(evtool("create", "t", "-q", "retention=consumed", *by_segments))
    for first in (0, 100, 200):
        evtool.put("t", input=numbered(100, first))
    assert evtool.data("t") == numbered(300).split()
    for group, count in [("slow", 0), ("quick", 250), ("slow", 120)]:
        succeed(evtool("subscribe", "t", "-g", group, "--from=earliest", f"--count={count}"))
    wait_until(lambda: evtool("trim", "t", "-q").code == 0 and len(evtool.data("t")) < 300, "the first to go")
    left = evtool.data("t")
    assert left[-180:] == numbered(180, 120).split()
    assert len(left) == 180 or by_segments
    for group, rest in [("slow", 180), ("quick", 50)]:
        assert len(succeed(evtool("subscribe", "t", "-g", group, "--drain")).lines) == rest


def test_a_topic_is_removed_with_all_that_is_in_it(evtool: Subject) -> None:
    evtool.put("t", "1", "2")
    succeed(evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain"))
    assert evtool("rm", "t").code == 2
    dry = evtool("rm", "t", "--dry-run")
    assert (dry.code, dry.err.startswith("evtool: would remove topic t")) == (0, True)
    assert evtool.data("t") == ["1", "2"]
    result = evtool("rm", "t", "--yes")
    assert (result.code, result.err.startswith("evtool: removed topic t")) == (0, True)
    assert evtool("topics").out == ""
    assert evtool("replay", "t").code == 3
    assert evtool("rm", "t", "--yes").code == 3
    evtool.put("t", "3")
    assert (evtool.data("t"), evtool.row()) == (["3"], {})


def test_a_group_that_is_removed_begins_as_a_new_one(evtool: Subject) -> None:
    offsets = evtool.put("t", "1", "2")
    base = ["subscribe", "t", "-g", "g", "--from=earliest", "--data"]
    succeed(evtool(*base, "-n1"))
    for options, done in [(["--dry-run"], "would remove"), (["--yes"], "removed")]:
        result = evtool("rm", "t", "-g", "g", *options)
        assert (result.code, result.out) == (0, "")
        assert result.err == f"evtool: {done} group g of topic t, which has committed offset {offsets[1]}\n"
    assert evtool.row() == {}
    assert evtool("rm", "t", "-g", "g", "--yes").code == 3
    assert succeed(evtool(*base, "--drain")).out == "1\n2\n"

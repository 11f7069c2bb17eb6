"""What is not there: exit status 3 and the nearest name that is; verify of what is all right."""

from __future__ import annotations

from tests.conformance.subject import Subject, numbered, succeed


def test_a_missing_topic_ends_with_3_and_the_nearest_name(evtool: Subject) -> None:
    evtool.put("orders", "1")
    for command in [
        ["replay", "order"],
        ["tail", "order"],
        ["subscribe", "order", "--drain"],
        ["subscribe", "order", "-g", "g", "--drain"],
        ["groups", "order"],
        ["seek", "order", "-g", "g", "--to=0"],
        ["dead", "order"],
        ["rm", "order", "--yes"],
        ["set", "order"],
        ["trim", "order"],
        ["verify", "order"],
    ]:
        result = evtool(*command)
        assert (result.code, result.out) == (3, ""), command
        assert result.err == "evtool: order: no such topic\nhint: did you mean orders?\n", command
    assert evtool("topics").out.split("\t")[0] == "orders"


def test_a_missing_group_ends_with_3_and_the_nearest_name(evtool: Subject) -> None:
    evtool.put("t", "1")
    succeed(evtool("subscribe", "t", "-g", "billing", "--drain"))
    for command in [
        ["seek", "t", "-g", "biling", "--to=0"],
        ["rm", "t", "-g", "biling", "--yes"],
        ["replay", "t", "--from=group:biling"],
    ]:
        result = evtool(*command)
        assert (result.code, result.out) == (3, ""), command
        assert "biling" in result.err.splitlines()[0]
        assert result.err.splitlines()[1] == "hint: did you mean billing?", command


def test_a_store_with_nothing_in_it_is_no_error(evtool: Subject) -> None:
    for command in ["topics", "groups", "verify", "trim"]:
        result = evtool(command)
        assert (result.code, result.out) == (0, ""), command


def test_a_glob_that_nothing_matches(evtool: Subject) -> None:
    evtool.put("t", "1")
    assert evtool("replay", "x*").code == 3
    assert succeed(evtool("topics", "x*")).out == ""


def test_a_topic_in_order_is_found_to_be_so(evtool: Subject) -> None:
    evtool.put("t", input=numbered(1000))
    evtool.put("u", '"é"', "--key=k", "--id=i")
    succeed(evtool("subscribe", "t", "-g", "g", "--from=earliest", "-n10"))
    t, u = succeed(evtool("verify", "--json")).events
    assert (t["topic"], t["events"], t["problems"]) == ("t", 1000, [])
    assert (u["topic"], u["events"], u["problems"]) == ("u", 1, [])
    assert t["bytes"] > 10_000

"""Several topics, or a glob, as one stream: merged by time, told apart, each with its own offsets."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.program import Program, wait_until
from tests.running import Running, linux
from tests.topics import append, committed, moment, write_log

if TYPE_CHECKING:
    from tests.program import Result


def named(topic: str, lines: list[str]) -> list[str]:
    """These lines with the attribute behind the time that says which topic they come from."""
    return [line.replace('Z",', f'Z","topic":"{topic}",', 1) for line in lines]


def pairs(result: Result) -> list[tuple[str, int]]:
    """Topic and data of each event in the output."""
    assert (result.code, result.err) == (0, ""), result
    return [(event["topic"], event["data"]) for event in result.events]


def alternating(program: Program, *topics: str, count: int = 4, start: float = 1e9) -> list[str]:
    """Write topics by hand whose events take turns; return what they are merged."""
    merged = [
        (start + number * len(topics) + place, topic) for place, topic in enumerate(topics) for number in range(count)
    ]
    lines = {
        topic: iter(named(topic, write_log(program, topic, [moment(at) for at, of in sorted(merged) if of == topic])))
        for topic in topics
    }
    return [next(lines[topic]) for _, topic in sorted(merged)]


@pytest.mark.parametrize("command", [["replay"], ["tail", "-n100"], ["subscribe", "--from=earliest", "--drain"]])
@pytest.mark.parametrize("topics", [["o.a", "o.b", "o.c"], ["o.c", "o.b", "o.a"], ["o.*"], ["o.[ab]", "o.c"], ["o.?"]])
def test_topics_are_merged_by_time_and_told_apart(evtool: Program, command: list[str], topics: list[str]) -> None:
    merged = alternating(evtool, "o.a", "o.b", "o.c")
    write_log(evtool, "other", [moment(1e9)])
    result = evtool(*command, *topics)
    assert (result.code, result.out, result.err) == (0, "".join(merged), "")


def test_large_topics_are_merged_by_time_through_all_blocks(evtool: Program) -> None:
    merged = alternating(evtool, "a", "b", count=8000)
    assert evtool("replay", "a", "b").out == "".join(merged)


def test_within_a_topic_the_order_is_that_of_the_offsets_whatever_the_times(evtool: Program) -> None:
    """Equal times, and times of another program that went back, reorder nothing in a topic."""
    lines = write_log(evtool, "a", [moment(1e9 + one) for one in (5, 5, 3, 3, 7)])
    write_log(evtool, "b", [moment(1e9 + 4)])
    result = evtool("replay", "a", "b")
    assert [event["data"] for event in result.events if event["topic"] == "a"] == list(range(len(lines)))
    assert len(result.lines) == 6


def test_a_topic_named_twice_is_given_once_and_as_one(evtool: Program) -> None:
    lines = write_log(evtool, "a", [moment(1e9)])
    assert evtool("replay", "a", "a").out == "".join(lines)
    assert evtool("replay", "a", "a*").out == "".join(named("a", lines))


def test_a_glob_that_matches_one_topic_names_it_all_the_same(evtool: Program) -> None:
    """So that what reads the stream need not care how many there are."""
    lines = write_log(evtool, "a", [moment(1e9)])
    assert evtool("replay", "a*").out == "".join(named("a", lines))


def test_the_count_is_of_all_of_them_together(evtool: Program) -> None:
    merged = alternating(evtool, "a", "b")
    assert evtool("tail", "a", "b", "-n3").out == "".join(merged[-3:])
    assert evtool("replay", "a", "b", "--count=3").out == "".join(merged[:3])
    assert evtool("subscribe", "a", "b", "--from=earliest", "-n3").out == "".join(merged[:3])


def test_from_and_until_are_looked_up_in_each(evtool: Program) -> None:
    merged = alternating(evtool, "a", "b")
    assert evtool("replay", "a", "b", "--from=1", "--until=3").out == "".join(merged[2:6])
    assert evtool("replay", "a", "b", "--from=-1").out == "".join(merged[6:])
    middle = "@1000000003"
    assert evtool("replay", "a", "b", "--from", middle).out == "".join(merged[3:])
    assert evtool("replay", "a", "b", "--until", middle).out == "".join(merged[:3])


def test_filters_and_forms(evtool: Program) -> None:
    append(evtool, "a", "1", "--key=x")
    append(evtool, "b", "2", "--key=y")
    append(evtool, "b", "3", "--key=x")
    assert pairs(evtool("replay", "a", "b", "--key=x")) == [("a", 1), ("b", 3)]
    assert evtool("replay", "a", "b", "--data").out == "1\n2\n3\n"
    assert evtool("replay", "a", "b", "--key=x", "-0").raw.count(b"\0") == 2
    events = evtool("replay", "a", "b", "--output=cloudevents").events
    assert [(event["source"], event["data"]) for event in events] == [("a", 1), ("b", 2), ("b", 3)]


def test_each_topic_has_its_own_committed_offset(evtool: Program) -> None:
    merged = alternating(evtool, "a", "b")
    base = ["subscribe", "a", "b", "-g", "g", "--from=earliest"]
    assert evtool(*base, "-n3").out == "".join(merged[:3])
    assert (committed(evtool, "a"), committed(evtool, "b")) == (2, 1)
    assert evtool(*base, "-n2").out == "".join(merged[3:5])
    assert evtool(*base, "--drain").out == "".join(merged[5:])
    assert (committed(evtool, "a"), committed(evtool, "b")) == (4, 4)


def test_what_was_consumed_one_by_one_is_not_given_again_together(evtool: Program) -> None:
    merged = alternating(evtool, "a", "b")
    assert evtool("subscribe", "a", "-g", "g", "--from=earliest", "--drain").code == 0
    assert evtool("subscribe", "a", "b", "-g", "g", "--from=earliest", "--drain").out == "".join(merged[1::2])


def test_a_standby_waits_for_all_of_its_topics(evtool: Program) -> None:
    append(evtool, "a", "1")
    append(evtool, "b", "2")
    with Running(evtool, "subscribe", "b", "-g", "g", "--from=earliest", "--data") as holder:
        holder.await_out("2\n")
        with Running(evtool, "subscribe", "a", "b", "-g", "g", "--from=earliest", "--data") as standby:
            standby.await_err("evtool: b: another process consumes for group g; standing by\n")
            holder.end(signal.SIGKILL)
            append(evtool, "b", "3")
            wait_until(lambda: sorted(standby.out.split()) in (["1", "3"], ["1", "2", "3"]), "the standby")


def test_a_handler_is_told_the_topic_of_each_event(evtool: Program) -> None:
    alternating(evtool, "a", "b", count=2)
    command = ["--", "sh", "-c", 'echo "$EVTOOL_TOPIC $EVTOOL_OFFSET"']
    result = evtool("subscribe", "a", "b", "-g", "g", "--from=earliest", "--drain", *command)
    assert (result.code, result.out, result.err) == (0, "a 0\nb 0\na 1\nb 1\n", "")
    assert (committed(evtool, "a"), committed(evtool, "b")) == (2, 2)


def test_a_failing_handler_names_the_topic_of_its_event(evtool: Program) -> None:
    alternating(evtool, "a", "b", count=2)
    command = ["--", "sh", "-c", 'test "$EVTOOL_TOPIC" = a']
    options = ["-g", "g", "--from=earliest", "--drain", "--retries=0"]
    result = evtool("subscribe", "a", "b", *options, *command)
    assert (result.code, result.out) == (1, "")
    said = [f"evtool: b: offset {offset}: sh exited with 1; set aside in b.dead\n" for offset in (0, 1)]
    assert result.err == "".join(said)
    assert (committed(evtool, "a"), committed(evtool, "b")) == (2, 2)
    dead = evtool("replay", "b.dead").events
    assert [event["data"]["event"] for event in dead] == evtool("replay", "b").events


@pytest.mark.parametrize("command", ["tail", "replay"])
def test_a_glob_that_matches_nothing_ends_with_3(evtool: Program, command: str) -> None:
    append(evtool, "a", "1")
    result = evtool(command, "x*")
    assert (result.code, result.out, result.err) == (3, "", "evtool: x*: no topic matches\n")


@pytest.mark.parametrize("pattern", ["../*", "*/x", "A*", "x" * 64 + "*", "[\n]", "* *"])
def test_a_glob_that_no_topic_could_match_is_refused_with_2(evtool: Program, pattern: str) -> None:
    append(evtool, "a", "1")
    result = evtool("replay", pattern)
    assert (result.code, result.out) == (2, "")
    assert "not a pattern of topic names\n" in result.err


def test_a_glob_does_not_find_what_is_no_topic(evtool: Program) -> None:
    append(evtool, "a", "1")
    (evtool.home / "topics" / ".hidden").mkdir(mode=0o700)
    (evtool.home / "topics" / "Capital").mkdir(mode=0o700)
    assert pairs(evtool("replay", "*")) == [("a", 1)]


@linux
@pytest.mark.parametrize("command", [["tail", "-f"], ["replay", "-f"], ["subscribe", "--from=earliest"]])
def test_topics_that_appear_later_are_joined_in_from_their_beginning(evtool: Program, command: list[str]) -> None:
    append(evtool, "o.a", "1")
    with Running(evtool, *command, "o.*", "--data") as follower:
        follower.await_out("1\n")
        follower.await_waiting()
        append(evtool, "o.b", "2", "3")
        follower.await_out("1\n2\n3\n")
        append(evtool, "p", "7")
        append(evtool, "o.a", "4")
        follower.await_out("1\n2\n3\n4\n")
        append(evtool, "o.c", "5")
        append(evtool, "o.b", "6")
        wait_until(lambda: sorted(follower.out.split()) == list("123456"))
        assert follower.err == ""


@linux
def test_a_subscriber_to_what_comes_gets_the_first_event_of_a_new_topic(evtool: Program) -> None:
    """It begins at the end of those that are there, and at the beginning of one that appears after it did."""
    append(evtool, "o.a", "1")
    with Running(evtool, "subscribe", "o.*", "--data") as subscriber:
        subscriber.await_waiting()
        append(evtool, "o.b", "2")
        append(evtool, "o.a", "3")
        wait_until(lambda: sorted(subscriber.out.split()) == ["2", "3"])


@linux
def test_a_group_joins_topics_that_appear_later(evtool: Program) -> None:
    append(evtool, "o.a", "1")
    with Running(evtool, "subscribe", "o.*", "-g", "g", "--data") as consumer:
        consumer.await_waiting()
        append(evtool, "o.b", "2", "3")
        consumer.await_out("2\n3\n")
        wait_until(lambda: committed(evtool, "o.b") == 2)
        assert committed(evtool, "o.a") == 1


def test_a_glob_that_matches_nothing_yet_is_waited_for(evtool: Program) -> None:
    with Running(evtool, "subscribe", "o.*", "--data") as subscriber:
        subscriber.await_err("evtool: o.*: no topic matches yet, waiting for it\n")
        append(evtool, "o.a", "1")
        append(evtool, "o.b", "2")
        wait_until(lambda: sorted(subscriber.out.split()) == ["1", "2"])


def test_one_missing_topic_of_several_is_waited_for_while_the_others_go_on(evtool: Program) -> None:
    append(evtool, "a", "1")
    with Running(evtool, "tail", "a", "later", "-f", "--data") as tail:
        tail.await_err("evtool: later: no such topic yet, waiting for it\n")
        tail.await_out("1\n")
        append(evtool, "a", "2")
        tail.await_out("1\n2\n")
        append(evtool, "later", "3")
        tail.await_out("1\n2\n3\n")


@linux
def test_what_comes_has_its_topic_too(evtool: Program) -> None:
    append(evtool, "a", "1")
    append(evtool, "b", "2")
    with Running(evtool, "tail", "a", "b", "-f", "-n0") as tail:
        tail.await_waiting()
        append(evtool, "b", "3")
        wait_until(lambda: tail.out.endswith("\n"))
        event = json.loads(tail.out)
        assert (list(event)[:3], event["topic"], event["data"]) == (["offset", "time", "topic"], "b", 3)


@linux
def test_a_topic_of_several_that_is_removed_ends_the_follower_with_3(evtool: Program) -> None:
    append(evtool, "a", "1")
    append(evtool, "b", "2")
    with Running(evtool, "tail", "a", "b", "-f") as tail:
        tail.await_waiting()
        shutil.rmtree(evtool.topic("b"))
        append(evtool, "a", "3")
        result = tail.end()
    assert (result.code, result.err) == (3, "evtool: b: the topic was removed\n")


def test_speed_goes_over_the_merged_stream(evtool: Program) -> None:
    merged = alternating(evtool, "a", "b", count=2)
    result = evtool("replay", "a", "b", "--speed=100x")
    assert (result.code, result.out, result.err) == (0, "".join(merged), "")

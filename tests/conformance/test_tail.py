"""evtool tail: the last events, then those that come."""

from __future__ import annotations

import signal

from tests.conformance.subject import Subject, await_lines, await_live, await_that, numbered, succeed
from tests.program import PATIENCE
from tests.running import Running


def test_the_last_ten_or_as_many_as_one_wants(evtool: Subject) -> None:
    evtool.put("t", input=numbered(300))
    assert succeed(evtool("tail", "t", "--data")).lines == numbered(10, 290).split()
    assert succeed(evtool("tail", "t", "--data", "-n", "3")).lines == numbered(3, 297).split()
    assert succeed(evtool("tail", "t", "-n0")).out == ""
    assert succeed(evtool("tail", "t", "--data", "-n", "1000")).lines == numbered(300).split()


def test_the_last_that_have_a_key(evtool: Subject) -> None:
    evtool.put("t", "1", "2", "--key=a")
    evtool.put("t", "3", "4", "--key=b")
    assert evtool("tail", "t", "-n1", "--key=a", "--data").out == "2\n"


def test_then_those_that_come_until_it_is_ended(evtool: Subject) -> None:
    """The lines are the same, byte for byte, as a replay gives them out."""
    evtool.put("t", "1", "2", "3")
    with Running(evtool, "tail", "t", "-n2", "-f") as follower:
        await_lines(follower, 2)
        evtool.put("t", input='{"a":1.0}\n"\u2028"\n')
        evtool.put("t", "6", "--key=k")
        await_lines(follower, 5)
        result = follower.end(signal.SIGTERM)
    assert (result.code, result.err) == (-signal.SIGTERM, "")
    assert result.out == "".join(f"{line}\n" for line in evtool("replay", "t").lines[1:])


def test_a_follower_sees_everything_of_a_busy_topic(evtool: Subject) -> None:
    """It begins while a producer is at work, and has no event twice and misses none."""
    evtool.put("t", "0")
    with Running(evtool, "tail", "t", "-f", "-n1", "--data") as follower:
        for first in range(1, 3001, 500):
            evtool.put("t", input=numbered(500, first))
        await_that(follower, lambda: follower.out.split("\n")[-2:] == ["3000", ""], "the last one")
    numbers = [int(line) for line in follower.out.split()]
    assert numbers == list(range(numbers[0], 3001))


def test_several_topics_are_merged_by_time_and_named(evtool: Subject) -> None:
    for number, topic in enumerate(["o.a", "o.b", "x", "o.a", "o.b", "o.c"]):
        evtool.put(topic, str(number))
    result = succeed(evtool("tail", "o.*", "-n3"))
    assert [(event["topic"], event["data"]) for event in result.events] == [("o.a", 3), ("o.b", 4), ("o.c", 5)]
    assert all(line.split(",")[2].startswith('"topic":') for line in result.lines)
    assert [event["data"] for event in evtool("tail", "o.b", "x").events] == [1, 2, 4]


def test_a_followed_glob_takes_in_topics_that_come_later(evtool: Subject) -> None:
    """From their beginning, dead letters left out."""
    evtool.put("o.a", "1")
    with Running(evtool, "tail", "-f", "o.*") as follower:
        await_live(evtool, follower, "o.a")
        evtool.put("o.new", "7", "8")
        evtool.put("o.new.dead", "9")
        evtool.put("x", "9")
        evtool.put("o.new2", '"last"')
        await_that(follower, lambda: '"last"' in follower.out, "the last topic")
    assert [line for line in follower.out.splitlines() if '"x"' in line or ".dead" in line] == []
    assert [line.endswith(('"data":7}', '"data":8}')) for line in follower.out.splitlines() if '"o.new"' in line] == [
        True,
        True,
    ]


def test_a_missing_topic_is_waited_for_if_it_is_followed(evtool: Subject) -> None:
    evtool.put("orders", "1")
    with Running(evtool, "tail", "-f", "oders", "--data") as follower:
        follower.await_err("evtool: oders: no such topic yet, waiting for it (did you mean orders?)\n")
        evtool.put("oders", "1", "2")
        follower.await_out("1\n2\n")
        assert follower.end(signal.SIGINT).code == -signal.SIGINT


def test_a_topic_that_is_removed_ends_its_follower_with_3(evtool: Subject) -> None:
    evtool.put("t", "1")
    with Running(evtool, "tail", "-f", "t", "--data") as follower:
        follower.await_out("1\n")
        succeed(evtool("rm", "t", "--yes", "-q"))
        follower.process.wait(PATIENCE)
        assert (follower.process.returncode, follower.err) == (3, "evtool: t: the topic was removed\n")


def test_nobody_reads_any_more(evtool: Subject) -> None:
    """A closed pipe ends it by SIGPIPE, without a word."""
    evtool.put("t", input=numbered(50_000))
    reader = evtool.start("replay", "t")
    assert reader.stdout is not None
    assert reader.stderr is not None
    assert reader.stdout.readline().endswith(b'"data":0}\n')
    reader.stdout.close()
    assert reader.wait(PATIENCE) == -signal.SIGPIPE
    assert reader.stderr.read() == b""
    reader.communicate()

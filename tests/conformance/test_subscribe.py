"""evtool subscribe: what comes from now on; and groups, which go on where they left off."""

from __future__ import annotations

import json
import signal

import pytest

from tests.conformance.subject import Subject, await_lines, await_live, await_that, numbered, succeed
from tests.program import PATIENCE, finish
from tests.running import Running

GROUP = ["subscribe", "t", "-g", "g"]
STANDBY = "evtool: t: another process consumes for group g; standing by\n"


def test_without_a_group_what_comes_from_now_on(evtool: Subject) -> None:
    (old,) = evtool.put("t", '"old"')
    with Running(evtool, "subscribe", "t") as subscriber:
        await_live(evtool, subscriber)
        evtool.put("t", "3", "4", "5")
        await_that(subscriber, lambda: subscriber.out.endswith(":5}\n"), "all of them")
    given = subscriber.out.splitlines()
    stored = evtool("replay", "t").lines
    assert json.loads(given[0])["offset"] > old
    assert given == stored[stored.index(given[0]) :]
    assert evtool.row() == {}


def test_it_ends_after_so_many_or_at_the_end_or_when_nothing_comes(evtool: Subject) -> None:
    evtool.put("t", "1", "2", "3")
    assert succeed(evtool("subscribe", "t", "--from=earliest", "--drain", "--data")).out == "1\n2\n3\n"
    assert succeed(evtool("subscribe", "t", "--from=-2", "-n1", "--data")).out == "2\n"
    assert succeed(evtool("subscribe", "t", "--drain")).out == ""
    late = evtool("subscribe", "t", "--timeout=200ms")
    assert (late.code, late.out, late.err) == (124, "", "evtool: timed out: no event came for 0.2 s\n")


def test_a_group_goes_on_where_it_left_off(evtool: Subject) -> None:
    """--from places a new group only; how it stands is exact once its consumer has ended."""
    offsets = evtool.put("t", *"12345")
    base = [*GROUP, "--data", "--from=earliest"]
    assert succeed(evtool(*base, "--count=2")).out == "1\n2\n"
    assert evtool.committed() == offsets[2]
    assert succeed(evtool(*base, "-n1")).out == "3\n"
    assert succeed(evtool(*base, "--drain", "--from=0")).out == "4\n5\n"
    assert succeed(evtool(*base, "--drain")).out == ""
    (last,) = evtool.put("t", "6")
    result = evtool(*base, "--drain", "-v")
    assert (result.code, result.out) == (0, "6\n")
    assert result.err == f"evtool: t: group g has committed offset {last + 1}\n"
    row = evtool.row()
    assert (row["committed"], row["end"], row["lag"], row["active"]) == (last + 1, last + 1, 0, False)


def test_where_a_new_group_begins(evtool: Subject) -> None:
    offsets = evtool.put("t", "1", "2", "3")
    assert succeed(evtool(*GROUP, "--drain", "--data")).out == ""
    assert evtool.committed() == offsets[2] + 1
    for group, where, rest in [("a", "-1", "3\n"), ("b", str(offsets[1]), "2\n3\n"), ("c", "group:g", "")]:
        given = evtool("subscribe", "t", "-g", group, f"--from={where}", "--drain", "--data")
        assert succeed(given).out == rest
    evtool.put("t", "4")
    for group in "gabc":
        assert succeed(evtool("subscribe", "t", "-g", group, "--drain", "--data")).out == "4\n"


def test_what_a_filter_leaves_out_counts_as_handled(evtool: Subject) -> None:
    evtool.put("t", "1", "--key=a")
    offsets = evtool.put("t", "2", "3", "--key=b")
    assert evtool(*GROUP, "--from=earliest", "--drain", "--key=a", "--data").out == "1\n"
    assert evtool.committed() == offsets[-1] + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_progress_survives_the_end_of_a_consumer_and_a_standby_takes_over(
    evtool: Subject, number: signal.Signals
) -> None:
    """Nothing is missed; after SIGTERM nothing comes twice, and after SIGKILL only what was in flight."""
    evtool.put("t", *"123")
    base = [*GROUP, "--from=earliest", "--data"]
    with Running(evtool, *base) as holder:
        await_lines(holder, 3)
        with Running(evtool, *GROUP, "--data") as standby:
            standby.await_err(STANDBY)
            offsets = evtool.put("t", "4")
            await_lines(holder, 4)
            evtool.await_committed(offsets[0] + 1)
            assert standby.out == ""
            assert holder.end(number).code == -number
            evtool.put("t", "5")
            await_that(standby, lambda: standby.out.endswith("5\n"), "the take-over")
            assert standby.end(signal.SIGTERM).err == STANDBY
    assert holder.out == "1\n2\n3\n4\n"
    assert standby.out == "5\n"
    assert evtool.committed() == offsets[0] + 2


def test_a_killed_consumer_has_missed_nothing(evtool: Subject) -> None:
    """Killed anywhere, again and again: all is given out, in order, and only what was in flight comes again."""
    evtool.put("t", input=numbered(60_000))
    given: list[int] = []
    for _ in range(3):
        consumer = evtool.start(*GROUP, "--from=earliest", "--data")
        assert consumer.stdout is not None
        head = b"".join(consumer.stdout.readline() for _ in range(5))
        consumer.kill()
        mine = [int(line) for line in (head + consumer.stdout.read()).split(b"\n")[:-1]]
        finish(consumer)
        assert mine == list(range(mine[0], mine[0] + len(mine)))
        assert mine[0] <= max(given, default=-1) + 1
        given += mine
    rest = [int(line) for line in succeed(evtool(*GROUP, "--drain", "--data")).lines]
    assert sorted({*given, *rest}) == list(range(60_000))
    assert rest


def test_several_topics_each_with_its_own_offset(evtool: Subject) -> None:
    for number, topic in enumerate(["o.a", "o.b", "o.a", "o.b", "o.a"]):
        evtool.put(topic, str(number))
    base = ["subscribe", "o.*", "-g", "g", "--from=earliest", "--data"]
    assert succeed(evtool(*base, "-n3")).out == "0\n1\n2\n"
    ends = [evtool.row(topic)["end"] for topic in ("o.a", "o.b")]
    assert [evtool.row(topic)["lag"] for topic in ("o.a", "o.b")] == [1, 1]
    assert succeed(evtool(*base, "--drain")).out == "3\n4\n"
    assert [evtool.committed(topic) for topic in ("o.a", "o.b")] == ends


def test_a_group_waits_for_its_topic_and_gets_its_first_event(evtool: Subject) -> None:
    with Running(evtool, *GROUP, "--data") as consumer:
        consumer.await_err("evtool: t: no such topic yet, waiting for it\n")
        offsets = evtool.put("t", "1", "2")
        consumer.await_out("1\n2\n")
        evtool.await_committed(offsets[1] + 1)


def test_a_group_of_a_glob_takes_in_topics_that_come_later(evtool: Subject) -> None:
    evtool.put("o.a", "1")
    with Running(evtool, "subscribe", "o.*", "-g", "g", "--data") as consumer:
        evtool.await_active("o.a")
        evtool.put("o.b", "2")
        consumer.await_out("2\n")
        evtool.put("o.a", "3")
        consumer.await_out("2\n3\n")
        consumer.end(signal.SIGTERM)
    assert [evtool.row(topic)["lag"] for topic in ("o.a", "o.b")] == [0, 0]


def test_a_topic_that_is_removed_ends_its_consumer_with_3(evtool: Subject) -> None:
    evtool.put("t", "1")
    with Running(evtool, *GROUP, "--from=earliest", "--data") as consumer:
        consumer.await_out("1\n")
        evtool.await_active()
        busy = evtool("rm", "t", "--yes")
        assert (busy.code, busy.out) == (75, "")
        assert evtool("rm", "t", "--yes", "--force").code == 0
        consumer.process.wait(PATIENCE)
        assert (consumer.process.returncode, consumer.err) == (3, "evtool: t: the topic was removed\n")


def test_nobody_reads_a_groups_events_any_more(evtool: Subject) -> None:
    """The closed pipe ends it without a word, and what was not written comes to the next one."""
    evtool.put("t", input=numbered(40_000))
    consumer = evtool.start(*GROUP, "--from=earliest", "--data")
    assert consumer.stdout is not None
    assert consumer.stderr is not None
    assert consumer.stdout.readline() == b"0\n"
    consumer.stdout.close()
    assert consumer.wait(PATIENCE) == -signal.SIGPIPE
    assert consumer.stderr.read() == b""
    consumer.communicate()
    rest = [int(line) for line in evtool(*GROUP, "--drain", "--data").lines]
    assert rest == list(range(rest[0], 40_000))

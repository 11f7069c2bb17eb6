"""evtool mirror, from files to files: each event once and in order, whatever happens on the way."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_verify import on_terminal
from tests.mirrors import (
    BLIND,
    KILL_AFTER,
    MAIN,
    SMALL_BLOCKS,
    arrivals,
    check_same,
    events,
    producing,
    rows,
    without_marks,
)
from tests.program import Program, wait_until
from tests.running import Running, linux, switches
from tests.topics import append, committed, numbers

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.program import Result


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The other home."""
    return tmp_path / "there"


@pytest.fixture
def far(there: Path) -> Program:
    """The program on the other home."""
    return Program(there)


def mirror(program: Program, there: Path, *arguments: str) -> Result:
    """Copy there what there is."""
    return program("mirror", str(program.home), str(there), *arguments)


def check_row(result: Result, **wanted: object) -> None:
    """It went well, and said this of the one topic."""
    assert (result.code, result.err) == (0, ""), result
    (row,) = rows(result)
    assert {name: row[name] for name in wanted} == wanted


def group_of(program: Program, topic: str = "t") -> str:
    """The group as which a topic is mirrored."""
    (row,) = program("groups", topic, "--json").events
    return str(row["group"])


def position(program: Program, topic: str = "t") -> int | None:
    """What the mirror of a topic has committed."""
    return committed(program, topic, group_of(program, topic))


# What arrives


def test_events_arrive_with_all_that_their_producers_said_and_where_they_come_from(
    evtool: Program, there: Path, far: Program
) -> None:
    """Attributes stay as they are and data byte for byte; origin, offset and time are added."""
    append(evtool, "t", '{"a":1.0, "a":2e0}', "--key=k", "--type=y", "--attr=trace=z", "--id=7")
    append(evtool, "t", '"\\u00e4 \\"data\\":1 ,\\"origin\\":\\"x\\""', "1", "2")
    check_row(mirror(evtool, there, "--json"), topic="t", first=0, next=4, events=4, lag=0)
    check_same(events(evtool), events(far))
    assert far("replay", "t", "--data").out == evtool("replay", "t", "--data").out
    first = events(far)[0]
    assert [*first][2:] == ["origin", "origoffset", "origtime", "key", "type", "id", "trace", "data"]
    host, _, digits = first["origin"].partition(":")
    assert host
    assert len(bytes.fromhex(digits)) == 4
    assert far("verify").code == 0


def test_what_was_copied_is_not_copied_again_and_what_came_since_is(evtool: Program, there: Path, far: Program) -> None:
    """A second run goes on where the first ended."""
    append(evtool, "t", *numbers(0, 9))
    check_row(mirror(evtool, there, "--json"), first=0, next=10, events=10)
    check_row(mirror(evtool, there, "--json"), first=10, next=10, events=0)
    append(evtool, "t", *numbers(10, 12))
    check_row(mirror(evtool, there, "--json"), first=10, next=13, events=3)
    check_same(events(evtool), events(far))


def test_offsets_with_gaps_are_told(evtool: Program, there: Path, far: Program) -> None:
    """A compacted topic arrives with the offsets that its events had."""
    evtool("create", "t", "segment-bytes=300")
    for number in range(12):
        append(evtool, "t", str(number), f"--key={number % 2}")
    assert evtool("compact", "t", "--yes", "--quiet").code == 0
    left = [one["offset"] for one in events(evtool)]
    assert len(left) < 12
    check_row(mirror(evtool, there, "--json"), next=12, events=len(left))
    check_same(events(evtool), events(far))


def test_topics_are_chosen_by_name_and_glob_and_dead_letters_only_so(
    evtool: Program, there: Path, far: Program
) -> None:
    """Without names all topics go, but for dead letters, whose stories tell offsets that would not be true there."""
    for topic in ("a", "b.1", "b.2", "b.2.dead"):
        append(evtool, topic, "1")
    assert [row["topic"] for row in rows(mirror(evtool, there, "b.*", "--json"))] == ["b.1", "b.2"]
    assert [row["topic"] for row in rows(mirror(evtool, there, "--json"))] == ["a", "b.1", "b.2"]
    assert [row["topic"] for row in far("topics", "--json").events] == ["a", "b.1", "b.2"]
    assert [row["topic"] for row in rows(mirror(evtool, there, "*.dead", "--json"))] == ["b.2.dead"]


def test_a_new_topic_has_the_settings_of_the_old_one(evtool: Program, there: Path, far: Program) -> None:
    """Those that were chosen; one that is there already keeps its own."""
    assert evtool("create", "t", "max-events=100", "dedupe=1h", "--quiet").code == 0
    assert evtool("create", "u", "max-events=100", "--quiet").code == 0
    assert far("create", "u", "max-age=1d", "--quiet").code == 0
    append(evtool, "t", "1")
    assert mirror(evtool, there).code == 0
    assert far("set", "t", "--json").out == evtool("set", "t", "--json").out
    assert far("set", "u", "max-age=1d", "--json").events[0]["max-events"] is None


def test_a_new_mirror_may_begin_anywhere_and_an_old_one_goes_on(evtool: Program, there: Path, far: Program) -> None:
    """--from places a mirror only once."""
    append(evtool, "t", *numbers(0, 9))
    check_row(mirror(evtool, there, "--from=7", "--json"), first=7, next=10, events=3)
    append(evtool, "t", "10")
    check_row(mirror(evtool, there, "--from=0", "--json"), first=10, next=11, events=1)
    assert arrivals(events(far)) == [7, 8, 9, 10]


def test_the_group_can_be_named_and_tells_how_far_it_is(evtool: Program, there: Path) -> None:
    """The source knows the mirror as a group, so that lag is seen and what is consumed may go."""
    append(evtool, "t", *numbers(0, 4))
    check_row(mirror(evtool, there, "--name=house", "--json"), group="house", events=5)
    append(evtool, "t", "5")
    (row,) = evtool("groups", "--json").events
    assert (row["group"], row["committed"], row["lag"]) == ("house", 5, 1)


# Further on


def test_an_event_keeps_its_origin_and_tells_the_last_way(evtool: Program, there: Path, tmp_path: Path) -> None:
    """`via` says from which log, and which offset there, an event has come that was not first appended there."""
    append(evtool, "t", *numbers(0, 2))
    append(Program(there), "t", "7")
    mirror(evtool, there)
    far, third, fourth = Program(there), tmp_path / "third", tmp_path / "fourth"
    mirror(far, third)
    mirror(Program(third), fourth)
    mirror(Program(third), fourth)
    beginning, end = events(Program(there)), events(Program(fourth))
    assert [without_marks(one) for one in end] == [without_marks(one) for one in beginning]
    assert arrivals(end) == [0, 0, 1, 2]
    second = events(Program(third))[0]["origin"]
    assert {one["origin"] for one in end} == {beginning[1]["origin"], second}
    through = (third / "topics" / "t" / "origin").read_text().strip()
    assert [one["via"] for one in end] == [f"{through}:{offset}" for offset in range(4)]


def test_two_homes_that_mirror_each_other_do_not_send_anything_back(evtool: Program, there: Path, far: Program) -> None:
    """What was appended here first never comes here again, so that both ways can be open."""
    append(evtool, "t", "1", "2")
    append(evtool, "t", "3", "--attr=origin=mine")
    append(far, "t", "4")
    for _ in range(3):
        assert mirror(evtool, there).code == 0
        assert mirror(far, evtool.home).code == 0
    assert sorted(evtool("replay", "t", "--data").lines) == ["1", "2", "3", "4"]
    assert far("replay", "t", "--data").lines == ["4", "1", "2", "3"]


def test_attributes_of_a_producer_that_are_called_so_stay(evtool: Program, there: Path, tmp_path: Path) -> None:
    """Where a producer has given an origin itself, that stays, and only `via` is added."""
    append(evtool, "t", "1", "--attr=origin=web", "--attr=origoffset=none")
    append(evtool, "t", "2", "--attr=via=train")
    mirror(evtool, there)
    mirror(evtool, there)
    first, second = events(Program(there))
    ours = (evtool.topic("t") / "origin").read_text().strip()
    assert (first["origin"], first["origoffset"], first["via"]) == ("web", "none", f"{ours}:0")
    assert (second["origin"], second["origoffset"], second["via"]) == (ours, "1", "train")
    assert "origtime" not in first


# Any kill


def following(program: Program, there: Path) -> Running:
    """A mirror that goes on with what comes, a few events at a time."""
    return Running(program, "mirror", str(program.home), str(there), "--follow", "--quiet", code=SMALL_BLOCKS + MAIN)


def wait_for_more(program: Program, producer: subprocess.Popen[bytes]) -> None:
    """Until the topic has grown, or no more is produced."""
    size = len(program.log("t"))
    wait_until(lambda: len(program.log("t")) > size or producer.poll() is not None)


def killed(program: Program, there: Path, appends: int, *arguments: str) -> Result:
    """A mirror that is killed when it has appended so many blocks and has committed all but the last of them."""
    code = KILL_AFTER + SMALL_BLOCKS + MAIN
    with Running(program, str(appends), "mirror", str(program.home), str(there), *arguments, code=code) as process:
        result = process.end()
    assert result.code == -signal.SIGKILL, result
    return result


@pytest.mark.parametrize("appends", [1, 2, 5])
def test_killed_between_append_and_commit_nothing_comes_twice_or_is_missing(
    evtool: Program, there: Path, far: Program, appends: int
) -> None:
    """The destination is the truth: what it has is not sent again, though the source does not know of it."""
    append(evtool, "t", input="\n".join(numbers(0, 999)))
    killed(evtool, there, appends)
    there_now = len(events(far))
    assert 0 < there_now < 1000
    assert (position(evtool) or 0) < there_now
    check_row(mirror(evtool, there, "--json"), first=there_now, next=1000)
    check_same(events(evtool), events(far))


def test_one_that_does_not_look_at_the_destination_sends_some_twice(evtool: Program, there: Path, far: Program) -> None:
    """Negative control of the audit: believing what was committed is not enough."""
    append(evtool, "t", input="\n".join(numbers(0, 999)))
    killed(evtool, there, 2)
    with Running(evtool, "mirror", str(evtool.home), str(there), code=BLIND + MAIN) as process:
        assert process.end().code == 0
    found = arrivals(events(far))
    assert len(set(found)) == 1000
    assert len(found) > 1000


def test_the_last_arrival_is_found_behind_what_others_have_appended_since(
    evtool: Program, there: Path, far: Program
) -> None:
    """Other producers, and other mirrors, may write to the same topic."""
    append(evtool, "t", input="\n".join(numbers(0, 499)))
    killed(evtool, there, 3)
    append(far, "t", input="\n".join(numbers(0, 9999)))
    append(far, "t", "1", "--attr=via=train")
    assert mirror(evtool, there, "--quiet").code == 0
    assert arrivals(events(far)) == list(range(500))
    assert len(events(far)) == 10501


def test_a_group_that_was_removed_does_not_make_events_come_twice(evtool: Program, there: Path, far: Program) -> None:
    """A mirror that seems to be new still finds out what is there."""
    append(evtool, "t", *numbers(0, 9))
    mirror(evtool, there)
    assert evtool("rm", "t", "--group", group_of(evtool), "--yes", "--quiet").code == 0
    append(evtool, "t", "10")
    check_row(mirror(evtool, there, "--json"), first=10, events=1)
    check_same(events(evtool), events(far))


def test_a_destination_that_lost_its_topic_gets_what_was_not_committed(
    evtool: Program, there: Path, far: Program
) -> None:
    """And all of it again after a seek: the destination has nothing, so nothing comes twice."""
    append(evtool, "t", *numbers(0, 4))
    mirror(evtool, there)
    assert far("rm", "t", "--yes", "--quiet").code == 0
    append(evtool, "t", "5")
    check_row(mirror(evtool, there, "--json"), first=5, events=1)
    assert far("rm", "t", "--yes", "--quiet").code == 0
    assert evtool("seek", "t", "--group", group_of(evtool), "--to=earliest", "--quiet").code == 0
    check_row(mirror(evtool, there, "--json"), first=0, events=6)
    check_same(events(evtool), events(far))


def test_a_seek_back_does_not_make_events_come_twice(evtool: Program, there: Path, far: Program) -> None:
    """What is there is there."""
    append(evtool, "t", *numbers(0, 4))
    mirror(evtool, there)
    assert evtool("seek", "t", "--group", group_of(evtool), "--to=2", "--quiet").code == 0
    check_row(mirror(evtool, there, "--json"), first=5, events=0)
    check_same(events(evtool), events(far))
    assert position(evtool) == 5


def test_a_topic_made_anew_is_another_log(evtool: Program, there: Path, far: Program) -> None:
    """Its events are not taken for those that had their offsets before."""
    append(evtool, "t", *numbers(0, 4))
    mirror(evtool, there)
    assert evtool("rm", "t", "--yes", "--quiet").code == 0
    append(evtool, "t", "7", "8")
    check_row(mirror(evtool, there, "--json"), first=0, events=2)
    assert far("replay", "t", "--data").lines == ["0", "1", "2", "3", "4", "7", "8"]


@pytest.mark.parametrize("events_since", [0, 3])
def test_a_source_that_was_put_back_is_refused(evtool: Program, there: Path, events_since: int) -> None:
    """Nobody can tell what of a log is missing that is not the one which was mirrored: silence would lose events."""
    append(evtool, "t", *numbers(0, 4))
    segment = evtool.segments("t")[0]
    before = segment.read_bytes()
    append(evtool, "t", *numbers(5, 7))
    mirror(evtool, there)
    assert evtool("rm", "t", "--group", group_of(evtool), "--yes", "--quiet").code == 0
    segment.write_bytes(before)
    append(evtool, "t", "10", *numbers(11, 10 + events_since))
    result = mirror(evtool, there)
    assert result.code == 4
    assert result.err.startswith("evtool: t: is not the log that was mirrored: ")


# Others at the same time


def test_a_second_process_stands_by_and_takes_over(evtool: Program, there: Path, far: Program) -> None:
    """One at a time mirrors a topic to a place."""
    append(evtool, "t", "0")
    command = ["mirror", str(evtool.home), str(there), "--follow", "--quiet"]
    with Running(evtool, *command) as first:
        wait_until(lambda: far.home.exists() and len(far("replay", "t").lines) == 1)
        with Running(evtool, *command[:-1]) as second:
            wait_until(lambda: "standing by" in second.err, "the second one to stand by")
            append(evtool, "t", "1")
            wait_until(lambda: len(events(far)) == 2)
            first.end(signal.SIGKILL)
            append(evtool, "t", "2")
            wait_until(lambda: len(events(far)) == 3)
            assert second.end(signal.SIGTERM).code == -signal.SIGTERM
            assert second.err.count("standing by") == 1
    check_same(events(evtool), events(far))


def test_follow_takes_what_comes_and_topics_that_appear(evtool: Program, there: Path, far: Program) -> None:
    """From their beginning; a topic that is removed is left."""
    append(evtool, "b.1", "1")
    with Running(evtool, "mirror", str(evtool.home), str(there), "b.*", "--follow", "--from=latest") as process:
        wait_until(lambda: far.home.exists() and far("topics", "b.1").code == 0)
        wait_until(lambda: evtool("groups", "b.1").out)
        append(evtool, "b.1", "2")
        append(evtool, "b.2", "3")
        append(evtool, "c", "4")
        wait_until(lambda: far("topics", "b.2").code == 0 and events(far, "b.2") and events(far, "b.1"))
        assert evtool("rm", "b.2", "--yes", "--quiet", "--force").code == 0
        wait_until(lambda: "b.2: the topic was removed" in process.err, "the removal to be noticed")
        append(evtool, "b.1", "5")
        wait_until(lambda: len(events(far, "b.1")) == 2)
        result = process.end(signal.SIGINT)
    assert result.code == -signal.SIGINT
    assert [one["data"] for one in events(far, "b.1")] == [2, 5]
    assert [row.split("\t")[0] for row in result.lines] == ["b.1"]


@linux
def test_a_following_mirror_sleeps_while_nothing_comes(evtool: Program, there: Path) -> None:
    """Waiting costs nothing: it is awake again only for what comes."""
    append(evtool, "t", "1")
    with Running(evtool, "mirror", str(evtool.home), str(there), "--follow") as process:
        process.await_waiting()
        append(evtool, "t", "2")
        wait_until(lambda: position(evtool) == 2)
        time.sleep(1.5)  # until it has made its commit durable, and looked for new topics
        before = switches(process.process.pid)
        time.sleep(1)  # a span in which nothing is to happen
        assert switches(process.process.pid) == before


def test_a_killed_follower_leaves_each_event_once_and_in_order(evtool: Program, there: Path, far: Program) -> None:
    """Killed at any moment, again and again, while others append at both ends."""
    append(evtool, "t", "0")
    append(far, "t", "0")
    with producing(evtool, 30000) as producer, producing(far, 3000) as other:
        kills = 0
        while producer.poll() is None:
            with following(evtool, there) as process:
                wait_for_more(far, producer)
                process.end(signal.SIGKILL)
            kills += 1
        assert (producer.wait(), other.wait()) == (0, 0)
    assert kills > 1
    assert mirror(evtool, there, "--quiet").code == 0
    found = events(far)
    check_same(events(evtool), [one for one in found if "origin" in one])
    assert [one["data"] for one in found if "origin" not in one] == [0, *range(3000)]


# What goes wrong


def test_one_topic_that_cannot_be_copied_does_not_keep_the_others_back(
    evtool: Program, there: Path, far: Program
) -> None:
    """All before a damaged line arrives; the rest of its topic waits for a repair."""
    for topic in ("a", "b", "c"):
        append(evtool, topic, *numbers(0, 4))
    segment = evtool.segments("b")[0]
    segment.write_bytes(segment.read_bytes().replace(b'"data":3}', b'"data";3}'))
    result = mirror(evtool, there, "--json")
    assert result.code == 65
    assert result.err.startswith('evtool: b: a stored line that begins with {"offset":3,')
    assert [(row["topic"], row["next"], row["events"]) for row in rows(result)] == [
        ("a", 5, 5),
        ("b", 3, 3),
        ("c", 5, 5),
    ]
    assert arrivals(events(far, "b")) == [0, 1, 2]


def test_what_makes_no_sense_is_refused(evtool: Program, there: Path) -> None:
    """Before anything is made."""
    append(evtool, "t", "1")
    for arguments, code, said in (
        (["mirror", str(evtool.home), f"file:{evtool.home}/."], 2, "is the store that is read"),
        (["mirror", "store", str(evtool.home)], 2, "is the store that is read"),
        (["mirror", str(evtool.home), str(there), "nope"], 3, "nope: no such topic"),
        (["mirror", str(evtool.home), str(there), "--from=then"], 2, "not a position"),
        (["mirror", str(evtool.home), str(there), "--name=A"], 2, "not a group name"),
        (["mirror", str(evtool.home), str(there), "--creds=f"], 2, "no NATS server is named"),
        (["mirror", str(there), str(evtool.home)], 3, "nothing there yet"),
        (["mirror", str(evtool.home)], 2, "DST"),
        (["mirror", "ftp://x", str(there)], 2, "no such kind of store"),
    ):
        result = evtool(*arguments)
        assert (result.code, result.out) == (code, ""), result
        assert said in result.err
    assert not there.exists()


def test_one_that_has_stood_still_looks_again_before_it_goes_on(evtool: Program, there: Path, far: Program) -> None:
    """Whoever is stopped for a while may have been replaced: what it has in its hands it must not append any more."""
    append(evtool, "t", input="\n".join(numbers(0, 99)))
    code = """
import time
from evtool.delivery import origin, storesink
storesink._FROZEN_SECONDS = 0.3
looks, mark_all, missing_from = [], origin.Way.mark_all, storesink.missing_from

def freeze_once(self, lines):
    time.sleep(0.4 if len(looks) == 1 else 0)
    return mark_all(self, lines)

def look(*arguments):
    looks.append(1)
    return missing_from(*arguments)

origin.Way.mark_all, storesink.missing_from = freeze_once, look
import atexit, os, evtool.cli.border as border
leave = border.leave
border.leave = lambda code: (os.write(2, b"%d looks" % len(looks)), leave(code))
"""
    with Running(evtool, "mirror", str(evtool.home), str(there), "-q", code=code + MAIN) as process:
        result = process.end()
    assert (result.code, result.err) == (0, "2 looks")
    check_same(events(evtool), events(far))


def test_a_terminal_shows_how_far_it_is(evtool: Program, there: Path) -> None:
    """One line, written over, and a table at the end."""
    append(evtool, "t", input="\n".join(numbers(0, 999)))
    seen = on_terminal(evtool, "mirror", str(evtool.home), str(there), NO_COLOR="1")
    shown, _, table = seen.rpartition("\r\033[K")
    assert "t: " in shown
    assert " copied, " in shown
    assert table.split()[:8] == ["topic", "group", "from", "to", "events", "lag", "time", "events/s"]
    assert "1,000" in table
    assert "copied" not in on_terminal(evtool, "mirror", str(evtool.home), str(there), "--quiet")

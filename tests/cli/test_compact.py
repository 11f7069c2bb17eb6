"""evtool compact: what a newer event of the same key supersedes goes from sealed segments; all else stays as it was."""

from __future__ import annotations

import fcntl
import json
import resource
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_trim import firsts
from tests.cli.test_verify import problems, rewrite, seal
from tests.program import PATIENCE, finish, wait_until
from tests.running import Running
from tests.topics import append, committed, moment, stored_lines, write_commit, write_log

if TYPE_CHECKING:
    from evtool.stores.file import FileStore
    from tests.program import Program, Result

SEGMENTS = ("a=1 b=1 a=2", "=1 c=1", "a=3 c=2", "b=2 a=4", "a=5 a=6")


def write(store: FileStore, *segments: str, topic: str = "t", more: str = "", **settings: object) -> None:
    """A topic with these segments, the last of them active. Its events are KEY=DATA; those without a key have none."""
    if not store.has(topic):
        store.create(
            topic, {"segment-bytes": 100} | {name.replace("_", "-"): value for name, value in settings.items()}
        )
    writer = store.ensure_topic(topic).writer()
    for segment in segments:
        pairs = [event.split("=") for event in segment.split()]
        writer.append(
            [(f'"key":"{key}",{more}' if key else "").encode() + f'"data":{data}'.encode() for key, data in pairs]
        )
    writer.sync()


@pytest.fixture
def keyed(evtool: Program, store: FileStore) -> Program:
    """Eleven events in five segments; those at 3 (no key), 6 (c), 7 (b) and the last two are to stay."""
    write(store, *SEGMENTS)
    return evtool


def events(program: Program, topic: str = "t") -> str:
    """What is in the topic, in the form in which it was written."""
    found = [json.loads(line) for line in stored_lines(program, topic)]
    return " ".join(f"{event.get('key', '')}={json.dumps(event['data'])}" for event in found)


def offsets(program: Program, topic: str = "t") -> list[int]:
    return [json.loads(line)["offset"] for line in stored_lines(program, topic)]


def compact(program: Program, *options: str) -> list[str]:
    """The row of a compaction that is to go well."""
    result = program("compact", "t", "--yes", *options)
    assert (result.code, result.err) == (0, ""), result
    return result.out.rstrip("\n").split("\t")


def sizes(program: Program, topic: str = "t") -> list[int]:
    return [path.stat().st_size for path in program.segments(topic)]


def refused(result: Result, code: int, err: str) -> None:
    assert (result.code, result.out) == (code, ""), result
    assert result.err.startswith(err)


def test_what_is_superseded_goes_and_what_stays_is_what_it_was(keyed: Program) -> None:
    before, size = stored_lines(keyed, "t"), sizes(keyed)
    row = compact(keyed)
    assert events(keyed) == "=1 c=2 b=2 a=5 a=6"
    assert stored_lines(keyed, "t") == [before[offset] for offset in (3, 6, 7, 9, 10)]
    assert firsts(keyed) == [3, 5, 7, 9]
    freed = sum(size) - sum(sizes(keyed))
    assert row == ["t", "9", "6", str(sum(size[:-1])), str(freed), "3", "1", "yes"]
    assert compact(keyed) == ["t", "3", "0", str(sum(sizes(keyed)[:-1])), "0", "0", "0", "yes"]
    assert keyed("append", "t", "1", "--offsets").out == "11\n"


def test_a_dry_run_says_the_same_and_changes_nothing(keyed: Program) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in keyed.topic("t").iterdir()}
    result = keyed("compact", "t", "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert {path.name: path.stat().st_mtime_ns for path in keyed.topic("t").iterdir()} == before
    assert compact(keyed) == [*result.out.rstrip("\n").split("\t")[:-1], "yes"]


def test_json_says_it_as_values(keyed: Program) -> None:
    size = sizes(keyed)
    expected = {"topic": "t", "events": 9, "removed": 6, "bytes": sum(size[:-1]), "rewritten": 3, "dropped": 1}
    for option, done in (("--dry-run", False), ("--yes", True)):
        (row,) = keyed("compact", "t", "--json", option).events
        assert row == expected | {"freed": row["freed"], "done": done}
    assert row["freed"] == sum(size) - sum(sizes(keyed))
    assert keyed("compact", "t", "-y", "-q").out == ""


def test_without_a_terminal_it_wants_yes(keyed: Program) -> None:
    result = keyed("compact", "t")
    refused(result, 2, "evtool: compact: there is no terminal to ask on\nhint: say --yes, or --dry-run to see first\n")
    assert offsets(keyed) == list(range(11))


def test_the_active_segment_supersedes_but_nothing_in_it_goes(evtool: Program, store: FileStore) -> None:
    store.create("t", {"segment-bytes": 100})
    assert compact(evtool) == ["t", "0", "0", "0", "0", "0", "0", "yes"]
    write(store, "a=1 a=2 a=3")
    assert compact(evtool) == ["t", "0", "0", "0", "0", "0", "0", "yes"]
    write(store, "a=4")
    assert compact(evtool)[1:3] == ["3", "3"]
    assert events(evtool) == "a=4"


def test_events_without_a_key_stay_and_an_empty_key_is_one(evtool: Program, store: FileStore) -> None:
    write(store, "=1 =2", "=3", topic="keyless")
    assert evtool("compact", "keyless", "-y").out.split("\t")[2] == "0"
    for data in ("1", "2", "3"):
        append(evtool, "t", "--key=", data)
        evtool("set", "t", "-q", "segment-bytes=100")
    compact(evtool)
    assert events(evtool) == "=3"


def test_a_key_that_another_program_wrote_with_escapes_is_the_same_key(evtool: Program, store: FileStore) -> None:
    (written,) = write_log(evtool, "t", [moment(1e9)], head='"key":"\\u0061\\/b",')
    evtool("set", "t", "-q", "segment-bytes=200")
    for data in ("1", "2"):
        append(evtool, "t", "--key=a/b", data)
    assert stored_lines(evtool, "t")[0] == written
    assert compact(evtool)[1:3] == ["2", "2"]
    assert events(evtool) == "a/b=2"


def test_a_null_goes_when_its_grace_is_over_and_what_it_deletes_at_once(evtool: Program, store: FileStore) -> None:
    write(store, "a=1 b=1", "a=null", "b=2", "b=3")
    assert compact(evtool)[2] == "3"
    assert events(evtool) == "a=null b=3"
    assert compact(evtool, "--grace=1h")[2] == "0"
    assert evtool("compact", "t", "--dry-run", "--grace=0s").out.split("\t")[2] == "1"
    assert compact(evtool, "--grace=0s")[2] == "1"
    assert events(evtool) == "b=3"


@pytest.mark.parametrize("data", ['"null"', "[null]", '{"a":null}', "0", '""', "false"])
def test_only_null_deletes(evtool: Program, store: FileStore, data: str) -> None:
    write(store, "a=1", f"a={data}", "b=1")
    compact(evtool, "--grace=0s")
    assert events(evtool) == f"a={data} b=1".replace(":", ": ")


def test_an_event_with_an_id_stays_for_as_long_as_ids_are_remembered(evtool: Program, store: FileStore) -> None:
    store.create("t", {"segment-bytes": 100, "dedupe": 3600})
    append(evtool, "t", "--key=a", "--id=first", "1")
    for data in ("2", "3"):
        append(evtool, "t", "--key=a", data)
    compact(evtool)
    assert offsets(evtool) == [0, 2]
    assert evtool("append", "t", "--key=a", "--id=first", "1", "--offsets").out == "0\n"
    evtool("set", "t", "-q", "dedupe=1ms")
    compact(evtool)
    assert offsets(evtool) == [2]


def test_a_null_does_not_go_as_long_as_something_stays_that_it_deletes(evtool: Program, store: FileStore) -> None:
    write(store, "a=1", more='"id":"x",')
    write(store, "a=null", "b=1", "b=2")
    compact(evtool, "--grace=0s")
    assert events(evtool) == "a=1 a=null b=2"
    assert evtool("state", "t", "--data").lines == ["2"]


def test_a_group_still_gets_all_that_it_has_not_handled_if_that_is_said(keyed: Program) -> None:
    write_commit(keyed, 5)
    assert compact(keyed, "--before=1h")[2] == "0"
    assert compact(keyed, "--before=group:g")[2] == "1"
    result = keyed("subscribe", "t", "-g", "g", "--drain", "--data")
    assert (result.code, result.err, result.lines) == (0, "", ["3", "2", "2", "4", "5", "6"])


def test_a_group_gets_the_newest_of_each_key_in_its_place(keyed: Program) -> None:
    write_commit(keyed, 4)
    compact(keyed)
    result = keyed("subscribe", "t", "-g", "g", "--drain")
    assert [(event["offset"], event["key"]) for event in result.events] == [(6, "c"), (7, "b"), (9, "a"), (10, "a")]
    assert (result.err, committed(keyed)) == ("", 11)


def test_a_group_before_which_the_log_begins_now_is_told(evtool: Program, store: FileStore) -> None:
    write(store, "a=1 b=1", "a=2 b=2", "a=3 b=3")
    write_commit(evtool, 1)
    compact(evtool)
    result = evtool("subscribe", "t", "-g", "g", "--drain", "--data")
    assert (result.code, result.lines) == (0, ["3", "3"])
    assert result.err == "evtool: t: offsets 1 to 3 are gone, trimmed or lost before they were read\n"


def test_lag_and_events_count_offsets_and_verify_counts_lines(keyed: Program) -> None:
    write_commit(keyed, 4)
    compact(keyed)
    (topic,) = keyed("topics", "t", "--json").events
    assert (topic["first"], topic["next"], topic["events"]) == (3, 11, 8)
    assert keyed("groups", "t", "--json").events[0]["lag"] == 7
    assert keyed("verify", "t", "--json").events[0]["events"] == 5


@pytest.mark.parametrize("limit", range(1, 9))
def test_a_limit_on_events_counts_those_that_are_there(evtool: Program, store: FileStore, limit: int) -> None:
    """A segment that went from the middle, and what went from others, does not count as kept."""
    write(store, "a=1 b=1", "c=1 d=1", "e=1 e=2", "e=3 f=1", "g=1")
    assert compact(evtool)[6] == "1"
    evtool("set", "t", "-q", f"max-events={limit}")
    assert evtool("trim", "t").code == 0
    assert min(limit, 7) <= len(offsets(evtool)) <= limit + 1


def test_a_topic_that_keeps_only_what_groups_need_is_compacted_too(evtool: Program, store: FileStore) -> None:
    write(store, *SEGMENTS, retention="consumed")
    write_commit(evtool, 6)
    compact(evtool)
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").lines == ["2", "2", "5", "6"]
    assert problems(evtool) == []
    assert firsts(evtool) == [9]


def test_seals_hold_for_what_is_there_and_an_old_one_for_it_no_more(keyed: Program) -> None:
    old = seal(keyed)
    compact(keyed)
    assert problems(keyed) == []
    kinds = {problem["kind"] for problem in problems(keyed, f"--since-seal={old}")}
    assert kinds == {"altered"}
    assert problems(keyed, f"--since-seal={seal(keyed)}") == []


def test_a_damaged_segment_is_refused_and_left_as_it_is_and_other_topics_are_compacted(
    keyed: Program, store: FileStore
) -> None:
    write(store, *SEGMENTS, topic="u")
    path = keyed.segments("t")[0]
    rewrite(path, '"data":1', '"data":7')
    before = path.read_bytes()
    result = keyed("compact", "t", "u", "--yes")
    assert result.code == 65
    assert result.err == f"evtool: {path}: byte 0: it is not as it was when it was written\nhint: see evtool verify t\n"
    assert [line.split("\t")[:3] for line in result.lines] == [["u", "9", "6"]]
    assert path.read_bytes() == before


def test_a_line_that_is_no_event_is_refused_and_nothing_goes(keyed: Program) -> None:
    path = keyed.segments("t")[3]
    rewrite(path, '{"offset":8', '["offset":8')
    before = keyed.log("t")
    result = keyed("compact", "t", "--yes")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: {path}: byte ")
    assert keyed.log("t") == before


def test_where_nothing_can_be_written_nothing_is_lost(keyed: Program) -> None:
    """No file may grow beyond 50 bytes, as if the disk were full."""
    before = keyed.log("t")
    result = keyed("compact", "t", "--yes", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)))
    assert (result.code, result.out) == (74, "")
    assert result.err.startswith(f"evtool: {keyed.topic('t')}/")
    assert "File too large" in result.err
    assert keyed.log("t") == before
    assert problems(keyed) == []
    assert compact(keyed)[2] == "6"
    assert problems(keyed) == []


def test_a_topic_of_which_a_sync_has_failed_is_left_alone(keyed: Program) -> None:
    keyed.segments("t")[-1].chmod(0o400)
    refused(
        keyed("compact", "t", "--yes"), 74, f"evtool: {keyed.segments('t')[-1]}: an earlier sync of this segment failed"
    )
    assert offsets(keyed) == list(range(11))


def test_one_compacts_at_a_time(keyed: Program) -> None:
    with (keyed.topic("t") / "compact.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        result = keyed("compact", "t", "--yes")
        refused(result, 75, "evtool: t: another process compacts it\nhint: let that one end\n")
        assert keyed("compact", "t", "--dry-run").out.split("\t")[2] == "6"
        assert offsets(keyed) == list(range(11))
    assert compact(keyed)[2] == "6"


def test_a_topic_that_is_busy_does_not_keep_the_others_back(evtool: Program, store: FileStore) -> None:
    for topic in ("p", "q", "r"):
        write(store, *SEGMENTS, topic=topic)
    with (evtool.topic("q") / "compact.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        result = evtool("compact", "*", "--yes")
    assert [line.split("\t")[:3] for line in result.lines] == [["p", "9", "6"], ["r", "9", "6"]]
    assert (result.code, result.err) == (75, "evtool: q: another process compacts it\nhint: let that one end\n")


def test_topics_may_be_named_by_a_glob(evtool: Program, store: FileStore) -> None:
    for topic in ("prices.a", "prices.b", "other"):
        write(store, *SEGMENTS, topic=topic)
    result = evtool("compact", "prices.*", "--yes")
    assert [line.split("\t")[:3] for line in result.lines] == [["prices.a", "9", "6"], ["prices.b", "9", "6"]]
    assert len(offsets(evtool, "other")) == 11
    result = evtool("compact", "none.*", "--yes")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_where_there_is_no_topic_there_is_nothing_to_compact(evtool: Program) -> None:
    refused(evtool("compact", "t", "--yes"), 3, "evtool: t: no such topic\nhint: there are no topics yet\n")


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        ([], 2, "evtool: compact: missing argument"),
        (["t", "none"], 3, "evtool: none: no such topic\n"),
        (["../t"], 2, "evtool: '../t': not a topic name\nhint: "),
        (["t", "--grace=long"], 2, "evtool: 'long': not a duration\nhint: "),
        (["t", "--grace=-1h"], 2, "evtool: '-1h': not a duration\nhint: "),
        (["t", "--before=nowhere"], 2, "evtool: 'nowhere': not a position in a topic\nhint: "),
        (["t", "--before=12"], 4, "evtool: t: there is no offset 12 yet, the next is 11\n"),
        (["t", "--before=group:none"], 3, "evtool: none: no such group of topic t\n"),
    ],
)
def test_a_compaction_that_makes_no_sense_is_refused(keyed: Program, arguments: list[str], code: int, err: str) -> None:
    refused(keyed("compact", *arguments, "--yes"), code, err)
    assert offsets(keyed) == list(range(11))


def test_settings_that_make_no_sense_are_refused(keyed: Program) -> None:
    (keyed.topic("t") / "topic.json").write_text('{"dedupe":"long"}')
    refused(keyed("compact", "t", "--yes"), 78, "evtool: ")
    assert offsets(keyed) == list(range(11))


def test_a_reader_in_a_segment_that_is_written_anew_reads_the_old_one(evtool: Program, store: FileStore) -> None:
    """It was in the middle of it, held up by a pipe that nobody empties."""
    write(store, " ".join(f"a={number}" for number in range(3000)), "a=7")
    lines = stored_lines(evtool, "t")
    reader = evtool.start("replay", "t", bufsize=0)
    assert reader.stdout is not None
    first = reader.stdout.read(100)
    assert compact(evtool)[1:3] == ["3000", "3000"]
    result = finish(reader)
    assert (result.code, result.err) == (0, "")
    assert (first + result.raw).decode() == "".join(lines)


def states(lines: list[str]) -> dict[str, Any]:
    """The newest data of each key in these lines."""
    return {event["key"]: event["data"] for event in map(json.loads, lines)}


def test_producers_and_readers_go_on_meanwhile(evtool: Program) -> None:
    """A follower gets every event in its order, all seals hold at any moment, and the state is what it should be."""
    evtool("create", "t", "-q", "segment-bytes=8KiB")
    with (
        Running(evtool, "tail", "t", "-n0", "-f") as follower,
        Running(evtool, "append", "t", "--key-from=.k", stdin=subprocess.PIPE) as producer,
    ):
        follower.await_waiting()
        assert producer.process.stdin is not None
        for start in range(0, 16_000, 2000):
            some = [b'{"k":"%d","n":%d}\n' % (number % 7, number) for number in range(start, start + 2000)]
            producer.process.stdin.write(b"".join(some))
            producer.process.stdin.flush()
            compact(evtool, "--grace=0s")
            assert problems(evtool) == []
        producer.process.stdin.close()
        assert producer.process.wait(PATIENCE) == 0
        wait_until(lambda: follower.out.count("\n") == 16_000)
        got = follower.out.splitlines()
    assert [json.loads(line)["offset"] for line in got] == list(range(16_000))
    assert states(evtool("state", "t").lines) == states(got)
    compact(evtool)
    assert states(stored_lines(evtool, "t")) == states(got)
    assert len(stored_lines(evtool, "t")) < 8_000

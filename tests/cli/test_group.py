"""evtool subscribe --group: going on where the group left off, one process at a time, and never past what was done."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.program import PATIENCE, Program, wait_until
from tests.running import Running, linux, switches
from tests.topics import (
    append,
    commits_file,
    committed,
    moment,
    numbers,
    small_segments,
    stored,
    stored_lines,
    write_commit,
    write_log,
)

STANDBY = "evtool: t: another process consumes for group g; standing by\n"
COMMITS_BEFORE_IT_WRITES = """
from evtool.cli.output import Output
write = Output.deliver
def commit_first(self, lines, handled):
    handled(None)
    write(self, lines, handled)
Output.deliver = commit_first
from evtool.__main__ import main
main()
"""


def test_a_group_goes_on_where_it_left_off(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 5))
    base = ["subscribe", "t", "--group=g", "--data"]
    first = evtool(*base, "--from=earliest", "--count=2")
    assert (first.code, first.out, first.err) == (0, "1\n2\n", "")
    assert committed(evtool) == 2
    assert evtool(*base, "-n1").out == "3\n"
    assert evtool(*base, "--drain").out == "4\n5\n"
    assert evtool(*base, "--drain").out == ""
    append(evtool, "t", "6")
    assert evtool(*base, "--drain").out == "6\n"
    assert committed(evtool) == 6


def test_a_new_group_begins_with_what_comes(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    result = evtool("subscribe", "t", "-g", "g", "--drain")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert committed(evtool) == 2
    append(evtool, "t", "3")
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").out == "3\n"


@pytest.mark.parametrize(("where", "rest"), [("earliest", "1\n2\n3\n"), ("-1", "3\n"), ("1", "2\n3\n"), ("latest", "")])
def test_from_places_a_new_group(evtool: Program, where: str, rest: str) -> None:
    append(evtool, "t", "1", "2", "3")
    assert evtool("subscribe", "t", "-g", "g", f"--from={where}", "--drain", "--data").out == rest
    assert committed(evtool) == 3


def test_from_does_not_move_a_group_that_there_is(evtool: Program) -> None:
    append(evtool, "t", "1", "2", "3")
    evtool("subscribe", "t", "-g", "g", "--from=earliest", "-n2")
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "--data")
    assert (result.code, result.out, result.err) == (0, "3\n", "")
    assert evtool("subscribe", "t", "-g", "g", "--from=0", "--drain").out == ""


def test_a_new_group_may_begin_where_another_one_stands(evtool: Program) -> None:
    append(evtool, "t", "1", "2", "3")
    evtool("subscribe", "t", "-g", "g", "--from=earliest", "-n2")
    assert evtool("subscribe", "t", "-g", "h", "--from=group:g", "--drain", "--data").out == "3\n"
    assert committed(evtool) == 2


def test_groups_know_nothing_of_each_other(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    for group in ("g", "h"):
        assert evtool("subscribe", "t", "-g", group, "--from=earliest", "--drain", "--data").out == "1\n2\n"


def test_events_that_a_filter_leaves_out_count_as_handled(evtool: Program) -> None:
    append(evtool, "t", "1", "--key=a")
    append(evtool, "t", "2", "3", "--key=b")
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "--key=a", "--data")
    assert (result.code, result.out) == (0, "1\n")
    assert committed(evtool) == 3


def test_a_count_commits_no_further_than_it_gave_out(evtool: Program) -> None:
    append(evtool, "t", "1", "2", "--key=a")
    append(evtool, "t", "3", "--key=b")
    append(evtool, "t", "4", "--key=a")
    evtool("subscribe", "t", "-g", "g", "--from=earliest", "--count=2", "--key=a")
    assert committed(evtool) in (2, 3)
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--key=a", "--data").out == "4\n"


def test_verbose_says_how_far_the_group_got(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "-v", "--data")
    assert (result.code, result.out, result.err) == (0, "1\n2\n", "evtool: t: group g has committed offset 2\n")


def test_a_time_without_events_commits_and_ends_with_124(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--timeout=200ms", "--data")
    assert (result.code, result.out, result.err) == (124, "1\n", "evtool: timed out: no event came for 0.2 s\n")
    assert committed(evtool) == 1


@pytest.mark.parametrize("group", ["", "..", "../g", "a/b", "G", "a..b", "-g", "x" * 65])
def test_a_name_that_no_group_can_have_is_refused_with_2_and_nothing_is_touched(evtool: Program, group: str) -> None:
    append(evtool, "t", "1")
    result = evtool("subscribe", "t", f"--group={group}", "--drain")
    assert (result.code, result.out) == (2, "")
    assert "not a group name" in result.err
    assert not (evtool.topic("t") / "consumers").exists()


def test_a_group_of_a_missing_topic_waits_and_gets_its_first_event(evtool: Program) -> None:
    with Running(evtool, "subscribe", "t", "-g", "g", "--data") as consumer:
        consumer.await_err("evtool: t: no such topic yet, waiting for it\n")
        append(evtool, "t", "1", "2")
        consumer.await_out("1\n2\n")
        wait_until(lambda: committed(evtool) == 2)


@linux
def test_what_comes_is_committed_as_it_is_given_out(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "subscribe", "t", "-g", "g", "--data") as consumer:
        consumer.await_waiting()
        for number in range(2, 5):
            append(evtool, "t", str(number))
            wait_until(lambda expected=number: committed(evtool) == expected)
        assert consumer.out == "2\n3\n4\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@linux
def test_a_signal_commits_and_ends_it_at_once(evtool: Program, number: signal.Signals) -> None:
    append(evtool, "t", "1", "2")
    with Running(evtool, "subscribe", "t", "-g", "g", "--from=earliest", "-v", "--data") as consumer:
        consumer.await_waiting()
        began = time.monotonic()
        result = consumer.end(number)
        assert time.monotonic() - began < 1
    assert (result.code, result.out) == (-number, "1\n2\n")
    assert result.err == "evtool: t: group g has committed offset 2\n"
    assert committed(evtool) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@linux
def test_a_signal_ends_a_standby_at_once(evtool: Program, number: signal.Signals) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "subscribe", "t", "-g", "g") as holder:
        holder.await_waiting()
        with Running(evtool, "subscribe", "t", "-g", "g") as standby:
            standby.await_err(STANDBY)
            began = time.monotonic()
            result = standby.end(number)
            assert time.monotonic() - began < 1
            assert (result.code, result.out, result.err) == (-number, "", STANDBY)


@linux
def test_a_signal_ends_one_that_waits_for_its_topic_at_once(evtool: Program) -> None:
    with Running(evtool, "subscribe", "t", "-g", "g", "-q") as consumer:
        consumer.await_waiting()
        began = time.monotonic()
        result = consumer.end(signal.SIGTERM)
        assert time.monotonic() - began < 1
        assert (result.code, result.out, result.err) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@linux
def test_a_standby_takes_over_when_the_holder_ends(evtool: Program, number: signal.Signals) -> None:
    """It says that it stands by, gives out nothing meanwhile, and then goes on where the holder was."""
    append(evtool, "t", "1")
    base = ["subscribe", "t", "-g", "g", "--from=earliest", "--data"]
    with Running(evtool, *base) as holder:
        holder.await_waiting()
        with Running(evtool, *base) as standby:
            standby.await_err(STANDBY)
            append(evtool, "t", "2")
            holder.await_out("1\n2\n")
            wait_until(lambda: committed(evtool) == 2)
            assert standby.out == ""
            holder.end(number)
            append(evtool, "t", "3")
            standby.await_out("3\n")
            assert standby.err == STANDBY
    assert holder.out == "1\n2\n"


@linux
def test_a_standby_that_is_quiet_says_nothing(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "subscribe", "t", "-g", "g") as holder:
        holder.await_waiting()
        with Running(evtool, "subscribe", "t", "-g", "g", "-q", "-n1", "--data") as standby:
            wait_until(lambda: switches(standby.process.pid) >= 20, "the standby to try for the lock again and again")
            holder.end(signal.SIGTERM)
            standby.await_waiting()
            append(evtool, "t", "2")
            assert standby.end().err == ""
            assert standby.out == "2\n"


@linux
def test_only_one_of_several_standbys_takes_over(evtool: Program) -> None:
    append(evtool, "t", "0")
    base = ["subscribe", "t", "-g", "g", "--data"]
    with Running(evtool, *base) as holder:
        holder.await_waiting()
        with Running(evtool, *base) as one, Running(evtool, *base) as other:
            one.await_err(STANDBY)
            other.await_err(STANDBY)
            holder.end(signal.SIGKILL)
            append(evtool, "t", "1")
            wait_until(lambda: one.out or other.out)
            append(evtool, "t", "2")
            wait_until(lambda: "2\n" in (one.out, other.out) or "1\n2\n" in (one.out, other.out))
            assert sorted([one.out, other.out]) == ["", "1\n2\n"]


def standing_by(topic: str) -> str:
    """What a standby says."""
    return f"evtool: {topic}: another process consumes for group g; standing by\n"


@linux
def test_two_that_name_their_topics_in_other_orders_do_not_wait_for_each_other_for_ever(evtool: Program) -> None:
    """If each held the topic that the other stands by for, neither would ever get it: one of them must get both."""
    append(evtool, "a", "0")
    append(evtool, "b", "0")
    with Running(evtool, "subscribe", "a", "-g", "g") as of_a, Running(evtool, "subscribe", "b", "-g", "g") as of_b:
        of_a.await_waiting()
        of_b.await_waiting()
        with (
            Running(evtool, "subscribe", "a", "b", "-g", "g", "--data") as one,
            Running(evtool, "subscribe", "b", "a", "-g", "g", "--data") as other,
        ):
            wait_until(lambda: one.err and other.err, "both to stand by")
            of_a.end(signal.SIGTERM)
            wait_until(lambda: standing_by("b") in one.err, "the first one to stand by for b")
            one.process.send_signal(signal.SIGSTOP)
            of_b.end(signal.SIGTERM)
            append(evtool, "a", "1")
            append(evtool, "b", "2")
            wait_until(lambda: standing_by("a") in other.err or other.out, "the other one to move")
            one.process.send_signal(signal.SIGCONT)
            wait_until(lambda: sorted((one.out + other.out).split()) == ["1", "2"], "one of them to get both")


def consume_a_little_and_stop(program: Program, number: int, read: int, code: str | None) -> tuple[list[bytes], int]:
    """Read so many bytes of what a group is given, stop it; return the whole lines it wrote and what it committed."""
    command = program.command() if code is None else [program.command()[0], "-c", code]
    with subprocess.Popen(
        [*command, "subscribe", "t", "-g", "g", "--from=earliest"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=program.environment({}),
    ) as consumer:
        assert consumer.stdout is not None
        written = consumer.stdout.read(read)
        consumer.send_signal(number)
        written += consumer.stdout.read()
        assert consumer.wait(PATIENCE) == -number
    return written.splitlines(keepends=True)[: written.count(b"\n")], committed(program) or 0


@pytest.mark.parametrize("read", [1, 5_000, 200_000, 700_000])
def test_a_killed_consumer_has_committed_nothing_that_it_did_not_write(evtool: Program, read: int) -> None:
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 1000)
    lines, offset = consume_a_little_and_stop(evtool, signal.SIGKILL, read, None)
    assert offset <= len(lines) < 1000
    rest = evtool("subscribe", "t", "-g", "g", "--drain").raw
    assert b"".join(lines[:offset]) + rest == evtool.log("t")


def test_the_check_above_finds_one_that_commits_too_early(evtool: Program) -> None:
    """Its control: the same with a consumer that commits before it writes a line that no pipe holds."""
    assert evtool("append", "t", input=f'"{"x" * 300_000}"\n' * 3).code == 0
    lines, offset = consume_a_little_and_stop(evtool, signal.SIGKILL, 5_000, COMMITS_BEFORE_IT_WRITES)
    assert offset > len(lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("read", [1, 300_000])
def test_a_consumer_that_is_told_to_stop_has_committed_just_what_it_wrote(
    evtool: Program, number: signal.Signals, read: int
) -> None:
    """In the middle of a block that its reader takes slowly: nothing is lost, and no whole line comes twice."""
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 1000)
    lines, offset = consume_a_little_and_stop(evtool, number, read, None)
    assert offset == len(lines) < 1000
    assert b"".join(lines) + evtool("subscribe", "t", "-g", "g", "--drain").raw == evtool.log("t")


def test_a_reader_that_goes_away_loses_nothing(evtool: Program) -> None:
    """`subscribe | head -1`: what the pipe swallowed may come again, and nothing is skipped."""
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 1000)
    with evtool.start("subscribe", "t", "-g", "g", "--from=earliest") as consumer:
        assert consumer.stdout.readline() == stored_lines(evtool, "t")[0].encode()
        consumer.stdout.close()
        assert consumer.wait(PATIENCE) == -signal.SIGPIPE
        assert consumer.stderr.read() == b""
    offset = committed(evtool)
    assert offset is not None
    rest = evtool("subscribe", "t", "-g", "g", "--drain").out
    assert rest == "".join(stored_lines(evtool, "t")[offset:])
    assert offset <= 1 + 300


@pytest.mark.skipif(not __import__("os").path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_takes_nothing_commits_nothing(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    with (
        open("/dev/full", "wb") as full,
        Running(evtool, "subscribe", "t", "-g", "g", "--from=earliest", stdout=full) as consumer,
    ):
        assert consumer.process.wait(PATIENCE) == 74
        assert consumer.err == "evtool: standard output: No space left on device\n"
    assert committed(evtool) == 0
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").out == "1\n2\n"


def test_a_group_beyond_the_end_is_refused_and_said(evtool: Program) -> None:
    """A restored backup: nothing is skipped silently, nothing is changed, until somebody decides."""
    append(evtool, "t", "1", "2")
    write_commit(evtool, 7)
    before = commits_file(evtool).read_bytes()
    for options in ([], ["--drain"], ["--from=earliest"], ["--", "true"]):
        result = evtool("subscribe", "t", "-g", "g", *options)
        assert (result.code, result.out) == (4, ""), options
        first_line, hint = result.err.splitlines()
        assert first_line == "evtool: t, group g: has committed offset 7, but the log ends before 2"
        assert hint.startswith("hint: ")
    assert commits_file(evtool).read_bytes() == before


def restored(evtool: Program, more: int) -> None:
    """A log of 20 events that a group has handled, put back to its first 10, and so many others appended since."""
    append(evtool, "t", *numbers(1, 10))
    (segment,) = evtool.segments("t")
    backup = segment.read_bytes()
    append(evtool, "t", *numbers(11, 20))
    assert evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain").code == 0
    segment.write_bytes(backup)
    append(evtool, "t", *numbers(101, 100 + more))


@pytest.mark.parametrize("more", [3, 12])
def test_events_that_get_offsets_anew_in_a_restored_log_are_not_passed_over(evtool: Program, more: int) -> None:
    """Be the log shorter or longer by now than what the group has handled; doctor, verify and repair tell the same."""
    restored(evtool, more)
    refused = evtool("subscribe", "t", "-g", "g", "--drain")
    assert (refused.code, refused.out) == (4, "")
    (row,) = evtool("groups", "t", "--json").events
    assert (row["committed"], row["lag"]) == (20, more)
    assert "was the log restored? To go on with what came since: evtool seek t --group g --to 10\n" in refused.err
    (found,) = [one for one in evtool("doctor", "--json").events if one["what"] == "t, group g"]
    assert found["mend"] == "evtool seek t --group g --to 10"
    assert evtool("verify", "t").code == 65
    assert evtool("seek", "t", "-g", "g", "--to", "10", "-q").code == 0
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").lines == numbers(101, 100 + more)
    assert evtool("verify", "t").code == 0


@pytest.mark.parametrize("more", [0, 3, 12])
def test_repair_gives_a_group_what_came_since_the_log_was_restored(evtool: Program, more: int) -> None:
    restored(evtool, more)
    assert evtool("repair", "t", "--yes", "-q").code == 0
    assert evtool("verify", "t").code == 0
    append(evtool, "t", "1000")
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").lines == [*numbers(101, 100 + more), "1000"]


def test_a_clock_that_was_set_back_does_not_make_a_group_a_stranger(evtool: Program) -> None:
    """Commits are never earlier than the events that they are about, whatever the clock says."""
    future = moment(time.time() + 3600)
    write_log(evtool, "t", [future, future])
    for _ in range(2):
        append(evtool, "t", "1")
        assert evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "--", "true").code == 0
    assert evtool("verify", "t").code == 0


def test_a_group_just_at_the_end_is_not_refused(evtool: Program) -> None:
    """The control of the test above."""
    append(evtool, "t", "1", "2")
    write_commit(evtool, 2)
    result = evtool("subscribe", "t", "-g", "g", "--drain")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_a_new_group_is_not_placed_beyond_the_end(evtool: Program) -> None:
    """It would be refused ever after. There is no group then, and the next one is placed as it asks."""
    append(evtool, "t", "1", "2")
    result = evtool("subscribe", "t", "-g", "g", "--from=100", "--drain")
    assert (result.code, result.out, result.err) == (4, "", "evtool: t: there is no offset 100 yet, the next is 2\n")
    assert committed(evtool) is None
    assert evtool("subscribe", "t", "-g", "g", "--from=1", "--drain", "--data").out == "2\n"


def test_a_group_whose_events_were_trimmed_hears_which_it_missed(evtool: Program) -> None:
    small_segments(evtool, "t")
    for number in numbers(0, 11):
        append(evtool, "t", number)
    evtool("subscribe", "t", "-g", "g", "--from=earliest", "-n1")
    for segment in evtool.segments("t")[:-1]:
        segment.unlink()
    first = int(evtool.segments("t")[0].stem)
    result = evtool("subscribe", "t", "-g", "g", "--drain")
    assert (result.code, result.out) == (0, stored(evtool, "t"))
    assert result.err == f"evtool: t: offsets 1 to {first - 1} are gone, trimmed or lost before they were read\n"
    assert committed(evtool) == 12


def test_a_torn_commit_does_not_count(evtool: Program) -> None:
    """The last whole line does, and the next commit does not stick to what was torn."""
    append(evtool, "t", *numbers(1, 5))
    write_commit(evtool, 2)
    with commits_file(evtool).open("ab") as file:
        file.write(b'{"committed":4')
    assert evtool("subscribe", "t", "-g", "g", "--drain", "--data").out == "3\n4\n5\n"
    assert committed(evtool) == 5
    for line in commits_file(evtool).read_bytes().splitlines():
        assert {"committed", "time"} <= set(json.loads(line))


def test_a_file_of_commits_that_holds_none_is_refused_with_65(evtool: Program) -> None:
    append(evtool, "t", "1")
    write_commit(evtool, 0)
    commits_file(evtool).write_bytes(b"rubbish\n")
    result = evtool("subscribe", "t", "-g", "g", "--drain")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: {commits_file(evtool)}: byte 0: no line of it is a commit\n")
    assert commits_file(evtool).read_bytes() == b"rubbish\n"


def test_the_file_of_commits_does_not_grow_for_ever(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 20))
    write_commit(evtool, 0)
    line = commits_file(evtool).read_bytes()
    commits_file(evtool).write_bytes(line * ((65_536 - 200) // len(line)))
    result = evtool("subscribe", "t", "-g", "g", "--drain", "--", "true")
    assert (result.code, result.err) == (0, "")
    assert committed(evtool) == 20
    assert commits_file(evtool).stat().st_size < 40_000
    assert commits_file(evtool).stat().st_mode & 0o777 == 0o600


def test_a_log_written_by_hand_is_consumed_like_any_other(evtool: Program) -> None:
    lines = write_log(evtool, "t", [moment(1e9 + one) for one in range(3)], first=5)
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain")
    assert (result.code, result.out, result.err) == (0, "".join(lines), "")
    assert committed(evtool) == 8

"""evtool replay: the retained events again, all or some, at disk speed or at the pace they came in."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.program import PATIENCE, Program
from tests.running import Running, linux
from tests.topics import append, moment, numbers, small_segments, stored_lines, write_log


def test_everything_is_given_byte_for_byte(evtool: Program) -> None:
    small_segments(evtool, "t", 2000)
    for first in range(0, 100, 20):
        append(evtool, "t", *numbers(first, first + 19))
    result = evtool("replay", "t")
    assert len(evtool.segments("t")) > 1
    assert (result.code, result.raw, result.err) == (0, evtool.log("t"), "")


def test_a_log_of_many_blocks_is_given_byte_for_byte(evtool: Program) -> None:
    """What is larger than any buffer comes whole, looked at or not."""
    events = "".join(f'{{"number":{number},"filling":"{"x" * 80}"}}\n' for number in range(40_000))
    assert evtool("append", "t", "--key=k", "--sync=never", input=events).code == 0
    assert evtool("replay", "t").raw == evtool.log("t")
    assert evtool("replay", "t", "--key=k").raw == evtool.log("t")
    assert evtool("replay", "t", "--data").out == events


def test_an_event_larger_than_a_block_is_given_whole(evtool: Program) -> None:
    big = f'"{"x" * 900_000}"'
    assert evtool("append", "t", input=f"1\n{big}\n2\n").code == 0
    assert evtool("replay", "t").raw == evtool.log("t")
    assert evtool("replay", "t", "--data").out == f"1\n{big}\n2\n"


@pytest.mark.parametrize("count", [0, 1, 7, 20, 21, 100])
@pytest.mark.parametrize("option", ["-n", "--count"])
def test_it_ends_after_so_many_events(evtool: Program, option: str, count: int) -> None:
    append(evtool, "t", *numbers(1, 20))
    result = evtool("replay", "t", option, str(count))
    assert (result.code, result.out, result.err) == (0, "".join(stored_lines(evtool, "t")[:count]), "")


def test_the_count_is_of_wanted_events_from_where_it_begins(evtool: Program) -> None:
    for number in range(10):
        append(evtool, "t", str(number), f"--key={'even' if number % 2 == 0 else 'odd'}")
    result = evtool("replay", "t", "--from=3", "--key=odd", "--count=3", "--data")
    assert (result.code, result.out, result.err) == (0, "3\n5\n7\n", "")


def test_a_count_below_0_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("replay", "t", "--count=-1")
    assert (result.code, result.out, result.err) == (2, "", "evtool: --count: -1 is below 0\n")


def test_filters_by_key_and_type(evtool: Program) -> None:
    append(evtool, "t", "1", "--key=a", "--type=x")
    append(evtool, "t", "2", "--key=a", "--type=y")
    append(evtool, "t", "3", "--key=b", "--type=x")
    append(evtool, "t", '{"key":"a","type":"x"}')
    assert evtool("replay", "t", "--data", "--key=a").out == "1\n2\n"
    assert evtool("replay", "t", "--data", "--type=x").out == "1\n3\n"
    assert evtool("replay", "t", "--data", "-k", "a", "-t", "x").out == "1\n"
    assert evtool("replay", "t", "--data", "--key=A").out == ""


def test_other_forms_of_output(evtool: Program) -> None:
    append(evtool, "t", '"a"', "--key=k")
    append(evtool, "t", "2")
    assert evtool("replay", "t", "-0").raw == evtool.log("t").replace(b"\n", b"\0")
    assert evtool("replay", "t", "-d").out == '"a"\n2\n'
    assert evtool("replay", "t", "-o", "text").out == "a\n2\n"
    assert evtool("replay", "t", "-o", "line").raw == evtool.log("t")
    events = evtool("replay", "t", "-o", "cloudevents").events
    assert [(event["sequence"], event.get("subject"), event["data"]) for event in events] == [
        (f"{0:020d}", "k", "a"),
        (f"{1:020d}", None, 2),
    ]


def test_cloudevents_come_back_as_they_went_in(evtool: Program) -> None:
    event = (
        '{"specversion":"1.0","id":"i1","source":"/shop","type":"paid","time":"2020-01-01T00:00:00Z","subject":"u1",'
        '"data":{"a":1.0}}'
    )
    assert evtool("append", "t", "--cloudevents", input=event + "\n").code == 0
    (back,) = evtool("replay", "t", "--output=cloudevents").events
    for name, value in {"id": "i1", "source": "/shop", "type": "paid", "subject": "u1", "data": {"a": 1.0}}.items():
        assert back[name] == value
    assert back["time"] == "2020-01-01T00:00:00Z"


def test_a_form_that_there_is_not_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("replay", "t", "--output=xml")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: replay: ")


def test_a_missing_topic_ends_with_3_and_the_nearest_name(evtool: Program) -> None:
    append(evtool, "orders", "1")
    result = evtool("replay", "ordres")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: ordres: no such topic\nhint: did you mean orders?\n"


def test_one_missing_topic_of_several_ends_with_3(evtool: Program) -> None:
    append(evtool, "orders", "1")
    result = evtool("replay", "orders", "zzz")
    assert (result.code, result.out, result.err) == (3, "", "evtool: zzz: no such topic\n")


def test_a_missing_topic_is_waited_for_with_follow(evtool: Program) -> None:
    append(evtool, "orders", "1")
    with Running(evtool, "replay", "ordres", "-f", "--data") as replay:
        replay.await_err("evtool: ordres: no such topic yet, waiting for it (did you mean orders?)\n")
        append(evtool, "ordres", "1")
        append(evtool, "ordres", "2")
        replay.await_out("1\n2\n")


def test_options_that_make_no_sense_are_refused_with_2_and_nothing_is_given_out(evtool: Program) -> None:
    append(evtool, "t", "1")
    speed_hint = "hint: say for example 1x, 10x or 0.5x\n"
    duration_hint = "hint: say for example 250ms, 90s, 5m, 1h30m, 2d\n"
    for options, complaint in [
        (["--max-gap=1s"], "evtool: replay: --max-gap is for --speed\n"),
        (["--timeout=1s"], "evtool: replay: --timeout is for --follow\n"),
        (["--speed=fast"], "evtool: 'fast': not a speed\n" + speed_hint),
        (["--speed=0"], "evtool: '0': not a speed\n" + speed_hint),
        (["--speed=-1x"], "evtool: '-1x': not a speed\n" + speed_hint),
        (["--speed=inf"], "evtool: 'inf': not a speed\n" + speed_hint),
        (["--speed=nan"], "evtool: 'nan': not a speed\n" + speed_hint),
        (["--speed=1x", "--max-gap=x"], "evtool: 'x': not a duration\n" + duration_hint),
        (["-f", "--timeout=x"], "evtool: 'x': not a duration\n" + duration_hint),
    ]:
        result = evtool("replay", "t", *options)
        assert (result.code, result.out, result.err) == (2, "", complaint), options


def test_a_torn_last_line_is_not_given_out(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    whole = evtool.log("t")
    with evtool.segments("t")[-1].open("ab") as segment:
        segment.write(b'{"offset":2,"time":"2026')
    for options in ([], ["--data"], ["--from=1"], ["--until=7"], ["--from=-2"]):
        result = evtool("replay", "t", *options)
        assert (result.code, result.err) == (0, ""), options
        assert "2026" not in result.out.splitlines()[-1][-8:], options
    assert evtool("replay", "t").raw == whole
    assert evtool("replay", "t", "--from=-1").raw == whole.splitlines(keepends=True)[1]


def test_a_damaged_line_is_named_by_file_and_position(evtool: Program) -> None:
    """What stands before it is given out, then it ends with 65."""
    append(evtool, "t", "1")
    first = evtool.log("t")
    with evtool.segments("t")[-1].open("ab") as segment:
        segment.write(b"rubbish\n")
    result = evtool("replay", "t", "--key=x")
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: {evtool.segments('t')[-1]}: byte {len(first)}: ")


def test_events_that_are_gone_are_said(evtool: Program) -> None:
    """Who asks for offsets that were trimmed gets the rest and hears what is missing; `earliest` misses nothing."""
    lines = write_log(evtool, "t", [moment(1e9), moment(1e9)], first=10)
    result = evtool("replay", "t", "--from=3")
    assert (result.code, result.out) == (0, "".join(lines))
    assert result.err == "evtool: t: offsets 3 to 9 are gone, trimmed or lost before they were read\n"
    assert evtool("replay", "t", "--from=earliest").err == ""
    assert evtool("replay", "t", "--from=@0").err == ""


@linux
def test_following_goes_on_from_the_retained_events_without_a_seam(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 50))
    with Running(evtool, "replay", "t", "--from=20", "-f") as replay:
        replay.await_out("".join(stored_lines(evtool, "t")[20:]))
        for number in numbers(51, 55):
            append(evtool, "t", number)
        replay.await_out("".join(stored_lines(evtool, "t")[20:]))
        assert replay.end(signal.SIGTERM).err == ""


def test_following_ends_after_the_count(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "replay", "t", "-f", "-n3", "--data") as replay:
        replay.await_out("1\n")
        append(evtool, "t", "2", "3", "4", "5")
        result = replay.end()
    assert (result.code, result.out, result.err) == (0, "1\n2\n3\n", "")


def test_following_ends_at_an_offset(evtool: Program) -> None:
    """It ends as soon as the last wanted event is given, not when the next one comes."""
    append(evtool, "t", "0")
    with Running(evtool, "replay", "t", "-f", "--until=3", "--data") as replay:
        replay.await_out("0\n")
        append(evtool, "t", "1", "2")
        result = replay.end()
    assert (result.code, result.out, result.err) == (0, "0\n1\n2\n", "")


def test_following_ends_at_a_time_that_is_to_come(evtool: Program) -> None:
    append(evtool, "t", "0")
    until = time.time() + 1.5
    with Running(evtool, "replay", "t", "-f", f"--until=@{until:.6f}", "--data") as replay:
        append(evtool, "t", "1")
        result = replay.end()
        assert time.time() >= until
    assert (result.code, result.out, result.err) == (0, "0\n1\n", "")


def test_an_end_in_the_past_ends_a_follower_at_once(evtool: Program) -> None:
    append(evtool, "t", "0", "1")
    result = evtool("replay", "t", "-f", "--until=latest", "--data")
    assert (result.code, result.out, result.err) == (0, "0\n1\n", "")


@pytest.mark.parametrize("options", [[], ["-f"], ["--until=4"], ["--count=1"]])
def test_to_begin_beyond_the_end_is_refused_with_4(evtool: Program, options: list[str]) -> None:
    """An offset that there is not yet may have been lost; the very end is a place to begin."""
    append(evtool, "t", "0", "1")
    result = evtool("replay", "t", "--from=3", *options)
    assert (result.code, result.out, result.err) == (4, "", "evtool: t: there is no offset 3 yet, the next is 2\n")
    at_the_end = evtool("replay", "t", "--from=2")
    assert (at_the_end.code, at_the_end.out, at_the_end.err) == (0, "", "")


def test_a_time_without_events_ends_a_follower_with_124(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("replay", "t", "-f", "--timeout=200ms")
    assert (result.code, result.raw) == (124, evtool.log("t"))
    assert result.err == "evtool: timed out: no event came for 0.2 s\n"


@linux
def test_a_timeout_counts_from_the_last_event(evtool: Program) -> None:
    """Events that keep coming keep it alive, past the time that it was given."""
    append(evtool, "t", "0")
    with Running(evtool, "replay", "t", "-f", "--timeout=3s", "--data") as replay:
        began = time.monotonic()
        count = 1
        while time.monotonic() - began < 4:
            append(evtool, "t", str(count))
            count += 1
        replay.await_out("".join(f"{number}\n" for number in range(count)))
        assert replay.process.poll() is None
        assert replay.end().code == 124


@linux
def test_events_that_are_filtered_out_do_not_keep_it_alive(evtool: Program) -> None:
    append(evtool, "t", "0", "--key=a")
    with Running(evtool, "replay", "t", "-f", "--timeout=500ms", "--key=a") as replay:
        deadline = time.monotonic() + PATIENCE
        while replay.process.poll() is None and time.monotonic() < deadline:
            append(evtool, "t", "1", "--key=b")
        assert replay.process.poll() == 124


def pace(program: Program, gaps: list[float], *options: str) -> float:
    """Replay a log with these gaps at a pace; return the seconds from the first event to the last."""
    times = [1_700_000_000.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    lines = write_log(program, "t", [moment(one) for one in times])
    with program.start("replay", "t", *options) as replay:
        assert replay.stdout.readline().decode() == lines[0]
        began = time.monotonic()
        assert replay.stdout.read().decode() == "".join(lines[1:])
        took = time.monotonic() - began
        assert replay.wait(PATIENCE) == 0
        assert replay.stderr.read() == b""
    return took


def test_speed_waits_as_long_as_lay_between_the_events(evtool: Program) -> None:
    assert 0.85 <= pace(evtool, [0.3, 0.6], "--speed=1x") < 10


def test_speed_is_a_factor(evtool: Program) -> None:
    assert 0.55 <= pace(evtool, [60, 0.0, 30], "--speed=150x") < 10


def test_a_speed_below_one_is_slower(evtool: Program) -> None:
    assert 0.75 <= pace(evtool, [0.4], "--speed=0.5x") < 10


def test_a_gap_is_never_longer_than_the_limit(evtool: Program) -> None:
    """Nights are skipped: two gaps of an hour become two of the limit."""
    assert 0.35 <= pace(evtool, [3600, 0.0, 3600], "--speed=1x", "--max-gap=200ms") < 10


def test_without_speed_nothing_is_waited_for(evtool: Program) -> None:
    """The control of the tests above: the same log at disk speed."""
    assert pace(evtool, [3600, 3600]) < 5


def test_a_paced_replay_ends_on_ctrl_c(evtool: Program) -> None:
    lines = write_log(evtool, "t", [moment(1e9), moment(1e9 + 3600)])
    with Running(evtool, "replay", "t", "--speed=1x") as replay:
        replay.await_out(lines[0])
        result = replay.end(signal.SIGINT)
    assert (result.code, result.out, result.err) == (-signal.SIGINT, lines[0], "")


def test_speed_count_and_filter_go_together(evtool: Program) -> None:
    for number in range(6):
        append(evtool, "t", str(number), f"--key={number % 2}")
    result = evtool("replay", "t", "--speed=10x", "--key=1", "--count=2", "--data")
    assert (result.code, result.out, result.err) == (0, "1\n3\n", "")


def test_a_closed_pipe_ends_it_silently_with_141(evtool: Program) -> None:
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 500)
    for options in ([], ["--data"], ["--speed=1000x"]):
        with evtool.start("replay", "t", *options) as replay:
            assert replay.stdout.read(1)
            replay.stdout.close()
            assert replay.wait(PATIENCE) == -signal.SIGPIPE, options
            assert replay.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said_in_one_line_and_ends_with_74(evtool: Program) -> None:
    append(evtool, "t", "1")
    for options in ([], ["--data"]):
        with open("/dev/full", "wb") as full, Running(evtool, "replay", "t", *options, stdout=full) as replay:
            assert replay.process.wait(PATIENCE) == 74
            assert replay.err == "evtool: standard output: No space left on device\n"


def test_an_output_that_is_closed_is_said_and_ends_with_74(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *evtool.command("replay", "t")],
        stderr=subprocess.PIPE,
        env=evtool.environment({}),
        timeout=PATIENCE,
    )
    assert result.returncode == 74
    assert result.stderr.decode().startswith("evtool: standard output: ")


def test_reading_changes_nothing(evtool: Program) -> None:
    """Readers take no lock and write nothing: a topic that is locked, and one that may not be written, are read."""
    append(evtool, "t", "1")
    before = sorted(path.name for path in evtool.topic("t").iterdir())
    with subprocess.Popen(
        ["flock", str(evtool.topic("t") / "lock"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"held\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"held\n"
        assert evtool("replay", "t").raw == evtool.log("t")
        holder.stdin.close()
    assert sorted(path.name for path in evtool.topic("t").iterdir()) == before

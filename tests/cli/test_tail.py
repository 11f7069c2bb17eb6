"""evtool tail: the last events, and following them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.program import PATIENCE, Program, wait_until
from tests.running import Running, cpu_seconds, linux, switches
from tests.topics import append, moment, numbers, small_segments, stored, stored_lines, write_log

FOLLOWER_WITHOUT_INOTIFY = """
import evtool.log.watch
evtool.log.watch._inotify = lambda: -1
from evtool.__main__ import main
main()
"""
FOLLOWER_THAT_GIVES_OUT_WHAT_IT_FINDS = """
import os
from evtool.log.reader import Reader
def read(self, limit=1 << 18):
    if self._segment is None and not self._open_first():
        return b""
    block = os.pread(self._segment.fd, limit, self._position)
    self._position += len(block)
    return block
Reader.read = read
from evtool.__main__ import main
main()
"""


def test_the_last_ten_events_as_they_are_stored(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 25))
    result = evtool("tail", "t")
    assert (result.code, result.out, result.err) == (0, "".join(stored_lines(evtool, "t")[-10:]), "")


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (3, 3), (25, 25), (1000, 25)])
@pytest.mark.parametrize("option", ["-n{}", "-n {}", "--count {}", "--count={}"])
def test_as_many_events_as_asked_for(evtool: Program, option: str, count: int, expected: int) -> None:
    append(evtool, "t", *numbers(1, 25))
    result = evtool("tail", "t", *option.format(count).split())
    assert (result.code, result.err) == (0, "")
    assert result.lines == stored(evtool, "t").splitlines()[25 - expected :]


def test_the_last_events_are_found_across_segments(evtool: Program) -> None:
    small_segments(evtool, "t")
    for number in numbers(1, 12):
        append(evtool, "t", number)
    assert len(evtool.segments("t")) >= 4
    assert evtool("tail", "t", "-n", "9").out == "".join(stored_lines(evtool, "t")[-9:])


def test_a_count_below_0_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("tail", "t", "-n=-1".replace("=", ""))
    assert (result.code, result.out, result.err) == (2, "", "evtool: --count: -1 is below 0\n")


def test_a_count_that_is_no_number_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("tail", "t", "-n", "many")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: tail: invalid value for '--count' / '-n': ")


def test_a_missing_topic_ends_with_3_and_the_nearest_name(evtool: Program) -> None:
    append(evtool, "orders", "1")
    result = evtool("tail", "order")
    assert (result.code, result.out, result.err) == (
        3,
        "",
        "evtool: order: no such topic\nhint: did you mean orders?\n",
    )


def test_a_missing_home_ends_with_3_and_is_not_made(evtool: Program) -> None:
    result = evtool("tail", "orders")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: orders: no such topic\nhint: there are no topics yet; `evtool append` makes one\n"
    assert not evtool.home.exists()


@pytest.mark.parametrize("topic", ["", "..", "../t", "a/b", "/etc", "T", "-x", "a..b", "x" * 65, "t\n", "é"])
def test_a_name_that_no_topic_can_have_is_refused_with_2(evtool: Program, topic: str) -> None:
    append(evtool, "t", "1")
    result = evtool("tail", "--", topic)
    assert (result.code, result.out) == (2, "")
    assert "not a topic name" in result.err


def test_only_data(evtool: Program) -> None:
    """--data gives the payload byte for byte."""
    append(evtool, "t", '{"b":1.0,"a":1e2, "b":2}', '"x"', "123456789012345678901234567890.10")
    result = evtool("tail", "t", "--data")
    assert (result.code, result.err) == (0, "")
    assert result.out == '{"b":1.0,"a":1e2, "b":2}\n"x"\n123456789012345678901234567890.10\n'
    assert evtool("tail", "t", "-d").out == result.out
    assert evtool("tail", "t", "--output", "data").out == result.out


def test_text_is_strings_without_their_quotes(evtool: Program) -> None:
    append(evtool, "t", r'"a\"b\tc\u00e9\n"', '{"a":"b"}', "1")
    result = evtool("tail", "t", "--output", "text")
    assert (result.code, result.out, result.err) == (0, 'a"b\tcé\n\n{"a":"b"}\n1\n', "")


def test_nul_ends_each_event_instead_of_a_newline(evtool: Program) -> None:
    append(evtool, "t", "1", '"x"')
    assert evtool("tail", "t", "-0").raw == evtool.log("t").replace(b"\n", b"\0")
    assert evtool("tail", "t", "-0", "--data").raw == b'1\0"x"\0'


def test_an_event_as_a_cloudevent(evtool: Program) -> None:
    """What CloudEvents ask for stands in: key is subject and partition key, the offset is the sequence."""
    append(evtool, "t", '{"a":1.0}', "--key=u1", "--type=paid", "--source=shop", "--id=i1", "--attr=trace=x")
    (event,) = evtool("tail", "t").events
    result = evtool("tail", "t", "--output=cloudevents")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(',"data":{"a":1.0}}\n')
    assert result.events == [
        {
            "specversion": "1.0",
            "id": "i1",
            "source": "shop",
            "type": "paid",
            "subject": "u1",
            "partitionkey": "u1",
            "time": event["time"],
            "sequence": f"{0:020d}",
            "datacontenttype": "application/json",
            "trace": "x",
            "data": {"a": 1.0},
        }
    ]


def test_a_bare_event_is_a_whole_cloudevent_too(evtool: Program) -> None:
    append(evtool, "t", "0", "1")
    event = evtool("tail", "t", "-n1", "--output=cloudevents").events[0]
    assert (event["specversion"], event["id"], event["data"]) == ("1.0", "1", 1)
    assert event["source"]
    assert event["type"]


def test_only_events_with_a_key_and_a_type(evtool: Program) -> None:
    """Filters look at the attributes alone, and the count counts what they let through."""
    append(evtool, "t", '{"n":1,"key":"b"}', "--key=a", "--type=x")
    append(evtool, "t", '{"n":2,"key":"a"}', "--key=b", "--type=x")
    append(evtool, "t", '{"n":3}', "--key=a", "--type=y")
    append(evtool, "t", '",\\"key\\":\\"a\\",\\"data\\":"')
    for filters, expected in [
        (["--key=a"], [1, 3]),
        (["-k", "a"], [1, 3]),
        (["--type=x"], [1, 2]),
        (["-t", "y"], [3]),
        (["-k", "a", "-t", "x"], [1]),
        (["-k", "a", "-n1"], [3]),
        (["-k", "c"], []),
        (["-k", ""], []),
    ]:
        result = evtool("tail", "t", *filters)
        assert (result.code, result.err) == (0, ""), filters
        assert [event["data"]["n"] for event in result.events] == expected, filters


@pytest.mark.parametrize("key", ['a"b', "a\\b", "é", "a b", "\u2028", "100%", "\x01"])
def test_a_key_of_any_letters_is_found(evtool: Program, key: str) -> None:
    append(evtool, "t", "1", "--key", key)
    append(evtool, "t", "2", "--key", "other")
    assert [event["data"] for event in evtool("tail", "t", "--key", key).events] == [1]


def test_a_torn_last_line_is_not_given_out(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    whole = evtool.log("t")
    with evtool.segments("t")[-1].open("ab") as segment:
        segment.write(b'{"offset":2,"time":"2026')
    result = evtool("tail", "t")
    assert (result.code, result.raw, result.err) == (0, whole, "")


def test_timeout_without_follow_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("tail", "t", "--timeout", "1s")
    assert (result.code, result.out, result.err) == (2, "", "evtool: tail: --timeout is for --follow\n")


@pytest.mark.parametrize("option", ["-f", "--follow"])
@linux
def test_following_gives_the_last_and_then_what_comes(evtool: Program, option: str) -> None:
    append(evtool, "t", *numbers(1, 12))
    with Running(evtool, "tail", "t", "-n2", option) as tail:
        tail.await_out("".join(stored_lines(evtool, "t")[-2:]))
        append(evtool, "t", "13", "14")
        tail.await_out("".join(stored_lines(evtool, "t")[-4:]))
        append(evtool, "t", "15")
        tail.await_out("".join(stored_lines(evtool, "t")[-5:]))
        result = tail.end(signal.SIGTERM)
    assert (result.code, result.err) == (-signal.SIGTERM, "")


@linux
def test_following_from_nothing_on(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "tail", "t", "-n0", "-f", "--data") as tail:
        tail.await_waiting()
        append(evtool, "t", "2")
        tail.await_out("2\n")


@linux
def test_a_filter_holds_for_what_comes_too(evtool: Program) -> None:
    append(evtool, "t", "1", "--key=a")
    append(evtool, "t", "2", "--key=b")
    with Running(evtool, "tail", "t", "-f", "--key=a", "--data") as tail:
        tail.await_out("1\n")
        append(evtool, "t", "3", "--key=b")
        append(evtool, "t", "4", "--key=a")
        tail.await_out("1\n4\n")


def test_ctrl_c_ends_a_follower_at_once_and_silently(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_out(stored(evtool, "t"))
        began = time.monotonic()
        result = tail.end(signal.SIGINT)
        assert time.monotonic() - began < 1
    assert (result.code, result.err) == (-signal.SIGINT, "")


def test_a_time_without_events_ends_with_124(evtool: Program) -> None:
    append(evtool, "t", "1")
    began = time.monotonic()
    result = evtool("tail", "t", "-f", "--timeout", "300ms")
    assert time.monotonic() - began >= 0.3
    assert (result.code, result.out) == (124, stored(evtool, "t"))
    assert result.err == "evtool: timed out: no event came for 0.3 s\n"


@pytest.mark.parametrize("timeout", ["", "x", "-1s", "5", "1s1"])
def test_a_timeout_that_is_no_duration_is_refused_with_2(evtool: Program, timeout: str) -> None:
    append(evtool, "t", "1")
    result = evtool("tail", "t", "-f", f"--timeout={timeout}")
    assert (result.code, result.out) == (2, "")
    assert result.err == (f"evtool: {timeout!r}: not a duration\nhint: say for example 250ms, 90s, 5m, 1h30m, 2d\n")


def test_a_missing_topic_is_waited_for_and_the_nearest_is_named(evtool: Program) -> None:
    append(evtool, "orders", "1")
    with Running(evtool, "tail", "order", "-f", "--data") as tail:
        tail.await_err("evtool: order: no such topic yet, waiting for it (did you mean orders?)\n")
        append(evtool, "order", "2", "3")
        tail.await_out("2\n3\n")
        append(evtool, "order", "4")
        tail.await_out("2\n3\n4\n")


def test_a_topic_is_waited_for_where_there_is_no_home_yet(evtool: Program) -> None:
    with Running(evtool, "tail", "orders", "-f", "--data") as tail:
        tail.await_err("evtool: orders: no such topic yet, waiting for it\n")
        append(evtool, "orders", "1")
        tail.await_out("1\n")


@linux
def test_quiet_says_nothing_of_waiting(evtool: Program) -> None:
    with Running(evtool, "tail", "orders", "-f", "-q", "--data") as tail:
        tail.await_waiting()
        append(evtool, "orders", "1")
        tail.await_out("1\n")
        assert tail.end(signal.SIGTERM).err == ""


@linux
def test_a_follower_gives_out_no_torn_line(evtool: Program) -> None:
    """A line is given out when its newline is there, however it got into the file, and only once."""
    append(evtool, "t", "1")
    first = stored(evtool, "t")
    line = '{"offset":1,"time":"2099-01-01T00:00:00.000000Z","data":{"a":"b"}}\n'
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_waiting()
        with evtool.segments("t")[-1].open("ab", buffering=0) as segment:
            for at in range(len(line)):
                assert tail.out == first
                segment.write(line[at : at + 1].encode())
        tail.await_out(first + line)


@linux
def test_the_check_above_finds_a_follower_that_gives_out_what_it_finds(evtool: Program) -> None:
    """Its control: half a line comes out of one that does not look for newlines."""
    append(evtool, "t", "1")
    with Running(evtool, "tail", "t", "-n0", "-f", code=FOLLOWER_THAT_GIVES_OUT_WHAT_IT_FINDS) as tail:
        tail.await_waiting()
        with evtool.segments("t")[-1].open("ab", buffering=0) as segment:
            segment.write(b'{"offset":1')
        tail.await_out('{"offset":1')


@linux
def test_a_torn_line_that_is_cut_and_written_anew_is_read_anew(evtool: Program) -> None:
    append(evtool, "t", "1")
    first = stored(evtool, "t")
    segment = evtool.segments("t")[-1]
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_waiting()
        before = switches(tail.process.pid)
        with segment.open("ab") as file:
            file.write(b'{"offset":1,"time":"2099-01-01T00:00:00.000000Z","data":"of which nothing may be seen')
        wait_until(lambda: switches(tail.process.pid) > before, "the follower to look")
        result = evtool("append", "t", "2")
        assert result.code == 0
        assert result.err.startswith("evtool: t: ")  # the torn line was healed, and that is said
        tail.await_out(stored(evtool, "t"))
        assert stored(evtool, "t").startswith(first)
        assert "nothing may be seen" not in tail.out


@linux
def test_a_follower_goes_over_a_roll(evtool: Program) -> None:
    small_segments(evtool, "t")
    append(evtool, "t", "0")
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_waiting()
        for number in numbers(1, 12):
            append(evtool, "t", number)
        tail.await_out(stored(evtool, "t"))
        assert [event for event in tail.out.splitlines() if '"data":12}' in event]
    assert len(evtool.segments("t")) >= 4


@linux
def test_a_follower_that_slept_through_several_rolls_gets_everything(evtool: Program) -> None:
    small_segments(evtool, "t")
    append(evtool, "t", "0")
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_waiting()
        tail.process.send_signal(signal.SIGSTOP)
        for number in numbers(1, 12):
            append(evtool, "t", number)
        tail.process.send_signal(signal.SIGCONT)
        tail.await_out(stored(evtool, "t"))


@linux
def test_events_that_were_trimmed_before_they_were_read_are_said(evtool: Program) -> None:
    """A follower whose segments were taken away goes on at the earliest event left and says which offsets it missed."""
    small_segments(evtool, "t")
    append(evtool, "t", "0")
    with Running(evtool, "tail", "t", "-f", "--data") as tail:
        tail.await_waiting()
        tail.process.send_signal(signal.SIGSTOP)
        for number in numbers(1, 12):
            append(evtool, "t", number)
        segments = evtool.segments("t")
        in_the_first = segments[0].read_bytes().count(b"\n")
        for segment in segments[:-1]:
            segment.unlink()
        left = int(segments[-1].stem)
        tail.process.send_signal(signal.SIGCONT)
        tail.await_out("".join(f"{number}\n" for number in [*range(in_the_first), *range(left, 13)]))
        gone = f"offsets {in_the_first} to {left - 1} are gone, trimmed or lost before they were read"
        tail.await_err(f"evtool: t: {gone}\n")


@linux
def test_a_trim_of_what_was_read_already_is_not_said(evtool: Program) -> None:
    small_segments(evtool, "t")
    for number in numbers(0, 6):
        append(evtool, "t", number)
    with Running(evtool, "tail", "t", "-f", "--data") as tail:
        tail.await_waiting()
        for segment in evtool.segments("t")[:-1]:
            segment.unlink()
        for number in numbers(7, 12):
            append(evtool, "t", number)
        tail.await_out("".join(f"{number}\n" for number in range(13)))
        assert tail.err == ""


@linux
def test_a_topic_that_is_removed_ends_its_follower_with_3(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_waiting()
        shutil.rmtree(evtool.topic("t"))
        result = tail.end()
    assert (result.code, result.err) == (3, "evtool: t: the topic was removed\n")


@linux
def test_an_idle_follower_costs_no_processor_time(evtool: Program) -> None:
    """While nothing happens it does not run at all, let alone count to a million."""
    append(evtool, "t", "1")
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_waiting()
        pid = tail.process.pid
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        before = switches(pid), cpu_seconds(pid)
        time.sleep(1)  # the promise is about a time in which nothing happens
        assert switches(pid) - before[0] <= 3
        assert cpu_seconds(pid) - before[1] <= 0.05


@linux
def test_without_inotify_a_follower_polls(evtool: Program) -> None:
    """The control of the test above, for it is seen to wake up; and it follows all the same."""
    append(evtool, "t", "1")
    with Running(evtool, "tail", "t", "-f", "--data", code=FOLLOWER_WITHOUT_INOTIFY) as tail:
        tail.await_out("1\n")
        before = switches(tail.process.pid)
        time.sleep(1)
        assert switches(tail.process.pid) - before > 3
        assert not tail.is_waiting
        append(evtool, "t", "2")
        tail.await_out("1\n2\n")
        append(evtool, "later", "3")
        append(evtool, "t", "4")
        tail.await_out("1\n2\n4\n")


def test_a_closed_pipe_ends_it_silently_with_141(evtool: Program) -> None:
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 500)
    with evtool.start("tail", "t", "-n500") as tail:
        assert tail.stdout.read(10) == b'{"offset":'
        tail.stdout.close()
        assert tail.wait(PATIENCE) == -signal.SIGPIPE
        assert tail.stderr.read() == b""


def test_a_follower_whose_reader_went_away_ends_with_the_next_event(evtool: Program) -> None:
    append(evtool, "t", "1")
    with evtool.start("tail", "t", "-f") as tail:
        assert tail.stdout.readline() == evtool.log("t")
        tail.stdout.close()
        append(evtool, "t", "2")
        assert tail.wait(PATIENCE) == -signal.SIGPIPE
        assert tail.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said_in_one_line_and_ends_with_74(evtool: Program) -> None:
    append(evtool, "t", "1")
    with open("/dev/full", "wb") as full, Running(evtool, "tail", "t", stdout=full) as tail:
        assert tail.process.wait(PATIENCE) == 74
        assert tail.err == "evtool: standard output: No space left on device\n"


def test_a_pipe_that_does_not_block_gets_everything(evtool: Program) -> None:
    """An output that another program made non-blocking is waited for and loses nothing."""
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 500)
    near, far = os.pipe()
    os.set_blocking(far, False)
    with Running(evtool, "tail", "t", "-n500", stdout=far) as tail:
        os.close(far)
        with open(near, "rb") as reader:
            assert reader.read() == evtool.log("t")
        assert tail.end().code == 0


def test_a_clock_in_the_future_does_not_disturb(evtool: Program) -> None:
    """A log whose times lie ahead of the clock is shown and followed as any other."""
    lines = write_log(evtool, "t", [moment(time.time() + 3600)])
    with Running(evtool, "tail", "t", "-f") as tail:
        tail.await_out("".join(lines))
        append(evtool, "t", "1")
        tail.await_out(stored(evtool, "t"))

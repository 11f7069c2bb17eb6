"""evtool subscribe without a group: what comes from now on."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.program import PATIENCE, Program, wait_until
from tests.running import Running, linux
from tests.topics import append, numbers, small_segments, stored, stored_lines


@linux
def test_only_what_comes_after_it_subscribed_is_given_out(evtool: Program) -> None:
    append(evtool, "t", "1", "2")
    with Running(evtool, "subscribe", "t") as subscriber:
        subscriber.await_waiting()
        append(evtool, "t", "3")
        append(evtool, "t", "4", "5")
        subscriber.await_out("".join(stored_lines(evtool, "t")[2:]))
        assert subscriber.err == ""


def test_nothing_is_remembered_without_a_group(evtool: Program) -> None:
    append(evtool, "t", "1")
    assert evtool("subscribe", "t", "--from=earliest", "--drain").raw == evtool.log("t")
    assert evtool("subscribe", "t", "--from=earliest", "--drain").raw == evtool.log("t")
    assert evtool("subscribe", "t", "--drain").out == ""
    assert not (evtool.topic("t") / "consumers").exists()


def test_from_places_it(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 5))
    result = evtool("subscribe", "t", "--from=-2", "--drain", "--data")
    assert (result.code, result.out, result.err) == (0, "4\n5\n", "")


def test_a_place_that_is_none_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("subscribe", "t", "--from=nowhere")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: 'nowhere': not a position in a topic\nhint: ")


def test_drain_ends_at_the_end_of_what_there_is(evtool: Program) -> None:
    small_segments(evtool, "t")
    for number in numbers(1, 12):
        append(evtool, "t", number)
    result = evtool("subscribe", "t", "--from=earliest", "--drain")
    assert (result.code, result.raw, result.err) == (0, evtool.log("t"), "")


def test_drain_of_a_missing_topic_ends_with_3(evtool: Program) -> None:
    append(evtool, "orders", "1")
    result = evtool("subscribe", "order", "--drain")
    assert (result.code, result.out, result.err) == (
        3,
        "",
        "evtool: order: no such topic\nhint: did you mean orders?\n",
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_ends_after_so_many_events(evtool: Program, count: int) -> None:
    append(evtool, "t", *numbers(1, 5))
    result = evtool("subscribe", "t", "--from=earliest", "--count", str(count), "--data")
    assert (result.code, result.out, result.err) == (0, "1\n2\n3\n"[: 2 * count], "")


@linux
def test_the_count_may_be_reached_by_what_comes(evtool: Program) -> None:
    append(evtool, "t", "0", "--key=a")
    with Running(evtool, "subscribe", "t", "-n2", "--key=a", "--data") as subscriber:
        subscriber.await_waiting()
        append(evtool, "t", "1", "--key=a")
        append(evtool, "t", "2", "--key=b")
        append(evtool, "t", "3", "4", "--key=a")
        result = subscriber.end()
    assert (result.code, result.out, result.err) == (0, "1\n3\n", "")


def test_a_time_without_events_ends_with_124(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("subscribe", "t", "--timeout=200ms")
    assert (result.code, result.out, result.err) == (124, "", "evtool: timed out: no event came for 0.2 s\n")


def test_a_time_without_a_topic_ends_with_124(evtool: Program) -> None:
    result = evtool("subscribe", "t", "--timeout=200ms")
    assert (result.code, result.out) == (124, "")
    assert result.err == ("evtool: t: no such topic yet, waiting for it\nevtool: timed out: no event came for 0.2 s\n")


def test_a_missing_topic_is_waited_for_and_given_out_from_its_beginning(evtool: Program) -> None:
    """Who subscribed before the topic was there gets its first event too."""
    append(evtool, "orders", "1")
    with Running(evtool, "subscribe", "oders", "--data") as subscriber:
        subscriber.await_err("evtool: oders: no such topic yet, waiting for it (did you mean orders?)\n")
        append(evtool, "oders", "1")
        append(evtool, "oders", "2")
        subscriber.await_out("1\n2\n")


def test_forms_and_filters(evtool: Program) -> None:
    append(evtool, "t", '"a"', "--key=k", "--type=x")
    append(evtool, "t", "2", "--key=l", "--type=x")
    base = ["subscribe", "t", "--from=earliest", "--drain"]
    assert evtool(*base, "-0").raw == evtool.log("t").replace(b"\n", b"\0")
    assert evtool(*base, "-d").out == '"a"\n2\n'
    assert evtool(*base, "-d", "--key=l").out == "2\n"
    assert evtool(*base, "-o", "text", "--type=x").out == "a\n2\n"
    assert [event["type"] for event in evtool(*base, "-o", "cloudevents").events] == ["x", "x"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@linux
def test_a_signal_ends_it_at_once_and_silently(evtool: Program, number: signal.Signals) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "subscribe", "t") as subscriber:
        subscriber.await_waiting()
        began = time.monotonic()
        result = subscriber.end(number)
        assert time.monotonic() - began < 1
    assert (result.code, result.out, result.err) == (-number, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_though_nobody_takes_its_output(evtool: Program, number: signal.Signals) -> None:
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 500)
    with evtool.start("subscribe", "t", "--from=earliest") as subscriber:
        assert subscriber.stdout.read(1) == b"{"
        wait_until(lambda: blocked_bytes(subscriber.stdout.fileno()) >= 60_000, "the pipe to be full")
        began = time.monotonic()
        subscriber.send_signal(number)
        assert subscriber.wait(PATIENCE) == -number
        assert time.monotonic() - began < 1
        assert subscriber.stderr.read() == b""


def blocked_bytes(fd: int) -> int:
    """How many bytes wait in a pipe."""
    import array
    import fcntl
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def test_a_closed_pipe_ends_it_silently_with_141(evtool: Program) -> None:
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 500)
    with evtool.start("subscribe", "t", "--from=earliest") as subscriber:
        assert subscriber.stdout.read(1) == b"{"
        subscriber.stdout.close()
        assert subscriber.wait(PATIENCE) == -signal.SIGPIPE
        assert subscriber.stderr.read() == b""


@linux
def test_it_gives_out_no_torn_line_and_goes_over_a_roll(evtool: Program) -> None:
    small_segments(evtool, "t")
    append(evtool, "t", "0")
    with Running(evtool, "subscribe", "t") as subscriber:
        subscriber.await_waiting()
        first = len(evtool.log("t"))
        with evtool.segments("t")[-1].open("ab") as segment:
            segment.write(b'{"offset":1,"time":"2099')
        for number in numbers(1, 12):
            assert evtool("append", "t", number).code == 0
        subscriber.await_out(stored(evtool, "t")[first:])
    assert len(evtool.segments("t")) >= 4


@linux
def test_several_subscribers_get_everything_each(evtool: Program) -> None:
    append(evtool, "t", "0")
    with Running(evtool, "subscribe", "t") as one, Running(evtool, "subscribe", "t") as other:
        one.await_waiting()
        other.await_waiting()
        append(evtool, "t", *numbers(1, 50))
        one.await_out("".join(stored_lines(evtool, "t")[1:]))
        other.await_out("".join(stored_lines(evtool, "t")[1:]))


@linux
def test_events_of_a_stream_are_given_out_while_its_pipe_stays_open(evtool: Program) -> None:
    append(evtool, "t", "0")
    with Running(evtool, "subscribe", "t", "--data") as subscriber, evtool.start("append", "t") as producer:
        subscriber.await_waiting()
        for number in range(1, 4):
            producer.stdin.write(b"%d\n" % number)
            producer.stdin.flush()
            subscriber.await_out("".join(f"{one}\n" for one in range(1, number + 1)))
        producer.stdin.close()
        assert producer.wait(PATIENCE) == 0


@pytest.mark.parametrize("topic", ["", "../t", "a/b", "T", "a..b"])
def test_a_name_that_no_topic_can_have_is_refused_with_2(evtool: Program, topic: str) -> None:
    result = evtool("subscribe", topic, "--timeout=10s")
    assert (result.code, result.out) == (2, "")
    assert "not a topic name" in result.err
    assert not evtool.home.exists()


def test_no_topic_is_refused_with_2(evtool: Program) -> None:
    result = evtool("subscribe")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: subscribe: ")


def test_an_output_that_does_not_block_gets_everything(evtool: Program) -> None:
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 500)
    near, far = os.pipe()
    os.set_blocking(far, False)
    with Running(evtool, "subscribe", "t", "--from=earliest", "--drain", stdout=far) as subscriber:
        os.close(far)
        with open(near, "rb") as reader:
            assert reader.read() == evtool.log("t")
        assert subscriber.end().code == 0


def test_standard_input_is_left_alone(evtool: Program) -> None:
    """In a `while read` loop a subscriber must not eat the lines that are meant for the loop."""
    append(evtool, "t", "1")
    script = 'while read -r line; do "$@" >/dev/null; echo "$line"; done'
    command = evtool.command("subscribe", "t", "--from=earliest", "--count=1")
    run = subprocess.run(
        ["sh", "-c", script, "sh", *command],
        input=b"a\nb\nc\n",
        stdout=subprocess.PIPE,
        env=evtool.environment({}),
        timeout=PATIENCE,
    )
    assert run.stdout == b"a\nb\nc\n"

"""evtool fanout: every event to every sink, each at its own pace and with a memory of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.program import PATIENCE, Program, wait_until
from tests.running import Running, cpu_seconds, linux
from tests.topics import append, numbers, stored, stored_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.program import Result

FROM_ANYWHERE = {"PYTHONPATH": str(Path(__file__).parents[2])}  # finds the program wherever it is run
BROKEN = "/no/such/directory/file"
SINK_HINT = "hint: say topic:NAME, file:PATH, exec:COMMAND, worker:COMMAND, http(s)://… or nats://…\n"


def to(*sinks: str) -> list[str]:
    """The options for these sinks."""
    return [part for sink in sinks for part in ("--to", sink)]


def drain(program: Program, *sinks: str, options: Sequence[str] = ("--from=earliest",)) -> Result:
    """Give the sinks all that there is."""
    return program("fanout", "t", *to(*sinks), "--drain", *options)


def check_silent(result: Result) -> None:
    """All went well, and nothing was said."""
    assert (result.code, result.out, result.err) == (0, "", "")


def sinks_of(program: Program, topic: str = "t") -> list[str]:
    """The names of the groups under which sinks remember where they are."""
    return sorted(path.stem for path in (program.topic(topic) / "consumers").glob("fanout.*.jsonl"))


def lags(program: Program) -> list[int]:
    """How far each sink is behind."""
    return [int(row["lag"]) for row in program("groups", "t", "--json").events]


def test_a_topic_gets_attributes_and_data_as_they_are_and_offsets_anew(evtool: Program) -> None:
    append(evtool, "t", "0")
    append(evtool, "t", '{"a":1.0, "a":2e0}', '"x"', "--key=k", "--type=y", "--attr=trace=z")
    append(evtool, "copy", "7")
    check_silent(drain(evtool, "topic:copy", options=("--from=1",)))
    assert evtool("replay", "copy", "--data").out == '7\n{"a":1.0, "a":2e0}\n"x"\n'
    first, second = evtool("replay", "copy", "--from=1").events
    assert (first["offset"], first["key"], first["type"], first["trace"]) == (1, "k", "y", "z")
    assert (second["offset"], second["key"], second["type"], second["trace"]) == (2, "k", "y", "z")


def test_a_file_gets_the_stored_lines(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1", "2")
    check_silent(drain(evtool, f"file:{tmp_path}/f"))
    assert (tmp_path / "f").read_text() == stored(evtool, "t")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_appended_to(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    (tmp_path / "f").write_text("mine\n")
    check_silent(drain(evtool, f"file:{tmp_path}/f"))
    assert (tmp_path / "f").read_text() == "mine\n" + stored(evtool, "t")


def test_a_torn_line_of_an_earlier_run_is_cut_and_written_again(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1", "2")
    whole = stored(evtool, "t")
    for length in (1, 15, len(whole) - len(whole.splitlines()[1]) - 2):
        (tmp_path / f"f{length}").write_text("mine\n" + whole[:length])
        check_silent(drain(evtool, f"file:{tmp_path}/f{length}"))
        assert (tmp_path / f"f{length}").read_text() == "mine\n" + whole, length


def test_an_unfinished_line_of_somebody_else_is_kept(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    (tmp_path / "f").write_text("mine\nhalf a line")
    check_silent(drain(evtool, f"file:{tmp_path}/f"))
    assert (tmp_path / "f").read_text() == "mine\nhalf a line\n" + stored(evtool, "t")


def test_a_relative_file_is_in_the_working_directory_and_the_same_from_elsewhere(
    evtool: Program, tmp_path: Path
) -> None:
    append(evtool, "t", "1")
    base = ["fanout", "t", "--drain", "--from=earliest", "--to"]
    check_silent(evtool(*base, "file:f", cwd=tmp_path, env=FROM_ANYWHERE))
    check_silent(evtool(*base, f"file:{tmp_path}/f"))
    check_silent(evtool(*base, f"file:{tmp_path}/./f"))
    assert (tmp_path / "f").read_text() == stored(evtool, "t")
    assert len(sinks_of(evtool)) == 1


def test_a_command_is_run_by_a_shell_for_each_event(evtool: Program) -> None:
    """It gets the stored line and the variables, as a handler does, and its output is ours."""
    append(evtool, "t", "1", "2", "--key=k")
    command = 'echo "$EVTOOL_TOPIC $EVTOOL_OFFSET $EVTOOL_KEY" | tr a-z A-Z; cat'
    result = drain(evtool, f"exec:{command}")
    first, second = stored_lines(evtool, "t")
    assert (result.code, result.out, result.err) == (0, f"T 0 K\n{first}T 1 K\n{second}", "")


def test_all_kinds_of_sinks_get_every_event(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(1, 30))
    sinks = [f"file:{tmp_path}/f", "topic:copy", f"exec:cat >>'{tmp_path}/g'"]
    check_silent(drain(evtool, *sinks))
    assert (tmp_path / "f").read_text() == stored(evtool, "t")
    assert (tmp_path / "g").read_text() == stored(evtool, "t")
    assert evtool("replay", "copy", "--data").out == evtool("replay", "t", "--data").out
    assert len(sinks_of(evtool)) == 3
    assert lags(evtool) == [0, 0, 0]


def test_each_sink_goes_on_where_it_left_off(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    check_silent(drain(evtool, f"file:{tmp_path}/f"))
    append(evtool, "t", "2")
    check_silent(drain(evtool, f"file:{tmp_path}/f", f"file:{tmp_path}/g"))
    append(evtool, "t", "3")
    check_silent(drain(evtool, f"file:{tmp_path}/g", f"file:{tmp_path}/f", options=()))
    assert (tmp_path / "f").read_text() == stored(evtool, "t")
    assert (tmp_path / "g").read_text() == stored(evtool, "t")


def test_a_new_sink_begins_with_what_comes_unless_from_says_otherwise(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1", "2", "3")
    check_silent(drain(evtool, f"file:{tmp_path}/latest", options=()))
    check_silent(drain(evtool, f"file:{tmp_path}/last", options=("--from=-1",)))
    append(evtool, "t", "4")
    check_silent(drain(evtool, f"file:{tmp_path}/latest", f"file:{tmp_path}/last"))
    lines = stored_lines(evtool, "t")
    assert (tmp_path / "latest").read_text() == lines[3]
    assert (tmp_path / "last").read_text() == "".join(lines[2:])


def test_sinks_that_differ_only_in_odd_letters_are_two(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    sinks = [f"file:{tmp_path}/a b", f"file:{tmp_path}/a-b", f"file:{tmp_path}/A b", f"file:{tmp_path}/{'x' * 200}"]
    check_silent(drain(evtool, *sinks))
    for sink in sinks:
        assert Path(sink.removeprefix("file:")).read_text() == stored(evtool, "t")
    assert len(sinks_of(evtool)) == 4


def test_a_sink_named_twice_gets_everything_once(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    check_silent(drain(evtool, f"file:{tmp_path}/f", f"file:{tmp_path}/f"))
    assert (tmp_path / "f").read_text() == stored(evtool, "t")


def test_filters_hold_for_all_sinks(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1", "--key=a", "--type=x")
    append(evtool, "t", "2", "--key=b", "--type=x")
    append(evtool, "t", "3", "--key=a", "--type=y")
    check_silent(drain(evtool, f"file:{tmp_path}/f", "topic:copy", options=("--from=0", "--key=a", "--type=x")))
    assert (tmp_path / "f").read_text() == stored_lines(evtool, "t")[0]
    assert evtool("replay", "copy", "--data").out == "1\n"
    assert lags(evtool) == [0, 0]


def test_verbose_says_how_far_each_sink_got(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1", "2")
    result = drain(evtool, f"file:{tmp_path}/f", "topic:copy", options=("--from=earliest", "-v"))
    assert (result.code, result.out) == (0, "")
    assert result.err == (
        f"evtool: t: file:{tmp_path}/f has everything before offset 2\n"
        "evtool: t: topic:copy has everything before offset 2\n"
    )


@pytest.mark.parametrize(
    "sink", ["", "x", "copy", "ftp://x", "http://", "TOPIC:x", "file", "file:", "exec:", "topic:", ":x"]
)
def test_what_is_no_sink_is_refused_with_2_and_nothing_is_touched(evtool: Program, tmp_path: Path, sink: str) -> None:
    append(evtool, "t", "1")
    result = drain(evtool, f"file:{tmp_path}/f", sink)
    assert (result.code, result.out, result.err) == (2, "", f"evtool: {sink!r}: not a sink\n{SINK_HINT}")
    assert not (tmp_path / "f").exists()
    assert not (evtool.topic("t") / "consumers").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "UP", "a..b", "-x", "*", "x" * 65])
def test_a_sink_with_a_name_that_no_topic_can_have_is_refused_with_2(evtool: Program, name: str) -> None:
    append(evtool, "t", "1")
    result = drain(evtool, f"topic:{name}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"evtool: {name!r}: not a topic name\n")
    assert os.listdir(evtool.home / "topics") == ["t"]


def test_a_topic_does_not_go_to_itself(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = drain(evtool, "topic:copy", "topic:t")
    assert (result.code, result.out, result.err) == (2, "", "evtool: topic:t: is the topic that is read\n")
    assert stored(evtool, "t").count("\n") == 1
    assert not evtool.topic("copy").exists()


def test_no_sink_at_all_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool("fanout", "t", "--drain")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: fanout: name a topic and a sink --to go to, or a file of rules")


@pytest.mark.parametrize("topic", ["", "../t", "T", "*"])
def test_a_name_that_no_topic_can_have_is_refused_with_2(evtool: Program, topic: str) -> None:
    result = evtool("fanout", topic, "--to=topic:copy")
    assert (result.code, result.out) == (2, "")
    assert "not a topic name" in result.err
    assert not evtool.home.exists()


def test_a_place_to_begin_that_is_none_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = drain(evtool, "topic:copy", options=("--from=x",))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("evtool: 'x': not a position in a topic\n")


def test_drain_of_a_missing_topic_ends_with_3(evtool: Program) -> None:
    append(evtool, "tt", "1")
    result = drain(evtool, "topic:copy")
    assert (result.code, result.out, result.err) == (3, "", "evtool: t: no such topic\nhint: did you mean tt?\n")
    assert not evtool.topic("copy").exists()


def test_a_broken_sink_holds_up_no_other_in_a_drain(evtool: Program, tmp_path: Path) -> None:
    """It is said what is wrong with it, the others get everything, and the exit is 1."""
    append(evtool, "t", *numbers(1, 20))
    result = drain(evtool, f"file:{BROKEN}", f"file:{tmp_path}/f", "topic:copy")
    assert (result.code, result.out) == (1, "")
    assert result.err == f"evtool: file:{BROKEN}: {BROKEN}: No such file or directory\n"
    assert (tmp_path / "f").read_text() == stored(evtool, "t")
    assert evtool("replay", "copy", "--data").lines == numbers(1, 20)


def test_a_command_that_fails_sets_its_event_aside_and_the_others_go_on(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 4))
    command = 'test "$EVTOOL_OFFSET" -ne 2 || exit 7; echo "$EVTOOL_OFFSET"'
    result = drain(evtool, f"exec:{command}", f"file:{tmp_path}/f", options=("--from=earliest", "--retries=0"))
    assert (result.code, result.out) == (1, "0\n1\n3\n4\n")
    assert result.err == f"evtool: exec:{command}: t: offset 2: the command exited with 7; set aside in t.dead\n"
    assert (tmp_path / "f").read_text() == stored(evtool, "t")
    assert [row["group"] for row in evtool("dead", "t", "--json").events] == sinks_of(evtool)[:1]


def test_a_broken_sink_is_tried_again_and_the_others_go_on_meanwhile(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    broken = f"file:{tmp_path}/later/f"
    with Running(evtool, "fanout", "t", *to(broken, f"file:{tmp_path}/g"), "--from=earliest") as fanout:
        wait_until(lambda: "No such file or directory" in fanout.err)
        append(evtool, "t", "2")
        wait_until(lambda: text_of(tmp_path / "g") == stored(evtool, "t"), "the good sink to have everything")
        (tmp_path / "later").mkdir()
        wait_until(lambda: text_of(tmp_path / "later" / "f") == stored(evtool, "t"), "the broken one to catch up")
        result = fanout.end(signal.SIGTERM)
    assert result.code == -signal.SIGTERM
    complaint = (
        f"evtool: {broken}: {tmp_path}/later/f: No such file or directory\nhint: it is tried again; the others go on\n"
    )
    assert result.err == complaint * result.err.count("evtool: ")


def text_of(path: Path) -> str:
    """What is in a file, if it is there."""
    return path.read_text() if path.exists() else ""


def test_a_slow_sink_holds_up_no_other(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(1, 20))
    slow = f"exec:echo $EVTOOL_OFFSET >>{tmp_path}/slow; until test -e {tmp_path}/go; do sleep 0.01; done"
    with Running(evtool, "fanout", "t", *to(slow, f"file:{tmp_path}/f", "topic:copy"), "--from=0") as fanout:
        wait_until(lambda: text_of(tmp_path / "f") == stored(evtool, "t"))
        append(evtool, "t", "21")
        wait_until(lambda: text_of(tmp_path / "f") == stored(evtool, "t"))
        wait_until(lambda: stored(evtool, "copy").count("\n") == 21)
        assert text_of(tmp_path / "slow") == "0\n"
        (tmp_path / "go").touch()
        wait_until(lambda: text_of(tmp_path / "slow").count("\n") == 21)
        assert fanout.end(signal.SIGTERM).err == ""


@linux
def test_what_comes_goes_to_every_sink_as_it_comes(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    sinks = to(f"file:{tmp_path}/f", "topic:copy", "exec:cat")
    with Running(evtool, "fanout", "t", *sinks) as fanout:
        wait_until(lambda: fanout.watchers == 3, "all three sinks to wait")
        for number in numbers(1, 3):
            append(evtool, "t", number)
        new = "".join(stored_lines(evtool, "t")[1:])
        fanout.await_out(new)
        wait_until(lambda: text_of(tmp_path / "f") == new)
        wait_until(lambda: stored(evtool, "copy").count("\n") == 3)
        assert fanout.err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@linux
def test_a_signal_ends_it_at_once_with_everything_committed(
    evtool: Program, tmp_path: Path, number: signal.Signals
) -> None:
    append(evtool, "t", "1", "2")
    sinks = to(f"file:{tmp_path}/f", "topic:copy")
    with Running(evtool, "fanout", "t", *sinks, "--from=earliest") as fanout:
        wait_until(lambda: fanout.watchers == 2, "both sinks to wait")
        began = time.monotonic()
        result = fanout.end(number)
        assert time.monotonic() - began < 1
    assert (result.code, result.out, result.err) == (-number, "", "")
    assert lags(evtool) == [0, 0]


def test_a_signal_lets_a_running_command_finish(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0", "1")
    command = f"echo begin $EVTOOL_OFFSET; until test -e {tmp_path}/go; do sleep 0.01; done; echo end $EVTOOL_OFFSET"
    with Running(evtool, "fanout", "t", *to(f"exec:{command}"), "--from=earliest") as fanout:
        fanout.await_out("begin 0\n")
        fanout.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            fanout.process.wait(0.3)
        (tmp_path / "go").touch()
        result = fanout.end()
    assert (result.code, result.out, result.err) == (-signal.SIGTERM, "begin 0\nend 0\n", "")
    assert lags(evtool) == [1]


def test_a_signal_ends_one_whose_sink_is_broken_at_once(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "fanout", "t", *to(f"file:{BROKEN}")) as fanout:
        wait_until(lambda: fanout.err)
        began = time.monotonic()
        assert fanout.end(signal.SIGTERM).code == -signal.SIGTERM
        assert time.monotonic() - began < 1


@linux
def test_a_missing_topic_is_waited_for_and_given_from_its_beginning(evtool: Program, tmp_path: Path) -> None:
    """A consumer may be there first: however late it looks, the first event goes to the sinks."""
    append(evtool, "tt", "1")
    with Running(evtool, "fanout", "t", *to(f"file:{tmp_path}/f")) as fanout:
        fanout.await_err("evtool: t: no such topic yet, waiting for it (did you mean tt?)\n")
        fanout.await_waiting()
        fanout.process.send_signal(signal.SIGSTOP)
        append(evtool, "t", "1", "2")
        fanout.process.send_signal(signal.SIGCONT)
        append(evtool, "t", "3")
        wait_until(lambda: text_of(tmp_path / "f").endswith(stored_lines(evtool, "t")[-1]))
        assert text_of(tmp_path / "f") == stored(evtool, "t")


@linux
def test_a_second_fanout_stands_by_for_a_sink_and_takes_over(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    base = ["fanout", "t", *to(f"file:{tmp_path}/f"), "--from=earliest"]
    with Running(evtool, *base) as holder:
        holder.await_waiting()
        with Running(evtool, *base) as standby:
            (group,) = sinks_of(evtool)
            standby.await_err(f"evtool: t: {group} is served elsewhere; standing by\n")
            holder.end(signal.SIGKILL)
            append(evtool, "t", "2")
            wait_until(lambda: text_of(tmp_path / "f") == stored(evtool, "t"))


def test_a_killed_fanout_loses_nothing_and_leaves_no_torn_line(evtool: Program, tmp_path: Path) -> None:
    """What was in flight may come twice; every line is whole, and each sink has every event in order."""
    append(evtool, "t", *[f'"{"x" * 1000}"'] * 2000)
    path = tmp_path / "f"
    with Running(evtool, "fanout", "t", *to(f"file:{path}", "topic:copy"), "--from=earliest") as fanout:
        wait_until(lambda: path.exists() and path.stat().st_size > 300_000)
        fanout.end(signal.SIGKILL)
    assert drain(evtool, f"file:{path}", "topic:copy").code == 0
    lines = stored_lines(evtool, "t")
    got = path.read_text().splitlines(keepends=True)
    assert set(got) == set(lines)
    assert list(dict.fromkeys(got)) == lines
    assert stored(evtool, "copy").count("\n") >= 2000
    assert evtool("replay", "copy").events[-1]["offset"] >= 1999


def test_lines_that_do_not_fit_leave_nothing_and_come_again(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *[f'"{"x" * 100}"'] * 100)
    command = evtool.command("fanout", "t", *to(f"file:{tmp_path}/f"), "--from=earliest", "--drain")
    limited = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command],
        env=evtool.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (limited.returncode, limited.stdout) == (1, b"")
    assert limited.stderr.decode() == f"evtool: file:{tmp_path}/f: {tmp_path}/f: File too large\n"
    assert text_of(tmp_path / "f") == ""
    check_silent(drain(evtool, f"file:{tmp_path}/f"))
    assert (tmp_path / "f").read_text() == stored(evtool, "t")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_takes_nothing_is_said_like_any_full_file(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = drain(evtool, "file:/dev/full")
    assert (result.code, result.out) == (1, "")
    assert result.err == "evtool: file:/dev/full: /dev/full: No space left on device\n"


def test_a_directory_is_no_file(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    result = drain(evtool, f"file:{tmp_path}")
    assert (result.code, result.out) == (1, "")
    assert result.err == f"evtool: file:{tmp_path}: {tmp_path}: Is a directory\n"


def test_two_topics_may_go_to_one_file(evtool: Program, tmp_path: Path) -> None:
    """Both write it at once, and every line of both is in it, whole."""
    for topic in ("t", "u"):
        events = "".join(f'"{topic}{number}{"x" * 500}"\n' for number in range(8000))
        assert evtool("append", topic, "--sync=never", input=events).code == 0
    options = [*to(f"file:{tmp_path}/f"), "--from=earliest", "--drain"]
    with Running(evtool, "fanout", "t", *options) as one, Running(evtool, "fanout", "u", *options) as other:
        assert (one.end().code, other.end().code) == (0, 0)
    got = (tmp_path / "f").read_text().splitlines(keepends=True)
    expected = stored_lines(evtool, "t") + stored_lines(evtool, "u")
    assert len(got) == len(expected)
    assert sorted(got) == sorted(expected)


ANOTHER_WRITES_FIRST = """
import os
from evtool.log import files
write_all = files.write_all
def write_second(fd, data):
    if os.readlink(f"/proc/self/fd/{fd}") == PATH:
        with open(PATH, "ab") as file:
            file.write(b"theirs\\n")
    write_all(fd, data)
files.write_all = write_second
from evtool.__main__ import main
main()
"""


@linux
def test_a_line_that_another_program_appends_meanwhile_is_kept(evtool: Program, tmp_path: Path) -> None:
    """The same with the other writer let in at the worst moment: just before the sink writes."""
    append(evtool, "t", "1")
    path = tmp_path / "f"
    code = f"PATH = {str(path)!r}\n{ANOTHER_WRITES_FIRST}"
    with Running(evtool, "fanout", "t", *to(f"file:{path}"), "--from=earliest", "--drain", code=code) as fanout:
        assert fanout.end().code == 0
    assert path.read_text() == "theirs\n" + stored(evtool, "t")


def test_a_chain_of_topics_passes_everything_on(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 3))
    check_silent(drain(evtool, "topic:b"))
    check_silent(evtool("fanout", "b", "--to=topic:c", "--from=earliest", "--drain"))
    assert evtool("replay", "c", "--data").out == "1\n2\n3\n"


@linux
def test_one_that_was_asked_how_it_goes_is_at_rest_again(evtool: Program) -> None:
    """It does not look around ever more often: what woke it was taken."""
    append(evtool, "t", "1")
    with Running(evtool, "fanout", "t", "--to", "topic:copy", "--from", "earliest") as fanout:
        wait_until(lambda: "copy" in evtool("topics").out, "the copy")
        fanout.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: fanout.err, "the status")
        wait_until(lambda: _is_at_rest(fanout.process.pid), "it to be at rest")


def _is_at_rest(pid: int) -> bool:
    """Whether it uses less than a tenth of a processor for a moment."""
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(0.3)
    return cpu_seconds(pid) - before < 0.1 * (time.monotonic() - began)

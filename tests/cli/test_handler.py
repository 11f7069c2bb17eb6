"""evtool subscribe … -- CMD: a command for each event, which acknowledges it by exiting with 0."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.program import PATIENCE, Program, wait_until
from tests.running import Running, linux
from tests.topics import append, committed, numbers, stored, stored_lines

AS_GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]
ONCE = ["--drain", "--retries=0"]
ALL = ["subscribe", "t", "--from=earliest", "--drain"]

FROM_ANYWHERE = {"PYTHONPATH": str(Path(__file__).parents[2])}  # finds the program wherever it is run


def set_aside(offset: int, why: str) -> str:
    """What is said of an event that its command could not handle."""
    return f"evtool: t: offset {offset}: {why}; set aside in t.dead\n"


def script(directory: Path, text: str) -> str:
    """A shell script that can be run; returns its path."""
    path = directory / "script"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o700)
    return str(path)


def test_its_standard_input_is_the_stored_line(evtool: Program) -> None:
    append(evtool, "t", '{"a":1.0, "b":"\\u00e9"}', '"x"', "--key=k")
    result = evtool(*ALL, "--", "cat")
    assert (result.code, result.raw, result.err) == (0, evtool.log("t"), "")


def test_one_event_is_one_run(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 4))
    result = evtool(*ALL, "--", "sh", "-c", "wc -l | tr -d ' '")
    assert (result.code, result.out) == (0, "1\n1\n1\n1\n")


def test_its_environment_tells_of_the_event(evtool: Program) -> None:
    append(evtool, "t", "1", "--key=k 1", "--type=a.b", "--id=i/1")
    append(evtool, "t", "2")
    first, second = evtool("tail", "t").events
    names = ("TOPIC", "OFFSET", "TIME", "KEY", "TYPE", "ID", "ATTEMPT")
    command = "echo " + " ".join(f'"{name}=$EVTOOL_{name}"' for name in names)
    result = evtool(*ALL, "--", "sh", "-c", command, env={"EVTOOL_KEY": "left over", "EVTOOL_ATTEMPT": "9"})
    assert (result.code, result.err) == (0, "")
    assert result.lines == [
        f"TOPIC=t OFFSET=0 TIME={first['time']} KEY=k 1 TYPE=a.b ID=i/1 ATTEMPT=1",
        f"TOPIC=t OFFSET=1 TIME={second['time']} KEY= TYPE= ID= ATTEMPT=1",
    ]


def test_the_rest_of_its_environment_is_ours(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool(
        *ALL, "--", "sh", "-c", 'echo "$EVTOOL_HOME $OTHER"; pwd', env={"OTHER": "x"} | FROM_ANYWHERE, cwd="/"
    )
    assert (result.code, result.out, result.err) == (0, f"{evtool.home} x\n/\n", "")


@pytest.mark.parametrize("key", ["$(touch owned)", "; touch owned", "`touch owned`", "a\nb", "é\u2028", "%s", "--help"])
def test_nothing_of_an_event_gets_into_its_command_line(evtool: Program, tmp_path: Path, key: str) -> None:
    """The arguments are just those that were given, whatever stands in the event."""
    append(evtool, "t", '"$(touch owned)"', f"--key={key}", "--type=$(touch owned)")
    arguments = ["{}", "$EVTOOL_KEY", "%s", "a b", "", "--drain", "--", "-n"]
    program = script(tmp_path, 'for one; do echo "<$one>"; done; printf "%s" "$EVTOOL_KEY"')
    result = evtool(*ALL, "--", program, *arguments, cwd=tmp_path, env=FROM_ANYWHERE)
    assert (result.code, result.err) == (0, "")
    assert result.out == "".join(f"<{one}>\n" for one in arguments) + key
    assert not (tmp_path / "owned").exists()


def test_a_key_with_a_nul_comes_without_it(evtool: Program) -> None:
    """An environment variable cannot hold a NUL; the line on standard input does."""
    assert evtool("append", "t", "--key-from=.k", input='{"k":"a\\u0000b"}\n').code == 0
    result = evtool(*ALL, "--", "sh", "-c", 'echo "$EVTOOL_KEY"; cat')
    assert (result.code, result.out, result.err) == (0, "ab\n" + stored(evtool, "t"), "")


def test_an_attribute_too_long_for_an_environment_does_not_block_the_group(evtool: Program) -> None:
    """Linux takes at most 128 KiB in one variable; such an event is handled, or was not accepted in the first place."""
    key = "x" * 200_000
    evtool("append", "t", "--key-from=.k", input=f'{{"k":"{key}"}}\n')
    append(evtool, "t", "1")
    result = evtool(*AS_GROUP, "--drain", "--", "sh", "-c", "cat >/dev/null")
    assert (result.code, result.err) == (0, "")


def test_success_acknowledges_each_event_before_the_next_is_begun(evtool: Program) -> None:
    """While the command runs for an event, the group has committed just what came before it."""
    append(evtool, "t", *numbers(1, 5))
    commits = evtool.topic("t") / "consumers" / "g.jsonl"
    command = f'tail -n1 {commits} | grep -c "^{{\\"committed\\":$EVTOOL_OFFSET,"'
    result = evtool(*AS_GROUP, "--drain", "--", "sh", "-c", command)
    assert (result.code, result.out, result.err) == (0, "1\n" * 5, "")
    assert committed(evtool) == 5


def test_a_failure_is_tried_again_and_then_set_aside(evtool: Program) -> None:
    """The others go on, and the group is not held up by it."""
    append(evtool, "t", *numbers(0, 4))
    command = 'echo "$EVTOOL_OFFSET $EVTOOL_ATTEMPT"; test "$EVTOOL_OFFSET" -ne 2'
    result = evtool(*AS_GROUP, "--drain", "--retries=1", "--backoff=1ms", "--", "sh", "-c", command)
    assert result.code == 1
    assert sorted(result.lines) == ["0 1", "1 1", "2 1", "2 2", "3 1", "4 1"]
    first, second = result.err.splitlines(keepends=True)
    assert first == "evtool: t: offset 2: sh exited with 1; again in 0.0 s (attempt 1 of 2)\n"
    assert second == set_aside(2, "sh exited with 1 after 2 attempts")
    assert committed(evtool) == 5
    assert [event["data"]["event"] for event in evtool("replay", "t.dead").events] == [evtool("tail", "t").events[2]]


def test_a_failure_without_a_group_is_set_aside_too(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool(*ALL, "--retries=0", "--", "sh", "-c", "exit 42")
    assert (result.code, result.out, result.err) == (1, "", set_aside(0, "sh exited with 42"))
    assert evtool("tail", "t.dead").events[0]["data"]["group"] is None


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (11, "SIGSEGV")])
def test_a_command_that_a_signal_kills_has_failed(evtool: Program, number: int, name: str) -> None:
    append(evtool, "t", "1")
    result = evtool(*AS_GROUP, *ONCE, "--", "sh", "-c", f"kill -{number} $$")
    assert (result.code, result.out) == (1, "")
    assert result.err == set_aside(0, f"sh was killed by {name}")
    assert committed(evtool) == 1
    assert evtool("dead", "t", "--json").events[0]["why"].startswith(f"killed by {name}")


def test_what_the_command_says_goes_where_ours_goes(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool(*ALL, "--", "sh", "-c", "echo out; echo err >&2")
    assert (result.code, result.out, result.err) == (0, "out\n", "err\n")


@pytest.mark.parametrize("command", ["no-such-command", "/no/such/command", "./script"])
def test_a_missing_command_is_refused_with_2_before_anything_is_touched(evtool: Program, command: str) -> None:
    append(evtool, "t", "1")
    result = evtool(*AS_GROUP, "--", command, "x")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"evtool: {command}: command not found, or not executable\n"
    assert not (evtool.topic("t") / "consumers").exists()


def test_a_file_that_may_not_be_run_is_refused_with_2(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    path = Path(script(tmp_path, "exit 0\n"))
    path.chmod(0o600)
    result = evtool(*ALL, "--", str(path))
    assert (result.code, result.out) == (2, "")
    assert result.err == f"evtool: {path}: command not found, or not executable\n"


def test_no_command_at_all_is_refused_with_2(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool(*ALL, "--")
    assert (result.code, result.out, result.err) == (2, "", "evtool: subscribe: there is no command after --\n")


def test_a_command_that_cannot_be_started_stops_the_consumer(evtool: Program, tmp_path: Path) -> None:
    """A file with the bit set and nothing in it that the system could run."""
    append(evtool, "t", "1")
    path = tmp_path / "rubbish"
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o700)
    result = evtool(*AS_GROUP, "--", str(path))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"evtool: {path}: ")
    assert committed(evtool) == 0


def test_a_command_that_goes_away_stops_the_consumer(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1", "2")
    program = script(tmp_path, 'rm "$0"\n')
    result = evtool(*AS_GROUP, "--", program)
    assert (result.code, result.out, result.err) == (1, "", f"evtool: {program}: No such file or directory\n")
    assert committed(evtool) == 1


def test_a_command_need_not_read_its_standard_input(evtool: Program) -> None:
    """Not even if the event is larger than any pipe holds."""
    append(evtool, "t", "1")
    assert evtool("append", "t", input=f'"{"x" * 900_000}"\n').code == 0
    result = evtool(*AS_GROUP, "--drain", "--", "true")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert committed(evtool) == 2


def test_a_command_may_close_its_standard_input_or_read_half_of_it(evtool: Program) -> None:
    assert evtool("append", "t", input=f'"{"x" * 900_000}"\n').code == 0
    for command in ("exec <&-; exit 0", "head -c 10"):
        result = evtool(*ALL, "--", "sh", "-c", command)
        assert (result.code, result.err) == (0, ""), command


def test_a_large_event_comes_whole(evtool: Program) -> None:
    assert evtool("append", "t", input=f'"{"x" * 1_000_000}"\n').code == 0
    assert evtool(*ALL, "--", "cat").raw == evtool.log("t")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_works_with_closed_standard_streams(evtool: Program, tmp_path: Path, closed: str) -> None:
    """As under a supervisor that gives none: the event is on the command's standard input all the same."""
    append(evtool, "t", "1", "2")
    command = evtool.command(*ALL, "--", "sh", "-c", f'cat >>"{tmp_path}/got"')
    run = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=evtool.environment({}), timeout=PATIENCE
    )
    assert run.returncode == 0
    assert (tmp_path / "got").read_bytes() == evtool.log("t")


def test_a_command_whose_output_nobody_reads_has_failed(evtool: Program) -> None:
    """SIGPIPE kills it as it would in a pipeline."""
    append(evtool, "t", "1")
    with evtool.start(*AS_GROUP, *ONCE, "--", "sh", "-c", "exec cat") as consumer:
        consumer.stdout.close()
        assert consumer.wait(PATIENCE) == 1
        assert consumer.stderr.read().decode() == set_aside(0, "sh was killed by SIGPIPE")


@linux
def test_it_inherits_nothing_but_the_three_streams(evtool: Program) -> None:
    """Above all not the group's lock, which a command left behind would hold on to."""
    append(evtool, "t", "1")
    result = evtool(*AS_GROUP, "--drain", "--", "python3", "-c", "import os; print(os.listdir('/proc/self/fd'))")
    assert (result.code, result.err) == (0, "")
    assert len(result.out.split(",")) == 4, result.out  # and the one that lists them


def test_signals_are_as_usual_in_the_command(evtool: Program) -> None:
    """Python ignores SIGPIPE, and what it runs must not."""
    append(evtool, "t", "1")
    result = evtool(*ALL, "--", "sh", "-c", "yes | head -n1; true")
    assert (result.code, result.out, result.err) == (0, "y\n", "")


@linux
def test_no_signal_that_python_ignores_is_ignored_in_the_command(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool(*ALL, "--", "grep", "SigIgn", "/proc/self/status")
    ignored = int(result.out.split()[1], 16)
    assert not [number for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM) if ignored >> number - 1 & 1]


def test_count_drain_and_filter_go_with_a_command(evtool: Program) -> None:
    for number in range(6):
        append(evtool, "t", str(number), f"--key={number % 2}")
    show = ["--", "sh", "-c", 'echo "$EVTOOL_OFFSET"']
    assert evtool(*AS_GROUP, "--key=1", "--count=2", *show).out == "1\n3\n"
    assert evtool(*AS_GROUP, "--key=1", "--drain", *show).out == "5\n"
    assert committed(evtool) == 6


def test_a_time_without_events_ends_with_124(evtool: Program) -> None:
    append(evtool, "t", "1")
    result = evtool(*AS_GROUP, "--timeout=200ms", "--", "true")
    assert (result.code, result.out, result.err) == (124, "", "evtool: timed out: no event came for 0.2 s\n")
    assert committed(evtool) == 1


@pytest.mark.parametrize("option", ["--data", "-0", "--output=text"])
def test_a_form_of_output_makes_no_sense_with_a_command(evtool: Program, option: str) -> None:
    append(evtool, "t", "1")
    result = evtool(*ALL, option, "--", "cat")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "evtool: subscribe: a command after -- gets the stored line: leave --output, --data and -0 away\n"
    )


@linux
def test_what_comes_is_handled_as_it_comes(evtool: Program) -> None:
    append(evtool, "t", "0")
    with Running(evtool, "subscribe", "t", "-g", "g", "--", "cat") as consumer:
        consumer.await_waiting()
        for number in numbers(1, 3):
            append(evtool, "t", number)
        consumer.await_out("".join(stored_lines(evtool, "t")[1:]))
        wait_until(lambda: committed(evtool) == 4)


def gate(directory: Path) -> str:
    """A command that says which event it works on, waits until a file is there, and says that it is done."""
    return f"echo begin $EVTOOL_OFFSET; until test -e {directory}/go; do sleep 0.01; done; echo end $EVTOOL_OFFSET"


def test_sigterm_lets_the_running_command_finish_and_begins_no_other(evtool: Program, tmp_path: Path) -> None:
    """Its event is acknowledged, as it was handled; then the consumer ends by the signal."""
    append(evtool, "t", "0", "1")
    with Running(evtool, *AS_GROUP, "--", "sh", "-c", gate(tmp_path)) as consumer:
        consumer.await_out("begin 0\n")
        consumer.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            consumer.process.wait(0.3)
        assert committed(evtool) == 0
        (tmp_path / "go").touch()
        result = consumer.end()
    assert (result.code, result.out, result.err) == (-signal.SIGTERM, "begin 0\nend 0\n", "")
    assert committed(evtool) == 1


def test_a_second_sigterm_does_not_wait_for_the_command(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    with Running(evtool, *AS_GROUP, "--", "sh", "-c", gate(tmp_path)) as consumer:
        consumer.await_out("begin 0\n")
        consumer.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            consumer.process.wait(0.3)
        began = time.monotonic()
        assert consumer.end(signal.SIGTERM).code == -signal.SIGTERM
        assert time.monotonic() - began < 1
        (tmp_path / "go").touch()
    assert committed(evtool) == 0


def test_ctrl_c_on_a_terminal_reaches_the_command_too_and_its_event_stays(evtool: Program) -> None:
    """The terminal sends the signal to both; the command dies of it, which is no failure that needs a word."""
    append(evtool, "t", "0")
    command = ["--", "sh", "-c", "echo begin; exec sleep 60"]
    with Running(evtool, *AS_GROUP, *command, start_new_session=True) as consumer:
        consumer.await_out("begin\n")
        began = time.monotonic()
        os.killpg(consumer.process.pid, signal.SIGINT)
        result = consumer.end()
        assert time.monotonic() - began < 1
    assert (result.code, result.out, result.err) == (-signal.SIGINT, "begin\n", "")
    assert committed(evtool) == 0


def test_an_event_in_flight_when_the_consumer_is_killed_comes_again(evtool: Program, tmp_path: Path) -> None:
    """And only that one; the command that was left behind keeps nobody from taking over."""
    append(evtool, "t", "0", "1", "2")
    command = f'test "$EVTOOL_OFFSET" = 0 && exit 0; {gate(tmp_path)}'
    with Running(evtool, *AS_GROUP, "--", "sh", "-c", command) as consumer:
        consumer.await_out("begin 1\n")
        consumer.end(signal.SIGKILL)
        result = evtool(*AS_GROUP, "--drain", "--", "sh", "-c", 'echo "$EVTOOL_OFFSET"')
        (tmp_path / "go").touch()
    assert (result.code, result.out, result.err) == (0, "1\n2\n", "")


def test_a_relative_command_is_found_as_a_shell_finds_it(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    script(tmp_path, "cat\n")
    assert evtool(*ALL, "--", "./script", cwd=tmp_path, env=FROM_ANYWHERE).raw == evtool.log("t")
    assert evtool(*ALL, "--", "script", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}).raw == evtool.log("t")

"""The three streams: nobody reads them, nothing fits in, they are closed, or others share them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.program import PATIENCE, Program, finish, wait_until
from tests.topics import append, committed, numbers, stored

WRITERS = {
    "append": ["append", "t", "--offsets", "1"],
    "tail": ["tail", "t"],
    "replay": ["replay", "t"],
    "replay several": ["replay", "t", "u"],
    "replay text": ["replay", "t", "--output", "text"],
    "subscribe": ["subscribe", "t", "--from", "earliest", "--drain"],
    "group": ["subscribe", "t", "--group", "g", "--from", "earliest", "--drain"],
    "topics": ["topics"],
    "topics as json": ["topics", "--json"],
    "groups": ["groups"],
    "help": ["--help"],
    "help of a command": ["append", "--help"],
    "version": ["--version"],
}
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.fixture(autouse=True)
def topics(evtool: Program) -> None:
    append(evtool, "t", *numbers(1, 5))
    append(evtool, "u", "1")
    assert evtool("subscribe", "u", "--group", "g", "--drain").code == 0


@pytest.mark.parametrize("name", WRITERS)
def test_nobody_reads_ends_in_silence_by_sigpipe(evtool: Program, name: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = evtool.start(*WRITERS[name], stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (-signal.SIGPIPE, b"")


@full
@pytest.mark.parametrize("name", WRITERS)
def test_output_that_takes_nothing_is_told_in_one_line_with_74(evtool: Program, name: str) -> None:
    with Path("/dev/full").open("wb") as output:
        process = evtool.start(*WRITERS[name], stdout=output)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (74, b"evtool: standard output: No space left on device\n")


@full
def test_what_could_not_be_written_is_not_committed(evtool: Program) -> None:
    with Path("/dev/full").open("wb") as output:
        process = evtool.start(*WRITERS["group"], stdout=output)
        process.communicate(timeout=PATIENCE)
    assert committed(evtool) in (None, 0)
    assert evtool(*WRITERS["group"]).lines == stored(evtool, "t").splitlines()


def test_what_was_read_by_head_alone_is_committed_at_least_to_there(evtool: Program) -> None:
    shell = 'evtool() { "$@"; }; "$@" | head -n 2'
    command = [str(part) for part in evtool.command(*WRITERS["group"])]
    first = subprocess.run(
        ["sh", "-c", shell, "sh", *command], env=evtool.environment({}), capture_output=True, timeout=PATIENCE
    )
    assert first.stderr == b""
    assert first.stdout.decode() == "".join(stored(evtool, "t").splitlines(keepends=True)[:2])


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_never_taken_for_files_of_the_log(evtool: Program, closed: str) -> None:
    """A descriptor that was closed is the next one to be opened: output must not end up in a segment."""
    for name, arguments in WRITERS.items():
        if name in ("help", "help of a command", "version"):  # Python itself throws away what is printed there
            continue
        before = stored(evtool, "t")
        command = [str(part) for part in evtool.command(*arguments)]
        run = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *command],
            env=evtool.environment({}),
            capture_output=True,
            timeout=PATIENCE,
        )
        expected = 74 if " >&-" in f" {closed}" else 0
        assert run.returncode == expected, (name, run)
        if name != "append":
            assert stored(evtool, "t") == before
    lines = evtool("replay", "t", "--data").lines
    assert lines == [*numbers(1, 5), "1"]


def test_a_closed_input_is_an_input_that_cannot_be_read(evtool: Program) -> None:
    command = [str(part) for part in evtool.command("append", "t")]
    run = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command], env=evtool.environment({}), capture_output=True, timeout=PATIENCE
    )
    assert (run.returncode, run.stdout) == (74, b"")
    assert run.stderr.startswith(b"evtool: standard input: ")


def pipe_set_not_to_block() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def test_input_that_does_not_block_is_waited_for(evtool: Program) -> None:
    reader, writer = pipe_set_not_to_block()
    process = evtool.start("append", "t", "--offsets", stdin=reader)
    os.close(reader)
    assert process.stdout is not None
    for offset in (5, 6):
        os.write(writer, b'"late"\n')
        assert process.stdout.readline() == b"%d\n" % offset
    os.close(writer)
    assert finish(process).code == 0


@pytest.mark.parametrize("arguments", [["replay", "big"], ["subscribe", "big", "--from", "earliest", "--drain"]])
def test_output_that_does_not_block_is_waited_for(evtool: Program, arguments: list[str]) -> None:
    assert evtool("append", "big", input=b'"%b"\n' % (b"x" * 100) * 5000).code == 0
    reader, writer = pipe_set_not_to_block()
    process = evtool.start(*arguments, stdout=writer)
    wait_until(lambda: process.poll() is not None or not select.select([], [writer], [], 0)[1], "the pipe to be full")
    os.close(writer)
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as output:
        got = output.read()
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, b"")
    assert got.decode() == stored(evtool, "big")

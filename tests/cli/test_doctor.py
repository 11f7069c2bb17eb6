"""evtool doctor: what can be wrong with a home is provoked, found, and mended by the command that is named."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.doctor import doctor, finding, findings, locked, mend, segments_of, text_of
from tests.faults.stall import Stalling, is_stopped
from tests.program import PATIENCE, Program, finish, wait_until
from tests.running import Running, linux
from tests.topics import append, commits_file, write_commit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 86400.0
GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]


# A home that is well


def test_where_nothing_is_there_is_nothing_to_find(evtool: Program) -> None:
    for _ in range(2):
        result = doctor(evtool)
        assert (result.code, result.out) == (0, "")
        assert result.err == "evtool: there are no topics yet; `evtool append TOPIC` makes one\n"
        assert doctor(evtool, "-q").err == ""
        evtool.home.mkdir(mode=0o700, exist_ok=True)
    assert list(evtool.home.iterdir()) == []


def test_a_home_that_is_well_is_told_so_in_one_sentence(evtool: Program) -> None:
    segments_of(evtool, "t", "retention=consumed", "max-age=7d", "max-events=5")
    append(evtool, "u", "1", "--id=a")
    assert evtool(*GROUP, "--drain").code == 0
    assert evtool("repair", "t", "--yes").code == 0
    result = doctor(evtool)
    assert (result.code, result.out) == (0, "")
    assert result.err == "evtool: looked at 2 topics and 1 group: nothing is wrong\n"
    assert doctor(evtool, "--json", "-q").err == ""


def test_a_home_at_work_is_well(evtool: Program) -> None:
    """Producers, a bulk producer, a group, a shared group: what they do for a moment is nothing that is wrong."""
    for topic, size in (("t", "4k"), ("bulk", "1M")):
        assert evtool("create", topic, f"segment-bytes={size}", "max-events=20000").code == 0
    loop = f'while :; do "{sys.executable}" -m evtool append t 1 2 3; done'
    bulk = f'seq 100000000 | "{sys.executable}" -m evtool append bulk'
    share = [*GROUP[:3], "shared", "--share", "--", "true"]
    commands: list[list[str | bytes]] = [["sh", "-c", loop], ["sh", "-c", loop], ["sh", "-c", bulk]]
    commands += [evtool.command(*GROUP, "--", "true"), *[evtool.command(*share)] * 2]
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    started = [subprocess.Popen(one, env=evtool.environment({}), start_new_session=True, **streams) for one in commands]
    try:
        wait_until(lambda: len(evtool.segments("t")) > 1 and len(evtool.segments("bulk")) > 1)
        wait_until(lambda: '"lease"' in text_of(commits_file(evtool, "t", "shared")))
        for _ in range(4):
            result = doctor(evtool)
            assert result.out == "", result
            assert "looked at 2 topics and 2 groups: nothing is wrong" in result.err
        assert all(one.poll() is None for one in started)
    finally:
        for one in started:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def snapshot(home: Path) -> dict[str, tuple[int, int, int, int]]:
    """All that is there, as it is."""
    found = {}
    for path in sorted(home.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
    return found


def test_nothing_is_written(evtool: Program) -> None:
    segments_of(evtool, "t", "max-age=7d")
    evtool(*GROUP, "--count=1")
    append(evtool, "u", "1")
    with evtool.segments("u")[-1].open("ab") as file:
        file.write(b'{"offset":1,')
    write_commit(evtool, 9, "u")
    before = snapshot(evtool.home)
    assert len(findings(evtool)) == 2
    assert snapshot(evtool.home) == before


# The forms of what it says


def test_a_row_in_a_pipe_has_four_fields_and_problems_come_first(evtool: Program) -> None:
    append(evtool, "t", "1")
    write_commit(evtool, 7)
    evtool.segments("t")[0].chmod(0o644)
    result = doctor(evtool)
    assert (result.code, result.err) == (1, "")
    path = evtool.segments("t")[0]
    assert result.lines == [
        "problem\tt, group g\thas committed offset 7, but the log ends before 1\tevtool seek t --group g --to 1",
        f"advice\t{path}\tothers may read it\tchmod 600 {path}",
    ]
    assert list(json.loads(doctor(evtool, "--json").lines[0])) == ["severity", "what", "why", "mend"]


def test_on_a_terminal_the_command_has_a_line_of_its_own(evtool: Program) -> None:
    """A table would break it into pieces, and it is to be pasted."""
    append(evtool, "t", "1")
    write_commit(evtool, 7)
    shown = on_terminal(evtool, "doctor", "--color=always").splitlines()[:2]
    assert shown == [
        "\x1b[31mproblem \x1b[0m t, group g: has committed offset 7, but the log ends before 1",
        "         evtool seek t --group g --to 1",
    ]
    (evtool.topic("t") / "\x1b[1m.new").touch(0o600)
    assert "/t/\\x1b[1m.new: left by" in on_terminal(evtool, "doctor", "--color=never")


def on_terminal(evtool: Program, *arguments: str) -> str:
    leader, follower = pty.openpty()
    process = evtool.start(*arguments, stdout=follower, stderr=follower, env={"COLUMNS": "60"})
    os.close(follower)
    parts = []
    with contextlib.suppress(OSError):  # how Linux tells that nobody has the terminal any more
        while part := os.read(leader, 1 << 16):
            parts.append(part)
    os.close(leader)
    process.communicate(timeout=PATIENCE)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_advice_alone_is_no_failure(evtool: Program) -> None:
    append(evtool, "t", "1")
    evtool.segments("t")[0].chmod(0o644)
    assert doctor(evtool).code == 0


def test_a_topic_that_is_damaged_does_not_hide_the_others(evtool: Program) -> None:
    for topic in ("a", "b", "c"):
        append(evtool, topic, "1")
        write_commit(evtool, 7, topic)
    for topic in ("a", "b"):
        evtool.segments(topic)[0].write_bytes(b"this is no event\n")
    (evtool.topic("a") / "topic.json").mkdir(0o700)
    assert sorted((one["what"], one["mend"]) for one in findings(evtool) if "group" in one["what"]) == [
        ("c, group g", "evtool seek c --group g --to 1")
    ]
    assert {one["mend"] for one in findings(evtool) if "jsonl" in one["what"]} == {
        "evtool repair a",
        "evtool repair b",
    }


# Locks


@linux
def test_a_stopped_process_that_holds_a_lock_is_named_and_can_be_let_go_on(evtool: Program) -> None:
    append(evtool, "t", "1")
    assert findings(evtool) == []
    holder = Stalling(evtool.home).start("append", "t", "2")
    try:
        wait_until(lambda: is_stopped(holder.pid))
        found = finding(evtool)
        assert (found["severity"], found["what"]) == ("problem", "t")
        assert f"process {holder.pid} ({sys.executable} -m tests.faults.stall append t 2), which was" in found["why"]
        assert "holds the lock and is stopped; the last write was at 20" in found["why"]
        assert found["mend"] == f"kill -CONT {holder.pid}"
        mend(evtool, found)
        assert finish(holder).code == 0
    finally:
        holder.kill()
        holder.wait()
    assert findings(evtool) == []


@linux
@pytest.mark.parametrize(
    ("name", "what"), [("lock", "t"), ("SHA256SUMS", "t"), ("consumers/g.turn", "t, group g")], ids=str
)
def test_every_lock_that_is_for_a_moment_and_stays_is_found(evtool: Program, name: str, what: str) -> None:
    segments_of(evtool, "t")
    evtool(*GROUP, "--count=1")
    with locked(evtool.topic("t") / name):
        found = finding(evtool)
    assert (found["severity"], found["what"], found["mend"]) == ("problem", what, f"ps -fp {os.getpid()}")
    assert "holds the lock; the last write was at" in found["why"]
    assert findings(evtool) == []


@linux
def test_a_stopped_consumer_is_found_as_nobody_can_take_its_place(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, *GROUP) as consumer:
        consumer.await_waiting()
        assert findings(evtool) == []
        consumer.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(consumer.process.pid))
        found = finding(evtool)
        assert (found["severity"], found["what"]) == ("problem", "t, group g")
        assert found["mend"] == f"kill -CONT {consumer.process.pid}"
        mend(evtool, found)
        wait_until(lambda: not is_stopped(consumer.process.pid))
        assert findings(evtool) == []


# Segments


def tear(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"offset":10,"time"')


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10] + b"\0\0\0\0\0\0\0\0\0\n")


def break_chain(path: Path) -> None:
    sums = path.parent / "SHA256SUMS"
    text = sums.read_bytes()
    sums.write_bytes(text[:20] + (b"0" if text[20:21] != b"0" else b"1") + text[21:])


def reopen(path: Path) -> None:
    sorted(path.parent.glob("*.jsonl"))[0].chmod(0o600)


@pytest.mark.parametrize(
    ("damage", "severity", "why"),
    [
        (lambda path: path.chmod(0o400), "problem", "a sync of this segment failed"),
        (tear, "advice", "ends with 19 torn bytes of an append that was killed; the next append cuts them"),
        (spoil, "problem", "this line is no event"),
        (break_chain, "problem", "the chain of seals is broken"),
        (reopen, "problem", "not the last segment, and not sealed"),
    ],
    ids=["shut", "torn", "spoilt", "broken", "unsealed"],
)
def test_a_topic_that_needs_repair_is_found(
    evtool: Program, damage: Callable[[Path], None], severity: str, why: str
) -> None:
    segments_of(evtool, "t")
    assert findings(evtool) == []
    damage(evtool.segments("t")[-1])
    found = finding(evtool)
    assert (found["severity"], found["mend"]) == (severity, "evtool repair t")
    assert why in found["why"]
    mend(evtool, found, "--yes")
    assert findings(evtool) == []
    append(evtool, "t", '"and on it goes"')


@pytest.mark.parametrize(("old", "new"), [(b'"time":"2', b'"time":"x'), (b"T", b"")])
def test_a_time_that_is_none_is_found(evtool: Program, old: bytes, new: bytes) -> None:
    """Even if its line has the form of an event."""
    append(evtool, "t", "1")
    path = evtool.segments("t")[0]
    text = path.read_bytes().replace(old, new, 1)
    path.write_bytes(text if new else text[:29] + b"T" + text[29:])
    found = finding(evtool)
    assert (found["severity"], found["mend"]) == ("problem", "evtool repair t")
    mend(evtool, found, "--yes")
    assert findings(evtool) == []


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("00000000000000000003.jsonl.new", "lock"),
        ("topic.json.new", "lock"),
        ("00000000000000000000.jsonl.compacted", "compact.lock"),
        ("consumers/g.jsonl.new", "consumers/g.turn"),
    ],
)
def test_what_a_killed_command_has_left_is_found_once_it_is_not_at_work_any_more(
    evtool: Program, name: str, lock: str
) -> None:
    append(evtool, "t", "1")
    evtool(*GROUP, "--drain")
    left, lock_path = evtool.topic("t") / name, evtool.topic("t") / lock
    left.touch(0o600)
    lock_path.touch(0o600)
    with locked(lock_path):
        assert [one for one in findings(evtool) if one["what"] == str(left)] == []
    found = finding(evtool)
    assert (found["severity"], found["what"], found["mend"]) == ("advice", str(left), f"rm {left}")
    mend(evtool, found)
    assert findings(evtool) == []


def test_a_topic_that_was_removed_in_part_is_found(evtool: Program) -> None:
    append(evtool, "t", "1")
    append(evtool, "u", "1")
    left = evtool.home / "topics" / ".t.removed"
    evtool.topic("t").rename(left)
    with locked(left / "lock"):
        assert findings(evtool) == []
    found = finding(evtool)
    assert (found["severity"], found["what"], found["mend"]) == ("advice", str(left), f"rm -r {left}")
    mend(evtool, found)
    assert findings(evtool) == []


@pytest.mark.parametrize(
    ("text", "why", "command"),
    [
        (
            '{"segment-bytes":"large","max-age":5}',
            "'segment-bytes' is not a number above 0",
            "evtool set t segment-bytes=",
        ),
        ('{"retention":"some"}', "'retention' is neither 'keep' nor 'consumed'", "evtool set t retention="),
        ('{"colour":"red"}', "'colour' is not a setting", '"${EDITOR:-vi}" {path}'),
        ("oops", "not JSON: ", '"${EDITOR:-vi}" {path}'),
    ],
)
def test_settings_that_make_no_sense_are_found(evtool: Program, text: str, why: str, command: str) -> None:
    append(evtool, "t", "1")
    path = evtool.topic("t") / "topic.json"
    path.touch(0o600)
    path.write_text(text)
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", str(path))
    assert found["why"].startswith(why)
    assert found["mend"] == command.replace("{path}", str(path))
    editor = evtool.home.parent / "editor"
    editor.write_text("#!/bin/sh\necho '{}' >\"$1\"\n")
    editor.chmod(0o755)
    mend(evtool, found, env={"EDITOR": str(editor)})
    assert findings(evtool) == []

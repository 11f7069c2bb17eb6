"""evtool topics and evtool groups: what there is, as a table, as columns and as JSON."""

from __future__ import annotations

import json
import os
import pty
import time
from typing import TYPE_CHECKING

import pytest

from tests.program import PATIENCE, Program
from tests.running import Running, linux
from tests.topics import append, moment, numbers, small_segments, stored, write_commit, write_log

if TYPE_CHECKING:
    from pathlib import Path

LISTS = ["topics", "groups"]
HOUR = 3600.0


def on_terminal(evtool: Program, *arguments: str) -> str:
    """What the program writes on a terminal."""
    leader, follower = pty.openpty()
    process = evtool.start(*arguments, stdout=follower, stderr=follower, env={"TERM": "xterm", "COLUMNS": "120"})
    os.close(follower)
    parts = []
    try:
        while part := os.read(leader, 1 << 16):
            parts.append(part)
    except OSError:  # how Linux tells that nobody has the terminal any more
        pass
    os.close(leader)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("command", LISTS)
def test_without_topics_there_is_nothing(evtool: Program, command: str) -> None:
    for said in (f"evtool: {evtool.home}: nothing there yet\n", ""):
        for arguments in ([], ["--json"], ["*"]):
            result = evtool(command, *arguments)
            assert (result.code, result.out, result.err) == (0, "", said)
        assert f"there are no {command} yet" in on_terminal(evtool, command)
        (evtool.home / "topics").mkdir(mode=0o700, parents=True, exist_ok=True)
        evtool.home.chmod(0o700)


@pytest.mark.parametrize("command", LISTS)
def test_a_home_that_nobody_has_named_need_not_be_there(evtool: Program, command: str) -> None:
    result = evtool(command, env={"EVTOOL_HOME": "", "XDG_DATA_HOME": str(evtool.home)})
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize("command", LISTS)
def test_a_missing_topic_ends_with_3_and_the_nearest_name(evtool: Program, command: str) -> None:
    result = evtool(command, "orders")
    assert (result.code, result.out) == (3, "")
    append(evtool, "orders", "1")
    result = evtool(command, "ordres")
    hint = "hint: did you mean orders?"
    assert (result.code, result.out, result.err) == (3, "", f"evtool: ordres: no such topic\n{hint}\n")


def test_a_topic_as_json(evtool: Program) -> None:
    write_log(evtool, "t", [moment(time.time() - HOUR)] * 3, first=10)
    write_commit(evtool, 11)
    (row,) = evtool("topics", "--json").events
    assert HOUR <= row.pop("age_seconds") < HOUR + 60
    size = len(stored(evtool, "t"))
    assert row == {"topic": "t", "events": 3, "first": 10, "next": 13, "bytes": size, "groups": {"g": 2}}


def test_a_group_as_json(evtool: Program) -> None:
    write_log(evtool, "t", [moment(time.time() - age * HOUR) for age in (3, 2, 1)])
    write_commit(evtool, 1)
    (row,) = evtool("groups", "--json").events
    assert 2 * HOUR <= row.pop("lag_seconds") < 2 * HOUR + 60
    assert row == {
        "topic": "t",
        "group": "g",
        "committed": 1,
        "end": 3,
        "lag": 2,
        "active": False,
        "catch_up_seconds": None,
        "members": [],
    }


def test_the_size_is_that_of_all_segments(evtool: Program) -> None:
    small_segments(evtool, "t")
    for number in numbers(1, 12):
        append(evtool, "t", number)
    assert len(evtool.segments("t")) > 2
    (row,) = evtool("topics", "--json").events
    assert (row["events"], row["bytes"]) == (12, len(stored(evtool, "t")))
    evtool.segments("t")[0].unlink()
    (row,) = evtool("topics", "--json").events
    assert (row["first"], row["next"], row["events"]) == (int(evtool.segments("t")[0].name[:20]), 12, 12 - row["first"])
    assert row["bytes"] == len(stored(evtool, "t"))


def test_a_topic_without_events(evtool: Program) -> None:
    small_segments(evtool, "t")
    (row,) = evtool("topics", "--json").events
    assert row == {"topic": "t", "events": 0, "first": 0, "next": 0, "bytes": 0, "age_seconds": None, "groups": {}}
    assert evtool("topics").out == "t\t0\t0\t0\t0\t-\t-\n"


def test_in_a_pipe_there_are_plain_columns_without_a_head(evtool: Program) -> None:
    write_log(evtool, "b", [moment(time.time() - HOUR)] * 1500)
    append(evtool, "a", "1", "2")
    write_commit(evtool, 500, "b", "g1")
    write_commit(evtool, 1500, "b", "g2")
    first, second = (line.split("\t") for line in evtool("topics").lines)
    assert first[:5] == ["a", "2", "0", "2", str(len(stored(evtool, "a")))]
    assert second[:4] == ["b", "1500", "0", "1500"]
    assert second[6] == "g1:1000 g2:0"
    assert float(second[5]) >= HOUR
    rows = [line.split("\t") for line in evtool("groups").lines]
    assert [row[:5] for row in rows] == [["b", "g1", "500", "1500", "1000"], ["b", "g2", "1500", "1500", "0"]]
    assert [row[6] for row in rows] == ["no", "no"]


def test_on_a_terminal_there_is_a_table(evtool: Program) -> None:
    write_log(evtool, "t", [moment(time.time() - HOUR - 60)] * 1500)
    write_commit(evtool, 500)
    head, rule, row = [
        line.rstrip() for line in on_terminal(evtool, "topics", "--color", "never").splitlines() if line.strip()
    ][:3]
    assert head.split() == ["topic", "events", "first", "next", "size", "newest", "groups:lag"]
    assert set(rule) <= {"─", " "}
    assert row.split()[:4] == ["t", "1,500", "0", "1500"]
    assert "KiB" in row
    assert row.endswith("g:1000")
    head, _, row = [
        line.rstrip() for line in on_terminal(evtool, "groups", "--color", "never").splitlines() if line.strip()
    ][:3]
    assert head.split()[:7] == ["topic", "group", "committed", "end", "lag", "oldest", "active"]
    assert row.split()[:5] == ["t", "g", "500", "1500", "1,000"]
    assert "no" in row.split()


@pytest.mark.parametrize("command", LISTS)
def test_patterns_choose_topics_each_once_and_sorted(evtool: Program, command: str) -> None:
    for topic in ("orders.paid", "orders", "users"):
        append(evtool, topic, "1")
        write_commit(evtool, 0, topic)
    for patterns, expected in (
        ([], ["orders", "orders.paid", "users"]),
        (["orders*", "orders"], ["orders", "orders.paid"]),
        (["users", "orders"], ["orders", "users"]),
        (["nosuch*"], []),
    ):
        result = evtool(command, "--json", *patterns)
        assert (result.code, [row["topic"] for row in result.events]) == (0, expected)


@linux
def test_a_group_is_active_while_somebody_consumes_for_it(evtool: Program) -> None:
    append(evtool, "t", "1")
    with Running(evtool, "subscribe", "t", "--group", "g") as consumer:
        consumer.await_waiting()
        assert [row["active"] for row in evtool("groups", "--json").events] == [True]
        consumer.process.kill()
        consumer.process.wait()
        assert [row["active"] for row in evtool("groups", "--json").events] == [False]


def test_the_catch_up_is_estimated_from_the_last_minute(evtool: Program) -> None:
    """The group handles 20 events a second, 10 arrive: of 400 behind it gains 10 each second."""
    now = time.time()
    write_log(evtool, "t", [moment(now - 30 + number / 10) for number in range(300)], first=500)
    commits = evtool.topic("t") / "consumers" / "g.jsonl"
    write_commit(evtool, 0)
    rows = [(now - 30, 0), (now - 15, 200), (now, 400)]
    commits.write_text("".join(f'{{"committed":{offset},"time":"{moment(then)}"}}\n' for then, offset in rows))
    (row,) = evtool("groups", "--json").events
    assert row["lag"] == 300
    assert row["catch_up_seconds"] is None or 0 < row["catch_up_seconds"] < 300


def test_a_damaged_topic_is_told_and_the_others_are_listed(evtool: Program) -> None:
    append(evtool, "good", "1")
    append(evtool, "bad", "1")
    for topic in ("good", "bad"):
        write_commit(evtool, 0, topic)
    evtool.segments("bad")[0].write_bytes(b"this is no line of a log\n")
    for command in LISTS:
        result = evtool(command, "--json")
        assert (result.code, [row["topic"] for row in result.events]) == (65, ["good"])
        assert "bad" in result.err
        assert result.err.startswith("evtool: ")


@pytest.mark.parametrize("command", LISTS)
def test_looking_changes_nothing(evtool: Program, command: str) -> None:
    append(evtool, "t", "1")
    write_commit(evtool, 0)
    before = snapshot(evtool.home)
    assert evtool(command).code == 0
    assert snapshot(evtool.home) == before
    assert evtool(command, env={"EVTOOL_HOME": str(evtool.home / "other")}).code == 0
    assert snapshot(evtool.home) == before


def snapshot(home: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(path): path.lstat() for path in [home, *home.rglob("*")]}
    return {path: (status.st_mode, status.st_size, status.st_mtime_ns) for path, status in found.items()}


def test_names_of_files_that_are_no_topics_are_passed_over(evtool: Program) -> None:
    append(evtool, "t", "1")
    (evtool.home / "topics" / "NOT A TOPIC").mkdir()
    (evtool.home / "topics" / "file").write_text("")
    result = evtool("topics", "--json")
    assert [json.loads(line)["topic"] for line in result.lines] == ["t"]

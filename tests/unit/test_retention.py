"""evtool.log.retention: what every group has handled may go, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from evtool.log import line, retention
from tests.topics import append, commits_file, moment, numbers, open_directory, small_segments, write_commit

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.log.files import Directory
    from tests.program import Program


@pytest.fixture
def topic(evtool: Program) -> Directory:
    small_segments(evtool, "t")
    settings(evtool, retention="consumed")
    for number in numbers(0, 19):
        append(evtool, "t", number)
    return open_directory(evtool.topic("t"))


def settings(evtool: Program, **chosen: object) -> None:
    given = {"segment-bytes": 200} | {name.replace("_", "-"): value for name, value in chosen.items()}
    (evtool.topic("t") / "topic.json").write_text(json.dumps(given))


def commit(evtool: Program, group: str, offset: int, age: float = 0.0) -> None:
    import time

    write_commit(evtool, offset, group=group)
    path = commits_file(evtool, group=group)
    path.write_text(f'{{"committed":{offset},"time":"{moment(time.time() - age)}"}}\n')


def earliest(evtool: Program) -> int:
    return line.offset_of(evtool.segments("t")[0].read_bytes())


def test_what_all_groups_have_handled_goes_and_no_event_that_one_needs(evtool: Program, topic: Directory) -> None:
    commit(evtool, "a", 15)
    commit(evtool, "b", 9)
    assert retention.drop_consumed(topic) > 0
    assert 0 < earliest(evtool) <= 9
    assert retention.drop_consumed(topic) == 0
    assert evtool("replay", "t", "--from=9", "--data").lines == numbers(9, 19)


def test_the_active_segment_stays_whatever_is_handled(evtool: Program, topic: Directory) -> None:
    commit(evtool, "a", 20)
    retention.drop_consumed(topic)
    assert len(evtool.segments("t")) == 1
    append(evtool, "t", "20")
    assert evtool("tail", "t", "-n1").events[0]["offset"] == 20


def test_without_a_group_or_by_default_nothing_goes(evtool: Program, topic: Directory) -> None:
    assert retention.drop_consumed(topic) == 0
    commit(evtool, "a", 20)
    settings(evtool)
    assert retention.drop_consumed(topic) == 0


def test_a_group_that_has_not_come_back_holds_nothing_back(evtool: Program, topic: Directory) -> None:
    settings(evtool, retention="consumed", group_ttl=3600)
    commit(evtool, "a", 20)
    commit(evtool, "old", 0, age=3500)
    assert retention.drop_consumed(topic) == 0
    commit(evtool, "old", 0, age=3700)
    assert retention.has_lapsed(topic, "old")
    assert not retention.has_lapsed(topic, "a")
    assert retention.drop_consumed(topic) > 0


def test_what_comes_again_is_kept(evtool: Program, topic: Directory) -> None:
    commit(evtool, "a", 20)
    with commits_file(evtool, group="a").open("a") as file:
        file.write(f'{{"committed":20,"time":"{moment(4e9)}","again":"7"}}\n')
    retention.drop_consumed(topic)
    assert earliest(evtool) <= 7


def test_a_consumer_drops_what_it_was_the_last_to_handle_and_a_late_one_is_told(
    evtool: Program, topic: Directory
) -> None:
    settings(evtool, retention="consumed", group_ttl=60)
    commit(evtool, "late", 0, age=100)
    result = evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain", "--data")
    assert (result.code, result.lines, result.err) == (0, numbers(0, 19), "")
    assert len(evtool.segments("t")) == 1
    result = evtool("subscribe", "t", "-g", "late", "--drain", "--data")
    assert result.lines == numbers(earliest(evtool), 19)
    assert "group late was away for longer than the topic's group-ttl" in result.err
    assert "trimmed" in result.err


def test_nothing_else_is_a_retention(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    settings(evtool, retention="forever")
    result = evtool("append", "t", "2")
    assert (result.code, "'retention' is neither 'keep' nor 'consumed'" in result.err) == (78, True)

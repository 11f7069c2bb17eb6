"""What must not be said: names that are none, homes that are not safe, links; refused, and nothing touched."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from tests.running import Running
from tests.topics import append, open_directory, stored

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program

NO_NAMES = [
    "",
    ".",
    "..",
    "../orders",
    "/etc/passwd",
    "orders/",
    "a/b",
    "a/../b",
    "a..b",
    ".hidden",
    "_a",
    "UPPER",
    "a b",
    "a\nb",
    "a\tb",
    "a\x1b[31m",
    "ä",
    "a\u202eb",
    "x" * 65,
    "x" * 5000,
]
COMMANDS = {
    "append": ["append", "NAME", "1"],
    "append from input": ["append", "NAME"],
    "tail": ["tail", "NAME"],
    "replay": ["replay", "NAME", "--until", "latest"],
    "replay several": ["replay", "orders", "NAME"],
    "subscribe": ["subscribe", "NAME", "--drain"],
    "group": ["subscribe", "orders", "--drain", "--group", "NAME"],
    "group of where": ["replay", "orders", "--from", "group:NAME"],
    "fanout": ["fanout", "NAME", "--to", "topic:orders", "--drain"],
    "sink": ["fanout", "orders", "--to", "topic:NAME", "--drain"],
    "topics": ["topics", "NAME"],
    "groups": ["groups", "NAME"],
}


def tree(home: Path) -> dict[str, tuple[int, int]]:
    """All that there is beside and in a home."""
    found = {str(path): path.lstat() for path in home.parent.rglob("*")}
    return {path: (status.st_mode, status.st_size) for path, status in found.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_none_is_refused_with_2_and_nothing_is_touched(evtool: Program, command: str) -> None:
    append(evtool, "orders", "1")
    before = tree(evtool.home)
    for name in NO_NAMES:
        arguments = [part.replace("NAME", name) for part in COMMANDS[command]]
        result = evtool(*arguments, input="1\n")
        assert (result.code, result.out) == (2, ""), (name, result)
        assert result.err.startswith("evtool: "), name
        assert result.err.count("\n") <= 2, name
        assert result.err.replace("\n", "").isprintable(), name
        assert len(result.err) < 6000
        assert tree(evtool.home) == before, name


@pytest.mark.parametrize("name", ["a", "0", "orders.paid", "a_b-c.d", "x" * 64, "nul", "con.jsonl", "lock"])
def test_a_name_is_a_name(evtool: Program, name: str) -> None:
    append(evtool, name, "1")
    assert evtool("subscribe", name, "--group", name, "--from", "earliest", "--drain", "--data").out == "1\n"
    (row,) = evtool("groups", "--json").events
    assert (row["topic"], row["group"]) == (name, name)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
def test_a_home_that_others_may_write_to_is_refused(evtool: Program, mode: int) -> None:
    append(evtool, "t", "1")
    evtool.home.chmod(mode)
    before = tree(evtool.home)
    for arguments in (["append", "t", "2"], ["tail", "t"], ["topics"], ["subscribe", "t", "--drain"]):
        result = evtool(*arguments)
        assert (result.code, result.out) == (78, "")
        assert result.err == f"evtool: {evtool.home}: others may write to it\nhint: chmod 700 {evtool.home}\n"
    assert tree(evtool.home) == before
    evtool.home.chmod(0o755)
    append(evtool, "t", "2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_home_of_somebody_else_is_refused(evtool: Program) -> None:
    append(evtool, "t", "1")
    os.chown(evtool.home, 65534, 65534)
    result = evtool("append", "t", "2")
    assert (result.code, result.out) == (78, "")
    assert "belongs to user 65534, not to you" in result.err


def test_a_home_that_is_a_file_is_told(evtool: Program) -> None:
    evtool.home.write_text("mine")
    for arguments in (["append", "t", "1"], ["tail", "t"], ["topics"]):
        result = evtool(*arguments)
        assert (result.code, result.out) == (74, "")
        assert result.err.startswith(f"evtool: {evtool.home}: ")
        assert result.err.count("\n") == 1
    assert evtool.home.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_a_home_that_may_not_be_entered_is_told(evtool: Program) -> None:
    append(evtool, "t", "1")
    evtool.home.chmod(0)
    try:
        result = evtool("append", "t", "2")
    finally:
        evtool.home.chmod(0o700)
    assert (result.code, result.out, result.err.count("\n")) == (74, "", 1)
    assert "Permission denied" in result.err


LINKS = ["topics", "topics/t", "topics/t/lock", "topics/t/topic.json", "topics/t/00000000000000000000.jsonl"]


@pytest.mark.parametrize("place", LINKS)
def test_a_link_inside_a_home_is_not_followed(evtool: Program, tmp_path: Path, place: str) -> None:
    append(evtool, "t", "1")
    path, elsewhere = evtool.home / place, tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    else:
        elsewhere.write_text("{}")
    path.symlink_to(elsewhere)
    before = tree(evtool.home)
    result = evtool("append", "t", "2")
    assert (result.code, result.out) == (74, "")
    assert result.err == f"evtool: {path}: is a symbolic link, which evtool does not follow\n"
    assert tree(evtool.home) == before
    if not place.endswith(("lock", "topic.json")):
        assert evtool("tail", "t").code == 74


@pytest.mark.parametrize("place", ["consumers", "consumers/g.jsonl", "consumers/g.lock"])
def test_a_link_among_the_groups_is_not_followed(evtool: Program, tmp_path: Path, place: str) -> None:
    append(evtool, "t", "1")
    arguments = ["subscribe", "t", "--group", "g", "--from", "earliest", "--drain"]
    assert evtool(*arguments).code == 0
    path, elsewhere = evtool.topic("t") / place, tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = tree(evtool.home)
    result = evtool(*arguments)
    assert (result.code, result.out) == (74, "")
    assert result.err.startswith("evtool: ")
    assert result.err.count("\n") == 1
    assert tree(evtool.home) == before


def test_a_home_may_itself_be_a_link(evtool: Program, tmp_path: Path) -> None:
    """Which is the user's own doing: what stands behind it is checked."""
    (tmp_path / "disk").mkdir(mode=0o700)
    evtool.home.symlink_to(tmp_path / "disk")
    append(evtool, "t", "1")
    (tmp_path / "disk").chmod(0o777)
    assert evtool("append", "t", "2").code == 78


def test_the_home_is_where_the_environment_says(evtool: Program, tmp_path: Path) -> None:
    places = {
        "one": {"EVTOOL_HOME": str(tmp_path / "one")},
        "two/evtool": {"EVTOOL_HOME": "", "XDG_DATA_HOME": str(tmp_path / "two")},
        "three/.local/share/evtool": {"EVTOOL_HOME": "", "XDG_DATA_HOME": "", "HOME": str(tmp_path / "three")},
    }
    for place, environment in places.items():
        assert evtool("append", "t", "1", env=environment).code == 0
        assert (tmp_path / place / "topics" / "t").is_dir()


@pytest.mark.parametrize("text", ["{", "[]", '{"segment-bytes":-1}', '{"segment-bytes":"big"}', '{"nosuch":1}', "\0"])
def test_settings_that_are_none_are_told_with_their_file(evtool: Program, text: str) -> None:
    append(evtool, "t", "1")
    (evtool.topic("t") / "topic.json").write_text(text)
    before = stored(evtool, "t")
    result = evtool("append", "t", "2")
    assert (result.code, result.out) == (78, "")
    assert result.err.startswith(f"evtool: {evtool.topic('t')}/topic.json: ")
    assert stored(evtool, "t") == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["append", "t", "2"],
        ["append", "t", "--id", "i", "2"],
        ["append", "t", "--atomic", "2", "3"],
        ["replay", "t", "u"],
        ["subscribe", "t", "--group", "g", "--drain"],
        ["fanout", "t", "--to", "topic:u", "--drain"],
        ["groups"],
    ],
    ids=" ".join,
)
def test_too_few_descriptors_are_told(evtool: Program, arguments: list[str]) -> None:
    append(evtool, "t", "1")
    append(evtool, "u", "1")
    told = 0
    for few in range(4, 24):
        result = evtool(*arguments, preexec_fn=lambda few=few: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few)))
        if "Fatal Python error" in result.err or "site.py" in result.err:  # Python itself does not come up
            continue
        assert result.code in (0, 1, 74), result
        assert result.err.count("\n") <= 2, result
        assert "Traceback" not in result.err, result
        told += "Too many open files" in result.err
    assert told
    assert result.code == 0


def test_ctrl_c_is_silent_wherever_it_comes(evtool: Program) -> None:
    log = open_directory(evtool.topic("t"))
    assert log.names() == []
    for arguments in (["tail", "t", "-f"], ["subscribe", "t"], ["fanout", "t", "--to", "topic:u"]):
        with Running(evtool, *arguments) as running:
            running.await_waiting()
            result = running.end(signal.SIGINT)
            assert (result.code, result.out) == (-signal.SIGINT, "")
            assert "Traceback" not in result.err

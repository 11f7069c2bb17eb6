"""evtool doctor on what a home stands on: permissions, the disk, the clock, the shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doctor import finding, findings, mend, segments_of
from tests.faults import full_disk
from tests.faults.full_disk import SmallDisk
from tests.program import Program
from tests.topics import append, moment, numbers, write_log

DAY = 86400.0
GROUP = ["subscribe", "t", "-g", "g", "--from=earliest"]


# Permissions


@pytest.mark.parametrize(
    ("name", "mode", "severity", "why", "wanted"),
    [
        ("", 0o755, "advice", "others may read it", "700"),
        ("", 0o770, "problem", "others may write to it", "700"),
        ("topics", 0o711, "advice", "others may read it", "700"),
        ("topics/t", 0o722, "problem", "others may write to it", "700"),
        ("topics/t/consumers", 0o750, "advice", "others may read it", "700"),
        ("topics/t/lock", 0o666, "problem", "others may write to it", "600"),
        ("topics/t/topic.json", 0o644, "advice", "others may read it", "600"),
        ("topics/t/topic.json", 0o060, "problem", "you may not read and write it yourself", "600"),
        ("topics/t/00000000000000000000.jsonl", 0o446, "problem", "others may write to it", "444"),
    ],
)
def test_files_that_are_not_the_owners_alone_are_found(
    evtool: Program, name: str, mode: int, severity: str, why: str, wanted: str
) -> None:
    segments_of(evtool, "t")
    evtool(*GROUP, "--count=1")
    assert findings(evtool) == []
    path = evtool.home / name if name else evtool.home
    path.chmod(mode)
    found = next(one for one in findings(evtool) if one["mend"] == f"chmod {wanted} {path}")
    assert (found["severity"], found["what"], found["why"]) == (severity, str(path), why)
    mend(evtool, found)
    assert findings(evtool) == []


def test_files_of_one_directory_are_one_finding(evtool: Program) -> None:
    append(evtool, "t", "1")
    directory = evtool.topic("t")
    for path in directory.iterdir():
        path.chmod(0o640)
    found = finding(evtool)
    assert (found["what"], found["why"]) == (str(directory), "2 files in it: others may read them")
    mend(evtool, found)
    assert findings(evtool) == []


@pytest.mark.parametrize("name", ["t", "t/lock"])
def test_a_link_is_replaced_by_what_it_points_to(evtool: Program, tmp_path: Path, name: str) -> None:
    append(evtool, "t", "1")
    path = evtool.home / "topics" / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", str(path))
    assert found["why"] == "is a symbolic link, which evtool does not follow"
    mend(evtool, found)
    assert findings(evtool) == []
    append(evtool, "t", "2")


def test_a_link_to_nothing_is_removed(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "1")
    (evtool.topic("t") / "x").symlink_to(tmp_path / "nowhere")
    mend(evtool, finding(evtool))
    assert findings(evtool) == []


def test_what_is_neither_file_nor_directory_is_removed(evtool: Program) -> None:
    append(evtool, "t", "1")
    os.mkfifo(evtool.topic("t") / "pipe", 0o600)
    found = finding(evtool)
    assert (found["severity"], found["why"]) == ("problem", "is not a file of evtool's, nor a directory")
    mend(evtool, found)
    assert findings(evtool) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["", "topics", "topics/t", "topics/t/lock", "topics/t/consumers/g.jsonl"])
def test_what_may_not_be_read_is_found_once(evtool: Program, name: str) -> None:
    append(evtool, "t", "1")
    assert evtool("subscribe", "t", "-g", "g", "--from=earliest", "--drain").code == 0
    path = evtool.home / name if name else evtool.home
    path.chmod(0)
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", str(path))
    mend(evtool, found)
    assert findings(evtool) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "topics/t", "topics/t/lock"])
def test_files_of_somebody_else_are_found(evtool: Program, name: str) -> None:
    append(evtool, "t", "1")
    path = evtool.home / name if name else evtool.home
    os.chown(path, 65534, -1)
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", str(path))
    assert found["why"] == "belongs to user 65534, not to you"
    assert found["mend"] == f"sudo chown -R 0 {path}"
    found["mend"] = found["mend"].removeprefix("sudo ")
    mend(evtool, found)
    assert findings(evtool) == []


# The disk and the clock


@full_disk.needed
def test_a_full_disk_is_found_and_a_trim_makes_room(evtool: Program) -> None:
    with SmallDisk(evtool.home, 4096) as disk:
        small = Program(disk.path / "home")
        assert small("create", "t", "segment-bytes=100k").code == 0
        assert findings(small) == []
        assert small("create", "small", "segment-bytes=10k").code == 0
        append(small, "small", *numbers(0, 999))
        _fill(small, "t", 3)
        disk.fill(90_000)
        found = finding(small)
        assert (found["severity"], found["what"]) == ("problem", str(small.home))
        assert found["why"].startswith("the disk has only 0.1 MiB free, less than the 0.1 MiB that a segment may have")
        assert found["mend"] == "evtool trim t --before 7d --dry-run"
        mend(small, found)
        found["mend"] = "evtool trim t --before latest"
        mend(small, found, "--yes")
        assert small.log("t")
        assert [one for one in findings(small) if one["severity"] == "problem"] == []


@full_disk.needed
def test_a_disk_that_will_be_full_within_a_week_is_found(evtool: Program) -> None:
    with SmallDisk(evtool.home, 4096) as disk:
        small = Program(disk.path / "home")
        assert small("create", "t", "segment-bytes=100k").code == 0
        _fill(small, "t", 3)
        assert findings(small) == []
        disk.fill(1_000_000)
        found = finding(small)
        assert (found["severity"], found["what"]) == ("advice", str(small.home))
        assert found["why"].startswith("the disk will be full in 3.")
        assert " days: 1.0 MiB are free, 0.3 MiB came in a day" in found["why"]
        assert small("set", "t", "max-bytes=200k").code == 0
        assert small("trim", "t").code == 0
        assert findings(small) == []


def _fill(evtool: Program, topic: str, count: int) -> None:
    """So many segments of 100 kB."""
    for _ in range(count):
        append(evtool, topic, f'"{"x" * 90_000}"')


def test_what_came_earlier_than_a_day_ago_is_no_pace(evtool: Program) -> None:
    write_log(evtool, "t", [moment(time.time() - 2 * DAY)] * 10)
    assert findings(evtool) == []


def test_a_clock_behind_the_newest_event_is_found(evtool: Program) -> None:
    write_log(evtool, "t", [moment(time.time() + 30)])
    assert findings(evtool) == []
    for topic in ("u", "v"):
        write_log(evtool, topic, [moment(time.time() + 3600)])
    found = finding(evtool)
    assert (found["severity"], found["what"]) == ("problem", "the clock")
    assert "seconds earlier than the newest event of " in found["why"]
    assert "and those of 1 other topics" in found["why"]
    assert found["mend"] == "sudo timedatectl set-ntp true"


# The shell


@pytest.fixture
def shell(evtool: Program, tmp_path: Path) -> dict[str, str]:
    """An environment in which evtool and man are found, and nothing else of ours."""
    append(evtool, "t", "1")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("evtool", "man"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evtool "$@"\n')
        (programs / name).chmod(0o755)
    environment = dict.fromkeys(("XDG_DATA_HOME", "XDG_DATA_DIRS", "MANPATH"), "")
    return environment | {"SHELL": "/bin/sh", "HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completions_that_the_shell_does_not_find_are_advice(
    evtool: Program, shell: dict[str, str], tmp_path: Path, name: str
) -> None:
    shell |= {"SHELL": f"/usr/bin/{name}", "MANPATH": str(_pages(tmp_path))}
    found = finding(evtool, env=shell)
    assert (found["severity"], found["what"]) == ("advice", f"completions for {name}")
    if name == "fish":
        (tmp_path / ".config/fish").mkdir(parents=True)
    mend(evtool, found, env=shell)
    assert findings(evtool, env=shell) == []
    program = shutil.which(name)
    if program is not None:
        (start,) = [path for path in tmp_path.rglob("*") if path.name in (".bashrc", ".zshrc", "config.fish")]
        check = f". {start}" + (" && complete -p evtool" if name == "bash" else "")
        ran = subprocess.run([program, "-c", check], env=os.environ | shell, capture_output=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, b"")


def test_completions_where_the_shell_looks_are_found(evtool: Program, shell: dict[str, str], tmp_path: Path) -> None:
    shell |= {"SHELL": "/bin/bash", "MANPATH": str(_pages(tmp_path)), "XDG_DATA_HOME": str(tmp_path / "share")}
    assert len(findings(evtool, env=shell)) == 1
    place = tmp_path / "share/bash-completion/completions"
    place.mkdir(parents=True)
    (place / "evtool").touch()
    assert findings(evtool, env=shell) == []


def test_pages_that_man_does_not_find_are_advice(evtool: Program, shell: dict[str, str], tmp_path: Path) -> None:
    found = finding(evtool, env=shell)
    assert (found["severity"], found["what"]) == ("advice", "man pages")
    assert Path(found["mend"].removeprefix("man ")).exists()
    page = tmp_path / "share/man/man1/evtool.1.gz"  # beside the directory that the program is in
    page.parent.mkdir(parents=True)
    page.touch()
    assert findings(evtool, env=shell) == []


def _pages(directory: Path) -> Path:
    place = directory / "pages/man1"
    place.mkdir(parents=True)
    (place / "evtool.1").touch()
    return place.parent


def test_from_a_clone_of_which_nothing_is_installed_nothing_is_said(
    evtool: Program, shell: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin/evtool").unlink()
    assert findings(evtool, env=shell | {"SHELL": "/bin/bash"}) == []

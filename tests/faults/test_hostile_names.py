"""Hostile names, links, pipes and directories in wrong places: nothing outside the home is touched, nothing hangs."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from evtool.cli._table import COMMANDS
from evtool.errors import UsageError
from evtool.log.ranges import Ranges
from evtool.stores import open_store
from tests.faults import hostile
from tests.faults.history import Violation
from tests.faults.hostile import PLACES, Line, Yard
from tests.faults.scale import scaled, seeded
from tests.faults.without import Without

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

KINDS = ("link to a file", "link to a directory", "link to nothing", "directory", "fifo")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_API_ONLY = ["t\0", "\0", "t\0/../../outside/precious", "\ud800", "t\udcff"]


def may_be(name: str | bytes) -> bool:
    """Whether the manual lets a topic or a group have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and ".." not in name


def check_name(yard: Yard, line: Line, name: str | bytes) -> None:
    """A command with such a name: it is refused, unless it may be one, and the home stays as it was then."""
    yard.fill()
    before = _contents(yard.evtool.home)
    result = yard.run(line)
    is_glob = isinstance(name, str) and any(one in name for one in "*?[")
    is_option = line.arguments[-1] == name and name[:1] in ("-", b"-") and "--" not in line.arguments[:-1]
    is_padded = f"group:{name!s}" in line.arguments and may_be(name.strip())  # blanks around a WHERE do not count
    if may_be(name) or is_glob or is_option or is_padded or line.arguments[0] == "__complete":
        return
    if result.code != 2 or result.out:
        raise Violation(f"{line}: was not refused: {result}")
    if _contents(yard.evtool.home) != before:
        raise Violation(f"{line}: was refused, and changed the home")


def _contents(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def put(yard: Yard, place: str, kind: str) -> None:
    """Let there be something else in a place of a home made anew."""
    yard.fill()
    path = yard.evtool.home / place
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        path.rename(yard.evtool.home / "what.was.there")
    if kind == "directory":
        path.mkdir(mode=0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        targets = {"link to a file": "precious", "link to a directory": "t", "link to nothing": "nothing"}
        path.symlink_to(yard.outside / targets[kind])


def check_place(yard: Yard, place: str, kind: str, command: str) -> None:
    """A command on a home with something else where a file or a directory of its should be."""
    put(yard, place, kind)
    line = hostile.plain(command)
    yard.run(line._replace(what=f"{command} with a {kind} as {place}"))


def work(directory: Path, random: random.Random) -> Counter[str]:
    """One round: some names with all commands, and all commands with something in the wrong place."""
    counts: Counter[str] = Counter()
    yard = Yard(directory)
    for name in random.sample(hostile.names(yard.outside), 3):
        for line in hostile.lines(name):
            check_name(yard, line, name)
            counts["command lines"] += 1
        counts["names"] += 1
    place, kind = random.choice(PLACES), random.choice(KINDS)
    for command in COMMANDS:
        check_place(yard, place, kind, command)
        counts["command lines"] += 1
    counts["places"] += 1
    return counts


def test_there_are_two_hundred_hostile_names(tmp_path: Path) -> None:
    assert len(hostile.names(tmp_path)) >= 200


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_does_what_it_is_for_where_all_is_in_order(tmp_path: Path, command: str) -> None:
    """Otherwise the checks here would try nothing but usage errors."""
    result = Yard(tmp_path).run(hostile.plain(command))
    assert result.code in ({0, 65} if command == "verify" else {0, 1, 4} if command == "doctor" else {0, 4}), result


def test_no_command_lets_a_name_out_of_the_home(tmp_path: Path) -> None:
    random = seeded()
    yard = Yard(tmp_path)
    tried = [(line, name) for name in hostile.names(yard.outside) for line in hostile.lines(name)]
    for line, name in random.sample(tried, scaled(30)):
        check_name(yard, line, name)


def test_no_link_pipe_or_directory_leads_a_command_astray(tmp_path: Path) -> None:
    random = seeded()
    yard = Yard(tmp_path)
    tried = [(place, kind, command) for place in PLACES for kind in KINDS for command in COMMANDS]
    for place, kind, command in random.sample(tried, scaled(30)):
        check_place(yard, place, kind, command)


def _calls(yard: Yard, name: str) -> list[Callable[[], object]]:
    """Everything that the store can be asked to do with a topic or a group of this name."""
    store = open_store(str(yard.evtool.home))
    calls = [getattr(store, one) for one in ("topic", "ensure_topic", "has", "remove_topic")]
    return [
        *(lambda call=call: call(name) for call in calls),
        lambda: store.topic(name).reader(0),
        lambda: store.topic(name).set({}),
        lambda: store.topic(name).trim(1),
        lambda: store.topic(name).verify(),
        lambda: store.topic(name).repair(dry_run=False),
        lambda: store.topic("t").group(name),
        lambda: store.topic("t").standing(name),
        lambda: store.topic("t").seek(name, 0),
        lambda: store.topic("t").call_again(name, Ranges([(0, 1)])),
        lambda: store.topic("t").deputy(name, "m"),
        lambda: store.topic("t").remove_group(name, force=True),
    ]


def test_the_api_refuses_every_name_that_is_none(tmp_path: Path) -> None:
    """NUL and lone surrogates too, which no command line can hold."""
    yard = Yard(tmp_path)
    before = _contents(yard.evtool.home)
    names = [*_API_ONLY, *(os.fsdecode(one) for one in hostile.names(yard.outside))]
    for name in names:
        for call in _calls(yard, name) if not may_be(name) else ():
            with pytest.raises(UsageError):
                call()
    assert not yard.changes()
    assert _contents(yard.evtool.home) == before


def check_all_names(yard: Yard) -> None:
    for name in hostile.names(yard.outside):
        for line in [one for one in hostile.lines(name) if one.arguments[0] in ("append", "create")]:
            check_name(yard, line, name)


def test_control_names_that_are_not_checked_get_out(tmp_path: Path) -> None:
    with pytest.raises(Violation, match=r"touched|refused|ended with"):
        check_all_names(Yard(tmp_path, lambda home: Without(home, "names")))


@pytest.mark.parametrize(
    ("protection", "place", "kind", "command", "what"),
    [
        ("staying", "topics/t/SHA256SUMS", "link to nothing", "repair", "touched"),
        ("staying", "topics/t/topic.json.new", "link to a file", "set", "touched"),
        ("looking", f"topics/t/{0:020d}.jsonl", "fifo", "replay", "hangs"),
    ],
)
def test_control_files_that_are_opened_unseen_show(
    tmp_path: Path, protection: str, place: str, kind: str, command: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostile, "PATIENCE", 2.0)
    with pytest.raises(Violation, match=what):
        check_place(Yard(tmp_path, lambda home: Without(home, protection)), place, kind, command)

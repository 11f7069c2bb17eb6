"""SIGKILL at every call by which an append changes something: nothing acknowledged is lost, the next append heals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from evtool.stores import open_store
from tests.faults import history, strace
from tests.faults.history import Producer, Violation
from tests.faults.kill_at_call import kill_everywhere
from tests.faults.without import Without
from tests.program import Program
from tests.topics import small_segments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = strace.needed

BEFORE = [f'{{"by":"before","n":{number}}}' for number in range(3)]
EVENTS = [f'{{"by":"killed","n":{number}}}' for number in range(3)]
AFTER = '{"by":"after"}'
TORN = b'{"offset":3,"time":"2026-11-24T00:00:00'


class Scenario(NamedTuple):
    """A command that is killed, what it is to store, and what is there before."""

    prepare: Callable[[Program], None]
    arguments: list[str]
    events: list[str]
    input: str = ""


def nothing(_evtool: Program) -> None:
    pass


def some(evtool: Program) -> None:
    assert evtool("append", "t", *BEFORE).code == 0


def some_in_a_full_segment(evtool: Program) -> None:
    small_segments(evtool, "t", 250)
    some(evtool)


def some_and_a_torn_line(evtool: Program) -> None:
    some(evtool)
    with evtool.segments("t")[-1].open("ab") as segment:
        segment.write(TORN)


SCENARIOS = {
    "first": Scenario(nothing, EVENTS[:1], EVENTS[:1]),
    "one": Scenario(some, EVENTS[:1], EVENTS[:1]),
    "arguments": Scenario(some, EVENTS, EVENTS),
    "batch": Scenario(some, [], EVENTS, "\n".join(EVENTS)),
    "roll": Scenario(some_in_a_full_segment, EVENTS, EVENTS),
    "heal": Scenario(some_and_a_torn_line, EVENTS[:1], EVENTS[:1]),
    "atomic": Scenario(some, ["--atomic"], EVENTS, "\n".join(EVENTS)),
    "id": Scenario(some, ["--id", "x", EVENTS[0]], EVENTS[:1]),
}


def check_kills(evtool: Program, scenario: Scenario) -> int:
    """Kill at every call; return how many there were."""
    scenario.prepare(Program(evtool.home))
    before = Producer(BEFORE, "0\n1\n2\n") if evtool.home.exists() else Producer([], "")
    points = 0
    for killed in kill_everywhere(evtool, "append", "t", "--offsets", *scenario.arguments, input=scenario.input):
        points += 1
        seen = read(killed.home)
        whole = whole_lines(killed.home)
        healed = Program(killed.home)("append", "t", AFTER, "--offsets")
        assert (healed.code, len(healed.lines)) == (0, 1), (killed.call, healed)
        told = Producer(scenario.events, killed.result.out)
        try:
            stored = history.check(killed.home / "topics/t", [before, told, Producer([AFTER], healed.out)])
            history.check_seen(stored, seen)
            assert seen == whole, "a reader did not see all that there was"
            if "--atomic" in scenario.arguments:
                assert len(stored) in (4, 7), "a part of what is to be atomic was stored"
            if scenario.prepare is some_and_a_torn_line:
                assert TORN in kept(killed.home), "the torn bytes are gone"
        except AssertionError as error:
            raise Violation(f"killed at {killed.call}: {error}") from error
    return points


def read(home: Path) -> bytes:
    """All that a reader gets, who does not wait for the next producer to heal."""
    store = open_store(str(home), create=True)
    if not store.has("t"):
        return b""
    reader = store.topic("t").reader(0)
    blocks = []
    while block := reader.read():
        blocks.append(block)
    return b"".join(blocks)


def whole_lines(home: Path) -> bytes:
    text = b"".join(path.read_bytes() for path in sorted((home / "topics/t").glob("*.jsonl")))
    return text[: text.rfind(b"\n") + 1]


def kept(home: Path) -> list[bytes]:
    return [path.read_bytes() for path in (home / "topics/t/damaged").glob("*")]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_call_loses_nothing_acknowledged(evtool: Program, name: str) -> None:
    assert check_kills(evtool, SCENARIOS[name]) >= 5


@pytest.mark.parametrize(
    ("name", "protection", "what"),
    [
        ("one", "patience", "lost: offset 3"),
        ("batch", "patience", "lost: offset 3"),
        ("roll", "patience", "lost: offset 3"),
        ("heal", "keeping", "the torn bytes are gone"),
        ("atomic", "whole", "a part of what is to be atomic"),
    ],
)
def test_control_a_kill_shows_what_is_missing(evtool: Program, name: str, protection: str, what: str) -> None:
    with pytest.raises(Violation, match=what):
        check_kills(Without(evtool.home, protection), SCENARIOS[name])

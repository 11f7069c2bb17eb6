"""The care of a log on a terminal: what verify shows, and what trim and compact ask before they remove anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.test_compact import SEGMENTS, offsets, write
from tests.cli.test_trim import answered, firsts
from tests.cli.test_verify import alter, fill, on_terminal, seal
from tests.topics import append, write_commit

if TYPE_CHECKING:
    from evtool.stores.file import FileStore
    from tests.program import Program


@pytest.fixture
def sealed(evtool: Program, store: FileStore) -> Program:
    """Fifty events, in segments that begin with 0, 10, 20, 30 and 40, all but the last sealed; group g is at 5."""
    fill(store)
    write_commit(evtool, 5)
    return evtool


@pytest.fixture
def keyed(evtool: Program, store: FileStore) -> Program:
    """Eleven events in five segments, of which a compaction removes six."""
    write(store, *SEGMENTS)
    return evtool


def test_verify_shows_a_table_and_seals_that_can_be_copied(sealed: Program) -> None:
    seen = on_terminal(sealed, "verify", "t", NO_COLOR="1", COLUMNS="60")
    assert seen.split()[:6] == ["topic", "events", "size", "segments", "sealed", "problems"]
    assert seen.endswith(f"\nnewest seal:\nt  {seal(sealed)}\n")
    assert "\033[1m" not in seen
    assert "\033[1m" in on_terminal(sealed, "verify", "t")
    append(sealed, "u", "1")
    assert seal(sealed) in on_terminal(sealed, "verify", COLUMNS="60")
    assert "seal:" not in on_terminal(sealed, "verify", "u")


def test_verify_says_what_a_seal_shows(sealed: Program) -> None:
    known = seal(sealed)
    for before, said in (
        (0, "all 4 segments sealed up to then are unaltered"),
        (10, "all 3 segments sealed up to then are unaltered; 1 was trimmed"),
        (30, "the segment sealed then is unaltered; 3 were trimmed"),
        (40, "nothing that was sealed by then is left; 4 were trimmed"),
    ):
        assert sealed("trim", "t", "--yes", f"--before={before}").code == 0
        assert on_terminal(sealed, "verify", "t", "--since-seal", known).endswith(f"\nt: {said}\n")


def test_verify_calls_nothing_unaltered_that_is_not(sealed: Program) -> None:
    known = seal(sealed)
    path = alter(sealed, 1, '"data":22', '"data":32')
    seen = on_terminal(sealed, "verify", "t", "--since-seal", known)
    assert f"evtool: {path}: line " in seen
    assert "unaltered" not in seen


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"Yes\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)])
def test_trim_asks(sealed: Program, answer: bytes, code: int) -> None:
    done, out, asked = answered(sealed, answer, "trim", "t", "--before=25")
    assert asked == "Remove 20 events of topic t, of which group g has not handled 15? [y/N] "
    assert (done, bool(out)) == (code, code == 0)
    assert firsts(sealed) == ([20, 30, 40] if code == 0 else [0, 10, 20, 30, 40])


def test_trim_says_that_nothing_goes_and_draws_no_empty_table(sealed: Program) -> None:
    assert on_terminal(sealed, "trim") == "evtool: nothing to remove\n"
    assert on_terminal(sealed, "trim", "-q") == on_terminal(sealed, "trim", "--json") == ""


def test_one_event_is_one_event(sealed: Program) -> None:
    write_commit(sealed, 9)
    _, _, asked = answered(sealed, b"n\n", "trim", "t", "--before=10")
    assert asked == "Remove 10 events of topic t, of which group g has not handled 1? [y/N] "
    assert sealed("trim", "t", "--before=10", "--yes").err == "evtool: t: group g lost 1 event\n"


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_compact_asks_with_numbers(keyed: Program, answer: bytes, code: int) -> None:
    freed = int(keyed("compact", "t", "--dry-run").out.split("\t")[4])
    done, out, asked = answered(keyed, answer, "compact", "t")
    assert asked == f"Remove 6 of 9 events of topic t ({freed} B)? [y/N] "
    assert (done, bool(out)) == (code, code == 0)
    assert len(offsets(keyed)) == (5 if code == 0 else 11)


def test_compact_asks_with_the_groups_that_may_miss_something(keyed: Program) -> None:
    write_commit(keyed, 9, group="done")
    write_commit(keyed, 3, group="idle")
    _, _, asked = answered(keyed, b"n\n", "compact", "t")
    assert asked.endswith(" B), which group idle may not all have handled? [y/N] ")
    write_commit(keyed, 8, group="web")
    _, _, asked = answered(keyed, b"n\n", "compact", "t")
    assert asked.endswith(" B), which groups idle and web may not all have handled? [y/N] ")


def test_one_that_is_not_wanted_does_not_keep_the_others_back(evtool: Program, store: FileStore) -> None:
    for topic in ("a", "b"):
        write(store, *SEGMENTS, topic=topic)
    done, out, _ = answered(evtool, b"n\ny\n", "compact", "a", "b")
    assert (done, [line.split("\t")[0] for line in out.splitlines()]) == (1, ["b"])
    assert (len(offsets(evtool, "a")), len(offsets(evtool, "b"))) == (11, 5)


def test_where_nothing_is_superseded_nobody_is_asked(evtool: Program, store: FileStore) -> None:
    write(store, "a=1", "b=1", "c=1")
    seen = on_terminal(evtool, "compact", "t")
    assert "?" not in seen
    assert seen.splitlines()[-2].split()[:3] == ["t", "2", "0"]


def test_compact_shows_a_table(keyed: Program) -> None:
    seen = on_terminal(keyed, "compact", "t", "--dry-run", NO_COLOR="1")
    heading, row = [line.split() for line in seen.splitlines() if line[:2] in (" t",)]
    assert heading == ["topic", "events", "removed", "size", "freed", "rewritten", "dropped", "done"]
    assert (row[:3], row[-3:]) == (["t", "9", "6"], ["3", "1", "no"])

"""evtool.log.offsets: the commit log of a group, in which the last whole line counts."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evtool.log import line, offsets
from evtool.log.files import Directory
from evtool.log.ranges import Ranges

NOW = b"2026-11-23T22:25:32.123456Z"
quick = settings(deadline=None, max_examples=200)


@given(st.integers(0, 10**18))
@quick
def test_a_commit_read_back_is_the_same(offset: int) -> None:
    text = offsets.render(offset, NOW)
    assert text.endswith(b"\n")
    found = offsets.parse(text[:-1])
    assert found is not None
    assert (found.committed, found.time) == (offset, NOW)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"committed":x,"time":""}', b'{"committed":5', b"\0" * 40])
def test_what_is_no_commit_is_none(text: bytes) -> None:
    assert offsets.parse(text) is None


@given(
    st.dictionaries(
        st.sampled_from(["command", "doing", "host"]), st.text(st.characters(exclude_categories=["Cs"])), min_size=1
    ),
    st.dictionaries(
        st.sampled_from(["member", "mode", "lease", "until"]), st.sampled_from(["", "a1", "1-2,5", "b:1.000"])
    ),
)
@quick
def test_what_else_a_commit_says_is_read_back_in_its_own_words(words: dict[str, str], more: dict[str, str]) -> None:
    """But for what would need an escape in JSON, and the comma that might end a field: others stand in their place."""
    text = offsets.render(7, NOW, words | more)
    found = offsets.parse(text[:-1])
    assert found is not None
    assert (found.committed, found.time) == (7, NOW)
    plain = {name: re.sub(r'["\\,]', "'", re.sub(r"[\x00-\x1f]", " ", said)) for name, said in words.items()}
    assert found.fields == plain | more
    assert json.loads(text) == {"committed": 7, "time": NOW.decode()} | plain | more


def test_bytes_that_are_no_utf_8_do_not_spoil_a_commit() -> None:
    found = offsets.parse(offsets.render(7, NOW, {"command": "cat \udcff"})[:-1])
    assert found is not None
    assert found.fields == {"command": "cat ?"}
    found = offsets.parse(offsets.render(7, NOW, {"command": "cat ?"})[:-1].replace(b"?", b"\xff"))
    assert found is not None
    assert found.fields == {"command": "cat \ufffd"}


# What lines say together


class Model:
    """What a commit log says, with Python's own sets."""

    def __init__(self) -> None:
        self.committed = 0
        self.handled: set[int] = set()
        self.again: set[int] = set()
        self.leases: dict[str, set[int]] = {}
        self.modes: dict[str, str] = {}
        self.said: dict[str, tuple[str, str, int | None]] = {}
        self.seeks = 0

    def apply(self, committed: int, fields: dict[str, str]) -> None:
        if "seek" in fields:
            self.__init__()  # type: ignore[misc]
            self.seeks = int(fields["seek"])
        self.committed = committed
        if "member" in fields:
            self.member(fields["member"], fields)
        handled, again = (members_of(fields.get(name, "")) for name in ("handled", "again"))
        self.handled |= handled
        self.again = self.again - handled | again
        for leased in self.leases.values():
            leased -= handled
        while self.committed in self.handled:
            self.committed += 1
        self.handled = {offset for offset in self.handled if offset >= self.committed}

    def member(self, name: str, fields: dict[str, str]) -> None:
        if "gone" in fields:
            self.drop(name)
            return
        if "pid" in fields:
            for other in [other for other, mode in self.modes.items() if "shared" not in {mode} & {fields["mode"]}]:
                self.drop(other)
            self.modes[name], self.leases[name], self.said[name] = (
                fields["mode"],
                set(),
                (fields.get("until", ""), "", None),
            )
        if name not in self.modes:
            return
        leased = members_of(fields.get("lease", ""))
        for other in self.leases.values():
            other -= leased
        self.leases[name] = (self.leases[name] | leased) - members_of(fields.get("free", ""))
        until, doing, given_out = self.said[name]
        given_out = int(fields["given"]) if "given" in fields else given_out
        self.said[name] = fields.get("until", until), fields.get("doing", doing), given_out

    def drop(self, name: str) -> None:
        for known in (self.modes, self.leases, self.said):
            known.pop(name, None)


def members_of(text: str) -> set[int]:
    return set(Ranges.parse(text).offsets())


def told(state: offsets.State) -> object:
    """All that a state says, to be compared."""
    members = {
        name: (one.mode, one.pid, one.host, one.command, str(one.leased), one.until, one.doing, one.given)
        for name, one in state.members.items()
    }
    return state.committed, str(state.handled), str(state.again), members, state.seeks


few = st.integers(0, 12)
ranges = st.lists(few, min_size=1, max_size=4).map(lambda some: str(Ranges((one, one) for one in some)))
joins = st.fixed_dictionaries(
    {"pid": st.just("17"), "host": st.just("h"), "mode": st.sampled_from(["alone", "shared", "shared", "manual"])},
    optional={"command": st.sampled_from(["cat", ""]), "until": st.just("b:5.0")},
)
notes = st.fixed_dictionaries(
    {},
    optional={
        "lease": ranges,
        "free": ranges,
        "until": st.sampled_from(["b:9.000", "b:10.000"]),
        "doing": st.sampled_from(["rests", "5"]),
        "given": few.map(str),
    },
)
of_members = st.builds(
    lambda name, said: {"member": name} | said,
    st.sampled_from(["m1", "m2", "m3"]),
    st.one_of(joins, joins, notes, notes, notes, st.just({"gone": "1"})),
)
of_offsets = st.fixed_dictionaries({}, optional={"handled": ranges, "again": ranges})
lines_said = st.lists(
    st.tuples(
        few,
        st.one_of(
            of_offsets,
            of_members,
            of_members,
            st.builds(lambda one, other: one | other, of_members, of_offsets),
            st.builds(lambda said, seeks: {"seek": str(seeks)} | said, of_offsets, few),
        ),
    ),
    max_size=14,
)


@given(lines_said)
@quick
def test_a_state_is_what_sets_and_dictionaries_would_hold(lines: list[tuple[int, dict[str, str]]]) -> None:
    model, state = Model(), offsets.State()
    reached, since = b"", {}
    for number, (committed, fields) in enumerate(lines):
        parsed = offsets.parse(offsets.render(committed, line.stamp(number * 10**9), fields)[:-1])
        assert parsed is not None
        before = state.committed
        state.apply(parsed)
        model.apply(committed, fields)
        moment = line.stamp(number * 10**9)
        reached = moment if state.committed != before else reached
        if "pid" in fields:
            since[fields["member"]] = moment
        assert state.reached == reached
        assert {name: one.since for name, one in state.members.items()} == {name: since[name] for name in model.modes}
        assert state.committed == model.committed
        assert state.time == line.stamp(number * 10**9)
        assert set(state.handled.offsets()) == model.handled
        assert set(state.again.offsets()) == model.again
        assert state.seeks == model.seeks
        assert {name: set(one.leased.offsets()) for name, one in state.members.items()} == model.leases
        assert {name: one.mode for name, one in state.members.items()} == model.modes
        assert {name: (one.until, one.doing, one.given) for name, one in state.members.items()} == model.said


JOINED = {"pid": "17", "host": "h", "mode": "shared"}
EVERYTHING = [
    (3, {"member": "m1", **JOINED, "command": "cat"}),
    (3, {"member": "m2", **JOINED}),
    (3, {"member": "m1", "lease": "3-7", "until": "b:9.000", "doing": "rests", "given": "0"}),
    (3, {"member": "m2", "handled": "8", "again": "1", "lease": "9"}),
    *[(3, {"member": "m2", "doing": str(number)}) for number in range(9)],
]


@given(lines_said.filter(bool))
@example(EVERYTHING)
@example([(7, {}), (8, {}), (9, {"seek": "4"}), *[(number, {}) for number in range(10, 30)]])
@settings(deadline=None, max_examples=60)
def test_a_log_written_anew_says_what_the_long_one_said(lines: list[tuple[int, dict[str, str]]]) -> None:
    """So do the state of who wrote it, of another one who looks on, and of one who opens it later."""
    with tempfile.TemporaryDirectory() as where, pytest.MonkeyPatch.context() as patch:
        consumers = Directory(where, os.open(where, os.O_RDONLY))
        patch.setattr(offsets, "_LARGEST", 200)
        commits, other = offsets.Commits(consumers, "g"), offsets.Commits(consumers, "g")
        for committed, fields in lines:
            with commits:
                commits.write(committed, fields)
            with other:
                assert told(other.state) == told(commits.state)
        assert told(offsets.state_of(offsets.read_commits(consumers, "g"))) == told(commits.state)
        assert told(offsets.Commits(consumers, "g").state) == told(commits.state)


# Leases and their clock


def test_a_lease_lasts_until_its_moment_or_the_machine_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(offsets, "_boot_id", "one")
    joined = {"pid": "1", "host": "h", "mode": "shared"}
    member = offsets.Member("m", joined | {"until": offsets.after(10)}, NOW)
    assert (offsets.clock(), member.until) == ("one:50.000", "one:60.000")
    for moment, expired in ((50.0, False), (60.0, False), (60.001, True)):
        now[0] = moment
        assert member.has_expired() is expired
    now[0] = 50.0
    monkeypatch.setattr(offsets, "_boot_id", "two")
    assert member.has_expired()
    assert offsets.Member("m", joined, NOW).has_expired()


def test_the_clock_of_leases_tells_one_start_of_the_machine_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(offsets, "_boot_id", None)
    if os.path.exists("/proc/sys/kernel/random/boot_id"):
        with open("/proc/sys/kernel/random/boot_id") as file:
            assert offsets.clock().startswith(file.read()[:8] + ":")
    monkeypatch.setattr(offsets, "open", missing, raising=False)
    known = offsets.clock().partition(":")[0]  # it is asked for once
    assert offsets.after(5).startswith(known + ":")
    monkeypatch.setattr(offsets, "_boot_id", None)
    assert offsets.clock().startswith("boot:")


def test_a_member_is_introduced_by_what_it_said() -> None:
    said = {"pid": "17", "host": "h", "mode": "alone"}
    for more in ({}, {"command": "cat"}):
        member = offsets.Member("m", said | more, NOW)
        assert member.introduction() == {"member": "m"} | said | more
        assert member.since == NOW

"""evtool.stores.where: durations, moments and positions as words mean them."""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.errors import ConditionError, UsageError
from evtool.log import line
from evtool.stores import where

if TYPE_CHECKING:
    from evtool.stores.file import FileStore

quick = settings(deadline=None, max_examples=300)
NOW = 1_764_000_000.0


@given(st.integers(0, 253402300799), st.integers(0, 999_999))
@quick
def test_a_stamp_read_back_is_the_same_moment(second: int, microsecond: int) -> None:
    stamp = line.stamp(second * 1_000_000_000 + microsecond * 1000)
    fields = time.strptime(stamp[:19].decode(), "%Y-%m-%dT%H:%M:%S")
    assert calendar.timegm(fields) == second
    assert where.seconds_of(stamp) == second + microsecond / 1e6


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d", "w"])), min_size=1))
@quick
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    assert where.duration("".join(f"{n}{u}" for n, u in parts)) == pytest.approx(sum(n * units[u] for n, u in parts))


@given(st.text("0123456789.msh -", max_size=8))
@quick
def test_a_text_is_a_duration_or_a_usage_error(text: str) -> None:
    try:
        assert where.duration(text) >= 0
    except UsageError as error:
        assert error.what == repr(text)


@pytest.mark.parametrize("text", ["", " ", "5", "s", "1x", "-1s", "1.2.3s", "1e3s", "\u0661s", "9" * 30 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        where.duration(text)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("earliest", "earliest", None),
        (" LATEST ", "latest", None),
        ("0", "offset", 0),
        ("42", "offset", 42),
        ("20261123", "offset", 20261123),
        ("-10", "back", 10),
        ("group:billing", "group", "billing"),
        ("now", "time", line.stamp(int(NOW * 1e9))),
        ("2h", "time", line.stamp(int((NOW - 7200) * 1e9))),
        ("2h ago", "time", line.stamp(int((NOW - 7200) * 1e9))),
        ("@1700000000.5", "time", b"2023-11-14T22:13:20.500000Z"),
        ("2026-11-23T22:25:32Z", "time", b"2026-11-23T22:25:32.000000Z"),
        ("2026-11-23T22:25:32.123456z", "time", b"2026-11-23T22:25:32.123456Z"),
        ("2026-11-23T23:25:32+01:00", "time", b"2026-11-23T22:25:32.000000Z"),
        ("2026-11-23", "time", b"2026-11-23T00:00:00.000000Z"),
    ],
)
def test_every_word_for_a_position(text: str, kind: str, value: object, utc: None) -> None:
    found = where.parse(text, NOW)
    assert (found.kind, found.value) == (kind, value)


@pytest.mark.parametrize(
    "text", ["", "soon", "--1", "-", "1x", "@", "@x", "group:", "group:UP", "2026-13-01", "25:00", "9" * 19, "@1e99"]
)
def test_what_is_no_position_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        where.parse(text, NOW)
    assert caught.value.hint


def test_days_are_those_of_the_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    noon = calendar.timegm((2026, 11, 24, 11, 0, 0))
    assert where.parse("today", noon).value == b"2026-11-23T23:00:00.000000Z"
    assert where.parse("yesterday 14:00", noon).value == b"2026-11-23T13:00:00.000000Z"
    assert where.parse("08:30:15", noon).value == b"2026-11-24T07:30:15.000000Z"
    monkeypatch.undo()
    time.tzset()


def test_a_position_beyond_the_end_is_no_place_to_begin_but_a_place_to_end(store: FileStore) -> None:
    log = store.ensure_topic("t").writer()
    log.append([b"1", b"2"], line.DATA)
    assert where.Where("offset", 2).begin(store.topic("t")) == 2
    assert where.Where("offset", 9).resolve(store.topic("t")) == 9
    with pytest.raises(ConditionError, match="no offset 9 yet, the next is 2"):
        where.Where("offset", 9).begin(store.topic("t"))


def test_each_kind_resolves_to_its_offset(store: FileStore) -> None:
    log = store.ensure_topic("t").writer()
    log.append([b"%d" % n for n in range(5)], line.DATA)
    group = store.topic("t").group("g")
    assert group.try_acquire()
    group.commit(3)
    said = {"earliest": 0, "latest": 5, "2": 2, "-2": 3, "-99": 0, "group:g": 3, "1h": 0, "now": 5}
    after = time.time() + 1
    assert {text: where.parse(text, after).resolve(store.topic("t")) for text in said} == said


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    time.tzset()

"""WHERE: every word for a position in a topic, as `replay --from` and `--until` take it, on logs with known times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.topics import moment, write_log

if TYPE_CHECKING:
    from tests.program import Program, Result

DAYS = [
    "2026-01-01T12:59:59.999999Z",
    "2026-01-01T13:00:00.000000Z",
    "2026-06-01T11:59:59.999999Z",
    "2026-06-01T12:00:00.000000Z",
    "2026-06-01T12:00:00.000001Z",
    "2026-11-23T22:25:32.123456Z",
]
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"  # spelt out, so that no table of zones is needed
HINT = (
    "hint: say earliest, latest, an offset, -N, a time (2026-11-23T22:25:32Z, 2h, 'yesterday 14:00', @SECONDS) "
    "or group:NAME\n"
)


def zone_where_it_is_noon(now: float) -> str:
    """A time zone in which it is between 12 and 13 o'clock, so that no midnight comes in between."""
    return f"EVT{time.gmtime(now).tm_hour - 12:+d}"


def given(result: Result) -> list[int]:
    """The data of the events in the output, of a run that went well and said nothing."""
    assert (result.code, result.err) == (0, ""), result
    return [event["data"] for event in result.events]


def check_both_ends(program: Program, where: str, first: int, **options: object) -> None:
    """`--from WHERE` gives out the event at `first` and those behind it, `--until WHERE` those before it."""
    everything = list(range(len(DAYS)))
    assert given(program("replay", "days", f"--from={where}", **options)) == everything[first:]
    assert given(program("replay", "days", f"--until={where}", **options)) == everything[:first]


@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("earliest", 0),
        ("latest", 6),
        ("EARLIEST", 0),
        ("0", 0),
        ("3", 3),
        ("6", 6),
        ("-1", 5),
        ("-6", 0),
        ("-100", 0),
        ("-0", 6),
        ("now", 6),
    ],
)
def test_positions(evtool: Program, where: str, first: int) -> None:
    write_log(evtool, "days", DAYS)
    check_both_ends(evtool, where, first)


@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("2026-11-23T22:25:32.123456Z", 5),
        ("2026-11-23T22:25:32.123457Z", 6),
        ("2026-11-23t22:25:32z", 5),
        ("2026-11-23T22:25:33Z", 6),
        ("2026-06-01T14:00:00+02:00", 3),
        ("2026-06-01T07:00:00-05:00", 3),
        ("2026-06-01T12:00:00.000001Z", 4),
        ("2026-06-01 12:00", 3),
        ("2026-06-01", 2),
        ("2026-01-01T13:00Z", 1),
        ("@1780315200", 3),
        ("@1780315200.000001", 4),
        ("@1780315200.000002", 5),
        ("@0", 0),
    ],
)
def test_times_in_figures(evtool: Program, where: str, first: int) -> None:
    """The event at that very microsecond is the first that --from gives out, and the first that --until does not."""
    write_log(evtool, "days", DAYS)
    check_both_ends(evtool, where, first)


@pytest.mark.parametrize(
    ("where", "first"), [("2026-01-01 14:00", 1), ("2026-06-01 14:00", 3), ("2026-06-01T14:00", 3)]
)
def test_times_without_a_zone_are_local_in_summer_and_in_winter(evtool: Program, where: str, first: int) -> None:
    write_log(evtool, "days", DAYS)
    check_both_ends(evtool, where, first, env={"TZ": BERLIN})


@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("3h", 1),
        ("2h ago", 2),
        ("2 h ago", 2),
        ("120m", 2),
        ("1h30m", 2),
        ("1.5h", 2),
        ("59m", 3),
        ("30m", 3),
        ("1w", 0),
        ("2d", 0),
        ("90s", 3),
        ("250ms", 4),
    ],
)
def test_times_in_words_are_reckoned_back_from_now(evtool: Program, where: str, first: int) -> None:
    now = time.time()
    write_log(evtool, "t", [moment(now - ago) for ago in (4 * 3600, 2.5 * 3600, 3600, 60)])
    assert given(evtool("replay", "t", "--from", where)) == [0, 1, 2, 3][first:]
    assert given(evtool("replay", "t", "--until", where)) == [0, 1, 2, 3][:first]


@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("yesterday", 1),
        ("yesterday 00:00", 1),
        ("yesterday 14:00", 3),
        ("Yesterday 13:59:59", 2),
        ("today", 4),
        ("today 09:30", 6),
        ("today 09:30:00", 6),
        ("09:30", 6),
        ("00:00", 4),
    ],
)
def test_days_in_words_begin_at_local_midnight(evtool: Program, where: str, first: int) -> None:
    now = time.time()
    local = time.gmtime(now)
    midnight = now - now % 3600 - 12 * 3600
    zone = zone_where_it_is_noon(now)
    assert local.tm_hour - int(zone[3:]) == 12
    hours = (-24 - 1e-3, -24, -24 + 13.9999, -24 + 14, 0, 9.4999, 9.5)
    write_log(evtool, "t", [moment(midnight + hour * 3600) for hour in hours])
    everything = list(range(len(hours)))
    assert given(evtool("replay", "t", "--from", where, env={"TZ": zone})) == everything[first:]
    assert given(evtool("replay", "t", "--until", where, env={"TZ": zone})) == everything[:first]


def test_a_time_in_words_is_another_one_in_another_zone(evtool: Program) -> None:
    """The control of the test above: where it is already noon, today began earlier than where it is one o'clock."""
    now = time.time()
    hour = time.gmtime(now).tm_hour
    write_log(evtool, "t", [moment(now - now % 3600 - 6 * 3600)])
    assert given(evtool("replay", "t", "--from", "today", env={"TZ": f"EVT{hour - 12:+d}"})) == [0]
    assert given(evtool("replay", "t", "--from", "today", env={"TZ": f"EVT{hour - 1:+d}"})) == []


def test_a_group_is_a_position(evtool: Program) -> None:
    write_log(evtool, "days", DAYS)
    assert given(evtool("subscribe", "days", "--group=g", "--from=earliest", "--count=4")) == [0, 1, 2, 3]
    check_both_ends(evtool, "group:g", 4)


def test_a_group_that_there_is_not_ends_with_3_and_the_nearest_name(evtool: Program) -> None:
    write_log(evtool, "days", DAYS)
    evtool("subscribe", "days", "--group=billing", "--drain")
    result = evtool("replay", "days", "--from", "group:biling")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: biling: no such group of topic days\nhint: did you mean billing?\n"


def test_a_negative_position_may_stand_apart_from_its_option(evtool: Program) -> None:
    write_log(evtool, "days", DAYS)
    assert given(evtool("replay", "days", "--from", "-2", "--until", "-1")) == [4]


@pytest.mark.parametrize(("until", "last"), [("2026-06-01T12:00:00Z", 2), ("-1", 4), ("1", 0)])
def test_from_and_until_together_are_a_range_without_its_end(evtool: Program, until: str, last: int) -> None:
    lines = write_log(evtool, "days", DAYS)
    result = evtool("replay", "days", "--from", "0", "--until", until)
    assert (result.code, result.out, result.err) == (0, "".join(lines[: last + 1]), "")


def test_an_end_before_the_beginning_is_an_empty_range(evtool: Program) -> None:
    write_log(evtool, "days", DAYS)
    assert given(evtool("replay", "days", "--from", "4", "--until", "2")) == []


@pytest.mark.parametrize("where", ["1", "2026-06-01T12:00:00Z", "-4"])
def test_gaps_between_offsets_and_several_segments_change_nothing(evtool: Program, where: str) -> None:
    """A position is found wherever the segments are cut and whatever offsets are missing."""
    lines = write_log(evtool, "t", DAYS[:2], first=0) + write_log(evtool, "t", DAYS[2:], first=100)
    wanted = {"1": 1, "2026-06-01T12:00:00Z": 3, "-4": 2}[where]
    assert evtool("replay", "t", f"--from={where}").out == "".join(lines[wanted:])
    assert evtool("replay", "t", f"--until={where}").out == "".join(lines[:wanted])


def test_an_offset_in_a_gap_means_the_next_event_there_is(evtool: Program) -> None:
    lines = write_log(evtool, "t", DAYS[:2], first=0) + write_log(evtool, "t", DAYS[2:], first=100)
    assert evtool("replay", "t", "--from=50").out == "".join(lines[2:])


def test_many_events_at_one_moment_are_all_on_the_same_side_of_it(evtool: Program) -> None:
    lines = write_log(evtool, "t", [DAYS[0]] * 2000 + [DAYS[3]] * 5000 + [DAYS[4]] * 2000)
    assert evtool("replay", "t", "--from", DAYS[3], "--until", DAYS[4]).out == "".join(lines[2000:7000])


@pytest.mark.parametrize("where", ["earliest", "latest", "0", "-5", "today", "@0"])
def test_an_empty_topic_has_every_position_at_its_beginning(evtool: Program, where: str) -> None:
    write_log(evtool, "t", [])
    assert given(evtool("replay", "t", f"--from={where}")) == []
    assert given(evtool("tail", "t")) == []


@pytest.mark.parametrize(
    "where",
    [
        "",
        " ",
        "middle",
        "tomorrow-ish",
        "--3",
        "1.5",
        "20261123T000000",
        "2026-13-01",
        "2026-02-30",
        "25:00",
        "yesterday noon",
        "2 fortnights",
        "h",
        "5x",
        "@",
        "@x",
        "@-1",
        "0x10",
        "٣",
        "1970-01-01T00:00:00+00:60",
        "10000-01-01T00:00:00Z",
        "99999999999999999999999",
        "@99999999999999",
    ],
)
def test_what_is_no_position_is_refused_with_2(evtool: Program, where: str) -> None:
    write_log(evtool, "days", DAYS)
    result = evtool("replay", "days", f"--from={where}")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"evtool: {where!r}: not a position in a topic\n{HINT}"


@pytest.mark.parametrize("group", ["", "../x", "UP", "a/b", "a..b", "x" * 65])
def test_a_group_with_a_name_that_none_can_have_is_refused_with_2(evtool: Program, group: str) -> None:
    write_log(evtool, "days", DAYS)
    result = evtool("replay", "days", f"--from=group:{group}")
    assert (result.code, result.out) == (2, "")
    assert "not a group name" in result.err

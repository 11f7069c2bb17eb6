"""evtool create and set: topics with settings of their own, shown as they can be said again."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.topics import append, numbers, small_segments, stored

if TYPE_CHECKING:
    from tests.program import Program

DEFAULTS = {
    "segment-bytes": ("64MiB", 67108864),
    "max-event-bytes": ("1MiB", 1048576),
    "dedupe": ("1d", 86400.0),
    "retention": ("keep", "keep"),
    "group-ttl": ("7d", 604800.0),
    "max-age": ("-", None),
    "max-bytes": ("-", None),
    "max-events": ("-", None),
}
NAMES_HINT = f"hint: say NAME=VALUE; settings are {', '.join(DEFAULTS)}\n"


def rows(**changes: str) -> str:
    """What `set` writes of a topic that has these settings, with `_` for `-`."""
    shown = {name: text for name, (text, _) in DEFAULTS.items()}
    shown |= {name.replace("_", "-"): text for name, text in changes.items()}
    return "".join(f"{name}\t{text}\n" for name, text in shown.items())


def said(program: Program) -> dict[str, object]:
    """What stands in the file of the topic's settings."""
    return dict(json.loads((program.topic("t") / "topic.json").read_bytes()))


@pytest.fixture
def made(evtool: Program) -> Program:
    """A topic with the default settings."""
    assert evtool("create", "t", "-q").code == 0
    return evtool


def test_a_topic_is_made_with_its_home_and_has_no_events(evtool: Program) -> None:
    result = evtool("create", "t")
    assert (result.code, result.out, result.err) == (0, "", "evtool: created topic t\n")
    assert evtool("topics").out.split("\t")[:3] == ["t", "0", "0"]
    assert evtool("replay", "t").out == ""
    assert evtool("verify", "t").code == 0


def test_it_has_the_settings_that_were_said_from_its_first_event_on(evtool: Program) -> None:
    result = evtool("create", "t", "segment-bytes=300", "max-age=7d", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert said(evtool) == {"segment-bytes": 300, "max-age": 604800}
    for number in numbers(1, 10):
        append(evtool, "t", number)
    assert len(evtool.segments("t")) > 2


def test_quiet_is_quiet_and_json_says_all_settings(evtool: Program) -> None:
    result = evtool("create", "t", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = evtool("create", "u", "max-events=5", "--json")
    expected = {"topic": "u"} | {name: value for name, (_, value) in DEFAULTS.items()} | {"max-events": 5}
    assert (result.code, result.events, result.err) == (0, [expected], "")


def test_a_topic_that_is_there_is_left_alone(made: Program) -> None:
    append(made, "t", "1")
    before = stored(made, "t")
    for options in ([], ["max-events=1"], ["--json"], ["-q"]):
        result = made("create", "t", *options)
        assert (result.code, result.out) == (4, "")
        assert result.err == "evtool: t: the topic is there already\nhint: see evtool set t\n"
    assert stored(made, "t") == before
    assert made("set", "t").out == rows()


@pytest.mark.parametrize("name", ["", "..", "../t", "a/b", "T", "a..b", "t*", "x" * 65])
@pytest.mark.parametrize("command", ["create", "set"])
def test_a_name_that_no_topic_can_have_is_refused_and_nothing_is_made(evtool: Program, command: str, name: str) -> None:
    result = evtool(command, name, "max-age=1d")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"evtool: {name!r}: not a topic name\nhint: ")
    assert not evtool.home.exists()


def test_without_a_setting_all_are_shown(made: Program) -> None:
    result = made("set", "t")
    assert (result.code, result.out, result.err) == (0, rows(), "")
    result = made("set", "t", "--json")
    assert result.events == [{"topic": "t"} | {name: value for name, (_, value) in DEFAULTS.items()}]


def test_a_setting_is_changed_in_silence_and_an_empty_value_brings_the_default_back(made: Program) -> None:
    result = made("set", "t", "max-age=30d", "max-bytes=1GiB")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert made("set", "t").out == rows(max_age="30d", max_bytes="1GiB")
    made("set", "t", "max-age=", "max-events=9")
    assert made("set", "t").out == rows(max_bytes="1GiB", max_events="9")
    assert said(made) == {"max-bytes": 1 << 30, "max-events": 9}


def test_a_change_with_json_writes_all_settings_as_they_are_now(made: Program) -> None:
    result = made("set", "t", "max-age=90s", "--json")
    assert (result.code, result.events[0]["max-age"], result.err) == (0, 90.0, "")


def test_of_a_name_that_is_said_twice_the_last_one_counts(made: Program) -> None:
    assert made("set", "t", "max-age=1d", "max-age=2d").code == 0
    assert made("set", "t").out == rows(max_age="2d")


@pytest.mark.parametrize(
    ("value", "stored_value", "shown"),
    [
        ("max-bytes=10KiB", 10_240, "10KiB"),
        ("max-bytes=1.5GiB", 3 << 29, "1536MiB"),
        ("max-bytes=2 MiB", 2 << 20, "2MiB"),
        ("max-bytes=1", 1, "1"),
        ("max-age=90s", 90.0, "90s"),
        ("max-age=1h30m", 5400.0, "90m"),
        ("max-age=2 h", 7200.0, "2h"),
        ("max-age=2w", 1209600.0, "14d"),
        ("max-age=250ms", 0.25, "0.25s"),
        ("max-age=1.5s", 1.5, "1.5s"),
        ("max-events=1000000", 1_000_000, "1000000"),
        ("retention=consumed", "consumed", "consumed"),
    ],
)
def test_a_value_is_read_and_shown_in_a_form_that_is_read_again(
    made: Program, value: str, stored_value: object, shown: str
) -> None:
    name = value.partition("=")[0]
    for one in (value, f"{name}={shown}"):
        assert made("set", "t", one).code == 0
        assert said(made) == {name: stored_value}
        assert f"{name}\t{shown}\n" in made("set", "t").out


@pytest.mark.parametrize("value", ["500k", "10KB", "1.5gb", "1t", "10 GB"])
def test_an_amount_in_thousands_is_shown_in_a_form_that_is_read_again(made: Program, value: str) -> None:
    made("set", "t", f"max-bytes={value}")
    before = said(made)
    shown = next(line for line in made("set", "t").lines if line.startswith("max-bytes\t"))
    assert made("set", "t", shown.replace("\t", "=")).code == 0
    assert said(made) == before


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("max-bytes=0", "max-bytes=0: not a number above 0\n"),
        ("max-bytes=0.5", "max-bytes=0.5: not a whole number above 0\n"),
        ("max-bytes=-1", "max-bytes=-1: not an amount\nhint: say for example 500k, 64MiB, 10GB\n"),
        ("max-bytes=1..5", "max-bytes=1..5: not an amount\nhint: say for example 500k, 64MiB, 10GB\n"),
        ("max-bytes=5XB", "max-bytes=5XB: not an amount\nhint: say for example 500k, 64MiB, 10GB\n"),
        ("max-bytes=٣", "max-bytes=٣: not an amount\nhint: say for example 500k, 64MiB, 10GB\n"),
        ("max-events=10k", "max-events=10k: not an amount\nhint: say a number\n"),
        ("max-events=1.5", "max-events=1.5: not a whole number above 0\n"),
        ("max-age=30", "max-age=30: not a duration\nhint: say the unit: 30s, 30m, 30h, 30d\n"),
        ("dedupe=1.5", "dedupe=1.5: not a duration\nhint: say the unit: 1.5s, 1.5m, 1.5h, 1.5d\n"),
        ("group-ttl=7y", "group-ttl=7y: not a duration\nhint: say for example 250ms, 90s, 5m, 1h30m, 2d, 4w\n"),
        ("max-age=0s", "max-age=0s: not a number above 0\n"),
        ("retention=Keep", "retention=Keep: is neither keep nor consumed\n"),
        ("max-age", f"'max-age': not a setting with a value\n{NAMES_HINT}"),
        ("maxage=7d", "'maxage': not a setting\nhint: did you mean max-age?\n"),
        ("colour=7", f"'colour': not a setting\nhint: settings are {', '.join(DEFAULTS)}\n"),
        ("=7", f"'': not a setting\nhint: settings are {', '.join(DEFAULTS)}\n"),
        ("", f"'': not a setting with a value\n{NAMES_HINT}"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_else_is_done_either(evtool: Program, value: str, why: str) -> None:
    small_segments(evtool, "t")
    result = evtool("set", "t", "max-events=7", value)
    assert (result.code, result.out, result.err) == (2, "", f"evtool: {why}")
    assert said(evtool) == {"segment-bytes": 200}


def test_a_topic_is_not_made_if_one_of_its_settings_cannot_be(evtool: Program) -> None:
    result = evtool("create", "t", "max-events=7", "max-bytes=0")
    assert (result.code, result.out, result.err) == (2, "", "evtool: max-bytes=0: not a number above 0\n")
    assert not evtool.home.exists()


@pytest.mark.parametrize("value", ["max-age=-1", "max-age=7 days", "max-age=nan", "dedupe=1e3", "group-ttl=ever"])
def test_a_time_that_is_none_is_refused_and_its_setting_is_named(made: Program, value: str) -> None:
    result = made("set", "t", value)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"evtool: {value}: not a duration\nhint: say for example ")


@pytest.mark.parametrize(
    "value", ["max-bytes=9999999TiB", "max-age=999999999999999w", "max-events=99999999999999999999"]
)
def test_a_value_that_is_too_large_is_a_matter_of_usage(made: Program, value: str) -> None:
    result = made("set", "t", value)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"evtool: {value}: ")
    assert made("set", "t").out == rows()


def test_a_topic_that_is_missing_is_said_with_the_nearest_name(made: Program) -> None:
    made("create", "orders")
    result = made("set", "order", "max-age=1d")
    assert (result.code, result.out) == (3, "")
    assert result.err == "evtool: order: no such topic\nhint: did you mean orders?\n"
    assert not made.topic("order").exists()


@pytest.mark.parametrize("text", ['{"max-age":"x"}', '{"max-age":', "[]", '{"what":1}', '{"max-bytes":0}'])
@pytest.mark.parametrize("options", [["max-events=5"], ["--json"]])
def test_a_file_of_settings_that_makes_no_sense_is_refused_and_left_as_it_is(
    evtool: Program, text: str, options: list[str]
) -> None:
    small_segments(evtool, "t")
    path = evtool.topic("t") / "topic.json"
    path.write_text(text)
    result = evtool("set", "t", *options)
    assert (result.code, result.out) == (78, "")
    assert result.err.startswith(f"evtool: {path}: ")
    assert path.read_text() == text


def test_settings_that_change_do_not_touch_what_was_stored(made: Program) -> None:
    append(made, "t", *numbers(1, 50))
    before = stored(made, "t")
    assert made("set", "t", "segment-bytes=100", "max-events=1").code == 0
    assert stored(made, "t") == before


def test_the_file_of_settings_is_nobody_elses(made: Program) -> None:
    made("set", "t", "max-age=1d")
    assert (made.topic("t") / "topic.json").stat().st_mode & 0o777 == 0o600
    assert not (made.topic("t") / "topic.json.new").exists()


@pytest.mark.parametrize("arguments", [["create"], ["set"], ["create", "t", "--yes"], ["set", "t", "--max-age=1d"]])
def test_a_command_line_that_makes_no_sense_is_refused(made: Program, arguments: list[str]) -> None:
    result = made(*arguments)
    assert (result.code, result.out) == (2, "")


def test_nobody_reading_the_output_is_no_error_and_says_nothing(made: Program) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with made.start("set", "t", stdout=theirs) as process:
        os.close(theirs)
        assert process.stderr.read() == b""
        assert process.wait() == -signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_said(made: Program) -> None:
    with open("/dev/full", "wb") as full, made.start("set", "t", stdout=full) as process:
        assert process.wait() == 74
        assert process.stderr.read() == b"evtool: standard output: No space left on device\n"

"""evtool replay: the retained events, from anywhere to anywhere, in any form, as often as one likes."""

from __future__ import annotations

import datetime
import time

from tests.conformance.subject import Subject, await_lines, numbered, succeed
from tests.running import Running


def test_all_of_a_long_topic_comes_in_order(evtool: Subject) -> None:
    """Twice the same bytes; offsets rise and times do not fall."""
    offsets = evtool.put("t", input=numbered(20_000))
    first = succeed(evtool("replay", "t"))
    events = first.events
    assert [event["data"] for event in events] == list(range(20_000))
    assert [event["offset"] for event in events] == offsets
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert evtool("replay", "t").raw == first.raw


def test_it_begins_and_ends_where_it_is_told(evtool: Subject) -> None:
    """--until is exclusive, so that one run may begin where the other one ended."""
    offsets = [*evtool.put("t", "0", "1"), *evtool.put("t", "2", "3"), *evtool.put("t", "4", "5")]
    times = [event["time"] for event in evtool("replay", "t").events]
    seconds = datetime.datetime.fromisoformat(times[4]).timestamp()
    for options, expected in [
        (["--from=earliest"], "012345"),
        (["--from=latest"], ""),
        (["--from=now"], ""),
        ([f"--from={offsets[2]}"], "2345"),
        (["--from=-2"], "45"),
        (["--from=-100"], "012345"),
        ([f"--from={times[2]}"], "2345"),
        ([f"--from=@{seconds:.6f}"], "45"),
        (["--from=1h ago"], "012345"),
        ([f"--until={offsets[2]}"], "01"),
        ([f"--until={times[4]}"], "0123"),
        (["--until=latest"], "012345"),
        ([f"--from={offsets[1]}", "--until=-2"], "123"),
        (["--from=1", "-n2"], "12"),
        (["-n0"], ""),
    ]:
        if evtool.capabilities.has_gapless_offsets or options != ["--from=1", "-n2"]:
            assert "".join(evtool.data("t", *options)) == expected, options


def test_a_place_that_cannot_be(evtool: Subject) -> None:
    (offset,) = evtool.put("t", "0")
    assert evtool.data("t", f"--from={offset + 1}") == []
    beyond = evtool("replay", "t", f"--from={offset + 2}")
    assert (beyond.code, beyond.out) == (4, "")
    assert evtool("replay", "t", "--from=nonsense").code == 2
    assert evtool("replay", "t", "--from=group:none").code == 3


def test_it_may_begin_where_a_group_stands(evtool: Subject) -> None:
    evtool.put("t", "0", "1", "2")
    succeed(evtool("subscribe", "t", "-g", "g", "--from=earliest", "-n2"))
    assert evtool.data("t", "--from=group:g") == ["2"]


def test_filters_select_and_count_counts_what_was_selected(evtool: Subject) -> None:
    evtool.put("t", '{"a":1}', '{"a":2,"b":"x"}', "--key=k", "--type=y")
    evtool.put("t", '{"a":3}', "--key=k")
    evtool.put("t", '{"a":4}', "--type=y")
    assert evtool.data("t", "--key=k", "--type=y", "-n1") == ['{"a":1}']
    assert evtool.data("t", "--where", 'data.a > 1 and (key == "k" or data.a == 4)', "-n2") == [
        '{"a":2,"b":"x"}',
        '{"a":3}',
    ]
    assert evtool.data("t", "--jq", ".data.a >= 3") == ['{"a":3}', '{"a":4}']


def test_the_forms_of_output(evtool: Subject) -> None:
    (offset,) = evtool.put("t", '"a\\n\\u00e9"', "--key=k", "--type=y", "--id=i")
    (line,) = evtool("replay", "t", "--output=line").events
    assert evtool("replay", "t", "--output=data").out == '"a\\n\\u00e9"\n'
    assert evtool("replay", "t", "--output=text", "-0").out == "a\né\0"
    (event,) = evtool("replay", "t", "--output=cloudevents").events
    assert event == {
        "specversion": "1.0", "id": "i", "source": "evtool", "type": "y", "subject": "k", "partitionkey": "k",
        "time": line["time"], "sequence": event["sequence"], "datacontenttype": "application/json", "data": "a\né",
    }  # fmt: skip
    assert int(event["sequence"]) == offset
    pretty = evtool("replay", "t", "--output=pretty", "--color=never").out
    assert pretty.startswith(f"{offset}  ") or pretty.lstrip().startswith(f"{offset} ")


def test_it_goes_on_to_an_end_that_lies_ahead(evtool: Subject) -> None:
    (offset,) = evtool.put("t", "0")
    with Running(evtool, "replay", "t", "-f", f"--until={offset + 3}", "--data") as follower:
        await_lines(follower, 1)
        evtool.put("t", "1")
        evtool.put("t", "2", "3", "4")
        assert follower.end().code == 0
    assert follower.out == "0\n1\n2\n"


def test_it_keeps_the_pace_at_which_events_came(evtool: Subject) -> None:
    """At a given speed, long gaps shortened."""
    evtool.put("t", "0")
    evtool.put("t", "1")
    first, second = (datetime.datetime.fromisoformat(event["time"]) for event in evtool("replay", "t").events)
    gap = (second - first).total_seconds()
    began = time.monotonic()
    assert evtool.data("t", f"--speed={gap / 0.6:.6f}x") == ["0", "1"]
    assert time.monotonic() - began >= 0.6
    began = time.monotonic()
    assert evtool.data("t", f"--speed={gap / 1000:.9f}x", "--max-gap=10ms") == ["0", "1"]
    assert time.monotonic() - began < 100

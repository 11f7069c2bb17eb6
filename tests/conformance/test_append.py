"""evtool append: what was acknowledged is stored, once, in order, byte for byte; what cannot be stored is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.conformance.subject import Subject, numbered, succeed
from tests.program import finish

if TYPE_CHECKING:
    from pathlib import Path

EXACT = [
    '{"n":1e2,"n":1E+2,  "b":-0.0,"a":123456789012345678901234567890.10}',
    '{"z":"\\u00e9é\\u2028\u2028\U0001f600\\ud83d\\ude00\\/","":[ ]}',
    '"tab\\tnewline\\n\\\\ \\"data\\":5}"',
    "[1, 2,3 ]",
    "-0",
    "1E300",
    "true",
    "null",
    '{"data":{"offset":7,"time":"x"},"key":"mine"}',
]


def test_arguments_and_standard_input_are_stored_in_order_and_silently(evtool: Subject) -> None:
    """Without --offsets nothing is said; with it each event has an offset of its own, in rising order."""
    succeed(evtool("append", "t", "1", "2"))
    offsets = evtool.put("t", "-", input="3\n\n4\n5")
    assert evtool("append", "t", input="6\n").out == ""
    assert evtool.data("t") == ["1", "2", "3", "4", "5", "6"]
    rows = evtool("replay", "t").events
    assert [row["offset"] for row in rows[2:5]] == offsets
    assert [row["offset"] for row in rows] == sorted({row["offset"] for row in rows})
    if evtool.capabilities.has_gapless_offsets:
        assert [row["offset"] for row in rows] == list(range(6))


def test_data_are_kept_byte_for_byte(evtool: Subject) -> None:
    """Long numbers, the order of keys, duplicate keys, blanks and escapes; by standard input and as an argument."""
    evtool.put("t", input="\n".join(EXACT))
    evtool.put("t", *EXACT[:3], '\n{"a":\n[1,\n2]}\n')
    expected = [*EXACT, *EXACT[:3], '{"a": [1, 2]}']
    assert evtool("replay", "t", "--data").raw == "".join(f"{one}\n" for one in expected).encode()


def test_a_line_is_offset_time_attributes_and_data_last(evtool: Subject) -> None:
    options = ["--key=k ü", "--type=order.paid", "--source=s", "--id=i/1", "--attr=traceparent=00-x", "--attr=a1="]
    (offset,) = evtool.put("t", '{"a":1.0, "a":2}', *options)
    (line,) = evtool("tail", "t").lines
    assert line.startswith(f'{{"offset":{offset},"time":"20')
    assert line.endswith(',"data":{"a":1.0, "a":2}}')
    event = json.loads(line)
    assert {name: event[name] for name in ("key", "type", "source", "id", "traceparent", "a1")} == {
        "key": "k ü", "type": "order.paid", "source": "s", "id": "i/1", "traceparent": "00-x", "a1": "",
    }  # fmt: skip
    assert len(event["time"]) == 27


def test_lines_of_text_become_strings(evtool: Subject) -> None:
    evtool.put("t", "--text", input='disk is "full"\n\n\ttab é\nlast')
    assert evtool.data("t") == ['"disk is \\"full\\""', '""', '"\\ttab é"', '"last"']
    assert evtool("tail", "t", "-n1", "--output=text").out == "last\n"


def test_events_may_end_with_nul_and_verbose_says_where_they_are(evtool: Subject) -> None:
    result = evtool("append", "t", "-0", "-v", input='{"a":\n1}\0002\0')
    assert (result.code, result.err) == (0, "evtool: t: stored 2 events, offsets 0 to 1\n")
    assert evtool.data("t") == ['{"a": 1}', "2"]


def test_key_and_id_may_come_from_the_event(evtool: Subject) -> None:
    lines = ['{"u":{"id":7},"i":["a"]}', '{"u":{"id":"x"},"i":["b"]}', '{"i":["c"]}']
    evtool.put("t", "--key-from=.u.id", "--id-from=.i[0]", input="\n".join(lines))
    events = evtool("replay", "t").events
    assert [event.get("key") for event in events] == ["7", "x", None]
    assert [event["id"] for event in events] == ["a", "b", "c"]
    refused = evtool("append", "t", "--id-from=.i[0]", input="{}\n")
    assert (refused.code, "line 1" in refused.err) == (65, True)


def test_an_event_with_an_id_is_stored_once(evtool: Subject) -> None:
    """Whoever sends it again, alone or among others, is told the offset of the first one."""
    (first,) = evtool.put("t", '"paid"', "--id=p-1")
    assert evtool.put("t", '"paid again"', "--id=p-1") == [first]
    lines = "".join(f'{{"i":"{one}"}}\n' for one in ("p-2", "p-1", "p-3", "p-2"))
    second, again, third, second_again = evtool.put("t", "--id-from=.i", input=lines)
    assert (again, second_again) == (first, second)
    assert first < second < third
    assert evtool.put("t", "--id-from=.i", input=lines) == [second, first, third, second]
    assert evtool.data("t") == ['"paid"', '{"i":"p-2"}', '{"i":"p-3"}']


def test_one_id_from_several_producers_at_once_is_stored_once(evtool: Subject) -> None:
    started = [evtool.start("append", "t", str(number), "--id=x", "--offsets") for number in range(3)]
    results = [succeed(finish(one)) for one in started]
    assert len(evtool.data("t")) == 1
    assert len({result.out for result in results}) == 1


def test_an_expected_offset_is_the_condition(evtool: Subject) -> None:
    """0 is the first of an empty topic; if it does not hold nothing is stored and the exit status is 4."""
    (first,) = evtool.put("t", "1", "--expect-offset=0")
    refused = evtool("append", "t", "2", f"--expect-offset={first}")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err == f"evtool: t: the next offset is {first + 1}, not {first}\n"
    assert evtool("append", "t", "2", f"--expect-offset={first + 2}").code == 4
    evtool.put("t", "2", "3", f"--expect-offset={first + 1}")
    assert evtool.data("t") == ["1", "2", "3"]


def test_of_several_that_expect_the_same_offset_one_succeeds(evtool: Subject) -> None:
    evtool.put("t", "0")
    (next_offset,) = [row["next"] for row in evtool("topics", "t", "--json").events]
    started = [evtool.start("append", "t", str(one), f"--expect-offset={next_offset}") for one in range(3)]
    assert sorted(finish(one).code for one in started) == [0, 4, 4]
    assert len(evtool.data("t")) == 2


def test_all_or_nothing(evtool: Subject) -> None:
    """A bad line, or an offset that is not the expected one, and nothing of the input is stored."""
    refused = evtool("append", "t", "--atomic", input="1\nno\n3\n")
    assert refused.code == 65
    assert refused.err.splitlines()[-1] == "evtool: t: nothing was stored, as --atomic demands"
    offsets = evtool.put("t", "--atomic", input=numbered(700))
    assert evtool("append", "t", "--atomic", "--expect-offset=0", input=numbered(5)).code == 4
    evtool.put("t", "--atomic", f"--expect-offset={offsets[-1] + 1}", input=numbered(3, 700))
    assert evtool.data("t") == numbered(703).split()


def test_more_than_can_be_stored_as_a_whole_is_refused_and_nothing_stored(evtool: Subject) -> None:
    limit = evtool.capabilities.atomic_limit
    count = 3000 if limit is None else limit
    evtool.put("t", "--atomic", input=numbered(count))
    if limit is not None:
        refused = evtool("append", "t", "--atomic", input=numbered(limit + 1))
        assert (refused.code, refused.out) == (65, "")
        assert f"{limit}" in refused.err.replace(",", "")
    assert evtool.data("t") == numbered(count).split()


def test_bad_lines_are_told_and_kept_and_the_others_stored(evtool: Subject, tmp_path: Path) -> None:
    bad = ["{'a':1}", "NaN", '{"a":1,}', '"\\ud800"', "1e400", "1 2"]
    rejects = tmp_path / "rejects"
    lines = [part for number, one in enumerate(bad) for part in (str(number), one)]
    result = evtool("append", "t", f"--rejects={rejects}", input="\n".join(lines) + "\n")
    assert result.code == 65
    assert [line.split(":")[2] for line in result.err.splitlines()] == [f" line {2 * n + 2}" for n in range(len(bad))]
    assert rejects.read_text().splitlines() == bad
    assert evtool.data("t") == [str(number) for number in range(len(bad))]
    assert evtool("append", "t", "7", "{", "8").code == 65
    assert evtool.data("t") == [str(number) for number in range(len(bad))]


def test_what_is_too_large_is_refused_and_the_others_stored(evtool: Subject) -> None:
    big, too_big = "x" * 900_000, "y" * 1_048_577
    result = evtool("append", "t", input=f'1\n"{too_big}"\n"{big}"\n2\n')
    assert result.code == 65
    assert result.err.startswith("evtool: t: line 2: ")
    assert evtool.data("t") == ["1", f'"{big}"', "2"]


def test_several_producers_keep_their_own_order_and_lose_and_double_nothing(evtool: Subject) -> None:
    """Offsets are unique and rise; times never fall; each was told the offsets that its events have."""
    started = [evtool.start("append", "t", f"--source={who}", "--offsets") for who in range(3)]
    for one in started:
        assert one.stdin is not None
        one.stdin.write(numbered(2000).encode())
    told = [[int(line) for line in succeed(finish(one)).lines] for one in started]
    events = evtool("replay", "t").events
    offsets = [event["offset"] for event in events]
    assert offsets == sorted(set(offsets))
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert len(events) == 6000
    for who, mine in enumerate(told):
        of_mine = [event for event in events if event["source"] == str(who)]
        assert [event["data"] for event in of_mine] == list(range(2000))
        assert [event["offset"] for event in of_mine] == mine


def test_cloudevents_go_in_once_and_come_out(evtool: Subject) -> None:
    event = {"specversion": "1.0", "id": "i-1", "source": "/s", "type": "t.x", "subject": "k", "data": {"a": 1}}
    for _ in range(2):
        evtool.put("t", "--cloudevents", input=json.dumps(event) + "\n")
    (out,) = evtool("replay", "t", "--output=cloudevents").events
    assert {name: out[name] for name in event} == event


def test_names_are_checked_and_all_that_there_may_be_are_told_apart(evtool: Subject) -> None:
    for topic in ["..", "a/b", "A", "a..b", "x" * 65, "a b", "a*", "_x", "a>"]:
        assert evtool("append", topic, "1").code == 2, topic
    names = sorted(["a", "a.b", "a-b_", "a.", "9" + "x" * 63, "t.dead"])
    for name in names:
        evtool.put(name, json.dumps(name))
    assert [row["topic"] for row in evtool("topics", "--json").events] == names
    found = evtool("replay", "*", "t.dead").events
    assert sorted((event["topic"], event["data"]) for event in found) == [(name, name) for name in names]

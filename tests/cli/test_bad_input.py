"""What is no event: refused with its line and the reason, and everything around it stored. What is one comes back."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.program import Program, finish, wait_until
from tests.running import linux
from tests.topics import append, numbers, small_segments

MANY = 20  # more lines than are checked one by one
BAD = {
    "an open object": (b"{bad", "not JSON: "),
    "two values": (b"1 2", "not JSON: "),
    "values with a comma": (b"1,2", "not JSON: "),
    "strings with a comma": (b'"a","b"', "not JSON: "),
    "a closed bracket": (b"]", "not JSON: "),
    "brackets turned around": (b"1],[2", "not JSON: "),
    "an unfinished string": (b'"', "not JSON: "),
    "a comma too many": (b"[1,]", "not JSON: "),
    "a leading zero": (b"01", "not JSON: "),
    "a plus": (b"+1", "not JSON: "),
    "single quotes": (b"'a'", "not JSON: "),
    "a comment": (b"1 // one", "not JSON: "),
    "NaN": (b"NaN", "not JSON: "),
    "NaN inside": (b'{"a":NaN}', "not JSON: "),
    "Infinity": (b"-Infinity", "not JSON: "),
    "a number that is none of ours": (b"1e400", "not JSON: "),
    "a control character": (b'"a\tb"', "not JSON: "),
    "a form feed around": (b"\x0c1", "not JSON: "),
    "only a form feed": (b"\x0c", "not JSON: "),
    "NUL": (b"\0", "not JSON: "),
    "NUL inside": (b'"a\0b"', "not JSON: "),
    "not UTF-8": (b'"\xff"', "not UTF-8"),
    "UTF-16": ("[1]".encode("utf-16"), "not UTF-8"),
    "an overlong form": (b'"\xc0\xaf"', "not UTF-8"),
    "a surrogate in UTF-8": (b'"\xed\xa0\x80"', "not UTF-8"),
    "a lone surrogate": (b'"\\ud800"', "not JSON: "),
    "a surrogate pair turned around": (b'"\\udc00\\ud800"', "not JSON: "),
    "a byte order mark": (b"\xef\xbb\xbf1", "not JSON: "),
    "too deep": (b"[" * 2000 + b"]" * 2000, "not JSON: "),
    "very deep": (b'{"a":' * 100_000, "not JSON: "),
    "too long": (b'"' + b"x" * (1 << 20) + b'"', "longer than 1048576 bytes"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("around", [1, MANY], ids=["few", "many"])
def test_a_bad_line_is_told_and_the_others_are_stored(evtool: Program, name: str, around: int) -> None:
    bad, why = BAD[name]
    before, after = numbers(1, around), numbers(around + 1, 2 * around)
    lines = b"".join([*(b"%b\n" % one.encode() for one in before), bad + b"\n", *(f"{n}\n".encode() for n in after)])
    result = evtool("append", "t", input=lines)
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: t: line {around + 1}: {why}")
    assert result.err.count("\n") == 1
    assert len(result.err) < 200
    assert evtool("replay", "t", "--data").lines == [*before, *after]


@pytest.mark.parametrize("name", [name for name, (bad, _) in BAD.items() if b"\0" not in bad and len(bad) < 1 << 16])
def test_a_bad_argument_is_told_and_nothing_is_stored(evtool: Program, name: str) -> None:
    bad, why = BAD[name]
    result = evtool("append", "t", "--", "1", bad)
    assert (result.code, result.out) == (65, "")
    assert result.err.startswith(f"evtool: t: event 2: {why}")
    assert result.err.count("\n") == 1
    assert evtool.segments("t") == []


def test_text_that_is_not_utf8_is_refused(evtool: Program) -> None:
    result = evtool("append", "t", "--text", input=b"one\n\xff\xfe\nthree\n")
    assert (result.code, result.out, result.err) == (65, "", "evtool: t: line 2: not UTF-8\n")
    assert evtool("replay", "t", "--output", "text").lines == ["one", "three"]


def test_an_object_over_several_lines_gets_a_hint(evtool: Program) -> None:
    result = evtool("append", "t", input='{\n  "a": 1\n}\n')
    assert result.code == 65
    assert result.err.splitlines()[1] == "hint: one event a line: put `jq -c .` before it"


def test_the_first_ten_are_told_and_the_rest_counted(evtool: Program) -> None:
    result = evtool("append", "t", input="1\n" + "bad\n" * 1000 + "2\n")
    assert result.code == 65
    told = result.err.splitlines()
    assert [line.split(": ")[2] for line in told[:10]] == [f"line {number}" for number in range(2, 12)]
    assert told[10:] == ["evtool: t: 1000 lines were refused, the first 10 are listed"]
    assert evtool("replay", "t", "--data").lines == ["1", "2"]


@pytest.mark.parametrize("limit", [10, 300_000])
def test_the_limit_is_exact_wherever_the_line_stands(evtool: Program, limit: int) -> None:
    small_segments(evtool, "t")
    (evtool.topic("t") / "topic.json").write_text(json.dumps({"max-event-bytes": limit}))
    fits, too_long = f'"{"x" * (limit - 2)}"', f'"{"x" * (limit - 1)}"'
    lines = [fits, too_long, *["1"] * MANY, fits, too_long, fits]
    result = evtool("append", "t", input="\n".join(lines))
    told = [line.partition("line ")[2] for line in result.err.splitlines()]
    assert (result.code, told) == (65, [f"{n}: longer than {limit} bytes" for n in (2, MANY + 4)])
    assert evtool("replay", "t", "--data").lines == [line for line in lines if line != too_long]


@linux
def test_a_gigabyte_without_a_newline_takes_little_memory(evtool: Program, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects"
    rejects.symlink_to("/dev/null")
    producer = evtool.start("append", "t", "--rejects", str(rejects))
    assert producer.stdin is not None
    piece = b"x" * (1 << 20)
    producer.stdin.write(b"1\n")
    for _ in range(1 << 10):
        producer.stdin.write(piece)
    producer.stdin.write(b"\n2\n")
    producer.stdin.flush()
    wait_until(lambda: evtool.segments("t") and evtool.log("t").count(b"\n") == 2)
    assert peak_memory(producer.pid) < 64 << 20
    result = finish(producer)
    assert (result.code, result.err) == (65, "evtool: t: line 2: longer than 1048576 bytes\n")


def peak_memory(pid: int) -> int:
    """The most memory that a process has had so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not tell")


# What is an event

blanks = st.text(" \t", max_size=2)
digits = st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?\Z")
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=0x20), max_size=8)
escapes = st.sampled_from([*(f"\\{one}" for one in '"\\/bfnrt'), "\\u0000", "\\u00e9", "\\uFFFF", "\\ud83d\\uDE00"])
strings = st.lists(plain | escapes, max_size=4).map(lambda parts: f'"{"".join(parts)}"')
scalars = digits | strings | st.sampled_from(["true", "false", "null", "-0", "1E-05", '"\u2028\u007f\ufeff"'])


def padded(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda before, text, after: before + text + after, blanks, part, blanks)


def containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arrays = st.lists(padded(values), max_size=4).map(lambda parts: f"[{','.join(parts)}]")
    members = st.builds(lambda name, value: f"{name}:{value}", padded(strings), padded(values))
    return arrays | st.lists(members, max_size=4).map(lambda parts: f"{{{','.join(parts)}}}")  # names may repeat


json_texts = st.recursive(scalars, containers, max_leaves=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(json_texts, min_size=1, max_size=60))
def test_all_that_rfc_8259_allows_comes_back_byte_for_byte(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        evtool = Program(Path(directory) / "home")
        result = evtool("append", "t", input="".join(f" {text}\t\r\n" for text in texts))
        assert (result.code, result.err) == (0, "")
        append(evtool, "u", "--", *texts)
        assert evtool("replay", "t", "--data").raw == "".join(f"{text}\n" for text in texts).encode()
        assert evtool("replay", "u", "--data").raw == evtool("replay", "t", "--data").raw
        values = [event["data"] for event in evtool("replay", "t").events]
        assert list(map(repr, values)) == [repr(json.loads(text)) for text in texts]


def test_the_deepest_nesting_comes_back(evtool: Program) -> None:
    deep = "[" * 1000 + "]" * 1000
    append(evtool, "t", deep)
    assert evtool("append", "t", input=f"{deep}\n" * MANY).code == 0
    assert evtool("replay", "t", "--data").lines == [deep] * (MANY + 1)

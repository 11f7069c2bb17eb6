"""evtool.log.payload: what is valid JSON, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evtool.errors import DataError
from evtool.log import line, payload

NOW = b"2026-11-23T22:25:32.123456Z"
quick = settings(deadline=None, max_examples=200)

# JSON as text, in all the spellings that RFC 8259 has for it and a parser of values would not give back.

blanks = st.text(" \t\n\r", max_size=2)
digits = st.text("0123456789", min_size=1, max_size=40)
integers = st.one_of(st.just("0"), st.from_regex(r"[1-9][0-9]{0,200}", fullmatch=True))
fractions = st.one_of(st.just(""), digits.map(lambda some: f".{some}"))
exponents = st.one_of(st.just(""), st.from_regex(r"[eE][+-]?[0-9]{1,2}", fullmatch=True))
numbers = st.builds("{}{}{}{}".format, st.sampled_from(["", "-"]), integers, fractions, exponents)
pieces = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters='"\\' + "".join(map(chr, range(32)))),
    st.sampled_from([r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", "\u2028", "\u2029", "\x85", "\x7f"]),
    st.sampled_from([r"\u0000", r"\u2028", r"\ud83d\ude00", r"\u00E9", r"\uFFFF"]),
)
strings = st.lists(pieces, max_size=8).map(lambda parts: '"' + "".join(parts) + '"')
names = st.sampled_from(['"a"', '"data"', '"offset"', '""'])  # few, so that keys are given twice


def _array(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda items, gap: f"[{gap}{','.join(items)}{gap}]", st.lists(inner, max_size=4), blanks)


def _object(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds("{}{}{}:{}{}".format, blanks, st.one_of(names, strings), blanks, blanks, inner)
    return st.builds(lambda items, gap: f"{{{','.join(items)}{gap}}}", st.lists(member, max_size=4), blanks)


values = st.recursive(
    st.one_of(st.sampled_from(["null", "true", "false"]), numbers, strings),
    lambda inner: st.one_of(_array(inner), _object(inner)),
    max_leaves=8,
)
documents = st.builds("{}{}{}".format, blanks, values, blanks)

# Text that is nearly JSON: documents with some bytes changed, and mixtures of JSON's own characters.

soup = st.text('[]{}",:\\/0123456789eE+-.truefalsn \n\t\r\x00\x0b\x0c\ufeffNaIiy\u2028ué', max_size=30)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(documents)
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(soup) + text[start + draw(st.integers(0, 3)) :]


def accepts(data: bytes) -> bool:
    """Whether orjson, which decides, accepts this."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def one_line(text: str) -> bytes:
    """What is to be stored of a document: the same bytes, but for blanks around it and newlines in it."""
    return text.strip(" \t\n\r").replace("\n", " ").encode()


# One value


@given(documents)
@settings(deadline=None, max_examples=300)
def test_any_json_is_stored_and_read_back_byte_for_byte(text: str) -> None:
    for encoded in (payload.check(text), payload.check_bytes(text.encode())):
        assert encoded == one_line(text)
        stored = line.render(0, NOW, line.DATA, [encoded, encoded], 0)
        lines = stored.split(b"\n")
        assert len(lines) == 3  # bytes are split on newlines alone, so U+2028 and U+0085 do no harm
        assert [line.data_of(one + b"\n") for one in lines[:-1]] == [encoded, encoded]


@pytest.mark.parametrize(
    "text",
    [
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        "-0",
        "1E+2",
        "1e-400",
        '{"b":1,"a":2,"b":3}',
        '"\u2028\u2029\x85"',
        r'"\u0000\/\ud83d\ude00"',
        '"\U0010ffff"',
        "{ }",
    ],
)
def test_a_spelling_that_a_parser_would_not_keep_is_kept(text: str) -> None:
    assert payload.check(text) == payload.check_bytes(text.encode()) == text.encode()


@given(st.one_of(documents, damaged(), soup))
@settings(deadline=None, max_examples=600)
@example("1" * 400)
@example("-" + "1" * 400)
@example("1e400")
@example("[NaN]")
@example("-Infinity")
@example(r'"\ud800"')
@example("\ufeff1")
@example('"\x00"')
@example("[" * 600 + "]" * 600)
@example("[" * 1100 + "]" * 1100)
@example('{"a":1,}')
@example("01")
@example("[1]]")
@example("1 2")
def test_what_the_quick_check_accepts_orjson_accepts(text: str) -> None:
    if payload._is_surely_json(text):
        assert accepts(text.encode())


@given(st.one_of(documents, damaged(), soup))
@quick
def test_what_is_json_is_what_orjson_accepts(text: str) -> None:
    for check, given_value in ((payload.check, text), (payload.check_bytes, text.encode())):
        if accepts(text.encode()):
            check(given_value)  # type: ignore[operator]
        else:
            with pytest.raises(DataError, match="^event: not "):
                check(given_value)  # type: ignore[operator]


def test_an_integer_too_large_for_any_double_is_refused_whichever_way_it_comes() -> None:
    for check, value in ((payload.check, "1" * 400), (payload.check_bytes, b"1" * 400)):
        with pytest.raises(DataError, match="not JSON"):
            check(value)  # type: ignore[operator]


def test_the_quick_check_knows_most_of_what_is_json() -> None:
    """Else it would save nothing, and the checks above would hold for one that refuses everything."""
    for text in ('{"amount":9.5}', "null", '["é",-0.0,{"a":[]}]', '"a\\nb"', "[" * 500 + "]" * 500):
        assert payload._is_surely_json(text)


def test_what_the_quick_check_cannot_count_on_goes_to_orjson() -> None:
    for text in ("[" * 501 + "]" * 501, '"' + "x" * 4096 + '"', r'"\u0041"'):
        assert not payload._is_surely_json(text)
        assert payload.check(text) == text.encode()


def test_nesting_too_deep_for_orjson_is_no_crash() -> None:
    for text in ("[" * 2000 + "]" * 2000, "[" * 100_000):
        with pytest.raises(DataError):
            payload.check(text)


def test_bytes_that_are_no_utf_8_are_named_so() -> None:
    argument = b'"\xff"'.decode("utf-8", "surrogateescape")
    for check, value in ((payload.check, argument), (payload.check_bytes, b'"\xff"'), (payload.check_bytes, b"\xff")):
        with pytest.raises(DataError, match=r"event: not UTF-8$"):
            check(value)  # type: ignore[operator]


def test_the_quick_check_works_where_the_json_package_was_never_imported() -> None:
    """The scanner then cannot find the class of its error, and says so with a SystemError or an ImportError."""
    script = (
        "import sys\n"
        "from evtool.log import payload\n"
        "assert not any(map(payload._is_surely_json, ['[1,]', '{\"a\"}', '\"a', '\"\\\\x\"', '\"\\n\"']))\n"
        "assert payload._is_surely_json('[1]')\n"
        "print('orjson' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("False\n", "")


@pytest.mark.parametrize("text", ["[1,]", '{"a"}', '"a', r'"\x"', '"\n"', "[1] 2", ""])
def test_what_the_scanner_fails_to_say_is_a_no(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "json.decoder")
    assert not payload._is_surely_json(text)


# A whole chunk


@given(st.lists(documents.map(str.encode), min_size=1, max_size=6))
@quick
def test_a_chunk_of_values_is_valid(chunk: list[bytes]) -> None:
    assert payload.all_valid(chunk)


@given(st.lists(st.one_of(documents, damaged(), soup).map(str.encode), min_size=1, max_size=5))
@settings(deadline=None, max_examples=600)
@example([b'["', b'"]'])
@example([b"[", b"]"])
@example([b'{"a":1', b"}"])
@example([b'{"a":', b'"b"}'])
@example([b"1,2"])
@example([b"1", b""])
@example([b""])
@example([b"1],[2"])
@example([b"[1", b"2],3", b"4"])
@example([b'1,"0","0"', b"1"])
@example([b"1,1", b""])
@example([b'"\\', b'"'])
@example([b'"', b'"'])
@example([b"\xff"])
@example([b"\xef\xbb\xbf1"])
def test_a_chunk_is_valid_only_if_every_line_is_json_for_itself(chunk: list[bytes]) -> None:
    if payload.all_valid(chunk):
        assert all(map(accepts, chunk))


def test_lines_that_hide_in_each_other_are_found_by_the_string_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: whoever could guess the string would be believed, so the check above does rest on it."""
    hiding = [b'["', b'"],"%b",1' % (b"00" * 12)]
    assert not payload.all_valid(hiding)
    monkeypatch.setattr("os.urandom", bytes)
    assert payload.all_valid([b"[1", b'2],"%b",1' % (b"00" * 12)])


def test_the_string_between_lines_is_never_the_same() -> None:
    seen = []

    def loads(text: bytes) -> list[object]:
        seen.append(text)
        return list(json.loads(text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orjson.loads", loads)
        assert all(payload.all_valid([b"1", b"2"]) for _ in range(50))
    assert len(set(seen)) == 50


# Strings and attributes


@given(st.text(max_size=50))
@quick
def test_a_text_becomes_a_json_string_of_one_line_or_is_refused_for_not_being_utf_8(text: str) -> None:
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        with pytest.raises(DataError, match="^text: not UTF-8$"):
            payload.encode_string(text)
    else:
        encoded = payload.encode_string(text)
        assert orjson.loads(encoded) == text
        assert b"\n" not in encoded


@pytest.mark.parametrize("text", ["\udcff", "\udcff\n"])
def test_a_lone_surrogate_is_refused_with_and_without_something_to_escape(text: str) -> None:
    with pytest.raises(DataError, match="text: not UTF-8"):
        payload.encode_string(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.binary(max_size=20), st.binary(max_size=20))
@quick
def test_the_end_of_a_string_is_found_whatever_is_in_it_and_around_it(text: str, before: bytes, after: bytes) -> None:
    for encoded in (payload.encode_string(text), json.dumps(text).encode()):
        whole = before + b"\\" + encoded + after
        start = len(before) + 1
        assert payload.end_of_string(whole, start) == start + len(encoded)


@given(st.dictionaries(st.sampled_from(["key", "type", "id"]), st.text(st.characters(exclude_categories=["Cs"]))))
@quick
def test_attributes_are_the_beginning_of_an_object(attributes: dict[str, str]) -> None:
    encoded = payload.encode_attributes(attributes)
    assert orjson.loads(b"{" + encoded + b'"data":0}') == attributes | {"data": 0}


def test_an_attribute_is_at_most_64_kib() -> None:
    assert payload.encode_attributes({"key": "x" * (65536 - 2)})
    with pytest.raises(DataError, match=r"^key: longer than 65536 bytes$"):
        payload.encode_attributes({"type": "t", "key": "x" * (65536 - 1)})


# Why not


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON: nothing there"),
        (b" \t", "not JSON: nothing there"),
        (b"\xff", "not UTF-8"),
        (b'{"a":"\xc3"}', "not UTF-8"),
    ],
)
def test_what_is_wrong_is_said_in_words_of_ours(data: bytes, why: str) -> None:
    with pytest.raises(DataError) as caught:
        payload.check_bytes(data)
    assert caught.value.why == why


def test_the_place_of_a_mistake_is_counted_from_one() -> None:
    with pytest.raises(DataError, match=r"^event: not JSON: .+, at character 5$"):
        payload.check("[1, x]")


def test_a_mistake_without_a_place_is_told_without_one() -> None:
    assert payload.why_not(b"[", ValueError("too deep")) == "not JSON: too deep"


@pytest.mark.parametrize("message", ["str is not valid UTF-8: surrogates not allowed", "what is this"])
def test_bytes_that_are_no_utf_8_are_named_so_however_the_parser_puts_it(message: str) -> None:
    error = ValueError(f"{message}: line 1 column 1 (char 0)")
    assert payload.why_not(b'"\xff"', error) == "not UTF-8"
    assert payload.why_not(b"x", ValueError("what is this: line 1 column 1 (char 0)")) == (
        "not JSON: what is this, at character 1"
    )

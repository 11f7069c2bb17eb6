"""evtool.delivery.expression: small, safe, and the same with and without its quick look at the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.delivery.expression import Expression
from evtool.errors import UsageError

EVENT = {
    "offset": 7,
    "time": "2026-11-23T22:25:32.123456Z",
    "key": "a",
    "type": "order.paid",
    "data": {
        "amount": 150,
        "tags": ["x", 2, None],
        "msg": "a time-out",
        "deep": {"list": [{"n": 1.5}]},
        "odd name": True,
    },
}


def line(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def holds(text: str, event: Any = EVENT) -> bool:
    return bool(Expression(text).select(line(event)))


@pytest.mark.parametrize(
    "text",
    [
        'type == "order.paid" and data.amount > 100 and key in ("a","b")',
        'data.tags has "x"',
        "data.tags has 2",
        "data.tags has null",
        'data.msg ~ "time.?out"',
        'data.msg !~ "^time"',
        'data.msg has "time"',
        'data has "amount"',
        "data.deep.list[0].n == 1.5",
        "data.deep.list[-1].n >= 1.5",
        'data["odd name"]',
        "data['odd name'] == true",
        "offset == 7 and time > '2026-11-23'",
        "data.none == null and nothing == null",
        "not data.none",
        "not not data.amount",
        "1 == 1.0",
        "data.amount != true",
        'data.amount != "150"',
        "data.amount in (1, 150)",
        "2 in data.tags",
        "(data.amount < 0 or data.amount == 150) and not (key == 'b')",
        "data.amount <= 150 or data.a.b.c",
        'key == "\\u0061"',
        "data.none != 5",
    ],
)
def test_it_holds(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    [
        'data.amount == "150"',
        "data.amount == true",
        'data.amount > "1"',
        "data.none > 0",
        "data.none < 0",
        "data.tags > 1",
        "data.amount has 1",
        "data.deep.list[5].n == 1.5",
        "data.msg[0]",
        "key in ('b', 'c')",
        "data.none",
        "data.amount ~ '150'",
    ],
)
def test_it_does_not_hold(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("data.amount >", 14),
        ("data.amount >> 5", 14),
        ("data.amount = 5", 13),
        ("key == 'a", 8),
        ("(key == 'a'", 12),
        ("key == 'a')", 11),
        ("data.amount > 5 key", 17),
        ("key in 'abc'", 8),
        ("key ~ key", 7),
        ("key ~ '('", 7),
        ("key.name", 1),
        ("data.", 6),
        ("data[1.5]", 6),
        ("data[", 6),
        ("1x", 1),
        ("key == 'a' and", 15),
        ("__import__('os')", 11),
        ("(key, 'a')", 11),
    ],
)
def test_what_is_wrong_is_shown_with_its_column(text: str, column: int) -> None:
    with pytest.raises(UsageError, match=rf"column {column}: ") as caught:
        Expression(text)
    assert caught.value.hint == f"{text}\n      {' ' * (column - 1)}^"


def test_depth_and_length_have_an_end() -> None:
    assert holds("(" * 90 + "key" + ")" * 90)
    assert holds("not " * 2000 + "key")
    for text in ("(" * 5000 + "key" + ")" * 5000, "key or " * 5000 + "key"):
        with pytest.raises(UsageError):
            Expression(text)


def test_nothing_of_python_can_be_reached() -> None:
    for text in ("data.__class__", "data['__class__']", "key has '__len__'", "data.keys", "__builtins__", "offset"):
        value = Expression(text)
        assert bool(value.select(line(EVENT))) == (text == "offset")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2)
    | st.sampled_from(["", "a", "b", 'q"', "\\", "é", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "é"]), inner, max_size=3),
    max_leaves=6,
)
events = st.fixed_dictionaries(
    {"offset": st.integers(0, 9), "data": values}, optional={"key": st.sampled_from(["a", 'q"'])}
)
paths = st.sampled_from(["data", "data.a", "data.b.a", "data[0]", "data.a[-1]", "key", "offset", 'data["é"]'])
literals = st.sampled_from(['"a"', '"q\\""', '"é"', "'\\\\'", "1", "-2", "0.5", "true", "null", '"\\n"'])
comparisons = st.one_of(
    st.tuples(paths, st.sampled_from(["==", "!=", "<", ">=", "has"]), literals).map(" ".join),
    st.tuples(paths, literals, literals).map(lambda three: f"{three[0]} in ({three[1]}, {three[2]})"),
    paths,
)
texts = st.recursive(
    comparisons,
    lambda inner: (
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda three: f"({''.join(three)})")
        | inner.map(lambda one: f"not {one}")
    ),
    max_leaves=5,
)


@given(texts, st.lists(events, min_size=1, max_size=5), st.booleans())
@settings(deadline=None, max_examples=500)
def test_the_quick_look_changes_nothing(text: str, some: list[Any], escaped: bool) -> None:
    """Whether a line is left out because of its bytes or after it was read, the same lines are found."""
    lines = [json.dumps(event, ensure_ascii=escaped).encode() + b"\n" for event in some]
    plain = Expression(text)
    plain._needles = ()
    expected = b"".join(plain.select(one) for one in lines)
    quick = Expression(text)
    compact = [json.dumps(event, ensure_ascii=escaped, separators=(",", ":")).encode() + b"\n" for event in some]
    found = quick.select(b"".join(compact))
    assert [json.loads(one) for one in found.splitlines()] == [json.loads(one) for one in expected.splitlines()]
    quick._is_worth_looking = lambda _: True  # type: ignore[method-assign]
    assert quick.select(b"".join(compact)) == found

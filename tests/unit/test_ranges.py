"""evtool.log.ranges: a set of offsets, held against Python's own sets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.log.ranges import Ranges

few = st.integers(0, 40)
pairs = st.tuples(few, few).map(lambda pair: (min(pair), max(pair)))
changes = st.lists(st.tuples(st.booleans(), pairs), max_size=30)
quick = settings(deadline=None, max_examples=300)


def build(steps: list[tuple[bool, tuple[int, int]]]) -> tuple[Ranges, set[int]]:
    ranges, model = Ranges(), set()
    for adds, (first, last) in steps:
        if adds:
            ranges.add(first, last)
            model.update(range(first, last + 1))
        else:
            ranges.remove(first, last)
            model.difference_update(range(first, last + 1))
    return ranges, model


def check(ranges: Ranges, model: set[int]) -> None:
    assert list(ranges.offsets()) == sorted(model)
    assert ranges.count() == len(model)
    assert bool(ranges) == bool(model)
    assert ranges.end == max(model, default=-1) + 1
    assert all((offset in ranges) == (offset in model) for offset in range(-1, 43))
    ends = [last for _, last in ranges][:-1]
    assert all(first > end + 1 for end, (first, _) in zip(ends, list(ranges)[1:], strict=True)), "ranges that touch"


@given(changes)
@quick
def test_it_is_a_set(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    check(*build(steps))


@given(changes)
@quick
def test_it_is_written_and_read(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges, model = build(steps)
    check(Ranges.parse(str(ranges)), model)
    check(Ranges.of(sorted(model)), model)


@pytest.mark.parametrize("text", ["", "0", "7", "5-7", "5-7,9", "0-1,3,10-400"])
def test_it_is_written_as_the_manual_says(text: str) -> None:
    assert str(Ranges.parse(text)) == text


@pytest.mark.parametrize("text", ["x", "1-", "-1", "1,,2", "1-2-3", "1.5", "9-5", "1-3,9-5"])
def test_what_it_would_not_write_it_does_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"\d|x|''") as caught:
        Ranges.parse(text)
    assert "None" not in str(caught.value)


@given(changes, changes)
@quick
def test_two_are_joined_and_one_taken_from_the_other(
    some: list[tuple[bool, tuple[int, int]]], others: list[tuple[bool, tuple[int, int]]]
) -> None:
    one, first = build(some)
    other, second = build(others)
    joined = Ranges(one)
    joined.update(other)
    check(joined, first | second)
    one.subtract(other)
    check(one, first - second)


@given(changes, few)
@quick
def test_what_lies_below_the_first_hole_is_taken_out(steps: list[tuple[bool, tuple[int, int]]], start: int) -> None:
    ranges, model = build(steps)
    expected = start
    while expected in model:
        expected += 1
    assert ranges.take_from(start) == expected
    check(ranges, {offset for offset in model if offset > expected})

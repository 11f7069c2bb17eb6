"""evtool.log.names: the names of topics, groups and segments, and of their files."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evtool.errors import UsageError
from evtool.log import names

quick = settings(deadline=None, max_examples=300)
near = st.text("az09._-/\\ \n\0AZé*?[]!~", max_size=70)
anything = st.one_of(near, st.text(max_size=70))


def is_right(text: str) -> bool:
    """What a name is, said in another way than the module does."""
    return bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", text)) and ".." not in text


@given(anything)
@quick
@example("a" * 64)
@example("a" * 65)
@example("a\n")
@example("a..b")
@example("..")
@example("a/b")
@example("٣")
def test_a_name_is_what_the_manual_says(text: str) -> None:
    assert names.is_name(text) == is_right(text)


@given(anything)
@quick
@example("")
def test_a_name_is_given_back_or_refused_with_its_kind(text: str) -> None:
    if is_right(text):
        assert names.check_name("topic", text) == text
        return
    with pytest.raises(UsageError) as caught:
        names.check_name("group", text)
    assert (caught.value.what, caught.value.why) == (repr(text), "not a group name")
    assert caught.value.hint == ("a name is 1 to 64 of a-z 0-9 . _ - , starts with a letter or digit, and has no '..'")


@given(anything)
@quick
@example("*" * 64)
@example("*" * 65)
@example("X*")
@example("*X")
def test_a_pattern_has_a_wildcard_and_no_way_out_of_the_home(text: str) -> None:
    assert names.is_pattern(text) == bool(set("*?[") & set(text))
    if re.fullmatch(r"[a-z0-9._*?\[\]!-]{1,64}", text):
        assert names.check_pattern(text) == text
        return
    with pytest.raises(UsageError) as caught:
        names.check_pattern(text)
    assert (caught.value.what, caught.value.why) == (repr(text), "not a pattern of topic names")
    assert caught.value.hint == "use * ? [abc] and the letters of topic names"


@given(st.integers(0, 10**20 - 1))
@quick
def test_the_name_of_a_segment_is_its_first_offset(first: int) -> None:
    name = names.segment_name(first)
    assert re.fullmatch(r"[0-9]{20}\.jsonl", name)
    assert names.parse_segment(name) == first


@given(st.lists(st.integers(0, 10**20 - 1), max_size=5))
@quick
def test_names_of_segments_sort_as_their_offsets_do(firsts: list[int]) -> None:
    assert sorted(map(names.segment_name, firsts)) == [names.segment_name(first) for first in sorted(firsts)]


@given(st.text(string.digits + ".jsonl-+_ x٣²", max_size=30))
@quick
@example("0" * 20)
@example("0" * 19 + ".jsonl")
@example("0" * 21 + ".jsonl")
@example("0" * 20 + ".jsonl.new")
@example("٣" * 20 + ".jsonl")
@example("²" * 20 + ".jsonl")
@example("-" + "0" * 19 + ".jsonl")
def test_no_other_file_is_taken_for_a_segment(name: str) -> None:
    parsed = names.parse_segment(name)
    assert (parsed is not None) == bool(re.fullmatch(r"[0-9]{20}\.jsonl", name, re.ASCII))
    assert parsed is None or names.segment_name(parsed) == name


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,3}(\.(jsonl|lock|new|a)){0,2}", fullmatch=True))
@quick
def test_the_files_of_a_group_tell_its_name_and_no_two_are_the_same(group: str) -> None:
    commits, lock, turn = names.commits_name(group), names.group_lock_name(group), names.group_turn_name(group)
    assert (commits, lock, turn) == (f"{group}.jsonl", f"{group}.lock", f"{group}.turn")
    assert names.parse_commits(commits) == group
    for other in (lock, turn, commits + ".new"):
        assert names.parse_commits(other) is None


@pytest.mark.parametrize("name", [".jsonl", "A.jsonl", "a..b.jsonl", "a", "a.lock", "a" * 65 + ".jsonl", "é.jsonl"])
def test_no_other_file_is_taken_for_the_commits_of_a_group(name: str) -> None:
    assert names.parse_commits(name) is None


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True))
@quick
@example("a" * 59)
@example("a" * 60)
def test_dead_letters_go_to_a_topic_of_a_right_name_or_nowhere(topic: str) -> None:
    if is_right(f"{topic}.dead"):
        assert names.dead_name(topic) == f"{topic}.dead"
        return
    with pytest.raises(UsageError) as caught:
        names.dead_name(topic)
    assert caught.value.what == topic
    assert caught.value.why == f"its name is too long for a topic of dead letters, {topic}.dead"

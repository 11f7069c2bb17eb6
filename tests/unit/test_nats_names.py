"""evtool.stores.nats.names: topics and groups as streams, consumers and subjects."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evtool.log.names import MAX_LENGTH, is_name
from evtool.stores.nats import names

quick = settings(deadline=None, max_examples=300)
topic_names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True).filter(is_name)
anything = st.one_of(st.text("az09._-=A *>/\\", max_size=70), st.text(max_size=70))
_REFUSED_IN_NAMES = set(" \t\r\n.*>/\\\0")


@given(topic_names)
@quick
@example("a.")
@example("a.b.c")
@example("a" * MAX_LENGTH)
@example("a" + "." + "b" * 61 + ".")
def test_a_topic_is_read_back_from_its_stream_and_a_group_from_its_consumer(name: str) -> None:
    assert names.topic_of_stream(names.stream_of(name)) == name
    assert names.group_of_consumer(names.consumer_of(name)) == name


@given(topic_names)
@quick
@example("a.")
@example("a-._")
def test_jetstream_takes_the_names_of_streams_and_consumers(name: str) -> None:
    """No dot, blank, wildcard or separator of paths, no more than 255 bytes: what the server itself demands."""
    for encoded in (names.stream_of(name), names.consumer_of(name)):
        assert not _REFUSED_IN_NAMES.intersection(encoded)
        assert 0 < len(encoded) <= 255


@given(topic_names, topic_names)
@quick
@example("a.", "a")
@example("a.b.", "a.b")
def test_subjects_have_whole_tokens_and_no_wildcards(topic: str, group: str) -> None:
    for subject in (names.subject_of(topic), names.record_subject(topic, group), names.who_subject(topic, group)):
        assert all(subject.split("."))
        assert not set(" \t\r\n*>").intersection(subject)
    assert names.record_subject(topic, group).count(".") == names.who_subject(topic, group).count(".") == 2


@given(topic_names, topic_names, topic_names, topic_names)
@quick
@example("a.b", "c", "a", "b.c")
@example("a.", "a-", "a", "a.")
def test_different_names_never_meet(one: str, its_group: str, other: str, other_group: str) -> None:
    assert (names.stream_of(one) == names.stream_of(other)) == (one == other)
    assert (names.subject_of(one) == names.subject_of(other)) == (one == other)
    assert (names.consumer_of(one) == names.consumer_of(other)) == (one == other)
    same = (one, its_group) == (other, other_group)
    assert (names.record_subject(one, its_group) == names.record_subject(other, other_group)) == same
    assert (names.who_subject(one, its_group) == names.who_subject(other, other_group)) == same


@given(anything)
@quick
@example("")
@example("a.b")
@example("=groups")
@example("A")
@example("a==b")
def test_what_is_no_name_of_ours_is_no_topic_and_no_group(encoded: str) -> None:
    """Only what encoding gives is decoded, so that a stream of somebody else is never taken for a topic."""
    group = names.group_of_consumer(encoded)
    assert group is None or names.consumer_of(group) == encoded
    assert names.topic_of_stream(names.PREFIX + encoded) == group
    if not encoded.startswith(names.PREFIX):
        assert names.topic_of_stream(encoded) is None


def test_the_stream_of_records_is_no_topic() -> None:
    assert names.REGISTER.startswith(names.PREFIX)
    assert names.topic_of_stream(names.REGISTER) is None


@pytest.mark.parametrize("prefix", ["evtool-groups.", "evtool-groups-who."])
@given(topic_names)
@quick
def test_events_have_subjects_of_their_own(prefix: str, topic: str) -> None:
    """Whoever may publish `evtool.>` cannot forge the record of a group."""
    assert names.subject_of(topic).startswith("evtool.")
    assert not names.subject_of(topic).startswith(prefix)

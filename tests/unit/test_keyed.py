"""The state of a topic read forwards is what the file log finds by going backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evtool.log import payload, picked
from evtool.stores import keyed, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from evtool.log.state import Change
    from evtool.stores.topic import FileTopic

KEYS = ("a", "b", 'quo"te', "ü", "back\\slash", "\u2028")
events = st.lists(
    st.tuples(st.sampled_from([None, *KEYS]), st.sampled_from(["null", "1", "2", '{"key":"a"}', "[1,\r2]"]))
)
places = st.integers(0, 40)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Homes for topics, each used once."""
    return (tmp_path_factory.mktemp("home") for _ in iter(int, 1))


def filled(home: Path, said: list[tuple[str | None, str]]) -> FileTopic:
    """A topic with these events: key and data; some segments."""
    topic: FileTopic = open_store(str(home), create=True).ensure_topic("t")
    topic.set({"segment-bytes": 500})
    writer = topic.writer()
    for key, data in said:
        head = b"" if key is None else b'"key":%b,' % payload.encode_string(key)
        writer.append([b'%b"data":%b' % (head, data.encode())])
    return topic


def shown(changes: Iterable[Change]) -> list[Any]:
    """Changes as plain values."""
    return [(change.key, change.before, change.after) for change in changes]


@settings(deadline=None, max_examples=60)
@given(said=events, since=places, until=st.none() | places, kept=st.sampled_from([0, 200, 1 << 20]))
def test_both_ways_find_the_same(
    homes: Iterator[Path], said: list[tuple[str | None, str]], since: int, until: int | None, kept: int
) -> None:
    """Of all keys, of one, between two places; whether or not the lines fit into memory."""
    topic = filled(next(homes), said)
    with patch.object(keyed, "_MOST_KEPT", kept), patch.object(keyed, "_SHORTEST", 3):
        assert b"".join(keyed.newest_of_each(topic, until)) == b"".join(topic.newest_of_each(until))
        for key in map(payload.encode_string, KEYS):
            assert keyed.newest_of(topic, key, until) == topic.newest_of(key, until)
            assert shown(keyed.changes(topic, since, until, key)) == shown(topic.changes(since, until, key))
        assert shown(keyed.changes(topic, since, until)) == shown(topic.changes(since, until))


def test_a_key_is_what_it_says_however_it_is_written(tmp_path: Path) -> None:
    """Other programs may escape what evtool does not."""
    topic = filled(tmp_path / "home", [])
    topic.writer().append([rb'"key":"\u0061","data":1', rb'"key":"a","data":2', rb'"key":"\"\u0061","data":3'])
    assert keyed.newest_of(topic, b'"a"') == topic.newest_of(b'"a"', None)
    assert b"".join(keyed.newest_of_each(topic)).count(b"\n") == 2
    assert b"".join(keyed.newest_of_each(topic)) == b"".join(topic.newest_of_each(None))


def test_whoever_asks_for_one_key_reads_no_more_than_the_end(tmp_path: Path) -> None:
    """As long as it is there: a missing one is looked for in all."""
    topic = filled(tmp_path / "home", [("a", "1")] + [("b", "2")] * 99)
    begun: list[int] = []
    reader = topic.reader

    def noted(offset: int) -> Any:
        begun.append(offset)
        return reader(offset)

    with patch.object(keyed, "_SHORTEST", 4), patch.object(topic, "reader", noted):
        assert keyed.newest_of(topic, b'"b"') is not None
        assert begun == [96]
        assert keyed.newest_of(topic, b'"a"') is not None
        assert begun[1:] == [96, 64, 0]


def test_what_is_given_out_comes_in_blocks(tmp_path: Path) -> None:
    topic = filled(tmp_path / "home", [(str(number), "1") for number in range(100)])
    with patch.object(picked, "_BLOCK", 500):
        blocks = list(keyed.newest_of_each(topic))
    assert max(map(len, blocks)) < 700
    assert b"".join(blocks).count(b"\n") == 100

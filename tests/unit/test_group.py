"""evtool.stores: a store's topics and groups, and who may consume for a group."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from evtool.errors import ConditionError, NotFoundError, UsageError
from evtool.log import line
from evtool.stores import default_location, naming, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.file import FileStore

CONSUMER = """
import sys
from evtool.stores import open_store
group = open_store(sys.argv[1]).topic("t").group("g")
print(group.try_acquire() and group.join(0) == 0, flush=True)
sys.stdin.read()
"""


def append(store: FileStore, topic: str, count: int = 3) -> None:
    store.ensure_topic(topic).writer().append([b"%d" % n for n in range(count)], line.DATA)


def is_active(store: FileStore) -> bool:
    return store.topic("t").standing("g").is_active


def test_one_process_consumes_for_a_group_at_a_time(store: FileStore, home: Path) -> None:
    append(store, "t")
    command = [sys.executable, "-c", CONSUMER, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        group = store.topic("t").group("g")
        assert not group.try_acquire()
        assert is_active(store)
        other.kill()
    assert group.try_acquire()
    group.release()
    assert not is_active(store)


def test_a_group_that_is_not_held_cannot_be_committed_for(store: FileStore) -> None:
    append(store, "t")
    group = store.topic("t").group("g")
    for use in (lambda: group.commit(1), group.sync, lambda: group.committed):
        with pytest.raises(ConditionError, match="does not consume for the group"):
            use()
    group.release()
    assert store.topic("t").groups() == []


def test_a_commit_beyond_the_end_is_refused_and_not_skipped_over(store: FileStore) -> None:
    append(store, "t", 3)
    group = store.topic("t").group("g")
    assert group.try_acquire()
    assert group.committed is None
    group.commit(3)
    assert group.committed == 3
    group.commit(4)
    with pytest.raises(ConditionError, match="has committed offset 4, but the log ends before 3"):
        _ = group.committed


def test_groups_are_listed_and_their_commits_read(store: FileStore) -> None:
    append(store, "t")
    assert store.topic("t").groups() == []
    with pytest.raises(NotFoundError, match="no such group of topic t"):
        store.topic("t").standing("billing")
    for name in ("b", "billing"):
        group = store.topic("t").group(name)
        assert group.try_acquire()
        group.commit(1)
        group.commit(2)
    assert store.topic("t").groups() == ["b", "billing"]
    assert store.topic("t").standing("b").committed == 2
    with pytest.raises(NotFoundError) as caught:
        store.topic("t").standing("biling")
    assert caught.value.hint == "did you mean billing?"


def test_topics_are_named_by_themselves_or_by_globs_and_each_once(store: FileStore) -> None:
    for name in ("a.1", "a.2", "b"):
        append(store, name)
    assert store.topics() == ["a.1", "a.2", "b"]
    assert naming.matching(store, "a.*") == ["a.1", "a.2"]
    assert naming.named(store, ["b", "a.*", "none", "a.2", "*"]) == ["b", "a.1", "a.2"]
    assert store.has("b")
    assert not store.has("none")
    with pytest.raises(NotFoundError) as caught:
        store.topic("a1").bounds()
    assert (caught.value.exit_code, caught.value.hint) == (3, "did you mean a.1?")
    for bad in ("../x", "", "A"):
        with pytest.raises(UsageError):
            store.has(bad)


def test_a_missing_home_is_made_only_when_asked(home: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing there yet"):
        open_store(str(home))
    assert not home.exists()
    open_store(str(home), create=True)
    assert open_store(str(home)).topics() == []


def test_times_and_counts_find_their_offsets(store: FileStore) -> None:
    append(store, "t", 5)
    bounds = store.topic("t").bounds()
    assert (bounds.first, bounds.next) == (0, 5)
    moment = store.topic("t").time_at(2)
    assert moment is not None
    assert store.topic("t").offset_at(moment) == 0  # all were appended in one moment
    assert store.topic("t").time_at(5) is None
    assert store.topic("t").offset_back(2) == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"EVTOOL_HOME": "/x", "XDG_DATA_HOME": "/y"}, "/x"),
        ({"EVTOOL_HOME": "", "XDG_DATA_HOME": "/y"}, "/y/evtool"),
        ({"EVTOOL_HOME": "", "XDG_DATA_HOME": "", "HOME": "/z"}, "/z/.local/share/evtool"),
    ],
)
def test_the_default_location(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_location() == expected

"""Which log a topic is: the same wherever it is moved, and never that of another one."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from evtool.errors import ConfigurationError
from evtool.log import identity

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.file import FileStore


def test_it_stays_the_same_and_no_other_topic_has_it(store: FileStore, home: Path) -> None:
    """Also when the home is renamed; it is made when it is first asked for."""
    store.ensure_topic("u")
    first = store.ensure_topic("t").identity()
    assert identity.is_identity(first)
    assert first.startswith(f"{identity.host_part(os.uname().nodename)}:")
    assert store.topic("t").identity() == first
    assert (home / "topics" / "t" / identity.FILE_NAME).read_text() == f"{first}\n"
    assert not (home / "topics" / "u" / identity.FILE_NAME).exists()
    assert store.topic("u").identity() != first
    home.rename(home.parent / "moved")
    from evtool.stores import open_store

    assert open_store(str(home.parent / "moved")).topic("t").identity() == first


def test_a_topic_made_anew_is_another_log(store: FileStore) -> None:
    """Though it has the name of the one before."""
    first = store.ensure_topic("t").identity()
    store.ensure_topic("t").writer().append([b'"data":1'])
    store.remove_topic("t")
    assert store.ensure_topic("t").identity() != first


def test_of_several_that_ask_first_all_are_told_the_same(store: FileStore) -> None:
    """Whoever makes it holds the topic's lock."""
    store.ensure_topic("t")
    told: list[str] = []
    threads = [threading.Thread(target=lambda: told.append(store.topic("t").identity())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert len(set(told)) == 1


@pytest.mark.parametrize("text", ["", "web1", "web1:5f2a90c", "web1:5F2A90C1", ":5f2a90c1", "a b:5f2a90c1", "x" * 200])
def test_what_is_no_identity_is_refused(store: FileStore, home: Path, text: str) -> None:
    """A file that somebody else has put there is named, and not replaced."""
    store.ensure_topic("t")
    path = home / "topics" / "t" / identity.FILE_NAME
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=identity.FILE_NAME):
        store.topic("t").identity()
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("host", "part"), [("web-1.example", "web-1.example"), ('a:b"c', "a-b-c"), ("ä", "-"), ("", "-")]
)
def test_the_name_of_a_host_is_made_harmless(host: str, part: str) -> None:
    """It stands in JSON strings, with a colon behind it."""
    assert identity.host_part(host) == part
    assert identity.is_identity(f"{part}:00000000")

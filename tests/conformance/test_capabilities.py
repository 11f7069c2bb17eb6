"""What a store says of itself is what these tests expect of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evtool.stores import open_store
from evtool.stores.protocol import Capabilities

if TYPE_CHECKING:
    from tests.conformance.subject import Subject


def test_a_store_differs_in_nothing_but_what_it_says(evtool: Subject) -> None:
    found = open_store(evtool.url or str(evtool.home), create=True).capabilities
    for name in Capabilities.__slots__:
        assert getattr(found, name) == getattr(evtool.capabilities, name), name


def test_an_id_keeps_another_one_out_for_so_long(evtool: Subject) -> None:
    """As long as the store says, unless the topic does."""
    assert evtool("create", "t", "-q").code == 0
    (row,) = evtool("set", "t", "--json").events
    assert row["dedupe"] == evtool.capabilities.dedupe

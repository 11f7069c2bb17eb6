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

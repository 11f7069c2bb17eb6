"""The program on each store: the file log, NATS JetStream with one replica, and with three.

Runs that come to an end by themselves are forked from a `Nursery`, the others are started as anybody starts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evtool.stores.protocol import Capabilities
from tests.conformance.nursery import Nursery
from tests.conformance.subject import Subject
from tests.nats.fixtures import shared
from tests.nats.server import Cluster, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = Capabilities(
    "file",
    has_gapless_offsets=True,
    atomic_limit=None,
    dedupe=24 * 3600.0,
    is_synced=True,
    stamped_by="producer",
    keeps_keys_apart=True,
    is_local=True,
    longest_stall=0.0,
)
NATS = Capabilities(
    "nats",
    has_gapless_offsets=False,
    atomic_limit=1000,
    dedupe=120.0,
    is_synced=False,
    stamped_by="server",
    keeps_keys_apart=False,
    is_local=False,
    longest_stall=8.0,
)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What all runs that come to an end by themselves are forked from."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture(params=["file", "nats", "nats3"])
def evtool(request: pytest.FixtureRequest, home: Path, nursery: Nursery) -> Iterator[Subject]:
    """The real program on an empty store."""
    subject = _subject(request.param, request, home, nursery)
    yield subject
    subject.close()


def _subject(store: str, request: pytest.FixtureRequest, home: Path, nursery: Nursery) -> Subject:
    if store == "file":
        return Subject(home, None, FILE, nursery)
    url = shared(Server, request).url if store == "nats" else shared(Cluster, request).url
    return Subject(home, url, NATS, nursery)

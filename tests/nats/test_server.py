"""The servers that tests stand on do what tests ask of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nats.wire import WireError
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nats.server import Cluster, Server

ROOT = Path(__file__).parents[2]


def test_a_shared_server_is_empty_for_every_test(server: Server) -> None:
    """Whatever another test of this worker has left is gone."""
    with server.wire() as wire:
        assert wire.streams() == []
        wire.api("STREAM.CREATE.a", {"name": "a", "subjects": ["a"]})


test_it_is_empty_again = test_a_shared_server_is_empty_for_every_test


def test_what_is_stored_survives_a_kill(own_server: Callable[..., Server]) -> None:
    """The same ports and the same store serve again."""
    server = own_server(sync="always")
    with server.wire() as wire:
        wire.api("STREAM.CREATE.a", {"name": "a", "subjects": ["a"]})
        assert b'"seq":1' in wire.request("a", b"hello").replace(b" ", b"")
    server.kill()
    with pytest.raises(OSError, match="refused"):
        server.wire()
    server.start()
    with server.wire() as wire:
        assert wire.api("STREAM.INFO.a")["state"]["messages"] == 1


def test_a_suspended_server_does_not_answer_until_it_goes_on(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.suspend()
    with pytest.raises(TimeoutError):
        server.wire(timeout=0.1)
    server.resume()
    with server.wire() as wire:
        assert wire.streams() == []


def test_nobody_else_gets_the_port_of_a_server_that_is_down(own_server: Callable[..., Server]) -> None:
    """Else a test that starts its server again would fail now and then."""
    server = own_server()
    server.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.port))
    server.start()


def test_a_configuration_is_taken_in_while_it_runs(own_server: Callable[..., Server]) -> None:
    """`config` is part of the file; `reload` changes it."""
    server = own_server(config='authorization { token: "x" }', login={"auth_token": "x"})
    server.wire().close()
    with pytest.raises(WireError, match="Authorization"):
        server.wire(auth_token="y")
    server.reload('authorization { token: "y" }')
    server.wire(auth_token="y").close()


def test_a_server_without_jetstream(own_server: Callable[..., Server]) -> None:
    with own_server(jetstream=None).wire() as wire, pytest.raises(WireError, match="nobody listens"):
        wire.streams()


def test_a_server_that_cannot_start_says_why(own_server: Callable[..., Server]) -> None:
    with pytest.raises(AssertionError, match="nonsense"):
        own_server(config="nonsense: 5")


def test_a_cluster_elects_another_when_a_leader_is_killed(own_cluster: Callable[..., Cluster]) -> None:
    """What was acknowledged is still there, and the one that was killed comes back as one of three."""
    cluster = own_cluster()
    with cluster.wire() as wire:
        wire.api("STREAM.CREATE.a", {"name": "a", "subjects": ["a"], "num_replicas": 3})
        wire.request("a", b"hello")
    first = cluster.leader_of("a")
    assert first not in cluster.followers_of("a")
    assert len(cluster.followers_of("a")) == 2
    first.kill()
    assert cluster.leader_of("a") is not first
    first.start()
    cluster.await_ready()
    with first.wire() as wire:
        assert wire.api("STREAM.INFO.a")["state"]["messages"] == 1


def test_the_shared_cluster(cluster: Cluster) -> None:
    with cluster.wire() as wire:
        assert wire.streams() == []
    assert cluster.meta_leader in cluster.servers


def test_a_server_does_not_outlive_the_tests(tmp_path: Path) -> None:
    """Killed as they may be."""
    code = (
        "import sys, time; from pathlib import Path; from tests.nats.server import Server\n"
        "print(Server(Path(sys.argv[1])).process.pid, flush=True); time.sleep(100)"
    )
    tests = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    assert tests.stdout is not None
    pid = int(tests.stdout.readline())
    os.kill(pid, 0)
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    tests.stdout.close()
    wait_until(lambda: not _is_alive(pid), "the server to end")


def _is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended may still wait for whoever has inherited it."""
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"

"""Real NATS servers as tests use them: one, or a cluster of three; they can be killed, stopped, started again.

    with Server(tmp_path) as server:
        server.url                            nats://127.0.0.1:PORT
        server.kill(); server.start()         the same ports, the same store

Ports are ours from the first moment to the last, also while no server runs: a socket stays bound to each, which keeps
everybody else away but not a server, as neither of them minds (SO_REUSEADDR) and ours never listens.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.nats.wire import Wire
from tests.program import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BINARY = Path(sys.executable).parent / "nats-server"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Server:
    """One server with JetStream, which has its ports, its store and its log from now until `close`.

    config: more of the configuration, as `authorization { token: x }`. jetstream: what else stands in that block, as
    `max_file_store: 10M`; None for a server without JetStream. login: how `wire` connects, if not just so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "n0",
        config: str = "",
        jetstream: str | None = "",
        sync: str | None = None,
        login: dict[str, str] | None = None,
        start: bool = True,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.directory = directory
        self.config = config
        self.jetstream = jetstream
        self.sync = sync
        self.login = login or {}
        self.process: subprocess.Popen[bytes] | None = None
        self._sockets = [_bound_socket() for _ in range(3)]
        self.port, self.monitor_port, self.route_port = (one.getsockname()[1] for one in self._sockets)
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """Where its streams are."""
        return self.directory / "store"

    @property
    def log(self) -> str:
        """What it has logged."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    @property
    def is_running(self) -> bool:
        """Whether its process is there, suspended or not."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it, again perhaps, and wait until it serves."""
        assert not self.is_running
        path = self.directory / "conf"
        path.write_text(self._configuration())
        command = [str(BINARY), "-c", str(path), "-l", str(self.directory / "log")]
        with (self.directory / "err").open("ab") as err:
            self.process = subprocess.Popen(command, stderr=err, stdout=err, preexec_fn=_die_with_parent)
        if wait:
            self.await_ready()

    def await_ready(self) -> None:
        """Wait until it serves, JetStream too."""
        wait_until(lambda: self.is_ready or not self.is_running, f"server {self.name}")
        assert self.is_running, f"the server has ended: {(self.directory / 'err').read_text()}\n{self.log[-4000:]}"

    @property
    def is_ready(self) -> bool:
        """Whether it serves, and what it keeps is there and current."""
        return self.look("healthz").get("status") == "ok"

    def look(self, page: str) -> dict[str, Any]:
        """What its monitoring port shows on a page, as `jsz?streams=1`; empty if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor_port, timeout=2)
        try:
            connection.request("GET", f"/{page}")
            page_seen: dict[str, Any] = json.loads(connection.getresponse().read())
            return page_seen
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let it stand still, as if its machine hung, and wait until it does."""
        self._signal(signal.SIGSTOP)
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        wait_until(lambda: all(_state(task / "stat") == "T" for task in tasks.iterdir()), f"{self.name} to stand still")

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def reload(self, config: str) -> None:
        """Change `config` while it runs, and wait until it has taken that in."""
        self.config = config
        (self.directory / "conf").write_text(self._configuration())
        before = self.log.count("Reloaded server configuration")
        self._signal(signal.SIGHUP)
        wait_until(lambda: self.log.count("Reloaded server configuration") > before, f"the reload: {self.log[-2000:]}")

    def close(self) -> None:
        """Let it be gone, and give back its ports. What it has stored and logged stays."""
        if self.is_running:
            self.kill()
        for one in self._sockets:
            one.close()

    def wire(self, **options: Any) -> Wire:
        """A connection to it that is not evtool's."""
        return Wire(self.port, **(self.login | options))

    def streams(self) -> list[dict[str, Any]]:
        """All streams as the monitoring port shows them, of any account."""
        accounts = self.look("jsz?accounts=1&streams=1&config=1").get("account_details") or []
        return [stream for account in accounts for stream in account.get("stream_detail") or []]

    def delete_streams(self) -> None:
        """Remove all that is stored."""
        with self.wire() as wire:
            for name in wire.streams():
                wire.api(
                    f"STREAM.PURGE.{name}"
                )  # else what was stored last may be there again in a new stream of the name
                wire.api(f"STREAM.DELETE.{name}")

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _end(self, number: int) -> None:
        self._signal(number)
        assert self.process is not None
        self.process.wait(PATIENCE)

    def _configuration(self) -> str:
        return "\n".join([
            f"server_name: {self.name}",
            f'listen: "127.0.0.1:{self.port}"',
            f'http: "127.0.0.1:{self.monitor_port}"',
            *self._jetstream_block(),
            *self._cluster_block(),
            self.config,
            "",
        ])  # fmt: skip

    def _jetstream_block(self) -> Iterator[str]:
        if self.jetstream is not None:
            sync = f"sync_interval: {self.sync}" if self.sync else ""
            yield f'jetstream {{\n store_dir: "{self.store}"\n {sync}\n {self.jetstream}\n}}'

    def _cluster_block(self) -> Iterator[str]:
        yield from ()


class Cluster:
    """Servers that know each other, each with what `Server` has."""

    def __init__(self, directory: Path, count: int = 3, *, sync: str | None = "always", config: str = "") -> None:
        self.servers: list[Server] = []
        for number in range(count):
            node = _Node(directory / f"n{number}", name=f"n{number}", config=config, sync=sync, start=False)
            node.cluster = self
            self.servers.append(node)
        try:
            for server in self.servers:
                server.start(wait=False)
            self.await_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where clients find it: all of its servers."""
        return "nats://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def await_ready(self) -> None:
        """Wait until all that run serve and agree who leads."""
        for server in self.running:
            server.await_ready()
        wait_until(lambda: self.meta_leader is not None, "somebody to lead")

    @property
    def running(self) -> list[Server]:
        """Those whose process is there."""
        return [server for server in self.servers if server.is_running]

    @property
    def meta_leader(self) -> Server | None:
        """The one that makes and places streams, if all that run agree on that."""
        seen = {(server.look("jsz").get("meta_cluster") or {}).get("leader") for server in self.running}
        return self._named(seen.pop()) if len(seen) == 1 else None

    def leader_of(self, stream: str) -> Server:
        """The one that leads a stream; waits until there is one."""
        found: list[Server] = []

        def look() -> bool:
            found.extend(server for server in self.servers if server.is_running and _leads(server, stream))
            return bool(found)

        wait_until(look, f"a leader of {stream}")
        return found[0]

    def followers_of(self, stream: str) -> list[Server]:
        """The others."""
        leader = self.leader_of(stream)
        return [server for server in self.servers if server is not leader]

    def close(self) -> None:
        """Let all be gone."""
        for server in self.servers:
            server.close()

    def wire(self, **options: Any) -> Wire:
        """A connection to the first one that runs."""
        return self.running[0].wire(**options)

    def delete_streams(self) -> None:
        """Remove all that is stored."""
        self.running[0].delete_streams()

    def _named(self, name: str | None) -> Server | None:
        return next((server for server in self.servers if server.name == name), None)


class _Node(Server):
    """One of a cluster."""

    cluster: Cluster

    def _cluster_block(self) -> Iterator[str]:
        routes = ", ".join(f'"nats://127.0.0.1:{server.route_port}"' for server in self.cluster.servers)
        yield f'cluster {{\n name: c\n listen: "127.0.0.1:{self.route_port}"\n routes: [{routes}]\n}}'


def _leads(server: Server, stream: str) -> bool:
    found = [one for one in server.streams() if one["name"] == stream]
    return bool(found) and (found[0].get("cluster") or {}).get("leader") == server.name


def _state(path: Path) -> str:
    """What a thread does, as a letter."""
    return path.read_text().rpartition(")")[2].split()[0]


def _bound_socket() -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    return one


def _die_with_parent() -> None:
    """Whatever ends the tests ends the server."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

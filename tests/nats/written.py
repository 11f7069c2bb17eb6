"""What evtool-nats(7) says of servers, as servers: its files are theirs, word for word, but for ports and paths."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.nats.server import Cluster, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).resolve().parents[2] / "man" / "evtool-nats.7"
ESCAPES = {r"\-": "-", r"\(aq": "'", r"\(ha": "^", r"\(ti": "~", r"\(ga": "`", r"\&": "", r"\e": "\\"}


def blocks() -> list[str]:
    """The texts that stand on the page as they are, in order."""
    found = re.findall(r"^\.EX\n(.*?)^\.EE$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(r"\\(?:\(..|.)", lambda escape: ESCAPES[escape[0]], text) for text in found]


def block(beginning: str) -> str:
    """The text that begins like this."""
    (text,) = [text for text in blocks() if text.startswith(beginning)]
    return text


def file(name: str) -> str:
    """What is said to stand in a file: the block that begins with its name."""
    (text,) = [text for text in blocks() if re.match(rf"# \S*/{re.escape(name)}(?:,.*)?\n", text)]
    return text


def replaced(text: str, places: Mapping[str, object]) -> str:
    """A text with everything that the page calls otherwise, all of which must be there."""
    for written, used in places.items():
        assert written in text, written
        text = text.replace(written, str(used))
    return text


def password(user: str) -> str:
    """The password that a user has on the page."""
    found = re.search(rf'user: "{user}", password: "([^"]+)"', file("users.conf"))
    assert found, user
    return found[1]


def make_certificates(directory: Path) -> None:
    """Make those of the authority and of n1, n2 and n3 as the page does. Skips the test if there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made by openssl, which is not installed")
    commands = replaced(block("ec="), {"DNS:$n.example.org": "IP:127.0.0.1"})
    made = subprocess.run(["sh", "-e"], input=commands, capture_output=True, text=True, cwd=directory, check=False)
    assert made.returncode == 0, made.stderr


class WrittenServer(Server):
    """A server of the page's cluster. takes_leaves: with what the page says of leaf nodes."""

    def __init__(self, directory: Path, cluster: WrittenCluster, *, takes_leaves: bool) -> None:
        super().__init__(directory, name=directory.name, start=False)
        self._cluster = cluster
        self._takes_leaves = takes_leaves
        self._leaf_socket = socket.socket()
        self._leaf_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._leaf_socket.bind(("127.0.0.1", 0))
        self.leaf_port = self._leaf_socket.getsockname()[1]

    def close(self) -> None:
        """Let it be gone, and give back its ports."""
        super().close()
        self._leaf_socket.close()

    def _configuration(self) -> str:
        (self.directory / "users.conf").write_text(file("users.conf"))
        routes = {f"{n}.example.org:6222": f"127.0.0.1:{one.route_port}" for n, one in self._cluster.by_name()}
        places = {
            "$NATS_NAME": self.name,
            "0.0.0.0:4222": f"127.0.0.1:{self.port}",
            "127.0.0.1:8222": f"127.0.0.1:{self.monitor_port}",
            "0.0.0.0:6222": f"127.0.0.1:{self.route_port}",
            "/var/lib/nats": self.store,
        }
        text = replaced(file("nats.conf"), places | routes)
        if self._takes_leaves:
            text = replaced(text, {"sync_interval: always": "sync_interval: always\n domain: hub"})
            text += replaced(file("leafnodes.conf"), {"0.0.0.0:7422": f"127.0.0.1:{self.leaf_port}"})
        etc = self.directory.parent
        certificate = {
            "/etc/nats/server.pem": etc / f"{self.name}.pem",
            "/etc/nats/server.key": etc / f"{self.name}.key",
        }
        return replaced(replaced(text, certificate), {"/etc/nats": etc})


class WrittenCluster(Cluster):
    """The page's cluster of three, in a directory that stands for /etc/nats. Skips the test if there is no openssl."""

    servers: list[WrittenServer]  # type: ignore[assignment]

    def __init__(self, directory: Path, *, takes_leaves: bool = False) -> None:
        self.directory = directory
        directory.mkdir()
        make_certificates(directory)
        self.servers = []
        try:
            for name in ("n1", "n2", "n3"):
                self.servers.append(WrittenServer(directory / name, self, takes_leaves=takes_leaves))
            for server in self.servers:
                server.start(wait=False)
            self.await_ready()
        except BaseException:
            self.close()
            raise

    def by_name(self) -> list[tuple[str, WrittenServer]]:
        """The servers, each with its name on the page."""
        return [(server.name, server) for server in self.servers]

    def url_of(self, user: str) -> str:
        """Where this user finds it, and as whom."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        who = f"{user}:{quote(password(user))}"
        return f"tls://{who}@{hosts}?ca={self.directory}/ca.pem&inbox=_INBOX_{user}"


class WrittenLeaf(Server):
    """The page's leaf node of such a cluster."""

    def __init__(self, directory: Path, cluster: WrittenCluster) -> None:
        self._cluster = cluster
        super().__init__(directory, name="shop7", jetstream=None)

    @property
    def is_ready(self) -> bool:
        """Whether it is connected to the cluster."""
        return self.look("leafz").get("leafnodes") == 1

    def _configuration(self) -> str:
        leaves = {f"{name}.example.org:7422": f"127.0.0.1:{one.leaf_port}" for name, one in self._cluster.by_name()}
        places = {"127.0.0.1:4222": f"127.0.0.1:{self.port}", "/etc/nats": self._cluster.directory}
        return replaced(file("leaf.conf"), places | leaves) + f'http: "127.0.0.1:{self.monitor_port}"\n'

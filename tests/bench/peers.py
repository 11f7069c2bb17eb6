"""The programs that others would use for the same work, where they are installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench.measure import SkippedError, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def need(*programs: str) -> None:
    """Skip what needs a program that is not here."""
    missing = [name for name in programs if shutil.which(name) is None and shutil.which(name, path="/usr/sbin") is None]
    if missing:
        raise SkippedError(f"{' and '.join(missing)} not installed")


@contextmanager
def redis(directory: Path) -> Iterator[str]:
    """A Redis that writes its log and syncs it every second; gives the path of its socket."""
    need("redis-server", "redis-cli")
    directory.mkdir()
    path = str(directory / "socket")
    settings = {
        "port": "0", "unixsocket": path, "dir": str(directory), "save": "", "appendonly": "yes",
        "appendfsync": "everysec", "auto-aof-rewrite-percentage": "0",
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(socket.AF_UNIX, path), "redis-server")
            yield path
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(directory, ignore_errors=True)


def ask_redis(path: str, *words: bytes) -> None:
    """Send one command and wait for its one-line answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(redis_command(*words))
        answer = connection.recv(4096)
    if answer.startswith(b"-"):
        raise RuntimeError(f"redis-server: {answer!r}")


@contextmanager
def connected_to_redis(path: str) -> Iterator[Callable[..., None]]:
    """A connection that stays open; gives what sends one command and does not wait for its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)

        def send(*words: bytes) -> None:
            connection.sendall(redis_command(*words))

        yield send


def redis_command(*words: bytes) -> bytes:
    """A command as it goes over the wire."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    """An MQTT broker that keeps nothing; gives its port on this machine."""
    need("mosquitto", "mosquitto_sub")
    directory.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    settings = directory / "settings"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_dest none\n"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with subprocess.Popen([program, "-c", settings], stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(socket.AF_INET, ("127.0.0.1", port)), "mosquitto")
            yield port
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def connected_to_mosquitto(port: int) -> Iterator[Callable[[bytes, bytes], None]]:
    """A connection that stays open, by MQTT 3.1.1; gives what publishes a message to a topic at most once."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = b"\0\4MQTT\4\2\0\0" + _mqtt_string(b"bench")  # a clean session that is kept alive for ever
        connection.sendall(b"\x10" + bytes([len(hello)]) + hello)
        connection.recv(4)

        def publish(topic: bytes, message: bytes) -> None:
            packet = _mqtt_string(topic) + message
            connection.sendall(b"\x30" + bytes([len(packet)]) + packet)

        yield publish


def _mqtt_string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _answers(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family) as connection:
        return connection.connect_ex(address) == 0

"""A server that lets everybody in and answers pings, and nothing else: JetStream hangs, and the connection does not."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from tests.nats.listener import Listener

if TYPE_CHECKING:
    import socket

_INFO = {
    "server_id": "mute",
    "version": "2.15.1",
    "proto": 1,
    "headers": True,
    "max_payload": 1 << 20,
    "jetstream": True,
}


class Mute(Listener):
    """Listens for as long as it is used in a `with`. asked: set once somebody has asked for something."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._clients: list[socket.socket] = []
        super().__init__()

    def cut(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def _take(self, client: socket.socket) -> None:
        self._clients.append(client)
        threading.Thread(target=self._hear, args=(client,), daemon=True).start()

    def _hear(self, client: socket.socket) -> None:
        try:
            client.sendall(f"INFO {json.dumps(_INFO)}\r\n".encode())
            with client.makefile("rb") as said:
                while words := said.readline().split():
                    if words[0] == b"PING":
                        client.sendall(b"PONG\r\n")
                    elif words[0] in (b"PUB", b"HPUB"):
                        said.read(int(words[-1]) + 2)
                        self.asked.set()
        except OSError:
            pass

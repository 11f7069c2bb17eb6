"""A server that lets everybody in and answers pings, and nothing else: JetStream hangs, and the connection does not."""

from __future__ import annotations

import json
import socket
import threading

_INFO = {
    "server_id": "mute",
    "version": "2.15.1",
    "proto": 1,
    "headers": True,
    "max_payload": 1 << 20,
    "jetstream": True,
}


class Mute:
    """Listens for as long as it is used in a `with`. asked: set once somebody has asked for something."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def __enter__(self) -> Mute:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._server.join()
        self._listener.close()
        for client in self._clients:
            client.close()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
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

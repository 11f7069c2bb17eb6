"""What stands between a client and a server: it can swallow the answers of the server, and cut the connections."""

from __future__ import annotations

import socket
import threading

from tests.nats.listener import Listener

_CHUNK = 1 << 16


class Proxy(Listener):
    """Passes connections on to a port of this machine, for as long as it is used in a `with`.

    count: how many there have been.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._pairs: list[_Pair] = []
        self.count = 0
        super().__init__()

    def swallow(self) -> None:
        """From now on, let nothing that the server says come through on the connections that there are."""
        for pair in self._pairs:
            pair.swallows = True

    def cut(self) -> None:
        """Break the connections that there are."""
        while self._pairs:
            self._pairs.pop().close()

    def _take(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._port), 5)
        except OSError:
            client.close()
            return
        self.count += 1
        self._pairs.append(_Pair(client, server))


class _Pair:
    """One connection of a client and the one that goes with it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.swallows = False
        self._client = client
        self._server = server
        for one in (client, server):
            one.settimeout(None)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = ((client, server, False), (server, client, True))
        self._threads = [threading.Thread(target=self._pass_on, args=way, daemon=True) for way in ways]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._cut()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def _cut(self) -> None:
        for one in (self._client, self._server):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(_CHUNK):
                if not (is_answer and self.swallows):
                    target.sendall(data)
        except OSError:
            pass
        self._cut()

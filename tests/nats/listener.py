"""What takes connections in place of a server, in a thread, for as long as it is used in a `with`."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Listener(ABC):
    """Listens on a port of its own. A subclass has made what it needs before it calls `__init__`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._server.join()
        self._listener.close()
        self.cut()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    @abstractmethod
    def cut(self) -> None:
        """Break the connections that there are."""

    @abstractmethod
    def _take(self, client: socket.socket) -> None:
        """Begin to serve one that has connected."""

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._take(client)

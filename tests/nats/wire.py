"""A NATS client of a few lines: what a server holds as seen neither by evtool nor its library, and foreign messages."""

from __future__ import annotations

import json
import socket
from typing import Any


class WireError(Exception):
    """The server refused something, or did not answer in time."""


class Wire:
    """One connection that asks and waits, to be used in a `with`. Every request has its own inbox.

    login: more fields of CONNECT, as `user` and `pass`. timeout: seconds for any one answer.
    """

    def __init__(self, port: int, timeout: float = 5.0, **login: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._in = self._socket.makefile("rb")
        self._count = 0
        options = {"verbose": False, "headers": True, "no_responders": True, "lang": "tests", "version": "0"}
        try:
            self._in.readline()  # INFO
            self._socket.sendall(f"CONNECT {json.dumps(options | login)}\r\nPING\r\n".encode())
            self._await(b"PONG")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._in.close()
        self._socket.close()

    def publish(self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a message and wait until the server has it."""
        self._socket.sendall(_message(subject, "", payload, headers or {}) + b"PING\r\n")
        self._await(b"PONG")

    def request(self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        """Send a message and return the answer to it. Raises WireError if nobody listens."""
        self._count += 1
        inbox = f"_INBOX.tests.{self._count}"
        ask = f"SUB {inbox} {self._count}\r\nUNSUB {self._count} 1\r\n".encode()
        self._socket.sendall(ask + _message(subject, inbox, payload, headers or {}))
        head, payload = self._message()
        if head.startswith(b"NATS/1.0 503"):
            raise WireError(f"{subject}: nobody listens")
        return payload

    def subscribe(self, subject: str) -> None:
        """Have all that is published there from now on, by `next`; ask for nothing else over this connection."""
        self._socket.sendall(f"SUB {subject} 0\r\nPING\r\n".encode())
        self._await(b"PONG")

    def next(self, timeout: float = 30.0) -> bytes:
        """The next message of a subscription, without its headers. Raises TimeoutError."""
        self._socket.settimeout(timeout)
        return self._message()[1]

    def api(self, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream. Raises WireError with its words."""
        answer: dict[str, Any] = json.loads(self.request(f"$JS.API.{verb}", json.dumps(body).encode() if body else b""))
        if "error" in answer:
            raise WireError(f"{verb}: {answer['error']}")
        return answer

    def streams(self) -> list[str]:
        """The names of all streams."""
        return self.api("STREAM.NAMES").get("streams") or []

    def _message(self) -> tuple[bytes, bytes]:
        """The headers and the payload of the next message."""
        words = self._await(b"MSG", b"HMSG")
        whole = self._in.read(int(words[-1]))
        self._in.readline()
        size = int(words[-2]) if words[0] == b"HMSG" else 0
        return whole[:size], whole[size:]

    def _await(self, *verbs: bytes) -> list[bytes]:
        while line := self._in.readline():
            words = line.split()
            if words[0] in verbs:
                return words
            if words[0] == b"PING":
                self._socket.sendall(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise WireError(line.decode())
        raise WireError("the server hung up")


def _message(subject: str, reply: str, payload: bytes, headers: dict[str, str]) -> bytes:
    if not headers:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
    head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    sizes = f"{len(head.encode())} {len(head.encode()) + len(payload)}"
    return f"HPUB {subject} {reply} {sizes}\r\n".encode() + head.encode() + payload + b"\r\n"

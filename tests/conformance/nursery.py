"""Runs the program again and again for the price of a fork: a process that has loaded all of it makes one of itself.

What a run does is what `python -m evtool` does, but for the imports, which on NATS are nine tenths of a short command.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tests.program import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = str(Path(__file__).parents[2])
_TIMEOUT = 120.0  # seconds of one run
_MOST = 1 << 20  # bytes of an order


class Nursery:
    """The process from which runs are forked, one at a time. It ends with us, or by `close`."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])

    def run(self, arguments: Sequence[str | bytes], environment: dict[str, str], data: bytes) -> Result:
        """Run the program to its end, with these bytes on standard input."""
        order = {"argv": [os.fsdecode(one) for one in arguments], "env": environment, "cwd": os.getcwd()}
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        socket.send_fds(self._socket, [orjson.dumps(order)], theirs)
        for fd in theirs:
            os.close(fd)
        outputs = [_Drain(pipe[0]) for pipe in pipes[1:]]
        _feed(pipes[0][1], data)
        out, err = (output.result() for output in outputs)
        assert select.select([self._socket], [], [], _TIMEOUT)[0], f"it does not end: {order['argv']}"
        return Result(os.waitstatus_to_exitcode(int(self._socket.recv(64))), out, err)

    def close(self) -> None:
        """Let it be gone."""
        self._socket.close()
        self._process.wait()


class _Drain(threading.Thread):
    """All that comes out of a pipe."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self._bytes = b""
        self.start()

    def run(self) -> None:
        with open(self._fd, "rb") as pipe:
            self._bytes = pipe.read()

    def result(self) -> bytes:
        self.join(_TIMEOUT)
        assert not self.is_alive(), "it does not end"
        return self._bytes


def _feed(fd: int, data: bytes) -> None:
    try:
        with open(fd, "wb", buffering=0) as pipe:
            while data:
                data = data[pipe.write(data) :]
    except BrokenPipeError:
        pass


def _serve(orders: socket.socket) -> None:
    """Fork a run for each order and answer with its status, until nobody is there any more."""
    while True:
        order, fds, _, _ = socket.recv_fds(orders, _MOST, 3)
        if not order:
            return
        child = os.fork()
        if not child:
            orders.close()
            _become(orjson.loads(order), fds)
        for fd in fds:
            os.close(fd)
        orders.send(str(os.waitpid(child, 0)[1]).encode())


def _become(order: dict[str, object], fds: list[int]) -> None:
    """Be a run of the program."""
    from evtool.__main__ import main

    for place, fd in enumerate(fds):
        os.dup2(fd, place)
        os.close(fd)
    os.chdir(str(order["cwd"]))
    os.environ.clear()
    os.environ.update(order["env"])  # type: ignore[call-overload]
    time.tzset()
    sys.argv[1:] = order["argv"]  # type: ignore[call-overload]
    main()


def _load_all() -> None:
    import evtool

    for module in pkgutil.walk_packages(evtool.__path__, "evtool."):
        if not module.name.endswith(("__main__", ".generate")):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _load_all()
    with socket.socket(fileno=int(sys.argv[1])) as theirs:
        _serve(theirs)

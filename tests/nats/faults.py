"""Producers and consumers that go on while servers are killed, and what they were told."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.program import Program, Result

WITHOUT_IDS = """
from evtool.stores.nats.batch import Batch
headers = Batch._headers
Batch._headers = lambda batch, place: {k: v for k, v in headers(batch, place).items() if k != "Nats-Msg-Id"}
from evtool.__main__ import main
main()
"""
_NOTING_WORKER = """
import os, sys
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
for line in sys.stdin:
    offset = line[10:line.index(",")]
    os.write(out, f"{offset}\\n".encode())
    print(offset, flush=True)
"""


class Producer:
    """Appends numbers from 0 on, one every `pause` seconds, as its own source. code: see `Running`."""

    def __init__(self, program: Program, topic: str, source: str, pause: float, code: str | None = None) -> None:
        self.source = source
        self.sent = 0
        self._pause = pause
        options = [f"--source={source}", "--offsets", "-q"]
        self.running = Running(program, "append", topic, *options, code=code, stdin=subprocess.PIPE, bufsize=0)
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def _feed(self) -> None:
        assert self.running.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the program's exit status says why
            while not self._stop.wait(self._pause):
                self.running.process.stdin.write(b"%d\n" % self.sent)
                self.sent += 1

    @property
    def acknowledged(self) -> list[int]:
        """The offset of each number that is acknowledged so far."""
        return [int(line) for line in self.running.out.split("\n")[:-1]]

    def has(self, count: int) -> bool:
        """Whether so many are acknowledged; it must not have ended."""
        assert self.running.process.poll() is None, self.running.err
        return len(self.acknowledged) >= count

    def finish(self) -> Result:
        """Send no more, and wait until the program has ended."""
        self._stop.set()
        self._feeder.join()
        assert self.running.process.stdin is not None
        self.running.process.stdin.close()
        return self.running.end()


def await_progress(producers: list[Producer]) -> None:
    """Wait until all of them have an acknowledgement of what was sent from now on; none of them may end."""
    goals = [(producer, producer.sent + 1) for producer in producers]
    wait_until(lambda: all(producer.has(goal) for producer, goal in goals), "producers to go on")


class Consumer:
    """Handles the events of a group by a worker that notes each offset in a file, which several may share."""

    def __init__(self, program: Program, topic: str, group: str, notes: Path, *options: str) -> None:
        worker = [sys.executable, "-c", _NOTING_WORKER, str(notes)]
        command = ["subscribe", topic, "-g", group, "--from=earliest", *options, "--worker", "--", *worker]
        self.running = Running(program, *command)


def noted(notes: Path) -> list[int]:
    """The offsets in a file of a consumer."""
    return [int(line) for line in notes.read_text().split("\n")[:-1]]

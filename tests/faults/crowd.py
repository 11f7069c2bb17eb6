"""Many producers at once, one-shot and streaming, and what each was told; killed at random if that is wanted."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from tests.faults.history import Producer

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.program import Program

_PIECE = 25  # events that a streaming producer gets at once


class Run:
    """One process that gets events, as an argument or bit by bit on standard input."""

    def __init__(self, program: Program, events: list[str], *, stream: bool) -> None:
        self.events = events
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the run
        arguments = ["append", "t", "--offsets", *([] if stream else events)]
        stdin = subprocess.PIPE if stream else subprocess.DEVNULL
        self.process = program.start(*arguments, stdin=stdin, stdout=self._out, stderr=subprocess.DEVNULL)
        self._feeder = threading.Thread(target=self._feed if stream else lambda: None)
        self._feeder.start()

    def _feed(self) -> None:
        stdin = self.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError), stdin:
            for start in range(0, len(self.events), _PIECE):
                stdin.write("".join(f"{one}\n" for one in self.events[start : start + _PIECE]).encode())
                stdin.flush()

    @property
    def told(self) -> str:
        """The offsets that it has printed so far."""
        self._out.seek(0)
        return self._out.read().decode()

    def end(self, kill_after: float | None = None) -> bool:
        """Wait for its end, but kill it if it does not come in so many seconds; say whether that was so."""
        try:
            code = self.process.wait(kill_after or 60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._feeder.join()
        if code not in (0, -9):
            self._out.close()
            raise AssertionError(f"a producer ended with {code}")
        return code == -9

    def end_in_any_way(self) -> None:
        """Wait for its end, whatever it makes of it, and be done with it."""
        self.process.wait()
        self._feeder.join()
        self._out.close()

    def close(self) -> Producer:
        """What it was told, when it has ended."""
        producer = Producer(self.events, self.told)
        self._out.close()
        return producer


class Crowd:
    """Producers that go on at the same time, each with one run after the other.

    random: where to take the moment from at which each run is killed, or None to let them all end by themselves.
    """

    def __init__(self, program: Program, random: random.Random | None = None) -> None:
        self.producers: list[Producer] = []
        self.kills = 0
        self._program = program
        self._random = random
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def add(self, name: str, runs: int, events: int, *, stream: bool) -> None:
        """Start a producer that sends so many events in each of so many runs."""

        def work() -> None:
            try:
                self._work(name, runs, events, stream)
            except BaseException as error:
                self._errors.append(error)

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def join(self) -> None:
        """Wait until all are done."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self, name: str, runs: int, events: int, stream: bool) -> None:
        usual = 0.1
        sent = []
        for run in range(runs):
            mine = [event(name, run * events + number) for number in range(events)]
            sent += mine
            started = time.monotonic()
            one = Run(self._program, mine, stream=stream)
            if one.end(self._random.uniform(0, 2 * usual) if self._random else None):
                self.kills += 1
                usual *= 1.2  # on a busy machine a start may take as long
            else:
                usual = time.monotonic() - started
            self.producers.append(one.close())
        self.producers.append(Producer(sent, ""))  # its order, from run to run


def event(name: str, number: int) -> str:
    """An event that no other producer sends, and of no constant length."""
    return f'{{"by":"{name}","n":{number},"text":"{"x" * (number * 37 % 400)}"}}'


def twelve(crowd: Crowd, one_shot: Callable[[], int], streaming: Callable[[], tuple[int, int]]) -> None:
    """Six producers with a process for each event, six with a process for many."""
    for number in range(6):
        crowd.add(f"one-shot-{number}", one_shot(), 1, stream=False)
        crowd.add(f"streaming-{number}", *streaming(), stream=True)
    crowd.join()

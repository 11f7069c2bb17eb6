"""How long those who append have to wait while something else goes on."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.measure import Bench

# Says when it is ready, and when it is told to end how many events it appended and how long the longest append took.
_APPEND = """
import os, signal, sys, time
import evtool
path, sync, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
topic = evtool.open(path).topic("t", sync=sync)
topic.append(0)
os.write(1, b".")
longest, count = 0.0, 0
while going:
    start = time.perf_counter()
    topic.append({"n": count})
    longest = max(longest, time.perf_counter() - start)
    count += 1
    time.sleep(pause) if pause else None
print(longest)
"""
_READY = b"."


def longest(
    bench: Bench, home: Path, sync: str, meanwhile: Callable[[], object], *, crowd: int = 1, pause: float = 0.0
) -> float:
    """The longest append of so many processes to the topic `t`, one event at a time, while something is done.

    pause: how many seconds each rests after an append.
    """
    command = [bench.python, "-c", _APPEND, str(home), sync, str(pause)]
    with ExitStack() as stack:
        processes = []
        for _ in range(crowd):
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, env=bench.on(home)))
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            if process.stdout.read(1) != _READY:
                raise RuntimeError("a producer did not start")
        meanwhile()
        for process in processes:
            process.terminate()
        return max(float(process.communicate()[0]) for process in processes)

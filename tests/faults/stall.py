"""Means of fault: a producer that is stopped, as by SIGSTOP or a debugger, when it is about to write its events.

    python -m tests.faults.stall COMMAND…

is evtool, which stops itself before its first write to a segment. Nothing of evtool knows of this.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.program import Program


class Stalling(Program):
    """evtool on a home, stopped while it holds the lock of a topic."""

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "tests.faults.stall", *arguments]


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped, and not only sleeps."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def waits_for_a_lock(pid: int) -> bool:
    """Whether a process is queued for a lock that another one holds."""
    rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    return any(row[1] == "->" and int(row[5]) == pid for row in rows)


def main() -> None:
    """Be evtool until the write, and again when told to go on."""
    write = os.write

    def stop_first(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".jsonl"):
            os.write = write
            os.kill(os.getpid(), signal.SIGSTOP)
        return write(fd, data)

    os.write = stop_first
    from evtool.__main__ import main as evtool

    evtool()


if __name__ == "__main__":
    main()

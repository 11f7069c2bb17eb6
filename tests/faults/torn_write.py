"""Means of fault: the program is killed in the middle of the write of its events, when some bytes are in the file.

    python -m tests.faults.torn_write BYTES COMMAND…

is evtool, with its first write to a segment torn after so many bytes. Nothing of evtool knows of this.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.program import Program

if TYPE_CHECKING:
    from pathlib import Path


class Tearing(Program):
    """evtool on a home, killed when it has written so many bytes of its events."""

    def __init__(self, home: Path, count: int) -> None:
        super().__init__(home)
        self.count = count

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "tests.faults.torn_write", str(self.count), *arguments]


def main() -> None:
    """Be evtool until the write."""
    count = int(sys.argv.pop(1))
    write = os.write

    def tear(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".jsonl"):
            write(fd, data[:count])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, data)

    os.write = tear
    from evtool.__main__ import main as evtool

    evtool()


if __name__ == "__main__":
    main()

"""How things are measured: in turn, as medians, as peaks of memory, and each as a ratio to what stands still."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Command = Sequence[str | Path]

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = 1 << 20


class SkippedError(Exception):
    """A row that cannot be measured here; says why."""


@dataclass(frozen=True)
class Row:
    """One line of the table. A row without a goal is there to compare with; `reached` is None then."""

    work: str
    ours: str
    reference: str
    ratio: float | None = None
    goal: str = ""
    reached: bool | None = None


def compare(
    work: str, ours: str, reference: str, ratio: float, *, at_most: float | None = None, at_least: float | None = None
) -> Row:
    """A row whose ratio has a goal, or none. What is printed is what is judged: both have two decimals."""
    shown = round(ratio, 2)
    if at_most is not None:
        return Row(work, ours, reference, shown, f"≤ {at_most:g}", shown <= at_most)
    if at_least is not None:
        return Row(work, ours, reference, shown, f"≥ {at_least:g}", shown >= at_least)
    return Row(work, ours, reference, shown)


def skipped(work: str, why: object) -> Row:
    """A row that says why there is no figure."""
    return Row(work, f"skipped: {why}", "")


class Bench:
    """Where and with what everything is measured.

    directory: for all files; the caller removes it. quick: smaller sizes and fewer rounds.
    """

    def __init__(self, directory: Path, *, quick: bool) -> None:
        self.directory = directory
        self.quick = quick
        self.python = sys.executable
        self.environment = _clean_environment()
        if not self._imports_evtool():
            self.environment["PYTHONPATH"] = str(ROOT)
        self._compile()
        self.evtool = self._find_script()
        self.bare: Command = [self.python, "-c", "pass"]  # the same interpreter with the same site-packages

    def pick(self, full: int, quick: int) -> int:
        """A size or a number of rounds."""
        return quick if self.quick else full

    def path(self, name: str) -> Path:
        """A path for something that is not there yet."""
        return self.directory / name

    def home(self, name: str) -> Path:
        """An empty home; what had this name is removed."""
        path = self.path(name)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        return path

    def on(self, home: Path) -> dict[str, str]:
        """The environment in which the program uses this home."""
        return {**self.environment, "EVTOOL_HOME": str(home)}

    def need_space(self, size: int) -> None:
        """Skip what would fill the disk."""
        free = shutil.disk_usage(self.directory).free
        if free < 2 * size:
            raise SkippedError(f"needs {2 * size / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free")

    def seconds(self, command: Command, *, home: Path | None = None, input: Path | None = None) -> float:
        """How long a command takes, from its start to its end; `input` comes through a pipe, from `cat`."""
        environment = self.environment if home is None else self.on(home)
        start = time.perf_counter()
        feeder = subprocess.Popen(["cat", input], stdout=subprocess.PIPE) if input else None
        stdin = feeder.stdout if feeder else subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, env=environment)
        if feeder and feeder.stdout:
            feeder.stdout.close()
        code = process.wait()
        taken = time.perf_counter() - start
        if feeder:
            feeder.wait()
        _check(command, code)
        return taken

    def drained(self, command: Command, *, home: Path | None = None) -> tuple[float, int]:
        """How long a command takes that writes into a pipe, read as fast as can be, and how many bytes came."""
        environment = self.environment if home is None else self.on(home)
        buffer = [bytearray(_BLOCK)]
        total = 0
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        with process.stdout as stream:
            while count := os.readv(stream.fileno(), buffer):
                total += count
        code = process.wait()
        taken = time.perf_counter() - start
        _check(command, code)
        return taken, total

    def output(self, command: Command, *, home: Path | None = None) -> bytes:
        """What a command prints."""
        environment = self.environment if home is None else self.on(home)
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout

    def peak_memory(self, command: Command, *, home: Path, input: Path) -> int:
        """The most bytes of memory that a command has had, fed through a pipe.

        A process is charged with what the one that started it had, so a small one starts it here.
        """
        with subprocess.Popen(["cat", input], stdout=subprocess.PIPE) as feeder:
            launcher = [self.python, "-I", "-S", "-c", _LAUNCHER, *map(str, command)]
            run = subprocess.run(
                launcher, stdin=feeder.stdout, stdout=subprocess.PIPE, env=self.on(home), check=True, text=True
            )
        code, peak = run.stdout.split()
        _check(command, int(code))
        return int(peak) * 1024

    def _imports_evtool(self) -> bool:
        command = [self.python, "-c", "import evtool"]
        run = subprocess.run(command, env=self.environment, cwd="/", stderr=subprocess.DEVNULL, check=False)
        return run.returncode == 0

    def _compile(self) -> None:
        """Compile what is going to be measured, as an installation does."""
        show = [self.python, "-c", "import evtool; print(evtool.__path__[0])"]
        run = subprocess.run(show, env=self.environment, cwd="/", stdout=subprocess.PIPE, check=True, text=True)
        compile_all = [self.python, "-m", "compileall", "-q", run.stdout.strip()]
        subprocess.run(compile_all, env=self.environment, check=True)

    def _find_script(self) -> str:
        """The installed command of this interpreter's environment, or one just like it."""
        installed = Path(self.python).parent / "evtool"
        if "PYTHONPATH" not in self.environment and os.access(installed, os.X_OK):
            return str(installed)
        script = self.path("evtool")
        _, rest = (ROOT / "scripts" / "evtool").read_text().split("\n", 1)
        script.write_text(f"#!{self.python}\n{rest}")
        script.chmod(0o755)
        return str(script)


_LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def _clean_environment() -> dict[str, str]:
    """Without what changes how Python starts (one variable makes it compile each time) or what evtool does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EVTOOL_"))}
    return {**kept, "TZ": "UTC", "LC_ALL": "C"}  # C is the locale in which grep is fastest


def _check(command: Command, code: int) -> None:
    if code:
        raise RuntimeError(f"{' '.join(map(str, command))}: ended with {code}")


def in_turn(jobs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run all jobs once a round, so that what disturbs one disturbs all; return the median of each job's figures.

    A round before the first is not counted: it fills the caches.
    """
    figures: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            figure = job()
            if number:
                figures[name].append(figure)
    return {name: statistics.median(all_of_them) for name, all_of_them in figures.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def rate(per_second: float, what: str = "") -> str:
    """A rate in three digits or so."""
    for limit, unit in ((1e6, " M"), (1e3, " k")):
        if per_second >= limit:
            return f"{per_second / limit:.3g}{unit}{what}/s"
    return f"{per_second:.3g} {what}/s" if what else f"{per_second:.3g}/s"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def wait_until(condition: Callable[[], bool], what: str, patience: float = 20.0) -> None:
    """Return as soon as the condition holds; give up after so many seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.005)


def temporary_directory() -> tempfile.TemporaryDirectory[str]:
    """A directory on a disk: /tmp is often in memory, where a sync costs nothing and a figure says nothing."""
    chosen = os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else None)
    return tempfile.TemporaryDirectory(prefix="evtool-bench-", dir=chosen, ignore_cleanup_errors=True)

"""Mutants of the log, by mutmut: `make mutants MINUTES=60 MODULES="line topic"`. What survives, no test would miss.

Each module is mutated in a copy of the tree under mutants/, and its mutants are put before those unit tests alone that
are about that module: what a test of another module happens to notice is no promise that somebody wrote down.

A mutant that does the same as the original cannot be killed. Those that somebody has looked at stand in
tests/equivalent_mutants.txt, each with its reason, and are counted by themselves.

It is also a plugin of pytest (see `tool.mutmut` in pyproject.toml), for the settings of Hypothesis.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import Phase, settings

SCRATCH = Path("mutants")
LOG = Path("evtool/log")
KNOWN = Path("tests/equivalent_mutants.txt")
MEMORY = 4 << 30  # bytes: a mutant that never stops asking for more must not have all of the machine's
# The tests about a module, where they are not all in the file with its name.
TESTS = {
    "check": ("verify",),
    "compaction": ("compact",),
    "keys": ("compact",),
    "mend": ("repair",),
    "offsets": ("offsets", "commits"),
    "salvage": ("repair",),
    "sealing": ("sealing",),
    "seals": ("seals", "sealing", "verify"),
    "topic": ("topic", "topic_segments"),
}

# A mutant that never comes to an end is stopped after so many seconds of one test, be they spent or waited
# for; mutmut takes this exit code for a timeout.
TIMERS = ((signal.SIGPROF, signal.ITIMER_PROF, 8.0), (signal.SIGALRM, signal.ITIMER_REAL, 60.0))
TIMEOUT = 36

# The same examples for every mutant, and no search for the least one that shows what is wrong with it.
settings.register_profile(
    "mutants", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)


def pytest_runtest_setup() -> None:
    """Stop the whole process if this test does not end."""
    for signal_, timer, seconds in TIMERS:
        signal.signal(signal_, lambda *_: os._exit(TIMEOUT))
        signal.setitimer(timer, seconds)


def pytest_runtest_teardown() -> None:
    """The test has come to its end."""
    for _, timer, _ in TIMERS:
        signal.setitimer(timer, 0)


class Survivor:
    """A mutant that no test has noticed: the function, and its lines before and after."""

    def __init__(self, module: str, name: str, diff: str) -> None:
        function = name.rpartition("__mutmut_")[0].removeprefix(f"evtool.log.{module}.x")
        self.function = function[1:].replace("ǁ", ".")  # as mutmut writes x_function and xǁClassǁmethod
        changed = [one for one in diff.splitlines() if one[:1] in "-+" and one[:3] not in ("---", "+++")]
        self.before = " ".join(one[1:].strip() for one in changed if one[0] == "-")
        self.after = " ".join(one[1:].strip() for one in changed if one[0] == "+")
        self.module = module

    def __str__(self) -> str:
        return f"{self.module}.{self.function}: {self.before}  =>  {self.after}"


def prepare(module: str) -> Path:
    """Copy the tree for the mutants of one module."""
    there = SCRATCH / module
    shutil.rmtree(there, ignore_errors=True)
    for name in ("evtool", "tests"):
        shutil.copytree(name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
    tests = [f"tests/unit/test_{one}.py" for one in TESTS.get(module, (module,))]
    chosen = f'only_mutate = ["{LOG / module}.py"]\npytest_add_cli_args_test_selection = {tests}\n'
    text = Path("pyproject.toml").read_text()
    (there / "pyproject.toml").write_text(text.replace("[tool.mutmut]\n", "[tool.mutmut]\n" + chosen))
    shutil.copy("README.md", there)
    return there


def mutmut(there: Path, *arguments: str) -> str:
    """What mutmut answers in this directory."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=there, capture_output=True, text=True, check=True).stdout


def run(there: Path, seconds: float) -> bool:
    """Put the mutants before the tests, for so long at most; leave no process behind. Say whether that was possible."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    with (there / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=there, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:  # what was found by then is kept
        return True
    finally:
        stop(process.pid)
        process.wait()


def stop(group: int) -> None:
    """Kill all that is left of a group of processes."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def verdicts(there: Path) -> dict[str, str]:
    """What became of each mutant, by its name."""
    rows = [row.strip().rpartition(": ") for row in mutmut(there, "results", "--all", "true").splitlines()]
    return {name: verdict for name, _, verdict in rows if name}


def equivalent() -> set[str]:
    """The mutants that do the same as the original."""
    return {row for row in KNOWN.read_text().splitlines() if row and not row.startswith("#")}


def report(module: str, found: dict[str, str], there: Path) -> Counter[str]:
    """Print what became of the mutants of a module, and list those that survived."""
    alike = equivalent()
    living = [name for name, verdict in found.items() if verdict in ("survived", "no tests")]
    survivors = [str(Survivor(module, name, mutmut(there, "show", name))) for name in living]
    count = Counter(found.values())
    count["equivalent"] = sum(one in alike for one in survivors)
    row(module, count)
    for one in survivors:
        if one not in alike:
            print("   ", one)
    stale = {one for one in alike if one.startswith(f"{module}.")} - set(survivors)
    for one in sorted(stale if not count["not checked"] else ()):
        print(f"    in {KNOWN}, but killed or gone: {one}")
    sys.stdout.flush()
    return count


def row(name: str, count: Counter[str]) -> None:
    """Print one row of the table."""
    other = ("equivalent", "killed", "timeout", "survived", "no tests", "not checked")
    total = sum(count.values()) - count["equivalent"]
    print(f"{name:<11}{total:>7}", *(f"{count[one]:>{len(one) + 2}}" for one in other), f"{score(count):>9.1%}")


def score(count: Counter[str]) -> float:
    """The part of the mutants looked at that the tests notice, those not counted that nobody can notice."""
    killed = count["killed"] + count["timeout"]
    total = sum(count.values()) - 2 * count["equivalent"] - count["not checked"]
    return killed / total if total else 1.0


def modules() -> list[str]:
    """The modules of the log that have anything in them to mutate."""
    return sorted(path.stem for path in LOG.glob("*.py") if path.stem != "__init__")


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutate the log, and see whether the unit tests notice.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("modules", nargs="*", help="those of evtool/log/ (all)")
    said = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    deadline = time.monotonic() + said.minutes * 60
    print("module      mutants  equivalent  killed  timeout  survived  no tests  not checked   noticed")
    total: Counter[str] = Counter()
    failed = False
    for module in said.modules or modules():
        if time.monotonic() >= deadline:
            print(f"{module:<11} not reached")
            continue
        there = prepare(module)
        if run(there, deadline - time.monotonic()):
            total += report(module, verdicts(there), there)
        else:
            print(f"{module:<11} could not be mutated, or its tests fail as it is: see {there / 'output'}")
            failed = True
    row("all", total)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a start may import. Every module costs time, which a shell pays again with each command."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.program import PATIENCE, Program
from tests.topics import append

if TYPE_CHECKING:
    from collections.abc import Iterable

ALWAYS = "__future__ errno evtool evtool.__main__ evtool.cli evtool.cli._table evtool.cli.argv evtool.cli.border"
ALWAYS += " evtool.cli.commands evtool.cli.home evtool.errors evtool.stores evtool.stores.file evtool.stores.topic"
LOG = "evtool.log evtool.log.files evtool.log.line evtool.log.lock evtool.log.names evtool.log.segment"
LOG += " evtool.log.settings evtool.log.topic fcntl zlib"
READING = "evtool.cli.output evtool.cli.reading evtool.delivery evtool.delivery.consumer evtool.delivery.feed"
READING += " evtool.delivery.selection evtool.delivery.source evtool.log.bounds evtool.log.payload evtool.log.reader"
READING += " evtool.stores.naming evtool.stores.where heapq _heapq"
LISTING = "evtool.cli.output evtool.cli.overview evtool.cli.view evtool.delivery evtool.delivery.source"
LISTING += (
    " evtool.log.bounds evtool.log.offsets evtool.log.ranges evtool.log.rewound evtool.stores.naming"
    " evtool.stores.where bisect _bisect"
)
IN_SETTINGS = "evtool.stores.access evtool.stores.nats stat _stat"
MAY_IMPORT = {
    "append t 1": f"{ALWAYS} {LOG} evtool.cli.commands.append evtool.log.payload _json",
    "append t --key k": f"{ALWAYS} {LOG} evtool.cli.commands.append evtool.log.payload evtool.cli.intake gc select",
    "tail t -n 1": f"{ALWAYS} {LOG} {READING} evtool.cli.commands.tail",
    "replay t": f"{ALWAYS} {LOG} {READING} evtool.cli.commands.replay",
    "topics": f"{ALWAYS} {LOG} {LISTING} evtool.cli.commands.topics",
    "groups": f"{ALWAYS} {LOG} {LISTING} evtool.cli.commands.groups",
    "__complete topics": f"{ALWAYS} {LOG} {LISTING} evtool.cli.commands.complete",
}
DEAR = {"typing", "re", "json", "pathlib", "typer", "rich", "orjson", "filelock", "subprocess", "dataclasses", "enum"}


def imported(evtool: Program, *arguments: str) -> set[str]:
    """The modules that a start imports and a bare interpreter does not."""
    code = "from evtool.__main__ import main; main()"
    return _modules(evtool, code, arguments) - _modules(evtool, "pass", ())


def _modules(evtool: Program, code: str, arguments: Iterable[str]) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *arguments],
        env=evtool.environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = run.stderr.decode().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


@pytest.mark.parametrize("command", MAY_IMPORT)
def test_a_start_imports_nothing_but_this(evtool: Program, command: str) -> None:
    append(evtool, "t", "1")
    found = imported(evtool, *command.split())
    assert "evtool.__main__" in found
    assert found <= set(MAY_IMPORT[command].split())


def test_control_what_typer_answers_is_seen_to_import_it(evtool: Program) -> None:
    assert {"typer", "typing", "re"} <= imported(evtool, "--help") & DEAR


def test_nothing_dear_is_on_the_list() -> None:
    for modules in MAY_IMPORT.values():
        assert not DEAR & set(modules.split())


def test_a_directory_that_the_environment_names_costs_nothing_of_nats(evtool: Program) -> None:
    """Whichever way the file log is named, its start imports no client of a cluster, nor what an address needs."""
    append(evtool, "t", "1")
    known = {*MAY_IMPORT["append t 1"].split(), *IN_SETTINGS.split()}
    found = imported(Elsewhere(evtool.home), "append", "t", "1")
    assert "evtool.stores.access" in found
    assert found <= known


class Elsewhere(Program):
    """Runs evtool on a home that EVTOOL_STORE names."""

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        return {**super().environment(options), "EVTOOL_HOME": "", "EVTOOL_STORE": str(self.home)}

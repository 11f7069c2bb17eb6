"""Imports point down only: a module knows those on its own floor and on the floors below."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "evtool"
FLOORS = ["errors", "log", "stores", "delivery", "api", "cli", "__main__"]


def floor(module: str) -> int | None:
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[1] in FLOORS else None


def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, those only for type checking included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("evtool"):
            found |= {node.module} if node.module != "evtool" else {f"evtool.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.startswith("evtool")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_nothing_from_a_floor_above(path: Path) -> None:
    own = floor(".".join(("evtool", *path.relative_to(ROOT).with_suffix("").parts)))
    if own is None:  # the package itself, which loads the public names lazily
        return
    above = {module for module in imports(path) if (other := floor(module)) is not None and other > own}
    assert not above


LINES = {"evtool.log", "evtool.log.line", "evtool.log.names", "evtool.log.payload", "evtool.log.ranges"}


def log_modules(path: Path) -> set[str]:
    """The modules of the log that a file imports, but for those that only the type checker sees."""
    tree = ast.parse(path.read_text())
    checked_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in checked_only and node.module:
            if node.module == "evtool.log":
                found |= {f"evtool.log.{name.name}" for name in node.names}
            elif node.module.startswith("evtool.log."):
                found.add(node.module)
    return found


def test_delivery_sees_no_files() -> None:
    """Delivery stands on the store's methods: of the log it knows the form of a line, a name, a set of offsets."""
    for path in (ROOT / "delivery").glob("*.py"):
        # where a file is what events are delivered to
        more = {"evtool.log.files", "evtool.log.lock"} if path.name == "sinks.py" else set()
        assert log_modules(path) <= LINES | more, path.name


def test_the_nats_store_sees_no_files() -> None:
    """Of the file log it knows what every store has to know, and the values in which both say what they found."""
    values = {f"evtool.log.{name}" for name in ("check", "offsets", "retention", "settings", "state", "verify")}
    found = {path.name: log_modules(path) for path in (ROOT / "stores" / "nats").glob("*.py")}
    assert len(found) > 5
    for name, modules in found.items():
        more = {"evtool.log.files"} if name in ("reader.py", "reading.py") else set()  # which write to a descriptor
        assert modules <= LINES | values | more, name


def test_nobody_but_the_stores_knows_which_store_it_is() -> None:
    """Delivery and the API take what `open_store` gives; only commands that need files may ask for the file store."""
    for path in [*(ROOT / "delivery").glob("*.py"), ROOT / "api.py"]:
        known = {name for name in imports(path) if name.startswith("evtool.stores.")}
        assert known <= {f"evtool.stores.{name}" for name in ("moved", "naming", "protocol", "where")}, path.name

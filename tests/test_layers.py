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


def test_delivery_sees_no_files() -> None:
    """Delivery stands on the store's methods: of the log it knows the form of a line, a name, a set of offsets."""
    for path in (ROOT / "delivery").glob("*.py"):
        known = {"evtool.log", "evtool.log.line", "evtool.log.names", "evtool.log.payload", "evtool.log.ranges"}
        if path.name == "sinks.py":  # where a file is what events are delivered to
            known |= {"evtool.log.files", "evtool.log.lock"}
        tree = ast.parse(path.read_text())
        checked_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").startswith("evtool.log")
                and id(node) not in checked_only
            ):
                modules = {node.module} | (
                    {f"evtool.log.{name.name}" for name in node.names} if node.module == "evtool.log" else set()
                )
                assert modules <= known, f"{path.name} imports {modules - known}"

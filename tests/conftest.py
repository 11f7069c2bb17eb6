"""What all tests share: a home of their own and the real program on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.program import Program

if TYPE_CHECKING:
    from pathlib import Path

    from evtool.stores.file import FileStore


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that both the program and the Python API use; not there yet."""
    for name in [name for name in os.environ if name.startswith("EVTOOL_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "home"
    monkeypatch.setenv("EVTOOL_HOME", str(path))
    monkeypatch.setenv("TZ", "UTC")
    return path


@pytest.fixture
def evtool(home: Path) -> Program:
    """The real program, to be called with its arguments."""
    return Program(home)


@pytest.fixture
def store(home: Path) -> FileStore:
    """The file store on the same home, for what only the inside tells."""
    from evtool.stores import open_store

    return open_store(str(home), create=True)

"""What is installed: the wheel holds everything that it must, and the program starts from it."""

from __future__ import annotations

import email
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import evtool

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "evtool"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHARED = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
DATA = f"evtool-{evtool.__version__}.data"

SECTIONS = {"1": "share/man/man1", "5": "share/man/man5", "7": "share/man/man7"}
COMPLETIONS = {
    "evtool.bash": "share/bash-completion/completions/evtool",
    "_evtool": "share/zsh/site-functions/_evtool",
    "evtool.fish": "share/fish/vendor_completions.d/evtool.fish",
}


def shared_files(root: Path) -> dict[str, str]:
    """Every man page and completion script of a tree, and where it belongs under the prefix."""
    pages = {f"man/{page.name}": f"{SECTIONS[page.suffix[1:]]}/{page.name}" for page in (root / "man").iterdir()}
    return pages | {f"completions/{one.name}": COMPLETIONS[one.name] for one in (root / "completions").iterdir()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built here without a network."""
    for needed in ("hatchling", "build"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: the wheel cannot be built without a network")
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=without_python_path())
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = directory.glob("*.whl")
    return built


def without_python_path() -> dict[str, str]:
    """The environment, without what would make Python look in other places than usual."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def test_every_man_page_and_completion_of_the_tree_is_declared_for_the_wheel() -> None:
    assert shared_files(ROOT) == SHARED


def test_a_man_page_that_is_not_declared_is_caught(tmp_path: Path) -> None:
    """The negative control of that."""
    for place in SHARED:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    assert shared_files(tmp_path) == SHARED
    (tmp_path / "man" / "evtool-new.1").touch()
    assert shared_files(tmp_path) != SHARED


def test_the_version_stands_in_one_place_and_the_changelog_tells_of_it() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    place = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert re.findall(r'^__version__ = "(.+)"$', place.read_text(), re.MULTILINE) == [evtool.__version__]
    told = re.findall(r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert told[0] == evtool.__version__


def test_the_wheel_holds_pages_completions_the_script_and_the_mark_of_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    wanted = [f"{DATA}/data/{place}" for place in SHARED.values()]
    wanted += [f"{DATA}/scripts/evtool", "evtool/py.typed", "evtool/__main__.py", "evtool/cli/_table.py"]
    assert [name for name in wanted if name not in names] == []


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "evtool").rglob("*.py")} | {"evtool/py.typed"}
    inside = [name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("evtool-")]
    assert sorted(inside) == sorted(modules)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    """Name, version, licence, oldest Python and what it needs."""
    place = f"evtool-{evtool.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        told = email.message_from_bytes(archive.read(f"{place}/METADATA"))
        licence = archive.read(f"{place}/licenses/LICENSE").decode()
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("evtool", evtool.__version__, "MIT")
    assert told["Requires-Python"] == ">=3.11"
    required = [need for need in told.get_all("Requires-Dist", []) if "extra ==" not in need]
    needs = {re.match(r"[a-z-]+", need)[0] for need in required}  # type: ignore[index]
    assert needs == {"typer", "rich", "orjson", "filelock"}
    assert licence.startswith("MIT License")


def test_the_installed_program_starts_compiled_and_from_where_it_was_installed(wheel: Path, tmp_path: Path) -> None:
    """Installed under a prefix of its own, run from elsewhere, it appends and gives back an event."""
    prefix = tmp_path / "prefix"
    options = [
        "--quiet",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        "--no-warn-script-location",
        "--prefix",
        str(prefix),
    ]
    install = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120, env=without_python_path())
    (package,) = prefix.glob("lib*/python*/site-packages/evtool")
    assert list(package.rglob("__pycache__/topic.*.pyc"))

    def run(*arguments: str) -> str:
        environment = without_python_path() | {"PYTHONPATH": str(package.parent)}
        command = [str(prefix / "bin" / "evtool"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version") == f"evtool {evtool.__version__}\n"
    assert run("append", "t", '{"a": 1}', "--offsets") == "0\n"
    assert run("tail", "t", "--data") == '{"a": 1}\n'
    assert (prefix / "share/man/man1/evtool.1").exists()


def test_the_script_can_be_executed(wheel: Path) -> None:
    """In the tree and in the wheel: an installer gives a script no right that it does not have there."""
    assert os.access(SCRIPT, os.X_OK)
    inside = zipfile.ZipFile(wheel).getinfo(f"{DATA}/scripts/evtool")
    assert inside.external_attr >> 16 & 0o111 == 0o111


def test_the_script_imports_no_more_than_the_program_itself() -> None:
    """What pip makes of an entry point may import `re`, which takes half as long as an append."""
    lines = SCRIPT.read_text().splitlines()
    assert [line for line in lines if line] == ["#!python", "from evtool.__main__ import main", "main()"]
    assert "scripts" not in PROJECT["project"]

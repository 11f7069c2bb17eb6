"""Writes what follows from the declaration in `app`: the argument table, the completions, the OPTIONS of the man pages.

    python -m evtool.cli.generate            writes the files that are not current
    python -m evtool.cli.generate --check    writes nothing; names them and exits with 1

Typer keeps no type on a parameter: types are read from the signatures.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from pathlib import Path
from typing import Any

from evtool.cli import app as application
from evtool.cli import argv, completions, manual

ROOT = Path(__file__).resolve().parents[2]
RUNS_HANDLER = ("subscribe",)
_WIDTH = 116


class Parameter:
    """One option or argument of a command.

    name: of the Python parameter. flags: its options, none for an argument. kind: as in `argv`.
    """

    def __init__(self, declared: Any, annotation: Any) -> None:
        self.name: str = declared.name
        self.is_option: bool = declared.param_type_name == "option"
        self.flags: list[str] = list(declared.opts) if self.is_option else []
        self.help: str = declared.help or ""
        self.metavar: str = declared.metavar or ""
        self.required: bool = declared.required
        self.kind = _kind(annotation)
        self.many = self.kind == argv.LIST
        self.default: Any = [] if self.many else declared.default
        self._refuse_the_unusual(declared)

    def _refuse_the_unusual(self, declared: Any) -> None:
        """Stop if Typer would do with the parameter what the table cannot express."""
        unusual = [declared.callback, declared.envvar, getattr(declared, "min", None), getattr(declared, "max", None)]
        unusual += [getattr(declared, "prompt", None), getattr(declared, "count", None)]
        if any(unusual) or getattr(declared, "secondary_opts", None):
            raise SystemExit(f"{self.name}: the argument table cannot express this parameter")


class Command:
    """One command with its parameters, the options in the order in which they are declared."""

    def __init__(self, name: str, declared: Any) -> None:
        self.name = name
        self.help: str = declared.help or ""
        self.hidden: bool = declared.hidden
        self.runs_handler = name in RUNS_HANDLER
        hints = typing.get_type_hints(inspect.unwrap(declared.callback))
        own = [one for one in declared.params if one.name != "help"]
        self.parameters = [Parameter(one, hints[one.name]) for one in own]
        self.options = [one for one in self.parameters if one.is_option]
        self.arguments = [one for one in self.parameters if not one.is_option]


def _kind(annotation: Any) -> str | tuple[str, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (one for one in typing.get_args(annotation) if one is not type(None))
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    kinds = {bool: argv.FLAG, str: argv.TEXT, int: argv.NUMBER, list[str]: argv.LIST}
    return kinds[annotation]


def commands() -> list[Command]:
    """All commands as they are declared, in order, the hidden one included."""
    return [Command(name, declared) for name, declared in application.declaration().commands.items()]


def table(all_commands: list[Command]) -> str:
    """The text of `_table.py`."""
    rows = ['"""What each command takes. Generated from `app` by `make generate`: do not edit."""', "", "COMMANDS = {"]
    for command in all_commands:
        rows.append(f'    "{command.name}": {{')
        rows.append('        "options": {')
        for option in command.options:
            rows += [f'            "{flag}": ("{option.name}", {_literal(option.kind)}),' for flag in option.flags]
        rows.append("        },")
        rows.append('        "arguments": (')
        rows += [f'            ("{one.name}", {one.required}, {one.many}),' for one in command.arguments]
        rows.append("        ),")
        required = [one.name for one in command.options if one.required]
        rows.append(f'        "required": {_literal(tuple(required))},')
        rows.append('        "defaults": {')
        rows += [f'            "{one.name}": {_literal(one.default)},' for one in command.parameters]
        rows.append("        },")
        rows.append(f'        "runs_handler": {command.runs_handler},')
        rows.append("    },")
    return "\n".join([*rows, "}", ""])


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        inside = ", ".join(map(_literal, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def files(all_commands: list[Command]) -> dict[Path, str]:
    """Every generated file with the text that it should have."""
    shown = [command for command in all_commands if not command.hidden]
    wanted = {ROOT / "evtool/cli/_table.py": table(all_commands)}
    wanted |= {ROOT / "completions" / name: text for name, text in completions.scripts(shown).items()}
    wanted |= {path: manual.with_options(path.read_text(), command) for path, command in _pages(shown)}
    return wanted


def _pages(shown: list[Command]) -> list[tuple[Path, Command]]:
    return [(ROOT / "man" / f"evtool-{command.name}.1", command) for command in shown]


def main(arguments: list[str]) -> int:
    """Write or check the generated files; return the exit code."""
    stale = [path for path, text in files(commands()).items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(
            f"{path.relative_to(ROOT)}: {'not current, run `make generate`' if arguments == ['--check'] else 'written'}"
        )
    if arguments == ["--check"]:
        return 1 if stale else 0
    wanted = files(commands())
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

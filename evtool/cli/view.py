"""Rows of facts on standard output: a table on a terminal, columns with tabs in a pipe, or one JSON object a line."""

from __future__ import annotations

import os

from evtool.cli import border
from evtool.cli.output import STANDARD_OUTPUT, failure, wants_color
from evtool.log import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from evtool.cli.argv import Args

    Show = Callable[[Any], str]

_UNITS = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (120, 60, "m"))


class Column:
    """One column: the key of the value in a row, its heading, and how a person is shown the value."""

    def __init__(self, key: str, heading: str, show: Show = str, *, number: bool = True) -> None:
        self.key = key
        self.heading = heading
        self.show = show
        self.number = number


def write_rows(args: Args, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows in the form that was asked for: nothing if there are none, and no empty table on a terminal."""
    if args.json:
        from evtool.log import payload

        write(b"".join(payload.encode(row) + b"\n" for row in rows))
    elif rows and os.isatty(STANDARD_OUTPUT):
        _write_table(args, columns, rows)
    else:
        write("".join(_plain(columns, row) for row in rows).encode())


def write(data: bytes) -> None:
    """Write to standard output. Raises StorageError if it takes no more, BrokenPipeError if nobody reads it."""
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[files.write_some(STANDARD_OUTPUT, rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise failure(error) from error


def _plain(columns: Sequence[Column], row: dict[str, Any]) -> str:
    return "\t".join(_plain_value(column, row[column.key]) for column in columns) + "\n"


def _plain_value(column: Column, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return column.show(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _write_table(args: Args, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(column, row[column.key]) for column in columns))
    color = wants_color(args)
    console = Console(no_color=not color, force_terminal=color, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    write(capture.get().encode())


def _shown(column: Column, value: Any) -> str:
    return "-" if value is None else border.printable(column.show(value))


def duration(seconds: float) -> str:
    """A duration for people."""
    for least, unit, name in _UNITS:
        if seconds >= least:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def number(count: int) -> str:
    """A count for people."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """A count of things: 1 event, 2 events."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def yes_or_no(value: bool) -> str:
    """A fact for people."""
    return "yes" if value else "no"

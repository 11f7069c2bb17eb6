"""evtool diff: which keys came, changed and went between two times."""

from __future__ import annotations

import os

import orjson

from evtool.cli import reading, view
from evtool.cli.output import STANDARD_OUTPUT
from evtool.cli.view import Column
from evtool.errors import DataError, UsageError
from evtool.log import line, names, payload
from evtool.stores import where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from evtool.cli.argv import Args
    from evtool.log.state import Change

_AT_ONCE = 1000


def run(args: Args) -> int:
    """Write a row for each key that differs, in the order in which they changed last."""
    topic = names.check_name("topic", args.topic)
    before, after = where.parse(args.before), where.parse(args.after)
    store, _ = reading.open_store(args, [topic], wait=False)
    place = store.topic(topic)
    since = before.begin(place)
    until = None if after.kind == "latest" else after.begin(place)
    if until is not None and since > until:
        raise UsageError("diff", f"{args.before} is later than {args.after}", hint="say the earlier one first")
    key = None if args.key is None else payload.encode_string(args.key)
    try:
        for rows in _batches(_row(change, args.json) for change in place.changes(since, until, key)):
            view.write_rows(args, _COLUMNS, rows)
    except ValueError as error:
        raise DataError(topic, "the data of an event are damaged", hint=f"see evtool verify {topic}") from error
    return 0


def _row(change: Change, as_json: bool) -> dict[str, Any]:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    show = _fragment if as_json else _text
    key: str = orjson.loads(change.key)
    return {
        "change": kind,
        "key": key if as_json or key.isprintable() else change.key.decode(),
        "before": None if change.before is None else show(line.data_of(change.before)),
        "after": None if change.after is None else show(line.data_of(change.after)),
    }


def _fragment(data: bytes) -> Any:
    """Data as a part of other JSON, byte for byte."""
    return orjson.Fragment(data)


def _text(data: bytes) -> str:
    """Data as the text of a column; a tab between its parts, where JSON allows any blank, becomes one."""
    return data.decode("utf-8", "backslashreplace").replace("\t", " ")


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows, some at a time; on a terminal a table wants them all."""
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _AT_ONCE and not os.isatty(STANDARD_OUTPUT):
            yield batch
            batch = []
    if batch:
        yield batch


_COLUMNS = (
    Column("change", "change", number=False),
    Column("key", "key", number=False),
    Column("before", "before", number=False),
    Column("after", "after", number=False),
)

"""Which events are wanted: by key and by type, found in the raw bytes of many lines at once."""

from __future__ import annotations

from evtool.log import line, payload


class Selection:
    """Wanted are the events that have each of these attributes, or all if none is given."""

    def __init__(self, key: str | None = None, type: str | None = None) -> None:
        given = {"key": key, "type": type}
        self._needles = [
            line.attribute_needle(name, payload.encode_string(value))
            for name, value in given.items()
            if value is not None
        ]

    @property
    def is_everything(self) -> bool:
        """Whether no event is left out."""
        return not self._needles

    def apply(self, lines: bytes) -> bytes:
        """The wanted ones of these whole lines."""
        for needle in self._needles:
            lines = _with(lines, needle)
        return lines


def _with(lines: bytes, needle: bytes) -> bytes:
    found = []
    at = lines.find(needle)
    while at >= 0:
        start = lines.rfind(b"\n", 0, at) + 1
        end = lines.find(b"\n", at) + 1
        if line.stands_in_head(lines, start, at):
            found.append(lines[start:end])
        at = lines.find(needle, end)
    return b"".join(found)

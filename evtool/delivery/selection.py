"""Which events are wanted: by key and by type, found in the raw bytes of many lines at once, or by an expression."""

from __future__ import annotations

from evtool.log import line, payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Apply = Callable[[bytes], bytes]


class Selection:
    """Wanted are the events that have each of these attributes and meet both conditions, or all if none is given.

    where: an expression of ours, see `evtool.delivery.expression`. jq: a program of jq, which gives something true.
    """

    def __init__(
        self, key: str | None = None, type: str | None = None, where: str | None = None, jq: str | None = None
    ) -> None:
        """Raises UsageError for what is no expression or no program, ConfigurationError if jq is not installed."""
        given = {"key": key, "type": type}
        self._needles = [
            line.attribute_needle(name, payload.encode_string(value))
            for name, value in given.items()
            if value is not None
        ]
        self._conditions: list[Apply] = []
        if where is not None:
            from evtool.delivery.expression import Expression

            self._conditions.append(Expression(where).select)
        if jq is not None:
            from evtool.delivery.jq import JqProgram

            self._conditions.append(JqProgram(jq).select)

    @property
    def is_everything(self) -> bool:
        """Whether no event is left out."""
        return not self._needles and not self._conditions

    def apply(self, lines: bytes) -> bytes:
        """The wanted ones of these whole lines."""
        for needle in self._needles:
            lines = _with(lines, needle)
        for select in self._conditions:
            lines = select(lines) if lines else lines
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

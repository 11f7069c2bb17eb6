"""The real program on a NATS store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.program import Program

if TYPE_CHECKING:
    from pathlib import Path


class NatsProgram(Program):
    """Runs evtool on the store that a URL names. home: where the files of a run go."""

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home)
        self.url = url

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        """The environment of a run."""
        return {**super().environment({}), "EVTOOL_STORE": self.url, **options.pop("env", {})}

"""The group of a consumer is somewhere else by now."""

from __future__ import annotations

from evtool.errors import ConditionError


class Moved(ConditionError):
    """Somebody has moved the group elsewhere, by `seek`: begin again where it stands now."""

    def __init__(self, topic: str, group: str) -> None:
        super().__init__(f"{topic}, group {group}", "was moved by a seek", hint="consume anew: it goes on there")

"""What is found wrong with a home, or soon will be, and the command that mends it."""

from __future__ import annotations

PROBLEM, ADVICE = "problem", "advice"


class Finding:
    """One thing that was found.

    severity: PROBLEM, or ADVICE for what does no harm yet. what: the topic, the group or the path concerned.
    why: what is wrong with it, in words. mend: a command line that can be pasted into a shell.
    """

    __slots__ = ("mend", "severity", "what", "why")

    def __init__(self, severity: str, what: str, why: str, mend: str) -> None:
        self.severity = severity
        self.what = what
        self.why = why
        self.mend = mend

    def __repr__(self) -> str:
        return f"{self.severity}: {self.what}: {self.why} ({self.mend})"

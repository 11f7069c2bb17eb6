"""Programs of jq as filters, through its bindings for Python."""

from __future__ import annotations

from evtool.errors import ConfigurationError, UsageError


class JqProgram:
    """A program that says of an event whether it is wanted: its first result is neither null nor false.

    An event for which it fails, or gives nothing, is not wanted.
    """

    def __init__(self, text: str) -> None:
        """Raises UsageError for what is no program, ConfigurationError if the bindings are not installed."""
        try:
            import jq  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise ConfigurationError("--jq", "needs the bindings of jq", hint="pip install 'evtool[jq]'") from None
        try:
            self._program = jq.compile(text)
        except ValueError as error:
            why = str(error).strip().replace("\n", " ")
            raise UsageError("--jq", why or "not a program of jq") from None

    def select(self, lines: bytes) -> bytes:
        """Those of these whole lines that are wanted."""
        return b"".join(text + b"\n" for text in lines.split(b"\n")[:-1] if self._wants(text))

    def _wants(self, text: bytes) -> bool:
        try:
            for result in self._program.input_text(text.decode()):
                return result is not None and result is not False
        except ValueError:  # such as an index into a number
            pass
        return False

"""The real program on one of the stores, and how tests put events in and ask how things stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evtool.errors import NotFoundError
from evtool.stores import open_store
from tests.program import Program, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from evtool.stores.protocol import Capabilities, Standing, Store
    from tests.conformance.nursery import Nursery
    from tests.program import Result
    from tests.running import Running


class Subject(Program):
    """Runs evtool on a store. url: where that is; None for the file log in `home`. nursery: makes runs that end."""

    def __init__(self, home: Path, url: str | None, capabilities: Capabilities, nursery: Nursery) -> None:
        super().__init__(home)
        self.url = url
        self.capabilities = capabilities
        self._nursery = nursery
        self._started: list[subprocess.Popen[bytes]] = []
        self._store: Store | None = None

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        """The environment of a run."""
        added = {} if self.url is None else {"EVTOOL_STORE": self.url}
        return {**super().environment({}), **added, **options.pop("env", {})}

    def __call__(self, *arguments: str | bytes, input: str | bytes = b"", **options: Any) -> Result:
        """Run to the end, with this on standard input."""
        data = input.encode() if isinstance(input, str) else input
        environment = self.environment(options)
        assert not options
        return self._nursery.run(arguments, environment, data)

    def start(self, *arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        """Start it, with pipes for all three streams, and return at once."""
        self._started.append(super().start(*arguments, **options))
        return self._started[-1]

    def close(self) -> None:
        """Leave nothing behind that was started, however the test has ended."""
        for process in self._started:
            process.kill()
            with process:
                pass
        if self._store is not None:
            self._store.close()

    def put(self, topic: str, *arguments: str, input: str = "") -> list[int]:
        """Append to a topic, by arguments or standard input; return the offsets that were acknowledged.

        A busy machine may make it wait so long that it would say so, therefore it is to be quiet.
        """
        result = self("append", topic, *arguments, "--offsets", "-q", input=input)
        assert (result.code, result.err) == (0, ""), result
        return [int(line) for line in result.lines]

    def data(self, topic: str, *options: str) -> list[str]:
        """The data of all events of a topic, or of those that the options leave."""
        result = self("replay", topic, "--data", *options)
        assert (result.code, result.err) == (0, ""), result
        return result.lines

    def row(self, topic: str = "t", group: str = "g") -> dict[str, Any]:
        """How a group stands; empty if there is none."""
        rows = self("groups", topic, "--json").events
        return next((row for row in rows if row["group"] == group), {})

    def committed(self, topic: str = "t", group: str = "g") -> int | None:
        """The committed offset of a group."""
        found: int | None = self.row(topic, group).get("committed")
        return found

    def standing(self, topic: str = "t", group: str = "g") -> Standing | None:
        """How a group stands, by the store itself, which costs no process: for what is asked again and again."""
        if self._store is None:
            self._store = open_store(self.url or str(self.home), create=True)
        try:
            return self._store.topic(topic).standing(group)
        except NotFoundError:
            return None

    def await_committed(self, offset: int, topic: str = "t", group: str = "g") -> None:
        """Wait until a group has committed just this."""
        self.await_standing(lambda standing: standing.committed == offset, f"{group} to commit {offset}", topic, group)

    def await_active(self, topic: str = "t", group: str = "g") -> None:
        """Wait until a process consumes for a group."""
        self.await_standing(lambda standing: standing.is_active, f"somebody to consume for {group}", topic, group)

    def await_standing(
        self, condition: Callable[[Standing], object], what: str, topic: str = "t", group: str = "g"
    ) -> None:
        """Wait until a group is there and this holds of it."""
        wait_until(lambda: (standing := self.standing(topic, group)) and condition(standing), what)


def succeed(result: Result) -> Result:
    """A run that went well and complained of nothing."""
    assert (result.code, result.err) == (0, ""), result
    return result


def await_live(evtool: Subject, follower: Running, topic: str = "t") -> None:
    """Append `"beat"` until the follower gives something out: from then on it misses nothing."""
    wait_until(lambda: evtool.put(topic, '"beat"') and follower.out, "the follower to give out a beat")


def await_lines(running: Running, count: int) -> list[str]:
    """Wait until so many lines, or more, were given out; return them, each with its newline."""
    await_that(running, lambda: running.out.count("\n") >= count, f"{count} lines")
    return running.out.splitlines(keepends=True)


def await_that(running: Running, condition: Callable[[], object], what: str) -> None:
    """Wait until this holds of a program that runs; fail at once if it has ended."""
    wait_until(lambda: condition() or running.process.poll() is not None, what)
    assert condition(), f"ended with {running.process.poll()} before {what}: {running.out[-500:]!r} {running.err!r}"


def numbered(count: int, first: int = 0) -> str:
    """Lines of standard input: so many numbers."""
    return "".join(f"{number}\n" for number in range(first, first + count))

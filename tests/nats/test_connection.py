"""A connection: made at once or refused at once, kept through what happens to servers, and never in the way."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evtool.errors import ConfigurationError, UnreachableError
from evtool.stores.nats.address import parse
from evtool.stores.nats.connection import ApiError, Connection, NoResponders, Signal, Unanswered
from tests.program import PATIENCE, finish, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.nats.server import Server

    Connect = Callable[..., Connection]

PROMISED = 2.0  # seconds within which a dead address is told
SOON = 1.0  # well below any time that something would wait for


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects to a URL."""
    made = []

    def connection(url: str, **settings: str) -> Connection:
        made.append(Connection(parse(url, settings)))
        return made[-1]

    yield connection
    for one in made:
        one.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of what takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def dead() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def seconds_of(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def test_it_knows_what_the_server_says_of_itself(server: Server, connect: Connect) -> None:
    connection = connect(server.url)
    assert (connection.server_name, connection.is_clustered, connection.max_payload) == ("n0", False, 1 << 20)


def test_what_nobody_waits_for_does_not_fail_in_silence(server: Server, connect: Connect) -> None:
    """Its error ends what anybody does with the connection next; that there was no answer ends nothing."""
    connection = connect(server.url)

    async def fail(error: Exception) -> None:
        raise error

    async def nothing() -> None:
        pass

    for error in (Unanswered("it", "no answer"), NoResponders("it", "nobody"), ConnectionResetError()):
        connection.begin(fail(error)).result(PATIENCE)
        connection.run(nothing())
    connection.signal.take()
    connection.begin(fail(ConfigurationError("it", "is wrong"))).result(PATIENCE)
    assert connection.signal.take()
    with pytest.raises(ConfigurationError, match="is wrong"):
        connection.run(nothing())


def test_it_asks_jetstream_and_tells_its_errors_by_number(server: Server, connect: Connect) -> None:
    connection = connect(server.url)
    assert connection.call("INFO")["streams"] == 0
    made = connection.call("STREAM.CREATE.s", {"name": "s", "subjects": ["s"]})
    assert made["config"]["name"] == "s"
    with pytest.raises(ApiError, match="stream not found") as caught:
        connection.call("STREAM.INFO.t")
    assert (caught.value.number, caught.value.code, caught.value.exit_code) == (10059, 404, 74)


def test_the_subjects_of_a_domain_are_its_own(own_server: Callable[..., Server], connect: Connect) -> None:
    """With the wrong domain nobody answers, and that is no question of time."""
    url = own_server(jetstream="domain: hub").url
    connection = connect(f"{url}?domain=hub")
    assert connection.subject_of_api("INFO") == "$JS.hub.API.INFO"
    assert "streams" in connection.call("INFO")
    with pytest.raises(NoResponders):
        connect(f"{url}?domain=leaf").call("INFO", patience=0.2)


def test_nobody_there_to_answer_is_not_the_same_as_no_answer(server: Server, connect: Connect) -> None:
    connection = connect(server.url)
    with pytest.raises(NoResponders, match="nobody answers on nowhere"):
        connection.run(connection.request("nowhere"))
    deaf = connection.run(connection.client.subscribe("deaf"))
    assert deaf
    with pytest.raises(Unanswered, match=r"no answer for 0.1 s"):
        connection.run(connection.request("deaf", timeout=0.1))


class TestWhenNobodyIsThere:
    def test_a_refused_connection_is_told_at_once(self, dead: str, capfd: pytest.CaptureFixture[str]) -> None:
        """By its address and the reason, in our words, and none of the library's on standard error."""
        start = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            Connection(parse(f"nats://joe:secret@{dead}", {}))
        assert time.monotonic() - start < SOON
        assert str(caught.value) == f"nats://{dead}: connection refused"
        assert caught.value.exit_code == 75
        assert capfd.readouterr() == ("", "")

    def test_a_name_that_is_none_is_told_so(self) -> None:
        with pytest.raises(UnreachableError, match=r"^nats://nothere\.invalid:4222: .*(name|resol)"):
            Connection(parse("nats://nothere.invalid", {}))

    def test_one_that_says_nothing_is_given_up_in_time(self, silent: str, capfd: pytest.CaptureFixture[str]) -> None:
        start = time.monotonic()
        with pytest.raises(UnreachableError, match="no answer"):
            Connection(parse(f"nats://{silent}", {}))
        assert 1 < time.monotonic() - start < PROMISED
        assert capfd.readouterr() == ("", "")

    def test_a_server_is_found_among_those_that_do_not_answer(
        self, server: Server, connect: Connect, dead: str, silent: str
    ) -> None:
        """In whatever order they are tried."""
        url = f"nats://{silent},{dead},{silent},127.0.0.1:{server.port}"
        for _ in range(4):
            start = time.monotonic()
            connection = connect(url)
            assert time.monotonic() - start < PROMISED
            assert connection.call("INFO", patience=1)["streams"] == 0

    def test_it_is_something_else_that_listens(self) -> None:
        """Whoever does not speak as a NATS server does is none."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def serve() -> None:
                one, _ = listening.accept()
                with one:
                    one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(UnreachableError, match="what answers is no NATS server"):
                Connection(parse(f"nats://127.0.0.1:{port}", {}))
            thread.join()


class TestWhenAServerGoes:
    def test_a_restart_is_ridden_out(self, own_server: Callable[..., Server], connect: Connect) -> None:
        """A call that is under way waits for the server; whoever watches is told that something may be lost."""
        server = own_server()
        connection = connect(server.url)
        told: list[int] = []
        connection.watch_lost(lambda: told.append(1))
        server.kill()
        answer = connection.start(connection.api("INFO"))
        server.start()
        assert "streams" in answer.result(PATIENCE)
        assert told == [1]
        assert connection.signal.take()

    def test_a_request_that_lost_its_connection_does_not_wait_on(
        self, own_server: Callable[..., Server], connect: Connect
    ) -> None:
        """Nobody will answer it, and whoever asked can ask again."""
        server = own_server()
        connection = connect(server.url)
        connection.run(connection.client.subscribe("deaf"))
        asked = connection.start(connection.request("deaf", timeout=PATIENCE))
        connection.call("INFO")  # so that the request is on its way
        server.kill()
        with pytest.raises(Unanswered, match="lost"):
            asked.result(SOON)

    def test_patience_ends(self, own_server: Callable[..., Server], connect: Connect) -> None:
        server = own_server()
        connection = connect(server.url)
        server.kill()
        start = time.monotonic()
        with pytest.raises(Unanswered, match="not connected to any server for 1 s") as caught:
            connection.call("INFO", patience=1.0)
        assert time.monotonic() - start < 2
        assert caught.value.exit_code == 75

    def test_another_server_takes_over(self, own_server: Callable[..., Server], connect: Connect) -> None:
        """Of those in the address."""
        one, other = own_server(), own_server(name="n1")
        connection = connect(f"nats://127.0.0.1:{one.port},127.0.0.1:{other.port}")
        first, second = (one, other) if connection.server_name == "n0" else (other, one)
        first.kill()
        assert "streams" in connection.call("INFO")
        assert connection.client.info["server_name"] == second.name

    @pytest.mark.slow
    def test_a_server_that_hangs_is_found_out(self, own_server: Callable[..., Server], connect: Connect) -> None:
        """Though much was still to be sent to it, which never will be; and it is used again when it goes on."""
        server = own_server()
        connection = connect(server.url)
        lost = threading.Event()
        connection.watch_lost(lost.set)
        server.suspend()
        start = time.monotonic()
        flood = connection.start(_publish(connection, 64, 500_000))
        connection.signal.take()
        assert select.select([connection.signal.fd], [], [], PATIENCE)[0]
        assert time.monotonic() - start < 12
        assert not flood.done()
        server.resume()
        assert "streams" in connection.call("INFO")
        assert lost.wait(SOON)

    def test_control_one_that_hangs_for_a_moment_is_kept(
        self, own_server: Callable[..., Server], connect: Connect
    ) -> None:
        server = own_server()
        connection = connect(server.url)
        told: list[int] = []
        connection.watch_lost(lambda: told.append(1))
        server.suspend()
        answer = connection.start(connection.api("INFO"))
        server.resume()
        assert "streams" in answer.result(PATIENCE)
        assert told == []


async def _publish(connection: Connection, count: int, size: int) -> None:
    for _ in range(count):
        await connection.client.publish("x", bytes(size))


class TestJetStreamThatIsNotThere:
    def test_a_server_without_it(self, own_server: Callable[..., Server], connect: Connect) -> None:
        connection = connect(own_server(jetstream=None).url)
        with pytest.raises(ConfigurationError, match="JetStream is not enabled"):
            connection.call("INFO")

    def test_an_account_without_it(self, own_server: Callable[..., Server], connect: Connect) -> None:
        config = "accounts { A { users: [ { user: a, password: a } ] } }"
        connection = connect(own_server(config=config).url, user="a", password="a")
        with pytest.raises(ConfigurationError, match="not enabled for account"):
            connection.call("INFO")


class TestThreads:
    def test_several_use_one_connection(self, server: Server, connect: Connect) -> None:
        connection = connect(server.url)
        connection.call("STREAM.CREATE.s", {"name": "s", "subjects": ["s"]})
        counts: list[int] = []

        def work() -> None:
            for _ in range(50):
                connection.run(connection.request("s", b"x"))
            counts.append(50)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert connection.call("STREAM.INFO.s")["state"]["messages"] == sum(counts) == 200

    def test_one_has_a_connection_of_its_own(self, server: Server) -> None:
        """As a sink of fanout has; the main thread is not needed for it."""
        found: list[int] = []

        def work() -> None:
            connection = Connection(parse(server.url, {}))
            found.append(connection.call("INFO")["streams"])
            connection.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
        assert found == [0]

    def test_closing_ends_the_thread_and_what_runs(self, server: Server) -> None:
        before = threading.active_count()
        connection = Connection(parse(server.url, {}))
        waiting = connection.start(asyncio.Event().wait())
        connection.close()
        connection.close()
        assert threading.active_count() == before
        with pytest.raises(CancelledError):
            waiting.result(SOON)
        with pytest.raises(Unanswered, match="closed"):
            connection.call("INFO")

    def test_whoever_has_something_to_tidy_up_can_do_so(self, server: Server) -> None:
        """While the connection can still be used; one that fails or hangs does not keep others, or the end, from it."""
        connection = Connection(parse(server.url, {}))
        connection.call("STREAM.CREATE.s", {"name": "s", "subjects": ["s"]})

        async def tidy_up() -> None:
            await connection.client.publish("s", b"tidy")

        async def fail() -> None:
            raise ZeroDivisionError

        async def hang() -> None:
            await asyncio.Event().wait()

        for one in (fail, tidy_up, hang):
            connection.watch_close(one)
        assert seconds_of(connection.close) < 5
        with server.wire() as wire:
            assert wire.api("STREAM.INFO.s")["state"]["messages"] == 1

    def test_a_defect_in_a_callback_is_not_lost(self, server: Server, connect: Connect) -> None:
        """What nobody could catch fails whoever asks for something next."""
        connection = connect(server.url)

        async def fail(_: object) -> None:
            raise ZeroDivisionError

        connection.run(connection.client.subscribe("here", cb=fail))
        connection.run(connection.client.publish("here", b""))
        assert select.select([connection.signal.fd], [], [], PATIENCE)[0]
        with pytest.raises(ZeroDivisionError):
            connection.call("INFO")


class TestTheProcess:
    def start(self, server: Server, *lines: str) -> subprocess.Popen[bytes]:
        """A process that has a connection `c`, runs these lines and has written a line to say that it begins."""
        code = [
            "import os, sys, time, subprocess",
            "from evtool.stores.nats.address import parse",
            "from evtool.stores.nats.connection import Connection",
            f"c = Connection(parse({server.url!r}, {{}}))",
            "print('ready', flush=True)",
            *lines,
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", "\n".join(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def test_it_ends_though_a_connection_is_open(self, server: Server) -> None:
        left = finish(self.start(server, "c.call('INFO')"))
        assert (left.code, left.err) == (0, "")

    def test_an_interrupt_ends_a_wait_at_once(self, own_server: Callable[..., Server]) -> None:
        server = own_server()
        process = self.start(server, "sys.stdin.readline()", "print('waits', flush=True)", "c.call('INFO')")
        server.suspend()
        assert server.process is not None
        server_pid = server.process.pid
        wait_until(lambda: _states(server_pid) == {"T"}, "the server to stand still")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"waits\n"
        wait_until(lambda: "R" not in _states(process.pid), "the wait")
        assert process.poll() is None, finish(process)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        left = finish(process)
        assert time.monotonic() - start < SOON
        assert left.code == -signal.SIGINT
        assert "KeyboardInterrupt" in left.err

    def test_children_do_it_no_harm(self, server: Server) -> None:
        """They have none of its descriptors, and a forked one is told that the connection is not its own."""
        forked = (
            "pid = os.fork()",
            "if pid == 0:",
            "    try: c.call('INFO')",
            "    except Exception as error: os.write(1, str(error).encode())",
            "    os._exit(0)",
            "os.waitpid(pid, 0)",
        )
        listed = (
            "os.write(1, subprocess.run(['ls', '/proc/self/fd'], capture_output=True).stdout.replace(b'\\n', b' '))"
        )
        left = finish(self.start(server, listed, *forked, "os.write(1, str(c.call('INFO')['streams']).encode())"))
        assert left.out == f"0 1 2 3 {server.url}: the connection was closed0", left


def _states(pid: int) -> set[str]:
    """What the threads of a process do, as a letter."""
    return {path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}


class TestSignal:
    def test_it_can_be_waited_for(self) -> None:
        one = Signal()
        assert not select.select([one.fd], [], [], 0)[0]
        one.set()
        one.set()
        assert select.select([one.fd], [], [], 0)[0]
        assert one.take()
        assert not select.select([one.fd], [], [], 0)[0]
        assert not one.take()

    def test_it_can_be_set_while_it_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes in that moment is found by whoever looks after `take`; what comes later is told again."""
        one = Signal()
        one.set()
        read = os.read

        def read_in_between(fd: int, size: int) -> bytes:
            one.set()
            return read(fd, size)

        monkeypatch.setattr(os, "read", read_in_between)
        assert one.take()
        monkeypatch.undo()
        one.set()
        assert select.select([one.fd], [], [], 0)[0]

    def test_it_gives_its_descriptors_back(self) -> None:
        one = Signal()
        fd = one.fd
        del one
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(fd)

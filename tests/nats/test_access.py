"""Who may come in: every way to say who we are, as real servers check it, and what is said when they refuse."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import ConfigurationError
from evtool.stores.nats import client
from evtool.stores.nats.address import parse
from evtool.stores.nats.connection import Connection, Unanswered
from tests.nats.credentials import Authority, Key, Operator, secret
from tests.program import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.nats.program import NatsProgram
    from tests.nats.server import Server

    Connect = Callable[..., Connection]
    Program = Callable[[str], NatsProgram]
    Own = Callable[..., Server]

SOON = 1.0
PASSWORD = "p:/?#[]@%20 ü"
IN_URL = "p%3A%2F%3F%23%5B%5D%40%2520%20%C3%BC"


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects to a URL, and asks something to see that this is good for something."""
    made = []

    def connection(url: str, **settings: Any) -> Connection:
        made.append(Connection(parse(url, {name: str(value) for name, value in settings.items()})))
        assert "streams" in made[-1].call("INFO")
        return made[-1]

    yield connection
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


def with_user(server: Server, who: str) -> str:
    """The server's URL with credentials in it."""
    return server.url.replace("://", f"://{who}@")


def call_until_it_fails(connection: Connection) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        connection.call("INFO")


def users(*lines: str) -> str:
    return "authorization { users: [\n" + "\n".join(lines) + "\n] }"


class TestWaysToSayWhoWeAre:
    def test_user_and_password(self, own_server: Own, connect: Connect) -> None:
        """In the URL with what is no plain character escaped, or as settings, as they are."""
        server = own_server(config=users(f'{{ user: joe, password: "{PASSWORD}" }}'))
        connect(with_user(server, f"joe:{IN_URL}"))
        connect(server.url, user="joe", password=PASSWORD)
        self.is_refused(with_user(server, "joe:wrong"))
        self.is_asked_for(server.url)

    def test_token(self, own_server: Own, connect: Connect) -> None:
        server = own_server(config=f'authorization {{ token: "{PASSWORD}" }}')
        connect(with_user(server, IN_URL))
        connect(server.url, token=PASSWORD)
        self.is_refused(with_user(server, "wrong"))
        self.is_asked_for(server.url)

    def test_nkey(self, own_server: Own, connect: Connect, tmp_path: Path) -> None:
        key = Key()
        server = own_server(config=users(f"{{ nkey: {key.public} }}"))
        file, other = secret(tmp_path / "a.nk", f"{key.seed}\n"), secret(tmp_path / "b.nk", Key().seed)
        connect(f"{server.url}?nkey={file}")
        connect(server.url, nkey=file)
        self.is_refused(server.url, nkey=other)
        self.is_asked_for(server.url)

    def test_creds_file(self, own_server: Own, connect: Connect, tmp_path: Path) -> None:
        """As an operator's account gives them out; another operator's are worth nothing here."""
        operator = Operator()
        server = own_server(config=operator.config)
        connect(f"{server.url}?creds={operator.creds(tmp_path / 'a.creds')}")
        connect(server.url, creds=operator.creds(tmp_path / "b.creds"))
        self.is_refused(server.url, creds=Operator().creds(tmp_path / "c.creds"))
        self.is_refused(server.url, creds=operator.creds(tmp_path / "d.creds", expires=time.time() - 60))
        self.is_asked_for(server.url)

    def test_client_certificate(self, own_server: Own, connect: Connect, authority: Authority) -> None:
        """The server knows the user by the certificate."""
        server = own_server(config=authority.config("verify: true"))
        cert, key = authority.issue("extendedKeyUsage=clientAuth")
        connect(server.url, ca=authority.certificate, cert=cert, key=key)
        connect(f"{server.url}?ca={authority.certificate}&cert={cert}&key={key}")
        with pytest.raises(ConfigurationError, match="the server wants a certificate of ours") as caught:
            Connection(parse(server.url, {"ca": str(authority.certificate)}))
        assert "cert=FILE" in str(caught.value.hint)

    def test_a_certificate_of_somebody_else(self, own_server: Own, authority: Authority, tmp_path: Path) -> None:
        server = own_server(config=authority.config("verify: true"))
        cert, key = Authority(tmp_path / "other").issue("extendedKeyUsage=clientAuth")
        said = {"ca": str(authority.certificate), "cert": str(cert), "key": str(key)}
        with pytest.raises(ConfigurationError, match="does not accept our certificate"):
            Connection(parse(server.url, said))

    @pytest.mark.parametrize("way", ["creds", "nkey"])
    def test_a_file_that_holds_none(self, own_server: Own, tmp_path: Path, way: str) -> None:
        """Is told by its name, whatever it holds."""
        server = own_server(config=Operator().config)
        for content in ("", "hello\n", "-----BEGIN NATS USER JWT-----\nx\n", "\xff\0"):
            file = secret(tmp_path / "file", content)
            with pytest.raises(ConfigurationError, match="holds no usable credentials") as caught:
                Connection(parse(server.url, {way: str(file)}))
            assert caught.value.what == str(file)

    def is_refused(self, url: str, **settings: Any) -> None:
        with pytest.raises(ConfigurationError, match="the server refused these credentials") as caught:
            Connection(parse(url, {name: str(value) for name, value in settings.items()}))
        assert caught.value.exit_code == 78
        assert caught.value.what == parse(url, {}).shown

    def is_asked_for(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="the server wants credentials, and there are none"):
            Connection(parse(url, {}))


class TestEncryption:
    def test_the_server_s_certificate_is_checked(self, own_server: Own, connect: Connect, authority: Authority) -> None:
        """Who has signed it, and that it is for this name."""
        url = own_server(config=authority.config()).url.replace("nats:", "tls:")
        connect(url, ca=authority.certificate)
        with pytest.raises(ConfigurationError, match="certificate is not good: .*issuer") as caught:
            Connection(parse(url, {}))
        assert "ca=FILE" in str(caught.value.hint)
        with pytest.raises(ConfigurationError, match="certificate is not good: .*localhost"):
            Connection(parse(url.replace("127.0.0.1", "localhost"), {"ca": str(authority.certificate)}))

    @pytest.mark.parametrize("said", ["tls://", "ca="])
    def test_no_password_goes_out_unencrypted(self, said: str, authority: Authority) -> None:
        """A server that says that it has no TLS gets nothing from whoever asks for it."""
        got: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def serve() -> None:
                one, _ = listening.accept()
                with one:
                    one.sendall(b'INFO {"server_id":"x","max_payload":1048576,"auth_required":true}\r\n')
                    try:
                        got.append(one.recv(4096))
                    except ConnectionResetError:
                        got.append(b"")

            thread = threading.Thread(target=serve)
            thread.start()
            settings = {"ca": str(authority.certificate)} if said == "ca=" else {}
            address = parse(f"{'tls' if said == 'tls://' else 'nats'}://joe:secret@127.0.0.1:{port}", settings)
            with pytest.raises(ConfigurationError, match="no TLS"):
                Connection(address)
            thread.join()
        assert got == [b""]

    def test_files_that_are_no_certificates(self, server: Server, tmp_path: Path) -> None:
        file = tmp_path / "ca.pem"
        file.write_text("hello")
        with pytest.raises(ConfigurationError, match="no usable certificate") as caught:
            Connection(parse(server.url, {"ca": str(file)}))
        assert caught.value.what == str(file)

    def test_a_server_that_hangs_is_left_all_the_same(
        self,
        own_server: Own,
        connect: Connect,
        authority: Authority,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The farewell of TLS, for which asyncio would take 30 s, is not waited for, and nothing is said about it."""
        monkeypatch.setattr(client, "_PING_SECONDS", 0.1)
        server = own_server(config=authority.config())
        connection = connect(server.url, ca=authority.certificate)
        again: list[int] = []
        connection.watch_lost(lambda: again.append(1))
        server.suspend()
        with pytest.raises(Unanswered, match="not connected to any server"):
            connection.call("INFO", patience=2)
        server.resume()
        start = time.monotonic()
        assert "streams" in connection.call("INFO")
        assert time.monotonic() - start < 10
        assert again == [1]
        assert capfd.readouterr() == ("", "")


class TestWhatIsGrantedNoMore:
    def test_a_password_that_was_changed(self, own_server: Own, connect: Connect) -> None:
        """Who waits is told at once, and so is whoever asks later; nobody hangs."""
        server = own_server(config=users("{ user: joe, password: a }", "{ user: eve, password: a }"))
        connection, other = connect(with_user(server, "joe:a")), connect(with_user(server, "eve:a"))
        connection.run(connection.client.subscribe("deaf"))
        waiting = connection.start(connection.request("deaf", timeout=PATIENCE))
        server.reload(users("{ user: joe, password: b }", "{ user: eve, password: a }"))
        with pytest.raises((ConfigurationError, Unanswered)):
            waiting.result(SOON)
        start = time.monotonic()
        with pytest.raises(ConfigurationError, match="refused these credentials"):
            connection.call("INFO")
        assert time.monotonic() - start < SOON
        assert "streams" in other.call("INFO")

    def test_credentials_that_expire(self, own_server: Own, connect: Connect, tmp_path: Path) -> None:
        operator = Operator()
        server = own_server(config=operator.config)
        connection = connect(server.url, creds=operator.creds(tmp_path / "a.creds", expires=time.time() + 2))
        with pytest.raises(ConfigurationError, match="refused these credentials .*expired"):
            call_until_it_fails(connection)

    def test_credentials_that_are_renewed_in_time(self, own_server: Own, connect: Connect, tmp_path: Path) -> None:
        """The file is read anew for each connection, so that whoever rotates credentials need not restart anything."""
        operator = Operator()
        server = own_server(config=operator.config)
        file = operator.creds(tmp_path / "a.creds", expires=time.time() + 2)
        connection = connect(server.url, creds=file)
        again: list[int] = []
        connection.watch_lost(lambda: again.append(1))
        operator.creds(file)
        wait_until(lambda: again, "the new connection")
        assert "streams" in connection.call("INFO")


class TestPermissions:
    def test_what_is_denied_is_told_apart_from_what_is_not_answered(self, own_server: Own, connect: Connect) -> None:
        """At once, by user and subject as we know it, with another exit code; and only what is denied fails."""
        denied = '{ publish: { deny: ["$JS.API.STREAM.CREATE.>", "Denied.>"] } }'
        server = own_server(config=users(f"{{ user: joe, password: a, permissions: {denied} }}"))
        connection = connect(with_user(server, "joe:a"))
        start = time.monotonic()
        with pytest.raises(ConfigurationError) as caught:
            connection.call("STREAM.CREATE.S", {"name": "S"})
        assert time.monotonic() - start < SOON
        assert caught.value.why == "permission denied: user joe may not publish to $JS.API.STREAM.CREATE.S"
        assert caught.value.exit_code == 78
        connection.run(connection.client.subscribe("deaf"))
        with pytest.raises(Unanswered) as unanswered:
            connection.run(connection.request("deaf", timeout=0.2))
        assert unanswered.value.exit_code == 75
        assert "streams" in connection.call("INFO")

    def test_what_is_denied_in_the_background_fails_the_next_call(self, own_server: Own, connect: Connect) -> None:
        """What nobody waits for an answer to, such as an acknowledgement, would else be missed in silence."""
        server = own_server(config=users('{ user: joe, password: a, permissions: { publish: { deny: "acks" } } }'))
        connection = connect(with_user(server, "joe:a"))
        waiting = connection.start(connection.request("$JS.API.INFO", timeout=PATIENCE))
        assert waiting.result(PATIENCE)
        connection.run(connection.client.publish("acks", b""))
        with pytest.raises(ConfigurationError, match="user joe may not publish to acks"):
            call_until_it_fails(connection)

    def test_who_may_not_subscribe_to_answers(self, own_server: Own) -> None:
        """Is told so when connecting, and not that nobody answers."""
        server = own_server(config=users('{ user: joe, password: a, permissions: { subscribe: "_INBOX_joe.>" } }'))
        start = time.monotonic()
        with pytest.raises(ConfigurationError, match=r"user joe may not subscribe to _INBOX\."):
            Connection(parse(with_user(server, "joe:a"), {})).call("INFO")
        assert time.monotonic() - start < SOON

    def test_an_inbox_of_one_s_own(self, own_server: Own, connect: Connect) -> None:
        server = own_server(config=users('{ user: joe, password: a, permissions: { subscribe: "_INBOX_joe.>" } }'))
        connect(f"{with_user(server, 'joe:a')}?inbox=_INBOX_joe")


class TestTheProgram:
    """Where it takes them from, and that it keeps them to itself."""

    @pytest.fixture
    def operator(self) -> Operator:
        return Operator()

    @pytest.fixture
    def url(self, own_server: Own, operator: Operator) -> str:
        return own_server(config=operator.config).url

    @pytest.fixture
    def plain(self, tmp_path: Path) -> dict[str, str]:
        """An environment in which only the settings file says anything."""
        return {"EVTOOL_STORE": "", "EVTOOL_HOME": "", "EVTOOL_CONFIG": str(tmp_path / "evtool.toml")}

    def test_credentials_may_stand_in_any_of_four_places(
        self, nats_program: Program, operator: Operator, url: str, plain: dict[str, str], tmp_path: Path
    ) -> None:
        evtool = nats_program(url)
        file = operator.creds(tmp_path / "a.creds")
        assert evtool("topics").code == 78
        assert evtool("topics", "--creds", str(file)).code == 0
        assert evtool("topics", env={"EVTOOL_CREDS": str(file)}).code == 0
        assert evtool("topics", env={"EVTOOL_STORE": f"{url}?creds={file}"}).code == 0
        secret(tmp_path / "evtool.toml", f'store = "{url}"\ncreds = "{file}"\n')
        assert evtool("topics", env=plain).code == 0
        secret(tmp_path / "evtool.toml", f'store = "{url}"\ncreds = "a.creds"\n')
        assert evtool("topics", env=plain).code == 0

    def test_the_command_line_counts_more_than_the_rest(
        self, nats_program: Program, operator: Operator, url: str, tmp_path: Path
    ) -> None:
        """Good credentials do not help if they are said further away."""
        good, bad = operator.creds(tmp_path / "a.creds"), Operator().creds(tmp_path / "b.creds")
        evtool = nats_program(f"{url}?creds={bad}")
        assert evtool("topics", "--creds", str(good), env={"EVTOOL_CREDS": str(bad)}).code == 0
        assert evtool("topics", env={"EVTOOL_CREDS": str(good)}).code == 78
        assert nats_program(url)("topics", "--creds", str(bad), env={"EVTOOL_CREDS": str(good)}).code == 78

    def test_a_file_that_others_may_read_is_refused(
        self, nats_program: Program, operator: Operator, url: str, tmp_path: Path
    ) -> None:
        file = operator.creds(tmp_path / "a.creds")
        file.chmod(0o640)
        left = nats_program(url)("topics", "--creds", str(file))
        assert left.code == 78
        assert left.err == (
            f"evtool: {file}: others may read it (mode 0640), and it holds a secret\nhint: chmod 600 {file}\n"
        )

    def test_a_password_on_the_command_line_is_refused(self, nats_program: Program, url: str) -> None:
        """Where `ps` would show it to everybody; and the message does not show it either."""
        for who in ("joe:hunter2", "hunter2"):
            left = nats_program(url)("topics", "--store", url.replace("://", f"://{who}@"))
            assert left.code == 2
            assert left.err.startswith("evtool: --store: a password or a token has no place on the command line")
            assert "hunter2" not in left.err

    @pytest.mark.parametrize("command", [["topics"], ["append", "t", "1"], ["tail", "t"], ["create", "t"]])
    def test_no_message_shows_a_secret(self, own_server: Own, nats_program: Program, command: list[str]) -> None:
        server = own_server(config=users("{ user: joe, password: a }"))
        left = nats_program(with_user(server, "joe:hunter2"))(*command)
        assert left.code == 78
        assert left.err == f"evtool: {server.url}: the server refused these credentials (authorization violation)\n"
        server.kill()
        left = nats_program(with_user(server, "joe:hunter2"))(*command)
        assert left.code == 75
        assert left.err.startswith(f"evtool: {server.url}: connection refused\n")
        assert "hunter2" not in left.err

    def test_a_dead_address_is_told_within_two_seconds(self, nats_program: Program) -> None:
        """The start of the program included, also where nothing comes back at all."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
            evtool = nats_program(url)
            start = time.monotonic()
            left = evtool("append", "t", "1")
            assert time.monotonic() - start < 2 + 1.5  # a second and a half for a machine that is busy with other tests
            assert (left.code, left.err.count("\n")) == (75, 2)
            assert left.err.startswith(f"evtool: {url}: no answer in 2 s\n")

    def test_commands_that_work_on_files_say_so(self, nats_program: Program, url: str) -> None:
        for command in (["doctor"], ["repair", "t"], ["compact", "t"]):
            left = nats_program(url)(*command)
            assert left.code == 2
            assert left.err.startswith(f"evtool: {command[0]}: works on the file log only: the store is {url}\n")

    def test_a_client_that_is_not_installed_is_named(self, nats_program: Program, tmp_path: Path) -> None:
        """With how to get it."""
        (tmp_path / "nats").mkdir()
        (tmp_path / "nats" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='nats')")
        left = nats_program("nats://h")("topics", env={"PYTHONPATH": str(tmp_path)})
        assert (left.code, left.err) == (
            78,
            "evtool: nats://h:4222: the client for NATS, nats-py, is not installed\nhint: pip install 'evtool[nats]'\n",
        )

    def test_a_start_with_files_does_not_know_of_servers(self, nats_program: Program, tmp_path: Path) -> None:
        """Control: one with a server does."""
        evtool = nats_program("nats://127.0.0.1:1")
        assert "nats" not in _imported(evtool, str(tmp_path))
        assert {"nats", "tomllib"} - _imported(evtool, "nats://127.0.0.1:1") == {"tomllib"}


def _imported(evtool: NatsProgram, store: str) -> set[str]:
    code = "from evtool.__main__ import main; main()"
    environment = evtool.environment({"env": {"EVTOOL_STORE": store}})
    environment["EVTOOL_CONFIG"] = ""
    environment["XDG_CONFIG_HOME"] = os.devnull
    command = [sys.executable, "-X", "importtime", "-c", code, "topics"]
    left = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in left.stderr.decode().splitlines()}

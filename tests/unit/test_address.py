"""Addresses of clusters, and which store is meant: of what is said in several places the nearest counts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from evtool.errors import ConfigurationError, EvtoolError, UsageError
from evtool.stores import access, find, open_store, settings_file
from evtool.stores.file import FileStore
from evtool.stores.nats.address import parse

if TYPE_CHECKING:
    from pathlib import Path

    Environment = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """One in which nothing is said; the settings file is to be at `evtool/evtool.toml`."""
    for name in ("EVTOOL_STORE", "EVTOOL_HOME", "EVTOOL_CREDS", "EVTOOL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    return monkeypatch


def settings(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    (tmp_path / "evtool").mkdir(exist_ok=True)
    file = tmp_path / "evtool" / "evtool.toml"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://h", ["nats://h:4222"]),
        ("nats://h:1", ["nats://h:1"]),
        ("nats://H", ["nats://h:4222"]),
        ("nats://h/", ["nats://h:4222"]),
        ("nats://a:1,b,c:3", ["nats://a:1", "nats://b:4222", "nats://c:3"]),
        ("tls://a,b", ["tls://a:4222", "tls://b:4222"]),
        ("nats://127.0.0.1:5,[::1]:6,[::2]", ["nats://127.0.0.1:5", "nats://[::1]:6", "nats://[::2]:4222"]),
        ("nats://joe:x@a,b?domain=d", ["nats://a:4222", "nats://b:4222"]),
    ],
)
def test_the_servers_of_a_url(url: str, servers: list[str]) -> None:
    assert parse(url, {}).servers == servers


@pytest.mark.parametrize(
    ("url", "user", "password", "token"),
    [
        ("nats://h", None, None, None),
        ("nats://joe:x@h", "joe", "x", None),
        ("nats://joe:a%3Ab%40c%2F@h", "joe", "a:b@c/", None),
        ("nats://jo%20e:x:y@h", "jo e", "x:y", None),
        ("nats://joe:p@ss@h", "joe", "p@ss", None),
        ("nats://t%C3%BCr@h", None, None, "tür"),
    ],
)
def test_who_we_are_in_a_url(url: str, user: str | None, password: str | None, token: str | None) -> None:
    """Percent signs stand for bytes of UTF-8, as in any URL."""
    address = parse(url, {})
    assert (address.user, address.password, address.token) == (user, password, token)


def test_the_parameters_of_a_url(tmp_path: Path) -> None:
    for name in ("a b", "ca", "cert", "key"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    files = f"creds={tmp_path}/a%20b&ca={tmp_path}/ca&cert={tmp_path}/cert&key={tmp_path}/key"
    address = parse(f"nats://h?{files}&domain=hub&replicas=5&inbox=_INBOX_joe", {})
    found = (address.creds, address.tls_ca, address.tls_cert, address.tls_key)
    assert found == tuple(str(tmp_path / name) for name in ("a b", "ca", "cert", "key"))
    assert (address.domain, address.replicas, address.inbox, address.wants_tls) == ("hub", 5, "_INBOX_joe", True)


def test_what_is_not_said_is_none() -> None:
    address = parse("nats://h", {})
    assert [address.creds, address.nkey, address.domain, address.replicas, address.inbox] == [None] * 5
    assert not address.wants_tls
    assert not address.has_credentials
    assert parse("tls://h", {}).wants_tls


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nats://", "names no host"),
        ("nats://?domain=d", "names no host"),
        ("nats://a,,b", "names no host"),
        ("nats://a:x", "is no HOST:PORT"),
        ("nats://a:0", "is no HOST:PORT"),
        ("nats://a:70000", "is no HOST:PORT"),
        ("nats://a b", "is no HOST:PORT"),
        ("nats://h/path", "names a path"),
        ("nats://h#x", "names a path"),
        ("nats://h?creeds=x", "'creeds' is no parameter of an address; known are creds, nkey, ca"),
        ("nats://h?password=x", "'password' is no parameter"),
        ("nats://h?domain=", "the parameter domain is empty"),
        ("nats://h?replicas=6", "'6' is no number from 1 to 5"),
        ("nats://h?replicas=x", "'x' is no number from 1 to 5"),
        ("nats://h?domain=a.b", "'a.b' cannot be part of a subject"),
        ("nats://h?inbox=a%20b", "'a b' cannot be part of a subject"),
        ("nats://h?creds=/no/such", "no such file or directory"),
        ("nats://h?ca=/", "is a directory"),
        ("nats://h?cert=/dev/null", "cert and key go together"),
        ("nats://joe:x@h?nkey=/dev/null", "one of user and nkey"),
        ("nats://h?creds=/dev/null&nkey=/dev/null", "one of creds and nkey"),
    ],
)
def test_what_is_wrong_is_told_without_secrets(url: str, why: str) -> None:
    """By the address as it may be shown, or the file concerned."""
    with pytest.raises(EvtoolError, match=why):
        parse(url, {})
    with pytest.raises(EvtoolError) as caught:
        parse(url.replace("://", "://joe:hunter2@") if "@" not in url else url.replace("joe:x", "joe:hunter2"), {})
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_nothing_secret_is_shown() -> None:
    address = parse("nats://joe:hunter2@a:1,b?domain=d", {})
    assert address.shown == "nats://a:1,b:4222"
    assert "hunter2" not in f"{address!r} {address.servers}"


@pytest.mark.parametrize(("mode", "is_refused"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
@pytest.mark.parametrize("name", ["creds", "nkey", "key"])
def test_a_file_with_a_secret_is_for_its_owner_alone(tmp_path: Path, name: str, mode: int, is_refused: bool) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(mode)
    said = {name: str(file)} | ({"cert": "/dev/null"} if name == "key" else {})
    if not is_refused:
        parse("nats://h", said)
        return
    with pytest.raises(ConfigurationError, match=f"others may read it .mode 0{mode:o}") as caught:
        parse("nats://h", said)
    assert caught.value.hint == f"chmod 600 {file}"


def test_a_url_that_says_who_we_are_counts_more_than_settings(tmp_path: Path) -> None:
    """Then nothing of what the settings say about that is left, but all the rest is."""
    said = {"user": "eve", "password": "x", "domain": "hub", "replicas": "3"}
    address = parse("nats://token@h?replicas=1", said)
    assert (address.user, address.password, address.token) == (None, None, "token")
    assert (address.domain, address.replicas) == ("hub", 1)


class TestWhichStore:
    def test_nothing_said_is_the_directory_of_old(self) -> None:
        assert find() == ("/data/evtool", {})

    def test_the_first_of_four_places_counts(self, environment: Environment, tmp_path: Path) -> None:
        """--store, EVTOOL_STORE, EVTOOL_HOME, the settings file: what is said nearer to the command."""
        settings(tmp_path, 'store = "/file"\n')
        assert find()[0] == "/file"
        environment.setenv("EVTOOL_HOME", "/home")
        assert find()[0] == "/home"
        environment.setenv("EVTOOL_STORE", "/store")
        assert find()[0] == "/store"
        assert find("/said")[0] == "/said"
        environment.setenv("EVTOOL_STORE", "")
        environment.setenv("EVTOOL_HOME", "")
        assert find()[0] == "/file"

    @pytest.mark.parametrize(
        ("said", "location"),
        [
            ("/a", "/a"),
            ("./a", "./a"),
            ("file:/a", "/a"),
            ("file:a", "a"),
            ("file:///a", "/a"),
            ("nats://h", "nats://h"),
            ("tls://h:1?domain=d", "tls://h:1?domain=d"),
        ],
    )
    def test_what_a_location_may_be(self, said: str, location: str) -> None:
        assert find(said)[0] == location

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ("", "is empty"),
            ("file:", "is empty"),
            ("house", "no such directory"),
            ("localhost:4222", "neither a directory nor an address"),
            ("nats:h", "neither a directory nor an address"),
            ("nats:/h:4222", "neither a directory nor an address"),
            ("tls:h", "neither a directory nor an address"),
            ("kafka://h", "no such kind of store: kafka://"),
            ("http://h", "no such kind of store: http://"),
            ("file://h/a", "names another machine"),
            ("nats://", "names no host"),
        ],
    )
    def test_what_it_may_not_be(self, said: str, why: str) -> None:
        with pytest.raises(UsageError, match=why):
            find(said)

    def test_credentials_are_for_a_cluster(self) -> None:
        with pytest.raises(UsageError, match="--creds: is for a NATS server"):
            find("/a", "file")
        assert find("nats://joe:x@h?domain=d", "file") == ("nats://h?domain=d", {"creds": "file"})
        assert find("nats://h?nkey=a&domain=d", "file") == ("nats://h?domain=d", {"creds": "file"})

    def test_credentials_of_the_environment_are_used_where_they_can_be(self, environment: Environment) -> None:
        environment.setenv("EVTOOL_CREDS", "file")
        assert find("nats://h") == ("nats://h", {"creds": "file"})
        assert find("nats://h", "said") == ("nats://h", {"creds": "said"})
        assert find("/a") == ("/a", {})

    def test_a_directory_that_is_named_is_opened(self, tmp_path: Path) -> None:
        store = open_store(find(f"file:{tmp_path}/log")[0], create=True)
        assert isinstance(store, FileStore)
        assert (tmp_path / "log").is_dir()


class TestTheSettingsFile:
    def test_where_it_is(self, environment: Environment, tmp_path: Path) -> None:
        assert settings_file() == str(tmp_path / "evtool" / "evtool.toml")
        environment.setenv("EVTOOL_CONFIG", "/x.toml")
        assert settings_file() == "/x.toml"
        environment.delenv("EVTOOL_CONFIG")
        environment.delenv("XDG_CONFIG_HOME")
        environment.setenv("HOME", "/home/joe")
        assert settings_file() == "/home/joe/.config/evtool/evtool.toml"

    def test_one_that_was_asked_for_has_to_be_there(self, environment: Environment) -> None:
        environment.setenv("EVTOOL_CONFIG", "/no/such.toml")
        with pytest.raises(ConfigurationError, match=r"/no/such\.toml: no such file"):
            find()

    def test_everything_that_an_address_has_may_stand_in_it(self, tmp_path: Path) -> None:
        """Paths are relative to its own directory."""
        settings(tmp_path, 'store = "nats://h"\ncreds = "a"\ncert = "~/b"\nca = "/c"\ndomain = "d"\nreplicas = 3\n')
        location, said = find()
        home = os.path.expanduser("~/b")
        here = f"{tmp_path}/evtool/a"
        assert location == "nats://h"
        assert said == {"creds": here, "cert": home, "ca": "/c", "domain": "d", "replicas": "3"}

    def test_a_directory_in_it_is_relative_to_its_own(self, tmp_path: Path) -> None:
        settings(tmp_path, 'store = "file:log"\n')
        assert find() == (f"{tmp_path}/evtool/log", {})

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("stoer = 1", "unknown key 'stoer'; known are store, user"),
            ("store = 1", "store is no text"),
            ("user = ''", "user is empty"),
            ("replicas = true", "replicas is no text"),
            ("store", "no TOML: "),
            ("store = 'kafka://h'", "no such kind of store"),
            ("[nats]\nstore = 'x'", "unknown key 'nats'"),
        ],
    )
    def test_what_is_wrong_with_it_is_told_by_its_name(self, tmp_path: Path, text: str, why: str) -> None:
        file = settings(tmp_path, text)
        with pytest.raises(EvtoolError, match=why) as caught:
            find()
        assert str(caught.value).startswith(file)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        file = settings(tmp_path, "")
        with open(file, "wb") as stream:
            stream.write(b"\xff")
        with pytest.raises(ConfigurationError, match="no TOML"):
            find()

    @pytest.mark.parametrize(
        ("text", "mode", "is_refused"),
        [
            ('store = "nats://h"', 0o644, False),
            ('store = "nats://h"', 0o664, True),
            ('token = "x"', 0o600, False),
            ('token = "x"', 0o640, True),
            ('user = "x"\npassword = "x"', 0o604, True),
            ('store = "nats://x@h"', 0o644, True),
            ('creds = "file"', 0o644, False),
        ],
    )
    def test_one_with_a_secret_is_for_its_owner_alone(
        self, tmp_path: Path, text: str, mode: int, is_refused: bool
    ) -> None:
        file = settings(tmp_path, text, mode)
        if not is_refused:
            find()
            return
        with pytest.raises(ConfigurationError, match="others may") as caught:
            find()
        assert caught.value.hint == f"chmod 600 {file}"

    def test_a_password_is_not_sent_to_another_cluster(self, tmp_path: Path) -> None:
        """It belongs to the cluster that the file names, by any of its servers; or to any, if it names none."""
        settings(tmp_path, 'store = "nats://a,b"\ntoken = "x"\n')
        assert find("nats://b:4222,c")[1] == {"token": "x"}
        assert find("nats://c")[1] == {}
        settings(tmp_path, 'token = "x"\n')
        assert find("nats://c")[1] == {"token": "x"}
        settings(tmp_path, 'store = "/a"\ntoken = "x"\n')
        assert find("nats://c")[1] == {}

    def test_what_is_said_nearer_replaces_who_it_says_we_are(self, environment: Environment, tmp_path: Path) -> None:
        settings(tmp_path, 'token = "x"\ndomain = "d"\n')
        environment.setenv("EVTOOL_CREDS", "file")
        assert find("nats://c")[1] == {"creds": "file", "domain": "d"}
        assert find("nats://c", "said")[1] == {"creds": "said", "domain": "d"}

    def test_it_is_not_even_looked_at_where_a_directory_is_named(
        self, environment: Environment, tmp_path: Path
    ) -> None:
        """A file that is broken does not stop those who do not need it."""
        settings(tmp_path, "broken")
        assert find("/a") == ("/a", {})
        environment.setenv("EVTOOL_HOME", "/home")
        assert find() == ("/home", {})
        with pytest.raises(ConfigurationError):
            access.read_settings(settings_file())

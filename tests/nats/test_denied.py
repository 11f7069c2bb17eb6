"""Users who may do a part of what a command needs: one line that names what is denied, 78, and never a wait."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nats.program import NatsProgram
    from tests.nats.server import Server
    from tests.program import Result

    Servers = Callable[..., Server]
    Programs = Callable[[str], NatsProgram]

API = "$JS.API."
READ = ["replay", "t"]
HANDLE = ["subscribe", "t", "-g", "GROUP", "--from=earliest", "--", "cat"]
DEAD = ["subscribe", "t", "-g", "GROUP", "--from=earliest", "--retries=0", "-q", "--", "false"]


class Case(NamedTuple):
    """What somebody may not do, and a command that needs it.

    denied: subjects. needs: what the message names. GROUP stands for a group of the case's own. given: what the command
    has given out by then. subscribe: whether it is subscribing that is denied, not publishing.
    """

    denied: str
    command: list[str]
    needs: str
    given: int = 0
    subscribe: bool = False


CASES = {
    "append": Case("evtool.t", ["append", "t", "1"], "evtool.t"),
    "append_many": Case("evtool.t", ["append", "t", "1", "2"], "evtool.t"),
    "make": Case(f"{API}STREAM.CREATE.>", ["append", "new", "1"], f"{API}STREAM.CREATE.evtool_new"),
    "create": Case(f"{API}STREAM.CREATE.>", ["create", "new"], f"{API}STREAM.CREATE.evtool_new"),
    "look": Case(f"{API}STREAM.INFO.>", READ, f"{API}STREAM.INFO.evtool_t"),
    "names": Case(f"{API}STREAM.NAMES", ["tail", "-f", "t*"], f"{API}STREAM.NAMES"),
    "read": Case(f"{API}CONSUMER.CREATE.>", READ, f"{API}CONSUMER.CREATE.evtool_t.=read-"),
    "pull": Case(f"{API}CONSUMER.MSG.NEXT.>", READ, f"{API}CONSUMER.MSG.NEXT.evtool_t.=read-".lower()),
    "follow": Case(f"{API}CONSUMER.MSG.NEXT.>", ["tail", "-f", "t"], f"{API}CONSUMER.MSG.NEXT.evtool_t.=".lower()),
    "find": Case(f"{API}STREAM.MSG.GET.evtool_t", ["replay", "t", "--from=1h"], f"{API}STREAM.MSG.GET.evtool_t"),
    "join": Case(f"{API}CONSUMER.CREATE.>", HANDLE, f"{API}CONSUMER.CREATE.evtool_t.GROUP"),
    "ack": Case("$JS.ACK.>", HANDLE, "$js.ack.evtool_t.GROUP.", given=1),
    "ack_plain": Case("$JS.ACK.>", HANDLE[:5], "$js.ack.evtool_t.GROUP.", given=1),
    "ack_shared": Case("$JS.ACK.>", [*HANDLE[:5], "--share", "--", "cat"], "$js.ack.evtool_t.GROUP.", given=1),
    "record": Case("evtool-groups.>", HANDLE, "evtool-groups.t.GROUP"),
    "read_record": Case(f"{API}STREAM.MSG.GET.evtool_=groups", HANDLE, f"{API}STREAM.MSG.GET.evtool_=groups"),
    "hear": Case("evtool-groups.>", HANDLE, "evtool-groups.t.GROUP", subscribe=True),
    "answer": Case("evtool-groups-who.>", HANDLE, "evtool-groups-who.t.GROUP", subscribe=True),
    "move": Case("evtool-groups.>", ["seek", "t", "-g", "g", "--to=0"], "evtool-groups.t.g"),
    "forget": Case(f"{API}CONSUMER.DELETE.>", ["rm", "t", "-g", "g", "--yes"], f"{API}CONSUMER.DELETE.evtool_t.g"),
    "remove": Case(f"{API}STREAM.DELETE.>", ["rm", "u", "--yes"], f"{API}STREAM.DELETE.evtool_u"),
    "change": Case(f"{API}STREAM.UPDATE.>", ["set", "t", "max-age=1d"], f"{API}STREAM.UPDATE.evtool_t"),
    "set_aside": Case("evtool.t.dead", DEAD, "evtool.t.dead"),
    "inbox": Case("_INBOX.>", READ, "_INBOX.", subscribe=True),
}


def test_what_is_denied_is_named(own_server: Servers, nats_program: Programs) -> None:
    """By exactly one line; nothing is appended, and what was handled comes again to one who may say that it is."""
    users = ", ".join(_user(name, case) for name, case in CASES.items())
    server = own_server(
        config=f"authorization {{ users: [{{ user: op, password: p }}, {users}] }}", login={"user": "op", "pass": "p"}
    )
    operator = nats_program(_url(server, "op"))
    assert operator("append", "t", "1").code == 0
    assert operator("append", "t.dead", "1").code == 0
    assert operator("append", "u", "1").code == 0
    assert operator("subscribe", "t", "-g", "g", "--from=earliest", "--drain").code == 0

    def run(name: str) -> tuple[str, Result, float]:
        began = time.monotonic()
        result = nats_program(_url(server, name))(*[one.replace("GROUP", name) for one in CASES[name].command])
        return name, result, time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        for name, result, seconds in pool.map(run, CASES):
            case = CASES[name]
            assert seconds < 8, name
            assert result.code == 78, (name, result)
            assert len(result.lines) == case.given, (name, result)
            first, *more = result.err.splitlines()
            needs = case.needs.replace("GROUP", name)
            doing = "subscribe to" if case.subscribe else "publish to"
            assert f"permission denied: user {name} may not {doing} {needs}" in first, (name, first)
            assert first.startswith(f"evtool: {server.url}: "), (name, first)
            assert len(more) == 1, (name, more)
            assert more[0].startswith("hint: "), (name, more)
    assert len(operator("replay", "t").lines) == 1
    for group in ("ack", "ack_plain", "ack_shared"):
        again = operator("subscribe", "t", "-g", group, "--drain")
        assert again.lines == operator("replay", "t").lines, group


def _url(server: Server, user: str) -> str:
    return server.url.replace("//", f"//{user}:p@")


def _user(name: str, case: Case) -> str:
    kind = "subscribe" if case.subscribe else "publish"
    return f'{{ user: {name}, password: p, permissions: {{ {kind}: {{ allow: ">", deny: "{case.denied}" }} }} }}'


def test_who_may_not_answer_ends_when_somebody_asks(own_server: Servers, nats_program: Programs) -> None:
    """Not in silence: others would take it for dead, and its events from it. The hint says what is missing."""
    user = "{ user: mute, password: p, permissions: { publish: { deny: '_INBOX.>' } } }"
    server = own_server(
        config=f"authorization {{ users: [{{ user: op, password: p }}, {user}] }}", login={"user": "op", "pass": "p"}
    )
    operator = nats_program(_url(server, "op"))
    assert operator("append", "t", "1").code == 0
    mute = nats_program(_url(server, "mute"))
    with Running(mute, "subscribe", "t", "-g", "g", "--from=earliest", "--data") as consumer:
        consumer.await_out("1\n")
        (row,) = operator("groups", "t", "--json").events
        assert row["active"]
        assert operator("append", "t", "2").code == 0
        result = consumer.end()
    assert result.code == 78
    assert "permission denied: user mute may not publish to _INBOX." in result.err
    assert "allow_responses" in result.err

"""evtool fanout: web hooks, workers, files by date, rules in a file, and what is said of them."""

from __future__ import annotations

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.program import Program, wait_until
from tests.running import Running
from tests.topics import append, numbers, stored_lines, write_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.program import Result

QUICK = ["--backoff=1ms..5ms", "--retries=2"]


class Hook:
    """A web server that notes what it gets and answers as it is told. `answer`: from a body to status and headers."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.answer: Callable[[Any], tuple[int, dict[str, str]]] = lambda _: (204, {})
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.requests.append((dict(self.headers.items()), body))
                status, headers = hook.answer(body)
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def bodies(self) -> list[Any]:
        return [body for _, body in self.requests]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def drain(program: Program, *arguments: str) -> Result:
    return program("fanout", "t", "--from=earliest", "--drain", *arguments)


def test_a_hook_gets_each_event_as_it_is_stored(evtool: Program, hook: Hook) -> None:
    append(evtool, "t", '{"a":1.0}', "2")
    result = drain(evtool, f"--to={hook.url}")
    assert (result.code, result.err) == (0, "")
    assert hook.bodies == evtool("replay", "t").events
    headers = hook.requests[0][0]
    assert (headers["Content-Type"], headers["Idempotency-Key"]) == ("application/json", "t:0")


def test_a_hook_gets_batches_and_cloudevents(evtool: Program, hook: Hook) -> None:
    append(evtool, "t", *numbers(0, 4), "--key=k")
    drain(evtool, f"--to={hook.url}", "--batch=3", "--name=a")
    assert hook.bodies == [evtool("replay", "t").events[:3], evtool("replay", "t").events[3:]]
    hook.requests.clear()
    drain(evtool, f"--to={hook.url}", "--batch=9", "--content=cloudevents", "--name=b")
    ((headers, (first, *_)),) = hook.requests
    assert headers["Content-Type"] == "application/cloudevents-batch+json"
    assert (first["specversion"], first["source"], first["subject"], first["data"]) == ("1.0", "t", "k", 0)
    assert [row["group"] for row in evtool("groups", "--json").events] == ["a", "b"]


def test_what_a_hook_refuses_for_good_is_set_aside_at_once_and_what_fails_after_its_retries(
    evtool: Program, hook: Hook
) -> None:
    append(evtool, "t", *numbers(0, 3))
    hook.answer = lambda body: ({1: 422, 2: 500}.get(body["data"], 200), {})
    result = drain(evtool, f"--to={hook.url}", *QUICK)
    assert result.code == 1
    dead = {row["offset"]: row["attempts"] for row in evtool("dead", "t", "--json").events}
    assert dead == {1: 1, 2: 3}
    keys = [headers["Idempotency-Key"] for headers, body in hook.requests if body["data"] == 2]
    assert keys == ["t:2"] * 3


def test_a_hook_that_cannot_now_is_left_in_peace_as_long_as_it_says(evtool: Program, hook: Hook) -> None:
    """No attempt is counted, and nothing else is posted meanwhile."""
    append(evtool, "t", "0", "1")
    answers = iter([(429, {"Retry-After": "1"}), *[(503, {})] * 5])
    hook.answer = lambda _: next(answers, (200, {}))
    result = drain(evtool, f"--to={hook.url}", "--backoff=1ms", "--retries=0")
    assert result.code == 0
    assert [body["data"] for body in hook.bodies] == [0, 0, 0, 0, 0, 0, 0, 1]
    assert "answered 429 Too Many Requests; again in 1.0 s (not counted)" in result.err


def test_a_hook_that_is_not_there_costs_nothing_and_holds_up_no_other(
    evtool: Program, hook: Hook, tmp_path: Path
) -> None:
    append(evtool, "t", *numbers(0, 4))
    hook.server.shutdown()
    hook.server.server_close()
    sinks = [f"--to={hook.url}", f"--to=file:{tmp_path}/f"]
    with Running(evtool, "fanout", "t", "--from=earliest", *sinks, "--retries=0", "--backoff=1ms..20ms") as fanout:
        wait_until(lambda: (tmp_path / "f").exists() and (tmp_path / "f").read_text().count("\n") == 5)
        wait_until(lambda: fanout.err.count("cannot be reached") > 3)
        assert fanout.end(signal.SIGTERM).code == -signal.SIGTERM
    assert evtool("dead", "t").out == ""


def test_a_hook_that_hangs_is_given_up_in_time(evtool: Program, hook: Hook) -> None:
    append(evtool, "t", "0")
    forever = threading.Event()
    hook.answer = lambda _: (forever.wait(20), (200, {}))[1]  # type: ignore[return-value]
    result = drain(evtool, f"--to={hook.url}", "--timeout-each=300ms", "--retries=0")
    forever.set()
    assert "no answer came in time; set aside in t.dead" in result.err


def test_a_worker_is_a_sink(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", *numbers(0, 9))
    script = tmp_path / "w.py"
    script.write_text("import sys\nfor one in sys.stdin: print(one[10:one.index(',')], flush=True)\n")
    result = drain(evtool, f"--to=worker:{sys.executable} {script}")
    assert (result.code, result.err) == (0, "")
    assert evtool("groups", "--json").events[0]["lag"] == 0


def test_a_file_a_day_by_the_time_of_the_event(evtool: Program, tmp_path: Path) -> None:
    days = [f"2026-11-{day}T{hour}:00:00.000000Z" for day in (21, 22, 24) for hour in (10, 23)]
    lines = write_log(evtool, "t", days)
    assert drain(evtool, f"--to=file:{tmp_path}/x-{{date}}.jsonl").code == 0
    found = {path.name: path.read_text() for path in tmp_path.glob("x-*")}
    assert found == {
        f"x-2026-11-{day}.jsonl": "".join(lines[2 * number : 2 * number + 2]) for number, day in enumerate((21, 22, 24))
    }


def rules(path: Path, text: str) -> str:
    path.write_text(text)
    return f"--config={path}"


def test_rules_give_each_sink_its_own_filter_name_and_headers(evtool: Program, hook: Hook, tmp_path: Path) -> None:
    for number in range(4):
        append(evtool, "t", str(number), f"--key=k{number % 2}")
    config = rules(
        tmp_path / "rules.toml",
        f"""
        topic = "t"
        [[sink]]
        to = "{hook.url}"
        name = "hook"
        where = "data > 1"
        from = "earliest"
        headers = {{X-Token = "${{TOKEN}}!"}}
        [[sink]]
        to = "file:{tmp_path}/f"
        key = "k1"
        from = "earliest"
        """,
    )
    result = evtool("fanout", config, "--drain", env={"TOKEN": "secret"})
    assert (result.code, result.err) == (0, "")
    assert [(headers["X-Token"], body["data"]) for headers, body in hook.requests] == [("secret!", 2), ("secret!", 3)]
    assert (tmp_path / "f").read_text() == "".join(stored_lines(evtool, "t")[1::2])
    assert "hook" in [row["group"] for row in evtool("groups", "--json").events]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("topic = ", "not TOML"),
        ('topic = "t"', "has no [[sink]]"),
        ('[[sink]]\nto = "topic:x"', "says no topic"),
        ('topic = "t"\n[[sink]]\nname = "x"', "sink 1: does not say where to: `to` is missing"),
        ('topic = "t"\n[[sink]]\nto = "topic:x"\n[[sink]]\nto = "ftp:x"', "sink 2: 'ftp:x': not a sink"),
        ('topic = "t"\n[[sink]]\nto = "topic:x"\nretry = 5', "sink 1: 'retry' is unknown"),
        ('topic = "t"\n[[sink]]\nto = "topic:x"\nwhere = "data >"', "sink 1: --where: column 7"),
        ('topic = "t"\n[[sink]]\nto = "exec:x"\njobs = "2"', "sink 1: jobs is not a whole number"),
        ('topic = "t"\n[[sink]]\nto = "exec:x"\n[[sink]]\nto = "exec:x"', "exec:x: is there twice"),
        ('topic = "t"\n[[sink]]\nto = "http://x"\nheaders = {A = "${NONE}"}', "which the environment has not"),
        ('topic = "t"\n[[sink]]\nto = "file:x"\njobs = 2', "a file has no use for jobs"),
    ],
)
def test_rules_that_are_not_in_order_are_refused_with_78(evtool: Program, tmp_path: Path, text: str, why: str) -> None:
    append(evtool, "t", "1")
    result = evtool("fanout", rules(tmp_path / "rules.toml", text), "--check")
    assert (result.code, result.out) == (78, "")
    assert why in result.err
    assert str(tmp_path / "rules.toml") in result.err


def test_rules_in_order_are_said_to_be_and_nothing_is_touched(evtool: Program, tmp_path: Path) -> None:
    config = rules(tmp_path / "rules.toml", '[[sink]]\nto = "topic:x"\n')
    result = evtool("fanout", "t", config, "--check")
    assert (result.code, result.err) == (0, "evtool: t: 1 sinks, all in order\n")
    assert not evtool.home.exists() or not (evtool.home / "topics").exists()


def test_sighup_reads_the_rules_again_and_sigusr1_tells_how_the_sinks_are(evtool: Program, tmp_path: Path) -> None:
    append(evtool, "t", "0")
    path = tmp_path / "rules.toml"
    sink = '[[sink]]\nto = "file:{}/{}"\nfrom = "earliest"\n'
    config = rules(path, sink.format(tmp_path, "a"))

    def count(name: str) -> int:
        file = tmp_path / name
        return file.read_text().count("\n") if file.exists() else 0

    with Running(evtool, "fanout", "t", config) as fanout:
        wait_until(lambda: count("a") == 1)
        path.write_text(sink.format(tmp_path, "a") + sink.format(tmp_path, "b"))
        fanout.process.send_signal(signal.SIGHUP)
        wait_until(lambda: count("b") == 1)
        assert f"evtool: {path}: read again; 2 sinks, 1 of them as before\n" in fanout.err
        path.write_text("no rules")
        fanout.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not TOML" in fanout.err)
        path.write_text(sink.format(tmp_path, "b"))
        fanout.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "1 sinks, 1 of them as before" in fanout.err)
        append(evtool, "t", "1")
        wait_until(lambda: count("b") == 2)
        assert count("a") == 1
        fanout.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: f"evtool: file:{tmp_path}/b: serving, committed " in fanout.err)
        assert fanout.end(signal.SIGTERM).code == -signal.SIGTERM


def test_jq_selects_what_gives_something_true(evtool: Program) -> None:
    append(evtool, "t", '{"a":1}', '{"a":null}', "5", '{"a":false}', '{"a":0}')
    assert evtool("replay", "t", "--data", "--jq=.data.a").lines == ['{"a":1}', '{"a":0}']
    result = evtool("replay", "t", "--jq=.a |")
    assert (result.code, result.err.startswith("evtool: --jq: ")) == (2, True)

"""What `verify` finds in a topic on NATS, and what it does not complain about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import UsageError
from evtool.log import line
from evtool.stores.nats import stream, verify
from evtool.stores.nats.address import parse
from evtool.stores.nats.store import NatsStore
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evtool.stores.nats.verify import Report
    from tests.nats.server import Cluster
    from tests.nats.wire import Wire


def publish(wire: Wire, topic: str, count: int) -> None:
    for number in range(count):
        wire.request(f"evtool.{topic}", b'{"key":"u1","data":%d}' % number)


def found(report: Report) -> list[tuple[str, tuple[int, int] | None]]:
    """The kinds of the problems, and the offsets concerned."""
    return [(problem.kind, problem.offsets) for _, problem in report.problems]


def test_a_topic_in_order(store: NatsStore, wire: Wire) -> None:
    """All its events are counted, and their bytes told as they are looked at."""
    store.create("orders", {})
    publish(wire, "orders", 100)
    seen: list[int] = []
    report = store.topic("orders").verify(seen.append)
    assert (report.events, report.next, report.size) == (100, 100, store.topic("orders").bounds().size)
    assert sum(seen) > 100 * len(b'{"key":"u1","data":0}')
    assert (report.problems, report.segments, report.sealed, report.seal) == ([], None, None, None)


def test_an_empty_topic_is_in_order(store: NatsStore) -> None:
    store.create("orders", {})
    report = store.topic("orders").verify()
    assert (report.events, report.next, report.problems) == (0, 0, [])


def test_what_was_removed_is_not_missed(store: NatsStore, wire: Wire) -> None:
    """By a trim, by a limit, one message alone, the last one too."""
    store.create("orders", {"max-events": 50})
    publish(wire, "orders", 60)
    store.topic("orders").trim(20)
    for sequence in (30, 31, 60):
        wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": sequence})
    report = store.topic("orders").verify()
    assert (report.events, report.next, report.problems) == (37, 60, [])


def test_what_is_removed_meanwhile_is_not_missed(store: NatsStore, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a trim and one by one, after we have looked where it begins; nor is what comes meanwhile counted."""
    store.create("orders", {})
    publish(wire, "orders", 50)
    topic = store.topic("orders")
    read = verify._blocks

    def late(*arguments: Any) -> Iterator[bytes]:
        topic.trim(30)
        wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": 40})
        publish(wire, "orders", 5)
        yield from read(*arguments)

    monkeypatch.setattr(verify, "_blocks", late)
    report = topic.verify()
    assert (report.events, report.next, report.problems) == (19, 50, [])


def test_what_others_have_published_is_told(store: NatsStore, wire: Wire) -> None:
    """Each run of it as one problem, with its offsets."""
    store.create("orders", {})
    publish(wire, "orders", 2)
    for payload in (b"hello", b'{"a":1}', b"\xff\n"):
        wire.request("evtool.orders", payload)
    publish(wire, "orders", 1)
    wire.request("evtool.orders", b"", {"Some": "header"})
    report = store.topic("orders").verify()
    assert report.events == 7
    assert found(report) == [("foreign", (2, 4)), ("foreign", (6, 6))]
    assert "offsets 2 to 4: " in report.problems[0][1].what
    assert report.problems[0][0] == "evtool_orders"


def test_data_that_look_foreign_are_not(store: NatsStore, wire: Wire) -> None:
    """What counts is the attribute before them."""
    store.create("orders", {})
    wire.request("evtool.orders", b'{"key":"u1","data":{"time":"x","foreign":"nats","data":1}}')
    wire.request("evtool.orders", b'{"data":"\\",\\"foreign\\":\\"nats\\",\\"data\\":"}')
    assert found(store.topic("orders").verify()) == []


def test_events_that_are_gone_without_a_word_are_told(
    store: NatsStore, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server does not say that it removed is missed. It loses none at our will, so the reader does."""
    store.create("orders", {})
    publish(wire, "orders", 10)
    for sequence in (4, 10):
        wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": sequence})
    assert found(store.topic("orders").verify()) == []
    alter_lines(monkeypatch, lambda offset, text: b"" if offset in (0, 2, 5, 6, 8) else text)
    report = store.topic("orders").verify()
    assert found(report) == [("lost", (0, 0)), ("lost", (2, 2)), ("lost", (5, 6)), ("lost", (8, 8))]
    assert "2 events from offset 5 to 6" in report.problems[2][1].what


def test_times_that_fall_by_more_than_clocks_may_differ(
    store: NatsStore, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second is no problem; a minute is one, and is told once."""
    store.create("orders", {})
    publish(wire, "orders", 4)
    times = (b"00:01:00.900000", b"00:01:00.400000", b"00:00:00.400000", b"00:00:01.000000")
    alter_lines(
        monkeypatch, lambda offset, _: b'{"offset":%d,"time":"2026-01-01T%bZ","data":1}\n' % (offset, times[offset])
    )
    report = store.topic("orders").verify()
    assert found(report) == [("falling", (2, 2))]
    assert "60.0 s earlier" in report.problems[0][1].what


def alter_lines(monkeypatch: pytest.MonkeyPatch, alter: Callable[[int, bytes], bytes]) -> None:
    """Let `verify` see other lines than there are."""
    read = verify._blocks

    def altered(*arguments: Any) -> Iterator[bytes]:
        for block in read(*arguments):
            yield b"".join(alter(line.offset_of(text), text) for text in block.splitlines(keepends=True))

    monkeypatch.setattr(verify, "_blocks", altered)


def test_topics_on_nats_have_no_seals(store: NatsStore) -> None:
    store.create("orders", {})
    with pytest.raises(UsageError, match="no seals"):
        store.topic("orders").verify(seal="0" * 64)


@pytest.mark.slow
def test_a_replica_that_is_away_is_told(own_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is back and has caught up all is well."""
    cluster = own_cluster()
    store = NatsStore(parse(cluster.url, {}))
    store.create("orders", {})
    with cluster.leader_of("evtool_orders").wire() as wire:
        publish(wire, "orders", 10)
    topic = store.topic("orders")
    assert found(topic.verify()) == []
    away = cluster.followers_of("evtool_orders")[0]
    away.kill()
    monkeypatch.setattr(verify, "_PATIENCE", 0.5)
    connection = store.connection
    wait_until(lambda: list(verify._replica_problems(stream.info(connection, "orders"))), "the others to miss it")
    report = topic.verify()
    assert (report.events, found(report)) == (10, [("lagging", None)])
    assert f"the replica on {away.name} " in report.problems[0][1].what
    monkeypatch.undo()
    away.start()
    cluster.await_ready()
    assert found(topic.verify()) == []
    store.close()

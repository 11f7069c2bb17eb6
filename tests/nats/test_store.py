"""Topics on NATS: what there is, where it begins and ends, and what is to be done with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from evtool.errors import BusyError, ConditionError, ConfigurationError, NotFoundError, UnreachableError, UsageError
from evtool.log import line
from evtool.log.identity import is_identity
from evtool.stores import open_store
from evtool.stores.nats import keeper
from evtool.stores.nats.address import parse
from evtool.stores.nats.store import NatsStore
from evtool.stores.where import seconds_of
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evtool.stores.nats.topic import NatsTopic
    from tests.nats.server import Cluster, Server
    from tests.nats.wire import Wire


def fill(wire: Wire, topic: str, count: int, first: int = 0) -> None:
    """Append events with the data 0, 1, 2 …"""
    for number in range(first, first + count):
        wire.request(f"evtool.{topic}", b'{"data":%d}' % number)


def data_at(store: NatsStore, topic: str, offset: int) -> bytes | None:
    """The data of the event with this offset."""
    found = store.topic(topic).line_at(offset)
    return None if found is None else line.data_of(found)


def test_nobody_is_asked_before_something_is_wanted() -> None:
    """A store, and a topic's name, are there without a server."""
    store = NatsStore(parse("nats://127.0.0.1:9", {}))
    assert store.capabilities.kind == "nats"
    assert "replicas" in store.known_settings
    store.close()
    with pytest.raises(UnreachableError):
        store.topics()


def test_topics_are_streams_of_our_names(store: NatsStore, wire: Wire) -> None:
    """Those that others have made are passed over, unless they are called as ours are."""
    assert store.topics() == []
    store.create("orders", {})
    store.create("orders.eu-1", {})
    for name in ("evtool_=groups", "orders", "evtool_ORDERS", "evtool", "evtool_-x"):
        wire.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"of.{name}"]})
    wire.api("STREAM.CREATE.evtool_theirs", {"name": "evtool_theirs", "subjects": ["a.*", "b"]})
    wire.api("STREAM.CREATE.evtool_copy", {"name": "evtool_copy", "mirror": {"name": "evtool_orders"}})
    assert store.topics() == ["copy", "orders", "orders.eu-1", "theirs"]
    assert [store.has(name) for name in ("orders", "order", "orders.eu-1", "theirs")] == [True, False, True, True]


def test_more_topics_than_the_server_names_at_once(store: NatsStore, wire: Wire) -> None:
    """It gives out 1024 names; streams in memory cost little."""
    for number in range(1030):
        name = f"evtool_t{number}"
        wire.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"evtool.t{number}"], "storage": "memory"})
    assert store.topics() == sorted(f"t{number}" for number in range(1030))


def test_a_missing_topic_is_told_with_the_nearest_name(store: NatsStore) -> None:
    store.create("orders", {})
    with pytest.raises(NotFoundError, match="ordres: no such topic") as told:
        store.topic("ordres")
    assert told.value.hint == "did you mean orders?"
    for act in (store.topic, store.remove_topic):
        with pytest.raises(NotFoundError):
            act("other")


def test_what_cannot_be_a_name_is_refused_before_anything_is_asked(store: NatsStore) -> None:
    for act in (store.has, store.topic, store.ensure_topic, store.remove_topic, lambda name: store.create(name, {})):
        with pytest.raises(UsageError, match="not a topic name"):
            act("Orders")
    store.create("orders", {})
    topic = store.topic("orders")
    for act in (topic.group, topic.standing, topic.remove_group):
        with pytest.raises(UsageError, match="not a group name"):
            act("a*")


def test_an_empty_topic(store: NatsStore) -> None:
    store.create("orders", {})
    topic = store.topic("orders")
    bounds = topic.bounds()
    assert (bounds.first, bounds.next, bounds.count, bounds.size, bounds.last_time) == (0, 0, 0, 0, None)
    assert topic.offset_at(b"2020-01-01T00:00:00.000000Z") == 0
    assert topic.offset_back(0) == topic.offset_back(5) == 0
    assert topic.time_at(0) is None
    assert topic.line_at(0) is None
    assert topic.groups() == []
    assert topic.trim(5).end == 0


def test_where_a_topic_begins_and_ends(store: NatsStore, wire: Wire) -> None:
    """Before and after its beginning is trimmed, and when all is gone, which takes more than a trim."""
    store.create("orders", {})
    fill(wire, "orders", 5)
    topic = store.topic("orders")
    bounds = topic.bounds()
    assert (bounds.first, bounds.next, bounds.count) == (0, 5, 5)
    assert bounds.last_time == topic.time_at(4)
    assert bounds.size > 5 * len(b'{"data":0}')
    topic.trim(2)
    assert (topic.bounds().first, topic.bounds().next, topic.bounds().count) == (2, 5, 3)
    topic.trim(99)
    assert (topic.bounds().first, topic.bounds().next, topic.bounds().count) == (4, 5, 1)
    wire.api("STREAM.PURGE.evtool_orders")
    bounds = topic.bounds()
    assert (bounds.first, bounds.next, bounds.count, bounds.size) == (5, 5, 0, 0)
    fill(wire, "orders", 1)
    assert (topic.bounds().first, topic.bounds().next) == (5, 6)


def test_an_event_is_found_by_its_time(store: NatsStore, wire: Wire) -> None:
    """The first one at or after it, with gaps in between and beyond both ends."""
    store.create("orders", {})
    for number in range(8):
        fill(wire, "orders", 1, number)
        time.sleep(0.002)  # so that no two have the same time
    topic = store.topic("orders")
    times = [topic.time_at(offset) for offset in range(8)]
    assert times == sorted(set(times))  # type: ignore[type-var]
    assert [topic.offset_at(moment or b"") for moment in times] == list(range(8))
    between = line.stamp(round(seconds_of(times[3] or b"") * 1e9) + 1_000_000)
    assert (times[3] or b"") < between < (times[4] or b"")
    assert topic.offset_at(between) == 4
    assert topic.offset_at(b"2020-01-01T00:00:00.000000Z") == 0
    assert topic.offset_at(b"2999-01-01T00:00:00.000000Z") == 8
    for sequence in (4, 5):
        wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": sequence})
    assert topic.offset_at(times[3] or b"") == topic.offset_at(times[4] or b"") == 5
    assert topic.time_at(3) == times[5]
    topic.trim(7)
    assert topic.offset_at(times[0] or b"") == 7


def test_the_events_before_the_end_are_counted(store: NatsStore, wire: Wire) -> None:
    """Those that are there, not offsets."""
    store.create("orders", {})
    fill(wire, "orders", 10)
    topic = store.topic("orders")
    assert [topic.offset_back(count) for count in (0, 1, 3, 10, 11)] == [10, 9, 7, 0, 0]
    for sequence in (9, 8, 4):
        wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": sequence})
    assert [topic.offset_back(count) for count in (0, 1, 2, 5, 7, 8)] == [10, 9, 6, 2, 0, 0]
    assert topic.bounds().count == 7


def test_one_event(store: NatsStore, wire: Wire) -> None:
    """As a line of the log; none where there is a gap, or nothing yet."""
    store.create("orders", {})
    wire.request("evtool.orders", b'{"key":"u1","data":{"a": 1}}')
    wire.request("evtool.orders", b"\xff", {"Some": "header"})
    fill(wire, "orders", 1)
    topic = store.topic("orders")
    text = topic.line_at(0)
    assert text is not None
    assert text.endswith(b',"key":"u1","data":{"a": 1}}\n')
    assert (line.offset_of(text), line.time_of(text)) == (0, topic.time_at(0))
    foreign = orjson.loads(topic.line_at(1) or b"")
    assert (foreign["foreign"], foreign["data"]) == ("nats", {"base64": "/w=="})
    wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": 2})
    assert topic.line_at(1) is None
    assert data_at(store, "orders", 2) == b"0"
    assert topic.line_at(3) is None


def test_trimming_takes_away_what_it_said(store: NatsStore, wire: Wire) -> None:
    """The events before an offset, to the event; the server keeps to the limits, so without one there is nothing."""
    store.create("orders", {})
    fill(wire, "orders", 10)
    wire.api("STREAM.MSG.DELETE.evtool_orders", {"seq": 3})
    topic = store.topic("orders")
    for trim in (topic.trimming, topic.trim):
        found = trim(None)
        assert (found.first, found.end, found.count) == (0, 0, 0)
        assert topic.bounds().count == 9
    for trim in (topic.trimming, topic.trim):
        found = trim(5)
        assert (found.first, found.end, found.count, found.segments, found.size) == (0, 5, 4, None, None)
    assert (topic.bounds().first, topic.bounds().count) == (5, 5)
    found = topic.trim(1000)
    assert (found.first, found.end, found.count, found.size) == (5, 9, 4, None)
    assert (topic.bounds().first, topic.bounds().next) == (9, 10)


def test_limits_are_kept_by_the_server(store: NatsStore, wire: Wire) -> None:
    store.create("orders", {"max-events": 3})
    fill(wire, "orders", 10)
    bounds = store.topic("orders").bounds()
    assert (bounds.first, bounds.next, bounds.count) == (7, 10, 3)


def test_a_topic_is_made_once(store: NatsStore) -> None:
    """With the same settings or with others: who is second is told so."""
    assert store.create("orders", {}).values()["replicas"] == 1
    for chosen in ({}, {"max-events": 3}):
        with pytest.raises(ConditionError, match="there already"):
            store.create("orders", chosen)
    assert store.topic("orders").settings().max_events is None


def test_which_log_it_is_tells_it_from_all_others(store: NatsStore) -> None:
    """Also from one that had its name."""
    for name in ("orders", "other"):
        store.create(name, {})
    seen = {store.topic(name).identity() for name in ("orders", "other", "orders")}
    assert len(seen) == 2
    assert all(is_identity(one) for one in seen)
    store.remove_topic("orders")
    store.create("orders", {})
    assert store.topic("orders").identity() not in seen


def test_the_state_is_that_of_the_file_store(store: NatsStore, wire: Wire, home: Path) -> None:
    """The newest event of each key, now and before, and what has changed: the same but for times."""
    store.create("orders", {})
    files = open_store(str(home), create=True).ensure_topic("orders")
    writer = files.writer()
    said = [
        ("a", "1"),
        ("b", "1"),
        (None, "0"),
        ("a", "2"),
        ("b", "null"),
        ("c", '"x"'),
        ("a", "2"),
        ("d", "1"),
        ("d", "null"),
    ]
    for key, data in said * 3:
        body = b'%b"data":%b' % (b"" if key is None else b'"key":"%b",' % key.encode(), data.encode())
        writer.append([body])
        wire.request("evtool.orders", b"{%b}" % body)
    wire.request("evtool.orders", b"somebody else's")
    ours = store.topic("orders")
    for until in (None, 0, 5, 20):
        blocks = [b"".join(topic.newest_of_each(until)) for topic in (files, ours)]
        assert bodies(blocks[0]) == bodies(blocks[1])
        for key in (b'"a"', b'"b"', b'"e"'):
            assert bodies(files.newest_of(key, until)) == bodies(ours.newest_of(key, until))
        told = [
            [(one.key, bodies(one.before), bodies(one.after)) for one in topic.changes(3, until)]
            for topic in (files, ours)
        ]
        assert told[0] == told[1]


def bodies(lines: bytes | None) -> list[tuple[int, bytes]] | None:
    """Offsets and bodies of lines."""
    return (
        None if lines is None else [(line.offset_of(text), line.body_of(text + b"\n")) for text in lines.splitlines()]
    )


def test_a_topic_of_the_same_name_begins_anew(store: NatsStore, wire: Wire) -> None:
    """Nothing is left of the one that was removed, nor of its groups, and all of the others is."""
    register = {"name": "evtool_=groups", "subjects": ["evtool-groups.>"], "max_msgs_per_subject": 1}
    wire.api("STREAM.CREATE.evtool_=groups", register)
    for topic in ("orders", "orders.eu"):
        store.create(topic, {})
        fill(wire, topic, 3)
        wire.request(f"evtool-groups.{topic.replace('.', '=')}.billing", b"{}")
    store.remove_topic("orders")
    assert not store.has("orders")
    assert wire.api("STREAM.INFO.evtool_=groups")["state"]["messages"] == 1
    store.create("orders", {})
    assert store.topic("orders").bounds().next == 0
    assert store.topic("orders.eu").bounds().next == 3


def test_a_topic_that_goes_is_missed_by_whatever_is_asked(store: NatsStore, wire: Wire) -> None:
    """And that is said as it is said of one that never was."""
    store.create("orders", {})
    topic = store.topic("orders")
    wire.api("STREAM.DELETE.evtool_orders")
    asked: list[Callable[[], Any]] = [
        topic.bounds,
        topic.settings,
        topic.groups,
        lambda: topic.offset_at(b"2020-01-01T00:00:00.000000Z"),
        lambda: topic.offset_back(2),
        lambda: topic.time_at(0),
        lambda: topic.line_at(0),
        lambda: topic.set({"max-events": 3}),
        lambda: topic.set({"retention": "consumed"}),
        lambda: topic.trim(3),
        lambda: topic.trim(None),
        lambda: topic.losers(3),
        lambda: topic.verify(),
    ]
    for ask in asked:
        with pytest.raises(NotFoundError, match="orders: no such topic"):
            ask()


def consume(topic: NatsTopic, name: str, offset: int) -> None:
    """Let a group handle all before an offset."""
    group = topic.group(name)
    assert group.try_acquire()
    reader = group.reader(group.join(0))
    while reader.next_offset < offset and reader.read():
        pass
    group.commit(offset)
    group.sync()
    group.release()


def test_groups_are_told_and_what_they_would_lose(store: NatsStore, wire: Wire) -> None:
    """Until they are removed."""
    store.create("orders", {})
    fill(wire, "orders", 10)
    topic = store.topic("orders")
    consume(topic, "billing", 4)
    consume(topic, "mail", 7)
    assert topic.groups() == ["billing", "mail"]
    assert (topic.standing("billing").committed, topic.standing("billing").lag) == (4, 6)
    assert topic.losers(4) == {}
    assert topic.losers(6) == {"billing": 2}
    assert topic.losers(10) == {"billing": 6, "mail": 3}
    topic.trim(5)
    assert topic.losers(6) == {"billing": 1}
    topic.seek("mail", 5)
    assert topic.losers(7) == {"billing": 2, "mail": 2}
    topic.remove_group("mail")
    assert topic.groups() == ["billing"]
    for act in (topic.standing, topic.remove_group, lambda name: topic.seek(name, 5)):
        with pytest.raises(NotFoundError, match="biling: no such group of topic orders") as told:
            act("biling")
        assert told.value.hint == "did you mean billing?"


def test_what_all_groups_have_handled_goes(store: NatsStore, wire: Wire) -> None:
    """With retention `consumed`: not before there is a group, and not any more when there is none."""
    store.create("orders", {"retention": "consumed"})
    fill(wire, "orders", 10)
    topic = store.topic("orders")
    consume(topic, "billing", 4)
    wait_until(lambda: topic.bounds().first == 4, "what was handled to go")
    consume(topic, "mail", 6)
    assert topic.bounds().first == 4
    consume(topic, "billing", 8)
    wait_until(lambda: topic.bounds().first == 6, "what both have handled to go")
    holder = topic.group("mail")
    assert holder.try_acquire()
    topic.remove_group("billing")
    with pytest.raises(BusyError):
        topic.remove_group("mail")
    assert keeper.NAME not in wire.api("CONSUMER.NAMES.evtool_orders")["consumers"]
    holder.release()
    topic.remove_group("mail")
    fill(wire, "orders", 1)
    assert (topic.bounds().first, topic.bounds().count, topic.groups()) == (6, 5, [])


def test_groups_are_the_consumers_with_names_of_ours(store: NatsStore, wire: Wire) -> None:
    """Not those by which we read, nor what others make."""
    store.create("orders", {})
    for name in ("billing=eu", "mail", "=read-1", "Theirs"):
        config = {"name": name, "durable_name": name, "ack_policy": "explicit"}
        wire.api(f"CONSUMER.CREATE.evtool_orders.{name}", {"stream_name": "evtool_orders", "config": config})
    assert store.topic("orders").groups() == ["billing.eu", "mail"]


def test_streams_of_others_with_our_names_can_be_looked_at(store: NatsStore, wire: Wire) -> None:
    """Several subjects, a mirror, a stream that works as a queue."""
    wire.api("STREAM.CREATE.evtool_theirs", {"name": "evtool_theirs", "subjects": ["a.*", "b"], "max_msg_size": 99})
    wire.api("STREAM.CREATE.evtool_jobs", {"name": "evtool_jobs", "subjects": ["jobs"], "retention": "workqueue"})
    wire.api("STREAM.CREATE.evtool_copy", {"name": "evtool_copy", "mirror": {"name": "evtool_theirs"}})
    for subject in ("a.x", "b", "a.y"):
        wire.request(subject, b"hello")
    theirs = store.topic("theirs")
    assert (theirs.bounds().count, theirs.offset_back(2), theirs.settings().max_event_bytes) == (3, 1, 99)
    assert data_at(store, "theirs", 1) == b'"hello"'
    assert store.topic("jobs").settings().retention == "consumed"
    assert store.topic("copy").settings().retention == "keep"
    with pytest.raises(ConfigurationError, match="workqueue"):
        store.topic("jobs").set({"retention": "keep"})


def test_a_stream_that_takes_our_subjects_is_told(store: NatsStore, wire: Wire) -> None:
    wire.api("STREAM.CREATE.all", {"name": "all", "subjects": ["evtool.>"]})
    with pytest.raises(ConfigurationError, match="a stream that is not evtool's") as told:
        store.create("orders", {})
    assert "evtool.orders" in (told.value.hint or "")


def test_on_a_cluster_a_topic_is_on_three(cluster: Cluster) -> None:
    """Unless the address says otherwise, or the settings do; and it can be found as on one."""
    store, one = NatsStore(parse(cluster.url, {})), NatsStore(parse(f"{cluster.url}?replicas=1", {}))
    assert store.create("orders", {}).replicas == 3
    assert one.create("single", {}).replicas == 1
    assert one.create("double", {"replicas": 2}).replicas == 2
    assert store.topic("single").set({"replicas": None}).replicas == 3
    assert one.topics() == ["double", "orders", "single"]
    with cluster.wire() as wire:
        fill(wire, "orders", 5)
    topic = store.topic("orders")
    topic.trim(2)
    assert (topic.bounds().first, topic.bounds().next) == (2, 5)
    assert topic.offset_at(topic.time_at(4) or b"") == 4
    store.close()
    one.close()


@pytest.mark.slow
def test_a_topic_can_be_made_while_the_leader_of_all_is_away(own_cluster: Callable[..., Cluster]) -> None:
    """Who leads the cluster is killed: making, changing and removing wait for the next one."""
    cluster = own_cluster()
    store = NatsStore(parse(cluster.url, {}))
    store.create("orders", {"replicas": 1})
    leader = cluster.meta_leader
    assert leader is not None
    leader.kill()
    assert store.create("other", {"replicas": 1}).replicas == 1
    assert store.topic("other").set({"max-events": 7}).max_events == 7
    store.remove_topic("other")
    assert not store.has("other")
    store.close()


def test_who_may_not_ask_is_told_so(own_server: Callable[..., Server]) -> None:
    """And at once: it is not that nobody answers."""
    users = '{user: "u", password: "p", permissions: {publish: {deny: "$JS.API.STREAM.>"}}}, {user: "a", password: "p"}'
    server = own_server(config=f"authorization {{ users: [{users}] }}", login={"user": "a", "pass": "p"})
    store = NatsStore(parse(server.url, {"user": "u", "password": "p"}))
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="permission denied"):
        store.create("orders", {})
    assert time.monotonic() - began < 5
    store.close()

"""The settings of a topic on NATS, and what the server makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import ConditionError, ConfigurationError, EvtoolError, StorageError
from evtool.stores.nats import keeper, settings, stream
from evtool.stores.nats.address import parse
from evtool.stores.nats.store import NatsStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.nats.server import Cluster, Server
    from tests.nats.wire import Wire

DEFAULTS = {
    "replicas": 1,
    "max-event-bytes": 1 << 20,
    "dedupe": 120.0,
    "retention": "keep",
    "max-age": None,
    "max-bytes": None,
    "max-events": None,
}
OTHERS: dict[str, Any] = {
    "max-event-bytes": 1000,
    "dedupe": 30.5,
    "retention": "consumed",
    "max-age": 3600.0,
    "max-bytes": 10 << 20,
    "max-events": 1000,
}


def config(wire: Wire, topic: str) -> dict[str, Any]:
    """The configuration of a topic's stream."""
    found: dict[str, Any] = wire.api(f"STREAM.INFO.evtool_{topic}")["config"]
    return found


def publish(wire: Wire, topic: str, count: int) -> None:
    for number in range(count):
        wire.request(f"evtool.{topic}", b'{"data":%d}' % number)


def test_the_defaults(store: NatsStore) -> None:
    assert store.create("orders", {}).values() == DEFAULTS
    assert store.topic("orders").settings().values() == DEFAULTS


@pytest.mark.parametrize("name", OTHERS)
def test_each_setting_is_kept_and_goes_back(store: NatsStore, name: str) -> None:
    """Whether it is given by `create` or by `set`; the others stay what they are."""
    chosen = {name: OTHERS[name]}
    assert store.create("orders", chosen).values() == {**DEFAULTS, **chosen}
    topic = store.topic("orders")
    assert topic.settings().values() == {**DEFAULTS, **chosen}
    assert topic.set({name: None}).values() == DEFAULTS
    assert topic.set(chosen).values() == {**DEFAULTS, **chosen}
    assert topic.settings().values() == {**DEFAULTS, **chosen}


def test_all_at_once(store: NatsStore, wire: Wire) -> None:
    """And in the server's own words."""
    assert store.create("orders", OTHERS).values() == {**DEFAULTS, **OTHERS}
    said = config(wire, "orders")
    assert (said["retention"], said["max_age"], said["max_bytes"]) == ("interest", 3600 * 10**9, 10 << 20)
    assert (said["max_msgs"], said["duplicate_window"]) == (1000, 30_500_000_000)
    assert (said["storage"], said["discard"], said["allow_atomic"]) == ("file", "old", True)


def test_ids_are_remembered_no_longer_than_events(store: NatsStore, wire: Wire) -> None:
    """The server takes no other settings; what was said counts again as soon as it can."""
    topic_of = store.topic
    assert store.create("orders", {"max-age": 60.0}).dedupe == 60.0
    assert topic_of("orders").set({"max-age": None}).dedupe == 120.0
    assert topic_of("orders").set({"dedupe": 7200.0}).dedupe == 7200.0
    assert topic_of("orders").set({"max-age": 3600.0}).dedupe == 3600.0
    assert topic_of("orders").set({"max-age": 86400.0}).dedupe == 7200.0
    assert topic_of("orders").set({"dedupe": None}).dedupe == 120.0
    assert topic_of("orders").set({"max-age": 0.1}).values()["dedupe"] == 0.1


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("replicas", 0, "from 1 to 5"),
        ("replicas", 6, "from 1 to 5"),
        ("replicas", 1.5, "from 1 to 5"),
        ("replicas", True, "from 1 to 5"),
        ("max-age", 0.05, "between 0.1 and"),
        ("dedupe", 1e10, "between 0.1 and"),
        ("max-events", 0, "above 0"),
        ("retention", "always", "neither 'keep' nor 'consumed'"),
        ("segment-bytes", 1000, "a setting of the file store"),
        ("group-ttl", None, "a setting of the file store"),
        ("colour", "red", "not a setting"),
        ("max-event-bytes", 2 << 20, "at most 1048576 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused(store: NatsStore, name: str, value: object, why: str) -> None:
    """By `create`, which makes nothing, and by `set`, which changes nothing."""
    with pytest.raises(ConfigurationError, match=why):
        store.create("orders", {name: value})
    assert not store.has("orders")
    store.create("orders", {})
    with pytest.raises(ConfigurationError, match=why):
        store.topic("orders").set({"max-events": 3, name: value})
    assert store.topic("orders").settings().values() == DEFAULTS


def test_without_a_cluster_there_is_one_replica(store: NatsStore) -> None:
    for act in (lambda: store.create("orders", {"replicas": 3}), lambda: store.topic("other").set({"replicas": 3})):
        if not store.has("other"):
            store.create("other", {})
        with pytest.raises(ConfigurationError, match="cannot keep so many replicas") as told:
            act()
        assert "replicas=1" in (told.value.hint or "")


def test_more_replicas_than_servers(cluster: Cluster) -> None:
    store = NatsStore(parse(cluster.url, {}))
    with pytest.raises(ConfigurationError, match="cannot keep so many replicas"):
        store.create("orders", {"replicas": 5})
    assert store.create("orders", {"replicas": 1}).replicas == 1
    assert store.topic("orders").set({"replicas": 3}).replicas == 3
    store.close()


def test_what_others_have_configured_stays(store: NatsStore, wire: Wire) -> None:
    """`set` changes what it is told to change, in a stream that somebody else has made too."""
    theirs = {
        "name": "evtool_theirs",
        "subjects": ["a.*", "b"],
        "max_msgs_per_subject": 7,
        "duplicate_window": 5 * 10**9,
        "max_msg_size": 500,
        "metadata": {"who": "them", "evtool-max-event-bytes": "many"},
    }
    wire.api("STREAM.CREATE.evtool_theirs", theirs)
    topic = store.topic("theirs")
    assert (topic.settings().dedupe, topic.settings().max_event_bytes) == (5.0, 500)
    topic.set({"max-events": 100})
    said = config(wire, "theirs")
    assert {name: said[name] for name in theirs if name != "metadata"} == {
        name: theirs[name] for name in theirs if name != "metadata"
    }
    assert said["metadata"]["who"] == "them"
    assert said["max_msgs"] == 100
    assert topic.set({"max-age": 1.0}).dedupe == 1.0


def test_what_the_server_cannot_change_is_said_in_its_words(store: NatsStore, wire: Wire) -> None:
    wire.api("STREAM.CREATE.evtool_jobs", {"name": "evtool_jobs", "subjects": ["jobs"], "retention": "workqueue"})
    with pytest.raises(ConfigurationError, match="jobs: the server refuses it: .*workqueue"):
        store.topic("jobs").set({"retention": "keep"})


def test_limits_of_the_account_are_told(own_server: Callable[..., Server]) -> None:
    """How many streams, that each must say its bytes, how many these may be, how much room there is."""
    limits = "max_streams: 2, max_bytes: true, disk_max_stream_bytes: 10MB, max_file: 30MB"
    config = f'accounts {{ A {{ jetstream {{ {limits} }}, users: [{{user: "u", password: "p"}}] }} }}'
    store = NatsStore(parse(own_server(config=config).url, {"user": "u", "password": "p"}))
    refusals: list[tuple[dict[str, Any], type[EvtoolError], str, str]] = [
        ({}, ConfigurationError, "max bytes", "max-bytes="),
        ({"max-bytes": 20_000_000}, ConfigurationError, "exceeds account limit", "smaller"),
    ]
    for chosen, kind, why, hint in refusals:
        with pytest.raises(kind, match=why) as told:
            store.create("orders", chosen)
        assert hint in (told.value.hint or "")
    for name in ("a", "b"):
        store.create(name, {"max-bytes": 1_000_000})
    with pytest.raises(ConfigurationError, match="maximum number of streams") as told:
        store.create("c", {"max-bytes": 1_000_000})
    assert "evtool rm" in (told.value.hint or "")
    store.close()


def test_no_room_for_what_was_promised_is_a_matter_of_storage(own_server: Callable[..., Server]) -> None:
    store = NatsStore(parse(own_server(jetstream="max_file_store: 10M").url, {}))
    with pytest.raises(StorageError, match="no room"):
        store.create("orders", {"max-bytes": 1 << 40})
    store.close()


def test_many_who_miss_a_topic_make_it_together(store: NatsStore) -> None:
    """None of them fails; of those who want to have made it one alone has."""
    connection = store.connection
    for future in [connection.start(stream.make_missing(connection, "orders")) for _ in range(20)]:
        future.result()
    assert store.topic("orders").settings().values() == DEFAULTS
    futures = [connection.start(stream.make(connection, "other")) for _ in range(20)]
    errors = [future.exception() for future in futures]
    assert sum(error is None for error in errors) == 1
    assert all(error is None or isinstance(error, ConditionError) for error in errors)


def test_who_asks_twice_to_make_a_topic_has_made_it(store: NatsStore, wire: Wire) -> None:
    """As we do when there was no answer in time: the second answer is that of the first."""
    config = settings.new_config("evtool_orders", "evtool.orders", {}, 1, "us")
    for _ in range(2):
        store.connection.call("STREAM.CREATE.evtool_orders", config)
    with pytest.raises(ConditionError):
        store.create("orders", {})


def test_without_a_group_a_topic_keeps_what_is_to_be_consumed(store: NatsStore, wire: Wire) -> None:
    """By itself the server would drop it: see the control. So does the file log, which the same commands know."""
    store.create("orders", {"retention": "consumed"})
    store.create("later", {})
    publish(wire, "orders", 3)
    publish(wire, "later", 3)
    store.topic("later").set({"retention": "consumed"})
    wire.api("STREAM.CREATE.evtool_control", {"name": "evtool_control", "subjects": ["c"], "retention": "interest"})
    wire.request("c", b"x")
    counts = [store.topic(name).bounds().count for name in ("orders", "later", "control")]
    assert counts == [3, 3, 0]
    assert [store.topic(name).groups() for name in ("orders", "later")] == [[], []]


def test_with_a_group_it_keeps_what_that_has_not_handled(store: NatsStore, wire: Wire) -> None:
    """From when the keeper is let go; without either nothing is kept."""
    store.create("orders", {"retention": "consumed"})
    publish(wire, "orders", 3)
    config = {"durable_name": "billing", "ack_policy": "all", "deliver_policy": "by_start_sequence", "opt_start_seq": 3}
    wire.api("CONSUMER.CREATE.evtool_orders.billing", {"stream_name": "evtool_orders", "config": config})
    assert store.topic("orders").bounds().count == 3
    store.connection.run(keeper.release(store.connection, "orders"))
    assert (store.topic("orders").bounds().first, store.topic("orders").bounds().count) == (2, 1)
    store.connection.run(keeper.release(store.connection, "orders"))


def test_a_keeper_goes_with_its_retention(store: NatsStore, wire: Wire) -> None:
    store.create("orders", {"retention": "consumed"})
    assert wire.api("CONSUMER.NAMES.evtool_orders")["consumers"] == [keeper.NAME]
    store.topic("orders").set({"retention": "keep"})
    assert wire.api("CONSUMER.NAMES.evtool_orders")["total"] == 0
    with pytest.raises(ConfigurationError):
        store.topic("orders").set({"retention": "consumed", "replicas": 3})
    assert wire.api("CONSUMER.NAMES.evtool_orders")["total"] == 0

"""evtool.stores.nats.writer: what is appended is in the stream, once, in order, where its offset says."""

from __future__ import annotations

import base64
import concurrent.futures
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from evtool.errors import (
    BusyError,
    ConditionError,
    ConfigurationError,
    DataError,
    PartialAppendError,
    StorageError,
    UnknownOutcomeError,
)
from evtool.stores.nats import batch
from evtool.stores.nats.address import parse
from evtool.stores.nats.connection import Connection
from evtool.stores.nats.writer import NatsWriter
from tests.nats.proxy import Proxy
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.nats.server import Cluster, Server
    from tests.nats.wire import Wire

    Store = Server | Cluster

STREAM = "evtool_orders"
COMMON = b'"data":'
Writers = "Callable[..., NatsWriter]"


@pytest.fixture
def writer_at() -> Iterator[Callable[..., NatsWriter]]:
    """Makes writers for the topic `orders`, each with a connection of its own."""
    connections: list[Connection] = []

    def make(url: str, topic: str = "orders") -> NatsWriter:
        connections.append(Connection(parse(url, {})))
        return NatsWriter(connections[-1], topic)

    yield make
    for connection in connections:
        connection.close()


@pytest.fixture(params=["server", "cluster"])
def store(request: pytest.FixtureRequest) -> Store:
    """One server, and then three."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def background() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """What runs an append while the test does something to the server."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield pool


def bodies(count: int, first: int = 0) -> list[bytes]:
    """Data that are all different."""
    return [b"%d" % number for number in range(first, first + count)]


def state(wire: Wire, stream: str = STREAM) -> dict[str, Any]:
    """What the stream holds, as the server says."""
    found: dict[str, Any] = wire.api(f"STREAM.INFO.{stream}")["state"]
    return found


def stored(store: Store, stream: str = STREAM) -> list[bytes]:
    """The payloads of all messages, in order, without the part that they have in common."""
    with store.wire() as wire:
        found = state(wire, stream)
        messages = [
            wire.api(f"STREAM.MSG.GET.{stream}", {"seq": seq})["message"]
            for seq in range(found["first_seq"], found["last_seq"] + 1)
        ]
    payloads = [base64.b64decode(message.get("data", "")) for message in messages]
    assert all(payload.startswith(b"{" + COMMON) and payload.endswith(b"}") for payload in payloads)
    return [payload[1 + len(COMMON) : -1] for payload in payloads]


def messages(store: Store, stream: str = STREAM) -> int:
    """How many messages there are; 0 if there is no such stream."""
    with store.wire() as wire:
        return int(state(wire, stream)["messages"]) if stream in wire.streams() else 0


def make_stream(wire: Wire, **config: Any) -> None:
    """The stream of the topic as somebody else might have made it."""
    wire.api(
        f"STREAM.CREATE.{STREAM}",
        {"name": STREAM, "subjects": ["evtool.orders"], "allow_atomic": True, "allow_direct": True} | config,
    )


# What is stored


@pytest.mark.parametrize("count", [1, 2, 1000, 1001, 2500])
def test_events_are_stored_in_order_where_their_offsets_say(
    store: Store, writer_at: Callable[..., NatsWriter], count: int
) -> None:
    writer = writer_at(store.url)
    assert list(writer.append(bodies(count), COMMON)) == list(range(count))
    assert list(writer.append([b"-1"], COMMON)) == [count]
    if count < 1001:
        assert stored(store) == [*bodies(count), b"-1"]
    else:
        assert stored(store)[990:1010] == [*bodies(count), b"-1"][990:1010]
    assert messages(store) == count + 1


def test_nothing_is_sent_for_no_events(server: Server, writer_at: Callable[..., NatsWriter]) -> None:
    writer = writer_at(server.url)
    assert not writer.append([], COMMON)
    assert not writer.append_whole([], COMMON)
    assert messages(server) == 0


def test_a_message_is_the_event_without_what_the_store_gives_it(
    server: Server, writer_at: Callable[..., NatsWriter]
) -> None:
    writer = writer_at(server.url)
    writer.append([b'"key":"u1","data":{"a":1.50}'])
    with server.wire() as wire:
        found = wire.api(f"STREAM.MSG.GET.{STREAM}", {"seq": 1})["message"]
    assert base64.b64decode(found["data"]) == b'{"key":"u1","data":{"a":1.50}}'


def test_one_event_costs_one_message(server: Server, writer_at: Callable[..., NatsWriter]) -> None:
    """No round trip but the publish itself, and for several but their own messages."""
    with server.wire() as wire:
        make_stream(wire)
    writer = writer_at(server.url)
    before = writer.connection.client.stats["out_msgs"]
    writer.append([b"1"], COMMON)
    assert writer.connection.client.stats["out_msgs"] == before + 1
    writer.append(bodies(10), COMMON)
    assert writer.connection.client.stats["out_msgs"] == before + 11


def test_a_missing_topic_is_made_even_by_many_at_once(
    store: Store, writer_at: Callable[..., NatsWriter], background: concurrent.futures.ThreadPoolExecutor
) -> None:
    writers = [writer_at(store.url) for _ in range(4)]
    offsets = list(background.map(lambda writer: writer.append([b"1"], COMMON)[0], writers))
    assert sorted(offsets) == [0, 1, 2, 3]


def test_a_topic_that_was_removed_is_made_anew(server: Server, writer_at: Callable[..., NatsWriter]) -> None:
    writer = writer_at(server.url)
    writer.append(bodies(5), COMMON)
    with server.wire() as wire:
        wire.api(f"STREAM.DELETE.{STREAM}")
    assert list(writer.append(bodies(3), COMMON)) == [0, 1, 2]
    assert stored(server) == bodies(3)


def test_two_writers_mix_batches_but_not_their_events(
    store: Store, writer_at: Callable[..., NatsWriter], background: concurrent.futures.ThreadPoolExecutor
) -> None:
    """What one append stores in one batch has offsets one after another, and each finds its own events there."""
    writers = [writer_at(store.url) for _ in range(3)]

    def append(number: int) -> list[tuple[int, bytes]]:
        data = [b for round in range(5) for b in bodies(30, number * 1000 + round * 30)]
        offsets = [o for round in range(5) for o in writers[number].append(data[round * 30 : round * 30 + 30], COMMON)]
        assert all(offsets[at + 29] - offsets[at] == 29 for at in range(0, 150, 30))
        return list(zip(offsets, data, strict=True))

    expected = dict(pair for pairs in background.map(append, range(3)) for pair in pairs)
    assert stored(store) == [expected[offset] for offset in range(450)]


# Ids


def test_an_id_that_is_known_gets_the_offset_of_the_first(store: Store, writer_at: Callable[..., NatsWriter]) -> None:
    writer = writer_at(store.url)
    assert list(writer.append([b"1"], COMMON, ids=["a"])) == [0]
    assert list(writer_at(store.url).append([b"2"], COMMON, ids=["a"])) == [0]
    assert list(writer.append([b"2"], COMMON, ids=["b"])) == [1]
    assert stored(store) == [b"1", b"2"]


def test_the_new_ones_of_many_are_stored_in_order(store: Store, writer_at: Callable[..., NatsWriter]) -> None:
    """Some that are known, some twice in the call, some without an id."""
    writer = writer_at(store.url)
    assert list(writer.append(bodies(3), COMMON, ids=["a", "b", "c"])) == [0, 1, 2]
    ids = ["x", "b", "y", "x", None, "c", "y", None, "z"]
    assert list(writer.append(bodies(9, 10), COMMON, ids=ids)) == [3, 1, 4, 3, 5, 2, 4, 6, 7]
    assert stored(store) == [*bodies(3), b"10", b"12", b"14", b"17", b"18"]


def test_a_whole_input_can_be_sent_again(store: Store, writer_at: Callable[..., NatsWriter]) -> None:
    """Also if only a part of it got through the first time."""
    writer = writer_at(store.url)
    ids = [f"id-{number}" for number in range(2200)]
    writer.append(bodies(1300), COMMON, ids=ids[:1300])
    assert list(writer.append(bodies(2200), COMMON, ids=ids)) == list(range(2200))
    assert messages(store) == 2200
    assert stored(store)[1290:1310] == bodies(20, 1290)


def test_many_clients_with_the_same_ids_at_once_store_each_once(
    store: Store, writer_at: Callable[..., NatsWriter], background: concurrent.futures.ThreadPoolExecutor
) -> None:
    """Every one of them gets the same offsets, in whatever parts it sends them."""
    writers = [writer_at(store.url) for _ in range(4)]
    ids = [f"id-{number}" for number in range(300)]

    def append(number: int) -> list[int]:
        step = (1, 7, 100, 300)[number]
        parts = [slice(at, at + step) for at in range(0, 300, step)]
        return [o for part in parts for o in writers[number].append(bodies(300)[part], COMMON, ids=ids[part])]

    first, *others = background.map(append, range(4))
    assert all(other == first for other in others)
    assert sorted(first) == list(range(300))
    assert messages(store) == 300
    found = stored(store)
    assert [found[offset] for offset in first] == bodies(300)


@pytest.mark.parametrize("odd", ["", " ", "a b", " a", "a\r\nNats-Rollup: all", "é", "%61", "\0", "x" * 5000, "\u2028"])
def test_any_text_is_an_id(server: Server, writer_at: Callable[..., NatsWriter], odd: str) -> None:
    """As the header of a message it neither breaks out nor becomes the same as another one."""
    writer = writer_at(server.url)
    writer.append(bodies(2), COMMON, ids=["a", "first"])
    assert list(writer.append(bodies(2, 2), COMMON, ids=[odd, "other"])) == [2, 3]
    assert list(writer.append([b"9"], COMMON, ids=[odd])) == [2]
    assert stored(server) == bodies(4)


def test_tokens_are_ids_with_which_the_order_is_kept_whatever_is_known(
    store: Store, writer_at: Callable[..., NatsWriter]
) -> None:
    """One event after the other then; the events themselves need not have ids."""
    writer = writer_at(store.url)
    tokens = [f"host:log:{number}" for number in range(30)]
    assert list(writer.append(bodies(10), COMMON, tokens=tokens[:10])) == list(range(10))
    assert list(writer.append(bodies(25, 5), COMMON, tokens=tokens[5:])) == list(range(5, 30))
    assert stored(store) == bodies(30)


# Expectations


def test_an_expected_offset_holds_or_nothing_is_stored(store: Store, writer_at: Callable[..., NatsWriter]) -> None:
    writer = writer_at(store.url)
    assert list(writer.append([b"0"], COMMON, expect=0)) == [0]
    assert list(writer.append(bodies(3, 1), COMMON, expect=1)) == [1, 2, 3]
    for count, expect in ((1, 0), (1, 3), (1, 9), (3, 0), (3, 9), (1001, 3)):
        with pytest.raises(ConditionError, match=rf"orders: the next offset is 4, not {expect}$"):
            writer.append(bodies(count), COMMON, expect=expect)
    assert stored(store) == bodies(4)
    assert list(writer.append(bodies(1001), COMMON, expect=4)) == list(range(4, 1005))


def test_a_missing_topic_is_expected_to_begin_at_0(store: Store, writer_at: Callable[..., NatsWriter]) -> None:
    writer = writer_at(store.url)
    with pytest.raises(ConditionError, match="the next offset is 0, not 2"):
        writer.append(bodies(2), COMMON, expect=2)
    assert list(writer.append(bodies(2), COMMON, expect=0)) == [0, 1]


def test_an_expectation_is_about_the_next_offset_also_if_the_id_is_known(
    store: Store, writer_at: Callable[..., NatsWriter]
) -> None:
    """As in the file store: it holds or not, whatever becomes of the event."""
    writer = writer_at(store.url)
    writer.append(bodies(3), COMMON, ids=["a", "b", "c"])
    for ids in (["a"], ["a", "x"], ["x", "a"]):
        with pytest.raises(ConditionError, match="the next offset is 3, not 0"):
            writer.append(bodies(len(ids)), COMMON, ids=ids, expect=0)
    assert messages(store) == 3
    assert list(writer.append([b"1"], COMMON, ids=["a"], expect=3)) == [0]
    assert list(writer.append(bodies(3, 3), COMMON, ids=["b", "x", "y"], expect=3)) == [1, 3, 4]
    assert stored(store) == [*bodies(3), b"4", b"5"]


# All or none


def test_a_thousand_events_are_stored_whole_and_more_refused_before_any_is_sent(
    store: Store, writer_at: Callable[..., NatsWriter]
) -> None:
    writer = writer_at(store.url)
    assert list(writer.append_whole([bodies(400), bodies(600, 400)], COMMON, expect=0)) == list(range(1000))
    with pytest.raises(DataError, match=r"orders: NATS stores at most 1000 events at once"):
        writer.append_whole([bodies(1000), bodies(1)], COMMON)
    with pytest.raises(ConditionError):
        writer.append_whole([bodies(2)], COMMON, expect=1)
    assert messages(store) == 1000


def test_a_large_whole_is_sent_at_the_pace_of_the_server(store: Store, writer_at: Callable[..., NatsWriter]) -> None:
    """Twelve megabytes, of which the server is asked now and then whether it has them."""
    writer = writer_at(store.url)
    large = [b'"%d%b"' % (number, b"x" * 300_000) for number in range(40)]
    assert list(writer.append_whole([large], COMMON)) == list(range(40))
    assert stored(store) == large


def test_a_server_may_allow_smaller_batches(
    own_server: Callable[..., Server], writer_at: Callable[..., NatsWriter]
) -> None:
    """An append takes smaller ones then; what is to be stored whole is refused."""
    server = own_server(jetstream="limits { batch { max_msgs: 10 } }")
    writer = writer_at(server.url)
    assert list(writer.append(bodies(100), COMMON)) == list(range(100))
    assert stored(server) == bodies(100)
    with pytest.raises(DataError, match="NATS stores fewer events at once, or not at all"):
        writer.append_whole([bodies(11)], COMMON)
    assert messages(server) == 100


def test_batches_wait_for_their_turn(
    own_server: Callable[..., Server],
    writer_at: Callable[..., NatsWriter],
    background: concurrent.futures.ThreadPoolExecutor,
) -> None:
    """A server takes only so many at a time, and refuses the others, which come again."""
    server = own_server(jetstream="limits { batch { max_inflight_per_stream: 1 } }")
    writers = [writer_at(server.url) for _ in range(4)]
    writers[0].append([b"0"], COMMON)
    for round in range(5):
        data = [bodies(500, 1 + 2000 * round + 500 * number) for number in range(4)]
        list(background.map(lambda writer, mine: writer.append(mine, COMMON), writers, data))
    assert messages(server) == 10_001


# Refusals


def test_the_limit_is_the_topics_or_the_servers(
    own_server: Callable[..., Server], writer_at: Callable[..., NatsWriter]
) -> None:
    server = own_server(config="max_payload: 4096")
    assert writer_at(server.url).limit == 3072
    with server.wire() as wire:
        make_stream(wire, metadata={"evtool-max-event-bytes": "500"})
    assert writer_at(server.url).limit == 500


def test_an_event_of_the_limit_fits_and_one_too_large_is_named_before_any_is_sent(
    own_server: Callable[..., Server], writer_at: Callable[..., NatsWriter]
) -> None:
    server = own_server(config="max_payload: 4096")
    writer = writer_at(server.url)
    fits = b'"%b"' % (b"x" * (writer.limit - 2))
    assert list(writer.append([fits, fits], COMMON, ids=["x" * 200, "y" * 200])) == [0, 1]
    too_large = b'"%b"' % (b"x" * 4096)
    with pytest.raises(DataError, match=r"orders: event 3: by \d+ bytes larger than the server takes"):
        writer.append([b"1", b"2", too_large], COMMON)
    with pytest.raises(DataError, match=r"orders: event 1: "):
        writer.append([fits], b'"source":"%b",' % (b"s" * 1000) + COMMON)
    assert messages(server) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_an_event_that_the_stream_does_not_take_is_named(
    server: Server, writer_at: Callable[..., NatsWriter], count: int
) -> None:
    with server.wire() as wire:
        make_stream(wire, max_msg_size=1000)
    data = [*bodies(count - 1), b'"%b"' % (b"x" * 1000)]
    with pytest.raises(DataError, match=rf"orders: event {count}: larger than the topic's stream takes"):
        writer_at(server.url).append(data, COMMON)
    assert messages(server) == 0


def fill(writer: NatsWriter, data: Sequence[bytes], calls: int) -> tuple[int, StorageError]:
    """Append until it is refused; how many events were acknowledged before that call, and how it was refused."""
    acknowledged = 0
    for _ in range(calls):
        try:
            acknowledged += len(writer.append(data, COMMON))
        except StorageError as error:
            return acknowledged, error
    raise AssertionError("it was never refused")


@pytest.mark.parametrize("count", [1, 1500])
def test_what_is_stored_when_the_server_is_full_is_counted_exactly(
    own_server: Callable[..., Server], writer_at: Callable[..., NatsWriter], count: int
) -> None:
    server = own_server(jetstream="max_file_store: 1M")
    acknowledged, error = fill(writer_at(server.url), [b'"%b"' % (b"x" * 1000)] * count, 2000)
    assert isinstance(error, PartialAppendError)
    assert error.total == count
    if error.stored:
        assert (error.first, error.last) == (acknowledged, acknowledged + error.stored - 1)
        acknowledged += error.stored
    assert messages(server) == acknowledged
    assert acknowledged > 100


@pytest.mark.parametrize("count", [1, 3])
def test_a_topic_that_is_full_and_drops_nothing_refuses(
    store: Store, writer_at: Callable[..., NatsWriter], count: int
) -> None:
    with store.wire() as wire:
        make_stream(wire, max_bytes=10_000, discard="new", num_replicas=1 if store.url.count(":") == 2 else 3)
    acknowledged, error = fill(writer_at(store.url), [b'"%b"' % (b"x" * 200)] * count, 100)
    assert "maximum bytes exceeded" in str(error)
    assert error.exit_code == 74
    assert messages(store) == acknowledged > 0


def test_a_call_of_which_only_the_first_batches_fit_says_how_many(
    server: Server, writer_at: Callable[..., NatsWriter]
) -> None:
    with server.wire() as wire:
        make_stream(wire, max_msgs=1500, discard="new")
    with pytest.raises(
        PartialAppendError, match="stored 1000 of 2500 events, offsets 0 to 999: .*maximum messages"
    ) as caught:
        writer_at(server.url).append(bodies(2500), COMMON)
    assert (caught.value.stored, caught.value.total, caught.value.first, caught.value.last) == (1000, 2500, 0, 999)
    assert messages(server) == 1000


def test_a_stream_without_batches_is_told_of(server: Server, writer_at: Callable[..., NatsWriter]) -> None:
    """One event at a time can be appended to it."""
    with server.wire() as wire:
        make_stream(wire, allow_atomic=False)
    writer = writer_at(server.url)
    assert list(writer.append([b"0"], COMMON)) == [0]
    with pytest.raises(ConfigurationError, match="orders: its stream takes no batches"):
        writer.append(bodies(2), COMMON)
    assert stored(server) == [b"0"]


# Answers that do not come


def lost_answer(
    proxy: Proxy,
    store: Store,
    background: concurrent.futures.ThreadPoolExecutor,
    append: Callable[[], Sequence[int]],
    count: int,
) -> list[int]:
    """What an append returns whose answer is swallowed after the server has stored `count` messages in all."""
    proxy.swallow()
    running = background.submit(append)
    wait_until(lambda: messages(store) == count, "the events to be stored")
    proxy.cut()
    return list(running.result(30))


@pytest.mark.parametrize("count", [1, 3, 1000])
@pytest.mark.parametrize("expect", [None, 1])
@pytest.mark.parametrize("with_ids", [False, True])
def test_what_was_stored_without_an_answer_is_not_stored_again(
    server: Server,
    writer_at: Callable[..., NatsWriter],
    background: concurrent.futures.ThreadPoolExecutor,
    count: int,
    expect: int | None,
    with_ids: bool,
) -> None:
    """The append finds out where its events are, expected there or not, whoever has made their ids."""
    ids = [f"i{number}" for number in range(count)] if with_ids else None
    with Proxy(server.port) as proxy:
        writer = writer_at(proxy.url)
        first = writer.append([b"-1"], COMMON)[0] + 1
        before = messages(server)

        def append() -> Sequence[int]:
            return writer.append(bodies(count), COMMON, ids=ids, expect=expect and first)

        assert lost_answer(proxy, server, background, append, before + count) == list(range(first, first + count))
        assert proxy.count == 2
    assert messages(server) == before + count


@pytest.mark.parametrize("expect", [None, 0])
@pytest.mark.parametrize("count", [1, 3])
def test_it_is_found_in_a_cluster_too(
    cluster: Cluster,
    writer_at: Callable[..., NatsWriter],
    background: concurrent.futures.ThreadPoolExecutor,
    count: int,
    expect: int | None,
) -> None:
    """The client is cut off, and goes on with another server."""
    with cluster.wire() as wire:
        make_stream(wire, num_replicas=3)
    with Proxy(cluster.servers[0].port) as proxy:
        writer = writer_at(proxy.url)

        def append() -> Sequence[int]:
            return writer.append(bodies(count), COMMON, expect=expect)

        assert lost_answer(proxy, cluster, background, append, count) == list(range(count))
    assert stored(cluster) == bodies(count)


@pytest.mark.parametrize("count", [1, 3])
def test_without_message_ids_it_would_be_stored_twice(
    server: Server,
    writer_at: Callable[..., NatsWriter],
    background: concurrent.futures.ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """The negative control: it is the ids that keep the second try out."""
    monkeypatch.setattr(batch.Batch, "_headers", lambda _self, _place: {"Nothing": "here"})
    with server.wire() as wire:
        make_stream(wire)
    with Proxy(server.port) as proxy:
        writer = writer_at(proxy.url)
        lost_answer(proxy, server, background, lambda: writer.append(bodies(count), COMMON), count)
    assert stored(server) == [*bodies(count), *bodies(count)]


def test_another_ones_event_at_the_expected_place_is_not_taken_for_ours(
    server: Server, writer_at: Callable[..., NatsWriter], background: concurrent.futures.ThreadPoolExecutor
) -> None:
    """An append that was not answered, and did not get through, is told so if somebody else was quicker."""
    writer_at(server.url).append([b"0"], COMMON)
    with Proxy(server.port) as proxy:
        writer = writer_at(proxy.url)
        server.suspend()
        try:
            running = background.submit(writer.append, bodies(2, 7), COMMON, expect=1)
            wait_until(lambda: writer.waits_for() is not None, "it to be sent")
            proxy.cut()
        finally:
            server.resume()
        other = writer_at(server.url)
        try:
            theirs = list(other.append([b"1"], COMMON, expect=1))
        except ConditionError:
            theirs = []
        if theirs:
            with pytest.raises(ConditionError, match="the next offset is 2, not 1"):
                running.result(30)
            assert stored(server) == bodies(2)
        else:
            assert list(running.result(30)) == [1, 2]
            assert stored(server) == [b"0", b"7", b"8"]


@pytest.mark.parametrize("count", [1, 3])
def test_an_outcome_that_stays_unknown_is_said_to_be_so(
    server: Server, writer_at: Callable[..., NatsWriter], count: int
) -> None:
    """The server stands still for longer than we have patience, and stores it when it goes on."""
    writer = writer_at(server.url)
    writer.append([b"-1"], COMMON)
    server.suspend()
    try:
        with pytest.raises(
            UnknownOutcomeError, match=rf"stored 0 of {count} events; of {count} more it is unknown"
        ) as caught:
            writer.append(bodies(count), COMMON, timeout=0.3)
        assert caught.value.exit_code == 75
        assert (caught.value.stored, caught.value.unknown, caught.value.total) == (0, count, count)
    finally:
        server.resume()
    wait_until(lambda: messages(server) == count + 1, "the server to go on")
    assert list(writer.append([b"9"], COMMON)) == [count + 1]


def test_the_first_batches_of_an_unknown_outcome_are_counted(
    server: Server, writer_at: Callable[..., NatsWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stands still after the second batch of five."""
    writer = writer_at(server.url)
    store = batch.Batch.store
    calls = 0

    async def stop_then(self: batch.Batch) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            server.suspend()
        await store(self)

    monkeypatch.setattr(batch.Batch, "store", stop_then)
    ids = [f"{number % 4000}" for number in range(4500)]
    try:
        with pytest.raises(UnknownOutcomeError) as caught:
            writer.append(bodies(4500), COMMON, ids=ids, timeout=0.5)
    finally:
        server.resume()
    error = caught.value
    assert (error.stored, error.unknown, error.total, error.first, error.last) == (2000, 1000, 4500, 0, 1999)
    wait_until(lambda: messages(server) == 3000, "the server to go on")


def test_what_was_never_sent_is_not_called_unknown(
    own_server: Callable[..., Server], writer_at: Callable[..., NatsWriter]
) -> None:
    server = own_server()
    writer = writer_at(server.url)
    writer.append([b"0"], COMMON)
    server.kill()
    wait_until(lambda: not writer.connection.client.is_connected, "the loss of the connection")
    for count in (1, 3):
        with pytest.raises(BusyError, match="orders: not stored: not connected to any server") as caught:
            writer.append(bodies(count), COMMON, timeout=0.2)
        assert not isinstance(caught.value, UnknownOutcomeError)
    server.start()
    assert list(writer.append([b"1"], COMMON)) == [1]


def test_nothing_is_sent_again_that_the_server_may_have_forgotten(
    server: Server, writer_at: Callable[..., NatsWriter], background: concurrent.futures.ThreadPoolExecutor
) -> None:
    """A topic whose ids are remembered for a moment only: an answer that is lost leaves the outcome unknown."""
    with server.wire() as wire:
        make_stream(wire, duplicate_window=200_000_000)
    with Proxy(server.port) as proxy:
        writer = writer_at(proxy.url)
        proxy.swallow()
        running = background.submit(writer.append, bodies(2), COMMON)
        wait_until(lambda: messages(server) == 2, "the events to be stored")
        threading.Event().wait(0.3)  # the window itself is what this is about
        proxy.cut()
        with pytest.raises(UnknownOutcomeError, match=r"ids are remembered for 0.2 s only"):
            running.result(30)
    assert messages(server) == 2


def test_a_wait_is_told_of_once_and_ended_by_an_interrupt_which_leaves_the_connection_usable(
    server: Server, writer_at: Callable[..., NatsWriter]
) -> None:
    writer = writer_at(server.url)
    writer.append([b"0"], COMMON)
    told: list[str | None] = []

    def tell() -> None:
        told.append(writer.waits_for())
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    server.suspend()
    try:
        with pytest.raises(KeyboardInterrupt):
            writer.append(bodies(3), COMMON, on_wait=tell)
    finally:
        server.resume()
    assert told == [f"an answer of the server at {server.url}"]
    assert writer.waits_for() is None
    offsets = list(writer.append(bodies(3, 10), COMMON, on_wait=tell))
    assert stored(server)[offsets[0] :] == bodies(3, 10)
    assert len(told) == 1


# Servers that go


class Producer:
    """Appends numbered events in calls of different sizes until it is told to stop, and keeps what was acknowledged."""

    def __init__(self, writer: NatsWriter, ids: bool = False) -> None:
        self._writer = writer
        self._ids = ids
        self._stops = False
        self.acknowledged: list[int] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        sizes = (1, 30, 1, 300, 1200)
        call = 0
        try:
            while not self._stops:
                data = bodies(sizes[call % 5], len(self.acknowledged))
                ids = [f"p{one.decode()}" for one in data] if self._ids else None
                self.acknowledged += self._writer.append(data, COMMON, ids=ids)
                call += 1
        except BaseException as error:
            self._error = error

    def await_more(self, count: int = 500) -> None:
        """Wait until so many more events are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= enough or self._error is not None, "more events")

    def stop(self) -> list[int]:
        """End it, and return the offsets of its events in their order."""
        self._stops = True
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        return self.acknowledged


def check_all_there(store: Store, offsets: list[int]) -> None:
    """What one producer has had acknowledged is in the stream, each event once, in order, at its offset."""
    assert offsets == list(range(len(offsets)))
    with store.wire() as wire:
        assert state(wire)["messages"] == len(offsets)
        for at in [*range(0, len(offsets), 97), len(offsets) - 1]:
            message = wire.api(f"STREAM.MSG.GET.{STREAM}", {"seq": at + 1})["message"]
            assert orjson.loads(base64.b64decode(message["data"])) == {"data": at}


@pytest.mark.parametrize("ids", [False, True])
def test_appends_ride_out_a_server_that_is_killed_and_started(
    own_server: Callable[..., Server], writer_at: Callable[..., NatsWriter], ids: bool
) -> None:
    server = own_server()
    producer = Producer(writer_at(server.url), ids)
    for _ in range(3):
        producer.await_more()
        server.kill()
        server.start()
    producer.await_more()
    check_all_there(server, producer.stop())


def test_appends_ride_out_connections_that_break(server: Server, writer_at: Callable[..., NatsWriter]) -> None:
    with Proxy(server.port) as proxy:
        producer = Producer(writer_at(proxy.url))
        for _ in range(8):
            producer.await_more(100)
            proxy.cut()
        producer.await_more()
        offsets = producer.stop()
        assert proxy.count > 8
    check_all_there(server, offsets)


@pytest.mark.parametrize("ids", [False, True])
def test_appends_ride_out_leaders_that_step_down(
    cluster: Cluster, writer_at: Callable[..., NatsWriter], ids: bool
) -> None:
    producer = Producer(writer_at(cluster.url), ids)
    for _ in range(4):
        producer.await_more(300)
        with cluster.leader_of(STREAM).wire() as wire:
            wire.api(f"STREAM.LEADER.STEPDOWN.{STREAM}")
    producer.await_more(300)
    check_all_there(cluster, producer.stop())


@pytest.mark.slow
def test_appends_ride_out_a_leader_that_is_killed(
    own_cluster: Callable[..., Cluster], writer_at: Callable[..., NatsWriter]
) -> None:
    cluster = own_cluster()
    producer = Producer(writer_at(cluster.url))
    producer.await_more()
    leader = cluster.leader_of(STREAM)
    leader.kill()
    producer.await_more()
    leader.start()
    cluster.await_ready()
    check_all_there(cluster, producer.stop())

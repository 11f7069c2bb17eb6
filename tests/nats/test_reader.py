"""Reading a topic on NATS: every event once and in order, whatever happens to consumers, servers and the stream."""

from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtool.errors import ConfigurationError, NotFoundError, StorageError
from evtool.log import files, line
from evtool.stores.nats import names, pull, stream
from evtool.stores.nats.address import parse
from evtool.stores.nats.block import Block
from evtool.stores.nats.connection import Connection, Unanswered
from evtool.stores.nats.message import line_of
from evtool.stores.nats.reader import NatsReader
from evtool.stores.nats.store import NatsStore
from tests.nats.events import fill
from tests.nats.wire import WireError
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.nats.server import Cluster, Server
    from tests.nats.wire import Wire

STREAM = names.stream_of("orders")


@pytest.fixture
def connected() -> Iterator[Callable[..., Connection]]:
    """Connects to a server or a cluster, and makes a topic there."""
    opened: list[Connection] = []

    def connect(place: Server | Cluster, topic: str | None = "orders", **chosen: Any) -> Connection:
        connection = Connection(parse(place.url, {}))
        opened.append(connection)
        if topic is not None:
            stream.create_stream(connection, topic, chosen)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(server: Server, connected: Callable[..., Connection]) -> Connection:
    """A connection to the shared server, with the topic orders."""
    return connected(server)


def offsets_of(lines: bytes) -> list[int]:
    """The offsets of whole lines; their data, which are numbers here, have to say the same."""
    found = []
    for text in lines.splitlines(keepends=True):
        found.append(line.offset_of(text))
        assert int(line.data_of(text).strip(b'"')) == found[-1]
    return found


def read_all(reader: NatsReader) -> list[int]:
    """The offsets of all that is left."""
    found: list[int] = []
    while lines := reader.read():
        found += offsets_of(lines)
    return found


def follow(reader: NatsReader, count: int) -> list[int]:
    """The offsets of the next events, as soon as there are so many."""
    found: list[int] = []

    def read_on() -> bool:
        found.extend(read_all(reader))
        return len(found) >= count

    wait_until(read_on, f"{count} events")
    return found


def consumers(connection: Connection) -> list[str]:
    """The consumers of the topic."""
    return connection.call(f"CONSUMER.NAMES.{STREAM}").get("consumers") or []


def sent(connection: Connection) -> int:
    """How many messages went out so far."""
    return int(connection.client.stats["out_msgs"])


def test_everything_is_read_once_and_in_order(connection: Connection) -> None:
    """All blocks together are all events, and the cursor stands behind the last one."""
    fill(connection, "orders", 10_000)
    reader = NatsReader(connection, "orders", 0)
    assert read_all(reader) == list(range(10_000))
    assert reader.next_offset == 10_000


def test_a_block_is_about_as_large_as_was_asked(connection: Connection) -> None:
    """A small limit gives small blocks, of at least one line."""
    fill(connection, "orders", 100, text=b'"%0100d"')
    reader = NatsReader(connection, "orders", 0)
    assert len(offsets_of(reader.read(1))) == 1
    wait_until(lambda: reader._pull is not None and reader._pull.count == 99, "the others")
    assert 5 <= len(offsets_of(reader.read(1000))) <= 12


def test_reading_begins_where_it_is_said(connection: Connection) -> None:
    """Nothing before the offset is given out."""
    fill(connection, "orders", 3000)
    assert read_all(NatsReader(connection, "orders", 2500)) == list(range(2500, 3000))


def test_reading_begins_beyond_the_end_with_that_offset(connection: Connection) -> None:
    """Events that come meanwhile and have lower offsets are left out."""
    fill(connection, "orders", 10)
    reader = NatsReader(connection, "orders", 15)
    assert read_all(reader) == []
    fill(connection, "orders", 10, first=10)
    assert follow(reader, 5) == [15, 16, 17, 18, 19]


def test_an_empty_topic_is_at_its_end(connection: Connection) -> None:
    """There is nothing to read, and no waiting for it."""
    reader = NatsReader(connection, "orders", 0)
    assert reader.read() == b""
    assert reader.next_offset == 0


def test_a_topic_that_is_not_there_is_not_found(connection: Connection) -> None:
    """The first read says so."""
    with pytest.raises(NotFoundError, match="no such topic"):
        NatsReader(connection, "nosuch", 0).read()


def test_the_end_and_whether_the_topic_is_gone_cost_nothing(connection: Connection) -> None:
    """At the end nobody is asked anything, however often we look."""
    fill(connection, "orders", 5000)
    reader = NatsReader(connection, "orders", 0)
    read_all(reader)
    before = sent(connection)
    for _ in range(50):
        assert reader.read() == b""
        assert not reader.is_gone()
    assert sent(connection) == before


def test_what_comes_later_is_read_without_asking(connection: Connection, server: Server) -> None:
    """A follower gets events by requests that stand since before; the signal says that there are some."""
    reader = NatsReader(connection, "orders", 0)
    assert reader.read() == b""
    connection.signal.take()
    before = sent(connection)
    with server.wire() as wire:
        wire.request(names.subject_of("orders"), b'{"data":0}')
    wait_until(connection.signal.take, "news")
    assert read_all(reader) == [0]
    assert sent(connection) == before


def test_what_was_trimmed_before_is_missed(connection: Connection) -> None:
    """Who begins before the earliest event is told which ones there are no more, once."""
    fill(connection, "orders", 1000)
    connection.call(f"STREAM.PURGE.{STREAM}", {"seq": 401})
    missed: list[tuple[int, int]] = []
    reader = NatsReader(connection, "orders", 100, lambda *ends: missed.append(ends))
    assert read_all(reader) == list(range(400, 1000))
    assert missed == [(100, 399)]


def test_what_is_trimmed_under_a_reader_is_missed(connection: Connection) -> None:
    """What a reader was given and what it was told to have missed are together all there ever was."""
    fill(connection, "orders", 30_000)
    missed: list[tuple[int, int]] = []
    reader = NatsReader(connection, "orders", 0, lambda *ends: missed.append(ends))
    found = offsets_of(reader.read())
    connection.call(f"STREAM.PURGE.{STREAM}", {"seq": 20_001})
    found += read_all(reader)
    ((first, last),) = missed
    assert last == 19_999
    assert sorted([*found, *range(first, last + 1)]) == list(range(30_000))


def test_all_of_a_topic_is_trimmed_under_a_reader(connection: Connection) -> None:
    """It comes to the end although nothing comes any more, and is told what it has missed."""
    fill(connection, "orders", 30_000)
    missed: list[tuple[int, int]] = []
    reader = NatsReader(connection, "orders", 0, lambda *ends: missed.append(ends))
    found = offsets_of(reader.read())
    connection.call(f"STREAM.PURGE.{STREAM}")
    found += read_all(reader)
    ((first, last),) = missed
    assert [*found, *range(first, last + 1)] == list(range(30_000))
    assert reader.next_offset == 30_000
    fill(connection, "orders", 1, first=30_000)
    assert follow(reader, 1) == [30_000]
    assert len(missed) == 1


def test_events_removed_singly_are_not_missed(connection: Connection) -> None:
    """Gaps in the middle of a topic are no losses, at whatever place reading begins."""
    fill(connection, "orders", 100)
    for offset in (10, 11, 50):
        connection.call(f"STREAM.MSG.DELETE.{STREAM}", {"seq": offset + 1})
    missed: list[tuple[int, int]] = []
    there = [offset for offset in range(100) if offset not in (10, 11, 50)]
    for start in (0, 10, 11):
        reader = NatsReader(connection, "orders", start, lambda *ends: missed.append(ends))
        assert read_all(reader) == [offset for offset in there if offset >= start]
    assert missed == []


def test_a_consumer_removed_under_a_reader_is_made_anew(connection: Connection) -> None:
    """Reading goes on with the next event; so it does when the server has forgotten a reader that was slow."""
    fill(connection, "orders", 20_000)
    reader = NatsReader(connection, "orders", 0)
    found = offsets_of(reader.read())
    (consumer,) = consumers(connection)
    connection.call(f"CONSUMER.DELETE.{STREAM}.{consumer}")
    found += read_all(reader)
    assert found == list(range(20_000))
    (another,) = consumers(connection)
    assert another != consumer


def test_a_message_that_is_lost_on_the_way_is_fetched_again(connection: Connection) -> None:
    """A hole in the consumer's numbers leads to another consumer, and no event is left out."""
    fill(connection, "orders", 5000)
    reader = NatsReader(connection, "orders", 0)
    found = offsets_of(reader.read(1))
    assert reader._pull is not None
    wait_until(lambda: reader._pull is not None and reader._pull.count > 100, "messages")
    del reader._pull._messages[50]
    found += read_all(reader)
    assert found == list(range(5000))


def test_the_last_message_lost_on_the_way_is_noticed(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that tells of more deliveries than have come makes the pull fail; as a control, one that does not."""
    monkeypatch.setattr(pull, "HEARTBEAT", 0.1)
    fill(connection, "orders", 10)
    reader = NatsReader(connection, "orders", 0)
    assert len(read_all(reader)) == 10
    found = reader._pull
    assert found is not None
    words = found._words
    wait_until(lambda: found._words > words, "a heartbeat")
    assert found.failure is None
    found._came -= 1  # as if that many had come
    wait_until(lambda: found.failure is not None, "the next one")
    fill(connection, "orders", 1, first=10)
    assert follow(reader, 1) == [10]


def test_a_topic_removed_under_a_reader_is_gone(connection: Connection) -> None:
    """What has come is still given out; then it is said, and `is_gone` says so too."""
    fill(connection, "orders", 100)
    reader = NatsReader(connection, "orders", 0)
    assert offsets_of(reader.read(1)) == [0]
    wait_until(lambda: reader._pull is not None and reader._pull.count == 99, "the others")
    assert not reader.is_gone()
    connection.call(f"STREAM.DELETE.{STREAM}")
    wait_until(reader.is_gone, "it to be gone")
    assert offsets_of(reader.read()) == list(range(1, 100))
    with pytest.raises(NotFoundError, match="was removed"):
        reader.read()


def test_a_topic_made_anew_is_another_one(connection: Connection) -> None:
    """A reader does not go on in a topic of the same name that has other events."""
    fill(connection, "orders", 100)
    reader = NatsReader(connection, "orders", 0)
    read_all(reader)
    connection.call(f"STREAM.DELETE.{STREAM}")
    wait_until(lambda: made(connection, "orders"), "the server to be able to")
    fill(connection, "orders", 200)
    wait_until(reader.is_gone, "it to be gone")
    with pytest.raises(NotFoundError, match="was removed"):
        reader.read()


def test_a_consumer_goes_with_its_reader(connection: Connection) -> None:
    """A reader that nobody has any more leaves nothing on the server."""
    reader = NatsReader(connection, "orders", 0)
    reader.read()
    assert len(consumers(connection)) == 1
    del reader
    gc.collect()
    wait_until(lambda: not consumers(connection), "it to be removed")


def test_consumers_go_with_their_connection(
    connection: Connection, server: Server, connected: Callable[..., Connection]
) -> None:
    """Readers that are still there when it is closed leave nothing on the server either."""
    another = connected(server, None)
    readers = [NatsReader(another, "orders", 0) for _ in range(3)]
    for reader in readers:
        reader.read()
    assert len(consumers(connection)) == 3
    another.close()
    wait_until(lambda: not consumers(connection), "them to be removed")


def test_foreign_messages_are_shown(connection: Connection) -> None:
    """What others have published stands among our events, and makes no line that is not one."""
    subject = names.subject_of("orders")
    for payload in (b'{"data":0}', b"hello", b"\xff\n", b'{"data":1}\n', b"", b'{"data":2}'):
        connection.run(connection.request(subject, payload))
    texts = NatsReader(connection, "orders", 0).read().splitlines(keepends=True)
    assert [line.data_of(text) for text in texts] == [
        b"0", b'"hello"', b'{"base64":"/wo="}', b'{"data":1}', b'""', b"2",
    ]  # fmt: skip
    assert all(map(line.is_event, texts))


def test_a_large_event_is_read(own_server: Callable[..., Server], connected: Callable[..., Connection]) -> None:
    """One that is larger than a request may bring is asked for with a larger one; memory stays bounded otherwise."""
    connection = connected(own_server(config="max_payload: 8MB"))
    large = b'"%b"' % (b"x" * 5_000_000)
    for data in (b"0", large, b"2"):
        connection.run(connection.request(names.subject_of("orders"), b'{"data":%b}' % data, timeout=20))
    reader = NatsReader(connection, "orders", 0)
    lines = b""
    while more := reader.read():
        lines += more
    assert [line.data_of(text) for text in lines.splitlines(keepends=True)] == [b"0", large, b"2"]


def test_what_is_buffered_is_bounded(connection: Connection) -> None:
    """Of many large events only so many are fetched as fit, until they are read."""
    fill(connection, "orders", 60, text=b'{"n":%d,"x":"' + b"x" * 500_000 + b'"}')
    reader = NatsReader(connection, "orders", 0)
    count = reader.read().count(b"\n")
    found = reader._pull
    assert found is not None
    size = 0
    while lines := reader.read():
        size = max(size, found._came_size - found._taken_size)
        count += lines.count(b"\n")
    assert count == 60
    assert size <= pull.SIZE


def test_a_server_that_limits_requests_is_read_from(
    own_server: Callable[..., Server], connected: Callable[..., Connection]
) -> None:
    """Where a request may ask for few messages only, more of them are made."""
    connection = connected(own_server(jetstream="limits { max_request_batch: 100 }"))
    fill(connection, "orders", 3000)
    assert read_all(NatsReader(connection, "orders", 0)) == list(range(3000))


def test_a_topic_that_keeps_what_is_not_consumed_is_read_from(server: Server) -> None:
    """Plain reading neither consumes what no group has had nor needs one."""
    store = NatsStore(parse(server.url, {}))
    store.create("orders", {"retention": "consumed"})
    fill(store.connection, "orders", 3000)
    for _ in range(2):
        assert read_all(NatsReader(store.connection, "orders", 0)) == list(range(3000))
    store.close()


def test_who_may_not_fetch_is_told(own_server: Callable[..., Server]) -> None:
    """A permission that is missing is an error, at once, and not a silence."""
    denied = 'publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] }'
    users = f"{{ user: all, password: x }}, {{ user: some, password: x, permissions: {{ {denied} }} }}"
    server = own_server(config=f"authorization {{ users: [ {users} ] }}", login={"user": "all", "pass": "x"})
    everything, some = (Connection(parse(server.url.replace("//", f"//{user}:x@"), {})) for user in ("all", "some"))
    stream.create_stream(everything, "orders", {})
    fill(everything, "orders", 100)
    assert read_all(NatsReader(everything, "orders", 0)) == list(range(100))
    with pytest.raises(ConfigurationError, match="permission denied"):
        NatsReader(some, "orders", 0).read()
    everything.close()
    some.close()


# Servers that go and come


def test_a_server_is_killed_and_started_again_while_we_read(
    own_server: Callable[..., Server], connected: Callable[..., Connection]
) -> None:
    """Reading waits for it and goes on with the next event, in the middle and at the end."""
    server = own_server()
    connection = connected(server)
    fill(connection, "orders", 20_000)
    reader = NatsReader(connection, "orders", 0)
    found = offsets_of(reader.read())
    server.kill()
    reading = threading.Thread(target=lambda: found.extend(read_all(reader)))
    reading.start()  # not the server in a thread: it would end with that
    wait_until(lambda: reader._pull is not None and not reader._pull.count, "it to be out of events")
    server.start()
    reading.join()
    assert found == list(range(20_000))
    server.kill()
    server.start()
    fill(connection, "orders", 10, first=20_000)
    assert follow(reader, 10) == list(range(20_000, 20_010))


def test_a_server_that_stays_away_is_told(
    own_server: Callable[..., Server], connected: Callable[..., Connection]
) -> None:
    """After a while reading ends with the error that nobody answers; it does not hang, nor say that this is the end."""
    server = own_server()
    connection = connected(server)
    connection.patience = 1.0
    fill(connection, "orders", 20_000)
    reader = NatsReader(connection, "orders", 0)
    reader.read(1)
    server.kill()
    with pytest.raises(Unanswered):
        read_all(reader)


@pytest.mark.parametrize("how", ["kill", "suspend"])
def test_who_is_in_a_hurry_does_not_wait_for_a_server(
    own_server: Callable[..., Server], connected: Callable[..., Connection], how: str
) -> None:
    """When a signal has come, reading that waits for an answer ends soon, long before its patience does."""
    server = own_server()
    connection = connected(server)
    fill(connection, "orders", 20_000)
    reader = NatsReader(connection, "orders", 0)
    reader.read(1)
    getattr(server, how)()
    hurry = threading.Timer(1, connection.hurry)
    hurry.start()
    start = time.monotonic()
    with pytest.raises(Unanswered):
        read_all(reader)
    assert time.monotonic() - start < 10
    if how == "suspend":
        server.resume()


def test_a_server_that_stands_still_is_waited_for(
    own_server: Callable[..., Server], connected: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence is noticed, and nothing is skipped or repeated when it goes on."""
    monkeypatch.setattr(pull, "HEARTBEAT", 0.2)
    server = own_server()
    connection = connected(server)
    fill(connection, "orders", 20_000)
    reader = NatsReader(connection, "orders", 0)
    found = offsets_of(reader.read())
    first = reader._pull
    server.suspend()
    reading = threading.Thread(target=lambda: found.extend(read_all(reader)))
    reading.start()
    wait_until(lambda: reader._pull is not first, "its silence to be noticed")
    server.resume()
    reading.join()
    assert found == list(range(20_000))


def test_a_cluster_is_read_from(cluster: Cluster, connected: Callable[..., Connection]) -> None:
    """Three replicas give what one gives."""
    connection = connected(cluster)
    fill(connection, "orders", 10_000)
    reader = NatsReader(connection, "orders", 0)
    assert read_all(reader) == list(range(10_000))
    fill(connection, "orders", 10, first=10_000)
    assert follow(reader, 10) == list(range(10_000, 10_010))


def test_leaders_step_down_while_we_read(cluster: Cluster, connected: Callable[..., Connection]) -> None:
    """Of the stream, and of the consumer: nothing is skipped or repeated."""
    connection = connected(cluster)
    fill(connection, "orders", 20_000)
    reader = NatsReader(connection, "orders", 0)
    found = offsets_of(reader.read())
    connection.call(f"STREAM.LEADER.STEPDOWN.{STREAM}")
    found += offsets_of(reader.read())
    for consumer in consumers(connection):
        connection.call(f"CONSUMER.LEADER.STEPDOWN.{STREAM}.{consumer}")
    found += read_all(reader)
    assert found == list(range(20_000))


@pytest.mark.parametrize("where", ["consumer", "connection"])
def test_a_server_of_a_cluster_is_killed_while_we_follow(
    where: str, own_cluster: Callable[..., Cluster], connected: Callable[..., Connection]
) -> None:
    """That which has the consumer, or that to which we are connected: what is appended then is read, once."""
    cluster = own_cluster()
    connection = connected(cluster)
    fill(connection, "orders", 5000)
    reader = NatsReader(connection, "orders", 0)
    found = read_all(reader)
    (consumer,) = consumers(connection)
    name = connection.server_name
    if where == "consumer":
        name = connection.call(f"CONSUMER.INFO.{STREAM}.{consumer}")["cluster"]["leader"]
    next(server for server in cluster.servers if server.name == name).kill()
    with next(iter(cluster.running)).wire() as wire:
        wait_until(lambda: published(wire, 5000), "an append")
    found += follow(reader, 1)
    assert found == list(range(5001))


def made(connection: Connection, topic: str) -> bool:
    """Whether a topic could be made; just after one of the same name was removed the server may fail to."""
    try:
        stream.create_stream(connection, topic, {})
    except StorageError:
        return False
    return True


def published(wire: Wire, number: int) -> bool:
    """Whether an event could be appended; once only, however often we try."""
    try:
        answer = wire.request(names.subject_of("orders"), b'{"data":%d}' % number, {"Nats-Msg-Id": "last"})
    except WireError:
        return False
    return b"error" not in answer


# Sending


def test_lines_are_sent_to_a_descriptor(connection: Connection, tmp_path: Path) -> None:
    """All that there is, as `read` gives it out."""
    fill(connection, "orders", 10_000)
    reader = NatsReader(connection, "orders", 0)
    path = tmp_path / "out"
    with path.open("wb") as out:
        sizes = []
        while size := reader.send(out.fileno()):
            sizes.append(size)
    assert path.stat().st_size == sum(sizes)
    assert offsets_of(path.read_bytes()) == list(range(10_000))
    assert reader.next_offset == 10_000


@pytest.mark.parametrize("until", [0, 1, 1234, 4999, 5000, 9999])
def test_sending_ends_before_an_offset(connection: Connection, tmp_path: Path, until: int) -> None:
    """The rest is kept for whoever reads on."""
    fill(connection, "orders", 5000)
    reader = NatsReader(connection, "orders", 0)
    path = tmp_path / "out"
    with path.open("wb") as out:
        while reader.next_offset < until and reader.send(out.fileno(), until):
            pass
        assert reader.send(out.fileno(), until) == 0
    sent_offsets = offsets_of(path.read_bytes())
    assert sent_offsets == list(range(min(until, 5000)))
    assert reader.next_offset == min(until, 5000)
    assert sent_offsets + read_all(reader) == list(range(5000))


def test_what_was_taken_whole_is_behind_the_cursor(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the descriptor takes no more in the middle of a line, that line is the next one."""
    fill(connection, "orders", 1000)
    reader = NatsReader(connection, "orders", 0)
    found = offsets_of(reader.read(1))
    wait_until(lambda: reader._pull is not None and reader._pull.count > 100, "the others")
    taken: list[bytes] = []

    def write_some(_fd: int, data: memoryview) -> int:
        if taken:
            raise BrokenPipeError
        taken.append(bytes(data[:500]))
        return 500

    monkeypatch.setattr(files, "write_some", write_some)
    with pytest.raises(BrokenPipeError):
        reader.send(1)
    whole = taken[0][: taken[0].rfind(b"\n") + 1]
    assert 0 < len(whole) < 500
    assert found + offsets_of(whole) + read_all(reader) == list(range(1000))


# Blocks

_payloads = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([
        b'{"data":1}', b'{"key":"u1","data":{"a":[1,2]}}', b'{"data":"\xc3\xa4"}', b'{"data": 1 }', b'{"data":1}\n',
        b'{"data":1]', b'{"data":1,"x":2}', b'{"data":1,"x":{}}', b'{"data":1}}', b'{"data":[}', b'{"data":]}',
        b'{"offset":1,"data":1}', b'{"data":"\xff"}', b'{"key":"\xff","data":1}', b'{"key":"\xc3","data":"\xa4"}',
        b'{"data":', b'{"data":}', b'{"data":"\\ud800"}', b"{}", b"[1]", b"",
    ]),
)  # fmt: skip


@given(st.lists(_payloads, min_size=1, max_size=8), st.booleans(), st.integers(0, 2**33 * 10**9), st.data())
def test_a_block_is_made_as_its_lines_are(
    payloads: list[bytes], has_domain: bool, moment: int, data: st.DataObject
) -> None:
    """Many messages at once give what each gives by itself, be they ours, foreign or hostile."""
    middle = "hub.account." if has_domain else ""
    end = ".token" if has_domain else ""
    messages = [
        (text, f"$JS.ACK.{middle}{STREAM}.c.1.{7 + number}.{3 + number}.{10**18 + moment + number}.{9 - number}{end}")
        for number, text in enumerate(payloads)
    ]
    block = Block(messages)
    assert block.stream_seqs == list(range(7, 7 + len(payloads)))
    assert block.consumer_seqs == list(range(3, 3 + len(payloads)))
    assert block.pending == 10 - len(payloads)
    start = data.draw(st.integers(0, len(payloads)))
    stop = data.draw(st.integers(start, len(payloads)))
    assert block.lines(start, stop) == b"".join(line_of(reply, text) for text, reply in messages[start:stop])

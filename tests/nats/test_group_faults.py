"""Groups on NATS when events are gone, the log is not what it was, or connections and servers break."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from evtool.errors import BusyError, ConditionError
from evtool.log import line
from evtool.log.ranges import Ranges
from evtool.stores.nats import names, survey
from evtool.stores.nats.group import SHARED, NatsGroup
from evtool.stores.nats.register import Record, Register
from tests.nats.consuming import (
    Client,
    begin,
    clients,
    info_of,
    offsets_of,
    read_all,
    read_until,
)
from tests.program import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.nats.server import Cluster, Server


@contextlib.contextmanager
def started_after(server: Server, seconds: float) -> Iterator[None]:
    """Start the server after so many seconds, unless the block has ended by then; it lives as long as the block."""
    is_over = threading.Event()

    def start() -> None:
        if not is_over.wait(seconds):
            server.start()
            is_over.wait()  # it ends with the thread that has started it

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def handle_all(client: Client, count: int) -> None:
    """Append so many events, and have them handled by the group."""
    client.append(count)
    group, reader = client.consume()
    read_all(reader)
    group.commit(count)
    group.sync()
    group.release()


# What is gone


def test_what_retention_took_before_it_joined_is_told(two: list[Client]) -> None:
    """Events that were trimmed away unhandled are told by their offsets, and the group goes on behind them."""
    one, other = two
    one.append(30)
    group, reader = one.consume()
    read_all(reader)
    group.commit(4)
    group.handle(Ranges([(6, 7)]))
    group.sync()
    group.release()
    other.topic.trim(10)
    assert other.topic.standing("g").committed == 4
    group = other.group()
    missed: list[tuple[int, int]] = []
    assert group.committed == 4
    reader = group.reader(group.join(4), lambda first, last: missed.append((first, last)))
    assert read_all(reader) == list(range(10, 30))
    assert missed == [(4, 5), (8, 9)]
    group.commit(30)
    group.sync()
    assert other.topic.standing("g").lag == 0


def test_what_was_removed_is_told_if_nothing_is_left(two: list[Client], server: Server) -> None:
    """That another tool has removed all there was is told too."""
    one, other = two
    one.append(30)
    group, reader = one.consume()
    group.release()
    with server.wire() as wire:
        wire.api("STREAM.PURGE.evtool_t")
    group = other.group()
    missed: list[tuple[int, int]] = []
    reader = group.reader(group.join(0), lambda first, last: missed.append((first, last)))
    assert read_all(reader) == []
    assert missed == [(0, 29)]
    assert reader.next_offset == 30


def test_what_was_acknowledged_and_dropped_is_no_loss(server: Server) -> None:
    """With retention `consumed` an event goes once it is handled: no loss, though the record may not know it yet."""
    with clients(server, 3) as (one, other, third):
        one.append(1)
        one.topic.set({"retention": "consumed"})
        one.append(29, 1)
        group, reader = one.consume()
        read_all(reader)
        group.commit(5)
        group.sync()
        group.commit(20)
        wait_until(lambda: other.topic.bounds().first == 20)
        one.connection.close()
        missed: list[tuple[int, int]] = []
        group = NatsGroup(other.connection, "t", "g")
        wait_until(group.try_acquire)
        assert group.committed == 20
        reader = group.reader(group.join(20), lambda first, last: missed.append((first, last)))
        assert read_all(reader) == list(range(20, 30))
        assert missed == []
        group.release()
        third.topic.trim(25)
        group = NatsGroup(third.connection, "t", "g")
        wait_until(group.try_acquire)
        reader = group.reader(group.join(20), lambda first, last: missed.append((first, last)))
        assert read_all(reader) == list(range(25, 30))
        assert missed == [(20, 24)]


def test_what_retention_takes_while_it_runs_is_told(two: list[Client]) -> None:
    """A consumer that is overtaken hears of all that it will not get, once, and of nothing that it was given."""
    one, other = two
    other.topic.writer().append([b'"data":0'])
    other.topic.set({"max-events": 6000})
    one.append(5000, 1)
    missed: list[tuple[int, int]] = []
    group = one.group()
    reader = group.reader(group.join(0), lambda first, last: missed.append((first, last)))
    seen = offsets_of(reader.read())
    other.append(50_000, 5001)
    seen += read_all(reader)
    gone = Ranges(missed)
    assert gone
    assert gone.count() == sum(last - first + 1 for first, last in missed)
    assert len(seen) + gone.count() == 55_001
    assert sorted([*seen, *gone.offsets()]) == list(range(55_001))
    assert seen == sorted(seen)


def test_a_gap_that_nobody_trimmed_is_no_loss(two: list[Client], server: Server) -> None:
    """Single messages that somebody has deleted are passed over, and the group does not wait for them."""
    one, other = two
    one.append(10)
    with server.wire() as wire:
        for sequence in (4, 5, 10):
            wire.api("STREAM.MSG.DELETE.evtool_t", {"seq": sequence})
    missed: list[tuple[int, int]] = []
    group = one.group()
    reader = group.reader(group.join(0), lambda first, last: missed.append((first, last)))
    assert read_all(reader) == [0, 1, 2, 5, 6, 7, 8]
    assert missed == []
    group.commit(9)
    group.sync()
    assert other.topic.standing("g").lag == 0


def test_a_log_that_lost_its_end_is_noticed(two: list[Client]) -> None:
    """If there is less than the group has handled, or something else in its place, it does not go on as before."""
    one, other = two
    handle_all(one, 10)

    def forge(change: Callable[[Record], None]) -> None:
        def apply(record: Record) -> bool:
            change(record)
            return True

        one.connection.run(Register(one.connection).update("t", "g", apply))

    assert other.group().committed == 10

    def put_ahead(record: Record) -> None:
        record.committed, record.holder = 12, ""

    forge(put_ahead)
    group = other.group()
    with pytest.raises(ConditionError, match="has committed offset 12, but the log ends before 10") as caught:
        assert group.committed
    assert "evtool seek t --group g --to 10" in str(caught.value.hint)
    group.release()

    def was_another(record: Record) -> None:
        assert record.mark is not None
        record.committed, record.mark = 10, [9, record.mark[1] - 1]

    forge(was_another)
    group = other.group()
    with pytest.raises(ConditionError, match="offset 9 is not the event that it has handled"):
        assert group.committed
    group.release()
    other.topic.seek("g", 9)
    assert read_all(other.consume()[1]) == [9]


@pytest.mark.parametrize(("stale", "replicas"), [(3, 3), (1, 1)])
def test_a_server_that_leads_since_a_moment_ago_is_asked_again(
    two: list[Client], monkeypatch: pytest.MonkeyPatch, stale: int, replicas: int
) -> None:
    """A stream that ends before what is committed only in some answers was not put back; control: it ends there."""
    one, _ = two
    handle_all(one, 10)
    monkeypatch.setattr(survey, "_LOOK_SECONDS", 0.0)
    api, left = one.connection.api, stale

    async def answer_late(verb: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        nonlocal left
        answer = await api(verb, *arguments, **options)
        if verb.startswith("STREAM.INFO"):
            answer["config"]["num_replicas"] = replicas
            if left:
                left -= 1
                answer["state"]["last_seq"] = 4
        return answer

    monkeypatch.setattr(one.connection, "api", answer_late)
    group = one.group()
    assert group.committed == 10
    assert left == 0
    monkeypatch.setattr(survey, "_CERTAIN_SECONDS", 0.1)
    left = 10**9
    with pytest.raises(ConditionError, match="has committed offset 10, but the log ends before 4"):
        assert group.committed
    group.release()


# When something breaks


def test_acknowledgements_that_were_lost_are_sent_again(two: list[Client], server: Server) -> None:
    """What was on its way when a connection broke arrives through the next one; without that it does not."""
    one, _ = two
    one.append(2000)
    group, reader = one.consume()
    read_all(reader)

    def drop_all() -> None:
        one.connection.client.drop()

    group.handle(Ranges([(0, 1999)]))
    one.connection.loop.call_soon_threadsafe(drop_all)
    group.sync()
    assert info_of(server)["ack_floor"]["stream_seq"] == 2000


def test_a_delivery_that_was_lost_comes_again_in_its_place(two: list[Client]) -> None:
    """A number that is missing among the deliveries shows, wherever it is; then all comes in order, and once."""
    one, other = two
    one.append(6000)
    group, reader = one.consume()
    seen = offsets_of(reader.read(1000))
    for _ in range(3):
        wait_until(lambda: reader._pull.count > 10)
        assert reader._pull.take(1, 1)  # lost
        seen += offsets_of(reader.read(1000))
        group.commit(seen[-5])
    seen += read_all(reader)
    assert seen == list(range(6000))
    group.commit(6000)
    group.sync()
    assert other.topic.standing("g").lag == 0


def test_it_goes_on_after_its_connection_was_lost(two: list[Client], server: Server) -> None:
    """All of what comes then is given out, nothing twice, and what was held is still ours to handle."""
    one, other = two
    one.append(10_000)
    group, reader = one.consume()
    seen: list[int] = []
    for at in range(5):
        seen += offsets_of(reader.read())
        group.handle(Ranges.of(seen[10 * at : 10 * at + 5]))
        one.connection.loop.call_soon_threadsafe(one.connection.client.drop)
    seen += read_all(reader)
    assert seen == list(range(10_000))
    other.append(1)
    assert read_until(reader, 1) == [10_000]
    group.commit(10_001)
    group.sync()
    assert info_of(server)["num_ack_pending"] == 0
    assert other.topic.standing("g").lag == 0


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_it_goes_on_after_the_server_was_started_anew(own_server: Callable[..., Server], ending: str) -> None:
    """Nothing is lost, nothing that is held comes twice, and it still has the group."""
    server = own_server()
    with clients(server, 2) as (one, other):
        one.append(10_000)
        group, reader = one.consume()
        seen = read_until(reader, 100)
        group.handle(Ranges([(0, 99)]))
        group.sync()
        getattr(server, ending)()
        server.start()
        seen += read_all(reader)
        assert seen == list(range(10_000))
        group.commit(10_000)
        group.sync()
        assert info_of(server)["ack_floor"]["stream_seq"] == 10_000
        assert not NatsGroup(other.connection, "t", "g").try_acquire()
        other.append(5)
        assert read_until(reader, 5) == list(range(10_000, 10_005))


def test_who_has_time_rides_out_any_outage(own_server: Callable[..., Server]) -> None:
    """A group ends when the patience of its connection does; if that is endless, it goes on when the server is back."""
    server = own_server()
    with clients(server, 3) as (impatient, patient, sharing):
        impatient.append(20)
        groups = [client.consume(name=f"g{at}") for at, client in enumerate((impatient, patient))]
        shared = sharing.group(SHARED, "s")
        share = shared.share(shared.join(0), lambda lines: lines, lambda *_: None, 1.0)
        for _, reader in groups:
            read_until(reader, 20)
        assert len(share.take(5)) == 5
        impatient.connection.patience = 1.0
        patient.connection.patience = sharing.connection.patience = math.inf
        server.kill()
        for group, _ in groups:
            group.commit(5)
        with pytest.raises(BusyError):
            groups[0][0].sync()
        with started_after(server, 2.0):
            groups[1][0].sync()
            patient.append(1, start=20)
            wait_until(lambda: 20 in offsets_of(groups[1][1].read()), "what came afterwards")
            wait_until(lambda: 20 in map(line.offset_of, share.take(99)), "what came afterwards")


def test_who_is_told_to_stop_waits_no_longer(own_server: Callable[..., Server]) -> None:
    """With endless patience too: what is not known to have arrived is told as such."""
    server = own_server()
    with clients(server, 2) as (one, other):
        one.append(20)
        group, reader = one.consume()
        read_until(reader, 20)
        _, waiting = other.consume(name="h")
        for client in (one, other):
            client.connection.patience = math.inf
        server.kill()
        group.commit(5)
        with started_after(server, PATIENCE):  # then all would go well
            for client, use in ((one, group.sync), (other, lambda: read_until(waiting, 99))):
                threading.Timer(0.3, client.connection.hurry).start()
                with pytest.raises(BusyError):
                    use()


def test_a_cluster_that_loses_its_leader_is_ridden_out(own_cluster: Callable[..., Cluster]) -> None:
    """While the leader of the topic is killed a consumer gets all in order, and what it handles is known in the end."""
    cluster = own_cluster()
    with clients(cluster, 2) as (one, other):
        one.append(20_000)
        group, reader = one.consume()
        seen = offsets_of(reader.read())
        cluster.leader_of(names.stream_of("t")).kill()
        for _ in range(20):
            seen += offsets_of(reader.read())
            group.commit(reader.next_offset - 50)
        group.sync()
        seen += read_all(reader)
        assert seen == list(range(20_000))
        group.commit(20_000)
        group.sync()
        assert other.topic.standing("g").lag == 0
        group.release()
        assert read_all(other.consume()[1]) == []


def test_a_record_of_a_former_topic_says_nothing_of_events(two: list[Client], server: Server) -> None:
    """If somebody removes a stream with another tool, the group of the next one begins anew."""
    one, other = two
    one.append(100)
    group, reader = one.consume()
    read_all(reader)
    group.commit(60)
    group.sync()
    group.release()
    with server.wire() as wire:
        wire.api("STREAM.DELETE.evtool_t")
        other.append(5)
        message = wire.api(f"STREAM.MSG.GET.{names.REGISTER}", {"last_by_subj": names.record_subject("t", "g")})
        assert message["message"]["seq"]
    second = other.group()
    assert second.committed is None
    assert read_all(begin(second)) == [0, 1, 2, 3, 4]
    assert orjson.dumps(second.state.committed) == b"0"

"""Servers of a cluster die and stall under producers and groups: what was acknowledged is stored once and handled."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from evtool.stores.nats import names
from tests.nats.faults import WITHOUT_IDS, Consumer, Producer, await_progress, noted
from tests.program import wait_until
from tests.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.nats.program import NatsProgram
    from tests.nats.server import Cluster

    Programs = Callable[[str], NatsProgram]
    Clusters = Callable[..., Cluster]

STREAM = names.stream_of("t")
ROUNDS = 5


@pytest.mark.slow
def test_leaders_are_killed_and_a_follower_stalls(
    own_cluster: Clusters, nats_program: Programs, tmp_path: Path
) -> None:
    """Each kill is ridden out: no producer fails, no event is lost or doubled, every event is handled by each group."""
    cluster = own_cluster()
    evtool = nats_program(cluster.url)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    with contextlib.ExitStack() as stack:
        producers = [Producer(evtool, "t", f"p{number}", 0.02) for number in range(3)]
        consumers = [Consumer(evtool, "t", "alone", alone)]
        consumers += [Consumer(evtool, "t", "shared", shared, "--share") for _ in range(2)]
        for running in [one.running for one in producers] + [one.running for one in consumers]:
            stack.enter_context(running)
        for number in range(ROUNDS):
            await_progress(producers)
            _kill_the_leader(cluster, producers)
            if number == ROUNDS // 2:
                _stall_a_follower(cluster, producers)
        results = [producer.finish() for producer in producers]
        assert [result.code for result in results] == [0] * len(producers), results
        wait_until(lambda: _are_through(evtool, consumers), "groups to be through")
        ended = [consumer.running.end(signal.SIGTERM) for consumer in consumers]
    assert [result.code for result in ended] == [-signal.SIGTERM] * len(consumers), ended
    _audit(evtool, producers)
    offsets = {offset for producer in producers for offset in producer.acknowledged}
    for notes in (alone, shared):
        assert {*noted(notes)} == offsets


@pytest.mark.slow
@pytest.mark.parametrize("has_ids", [True, False])
def test_a_resend_while_there_is_no_quorum_stores_nothing_twice_thanks_to_ids(
    own_cluster: Clusters, nats_program: Programs, has_ids: bool
) -> None:
    """Both followers stall until the producer has sent its event again: without ids both are stored."""
    cluster = own_cluster()
    evtool = nats_program(cluster.url)
    assert evtool("append", "t", '"first"').code == 0
    leader, followers = cluster.leader_of(STREAM), cluster.followers_of(STREAM)
    for follower in followers:
        follower.suspend()
    producing = nats_program(leader.url), "append", "t", '"once"'
    with leader.wire() as wire:
        wire.subscribe(names.subject_of("t"))
        with Running(*producing, code=None if has_ids else WITHOUT_IDS) as producer:
            sent = [wire.next() for _ in range(2)]
            assert sent[0] == sent[1]
            for follower in followers:
                follower.resume()
            result = producer.end()
    assert result.code == 0, result
    cluster.await_ready()
    found = evtool("replay", "t", "--data").lines
    if has_ids:
        assert found == ['"first"', '"once"']
    else:
        assert found.count('"once"') > 1


def _kill_the_leader(cluster: Cluster, producers: list[Producer]) -> None:
    """Kill it, let another lead and producers go on, and start it again."""
    leader = cluster.leader_of(STREAM)
    leader.kill()
    assert cluster.leader_of(STREAM) is not leader
    leader.start()
    await_progress(producers)
    cluster.await_ready()


def _stall_a_follower(cluster: Cluster, producers: list[Producer]) -> None:
    """The other two go on without it."""
    follower = cluster.followers_of(STREAM)[0]
    follower.suspend()
    await_progress(producers)
    follower.resume()
    cluster.await_ready()


def _are_through(evtool: NatsProgram, consumers: list[Consumer]) -> bool:
    """Whether both groups have handled all; none of those who consume may have ended."""
    for consumer in consumers:
        assert consumer.running.process.poll() is None, consumer.running.err
    lags = {row["group"]: row["lag"] for row in evtool("groups", "t", "--json").events}
    return lags == {"alone": 0, "shared": 0}


def _audit(evtool: NatsProgram, producers: list[Producer]) -> None:
    """What was acknowledged is there, where it was said to be, once; in each producer's order; and nothing else."""
    events = evtool("replay", "t").events
    assert [event["offset"] for event in events] == sorted({event["offset"] for event in events})
    times = [event["time"] for event in events]
    assert times == sorted(times)
    for producer in producers:
        mine = [(event["data"], event["offset"]) for event in events if event["source"] == producer.source]
        assert mine == list(enumerate(producer.acknowledged))
        assert len(mine) == producer.sent
    assert len(events) == sum(producer.sent for producer in producers)

"""Groups on NATS that several processes share: each event is with one of them, for as long as its lease holds."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from evtool.errors import NotFoundError
from evtool.log import line
from evtool.log.ranges import Ranges
from evtool.stores.moved import Moved
from evtool.stores.nats.group import SHARED, NatsGroup
from evtool.stores.nats.register import Register
from tests.nats.consuming import Client, clients, hear_again, hear_notice, read_all, take_until
from tests.program import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtool.stores.nats.share import NatsShare
    from tests.nats.server import Cluster, Server

LONG = 30.0

SHARER = """
import sys
from tests.nats.consuming import Client
from tests.nats.test_share import share_of
class Server: url = sys.argv[1]
share = share_of(Client(Server), seconds=float(sys.argv[2]))
print(len(share.take(int(sys.argv[3]))), flush=True)
sys.stdin.read()
"""


def everything(lines: bytes) -> bytes:
    return lines


def share_of(
    client: Client,
    start: int = 0,
    seconds: float = LONG,
    wants: Callable[[bytes], bytes] = everything,
    missed: list[tuple[int, int]] | None = None,
    name: str = "g",
) -> NatsShare:
    """The part of a client in the group, which it has acquired and joined."""
    return again(client.group(SHARED, name), start, seconds, wants, missed)


def again(
    group: NatsGroup,
    start: int = 0,
    seconds: float = LONG,
    wants: Callable[[bytes], bytes] = everything,
    missed: list[tuple[int, int]] | None = None,
) -> NatsShare:
    committed = group.committed
    offset = group.join(start if committed is None else committed)
    told = [] if missed is None else missed
    return group.share(offset, wants, lambda first, last: told.append((first, last)), seconds)


def take(share: NatsShare, limit: int = 10_000) -> list[int]:
    """The offsets of what is leased."""
    return [line.offset_of(text) for text in share.take(limit)]


def odd(lines: bytes) -> bytes:
    """Those of some lines whose offset is odd."""
    return b"".join(text + b"\n" for text in lines.split(b"\n")[:-1] if line.offset_of(text + b"\n") % 2)


def other_process(server: Server | Cluster, seconds: float, count: int) -> subprocess.Popen[bytes]:
    """Another process that has leased so many events."""
    command = [sys.executable, "-c", SHARER, server.url, str(seconds), str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"%d\n" % count:
        raise AssertionError(process.communicate()[1].decode())
    return process


def ack_state(client: Client) -> tuple[int, int]:
    """All up to which sequence is acknowledged, and how many more are not."""
    info = client.connection.call("CONSUMER.INFO.evtool_t.g")
    return info["ack_floor"]["stream_seq"], info["num_ack_pending"]


# Leases


def test_each_event_is_with_one_of_them(two: list[Client]) -> None:
    """What one has leased the other does not get; together they have all; it is over when all is handled."""
    one, other = two
    one.append(100)
    first, second = share_of(one), share_of(other)
    mine, theirs = take(first, 30), take(second, 50)
    assert len(mine) == 30
    assert len(theirs) == 50
    rest = take(first)
    assert sorted(mine + theirs + rest) == list(range(100))
    assert take(second) == []
    assert second.count == 100
    assert not second.is_drained
    assert not first.handle(Ranges.of(sorted(mine + rest)))
    first.group.sync()
    assert take(second) == []
    assert second.count == 50
    assert not second.handle(Ranges.of(theirs))
    second.group.sync()
    for share in (first, second):
        assert take(share) == []
        assert share.is_drained
        assert share.count == 0
    assert one.topic.standing("g").committed == 100
    assert one.topic.standing("g").lag == 0


def test_no_more_is_leased_than_is_asked_for(two: list[Client]) -> None:
    """What this one has not taken another has at once."""
    one, other = two
    one.append(100)
    first, second = share_of(one), share_of(other)
    assert take(first, 1) == [0]
    assert ack_state(one) == (0, 1)
    assert take(second) == list(range(1, 100))


def test_what_comes_later_is_there_to_be_taken(two: list[Client]) -> None:
    """An empty take is not the end: what is appended after it comes a moment later, once."""
    one, other = two
    one.append(2)
    share = share_of(one, start=2)
    for at in range(2, 6):
        assert take(share) == []
        other.append(1)
        assert take_until(share, 1) == [at]


def test_who_has_nothing_to_do_asks_for_nothing(server: Server) -> None:
    """One request stands for a while, and taking again and again meanwhile sends none."""
    with clients(server, 1) as (one,):
        one.append(1)
        share = share_of(one, start=1)
        while take(share) or not share.is_drained or not share._pull.asked:
            pass
        before = one.connection.client.stats["out_msgs"]
        for _ in range(100):
            assert take(share) == []
        assert one.connection.client.stats["out_msgs"] <= before + 4  # the request may have ended just now


def test_what_came_to_one_that_leaves_another_has_at_once(two: list[Client]) -> None:
    """Also if it had only just come, and was not taken."""
    one, other = two
    one.append(1)
    first = share_of(one, start=1)
    assert take(first) == []
    other.append(3)
    wait_until(lambda: first._pull.count, "what was waited for")
    second = share_of(other)
    first.leave()
    assert sorted(take_until(second, 3)) == [1, 2, 3]


def test_what_came_and_was_not_taken_in_time_comes_again(two: list[Client]) -> None:
    """A lease begins when we asked, not when we look: nothing is given out that another may have by now."""
    one, other = two
    one.append(1)
    first, second = share_of(one, start=1, seconds=1.0), share_of(other, seconds=1.0)
    assert take(first) == []
    other.append(1)
    wait_until(lambda: first._pull.count, "what was waited for")
    assert take_until(second, 1) == [1]
    assert take(first) == []


def test_what_is_left_another_has_at_once(two: list[Client]) -> None:
    """A member that leaves gives back what it had and did not handle."""
    one, other = two
    one.append(10)
    first, second = share_of(one), share_of(other)
    assert take(first) == list(range(10))
    first.handle(Ranges([(2, 3)]))
    first.leave()
    first.group.sync()
    first.group.release()
    assert sorted(take_until(second, 8)) == [0, 1, *range(4, 10)]


def test_what_a_killed_member_had_comes_when_its_lease_is_over(server: Server) -> None:
    """Kill -9: another member gets what it had leased, once, as soon as the lease is over."""
    with clients(server, 1) as (one,):
        one.append(10)
        process = other_process(server, 2.0, 6)
        share = share_of(one, seconds=2.0)
        assert take(share) == [6, 7, 8, 9]
        process.kill()
        process.communicate()
        assert sorted(take_until(share, 6, lambda: share.renew(Ranges([(6, 9)])))) == list(range(6))
        assert not share.handle(Ranges([(0, 9)]))
        share.group.sync()
        assert take(share) == []
        assert share.is_drained


def test_the_first_to_come_gets_what_all_have_left(server: Server) -> None:
    """If no member is left alive, nobody waits for leases."""
    with clients(server, 1) as (one,):
        one.append(10)
        process = other_process(server, LONG, 6)
        process.kill()
        process.communicate()
        share = share_of(one)
        assert [member.name for member in one.topic.standing("g").members] == [share.group.member]
        record, _ = one.connection.run(Register(one.connection).read("t", "g"))
        assert [*record.members] == [share.group.member]
        assert sorted(take(share)) == list(range(10))


def test_a_lease_holds_as_long_as_it_is_renewed(two: list[Client]) -> None:
    """Renewed in time nobody else gets it; not renewed it is lost, and what is said of it then is refused."""
    one, other = two
    one.append(4)
    first = share_of(one, seconds=0.8)
    assert take(first, 2) == [0, 1]
    second = share_of(other, seconds=0.8)
    assert take(second) == [2, 3]
    end = time.monotonic() + 2
    got: list[int] = []

    def renewed() -> bool:
        assert not first.renew(Ranges([(0, 1)]))
        got.extend(take(second))
        second.renew(Ranges([(2, 3)]))
        return time.monotonic() > end

    wait_until(renewed)
    assert got == []
    assert sorted(take_until(second, 2, lambda: second.renew(Ranges([(2, 3)])))) == [0, 1]
    assert str(first.handle(Ranges([(0, 1)]))) == "0-1"
    first.group.sync()
    assert ack_state(one) == (0, 4)
    assert not second.handle(Ranges([(0, 3)]))
    assert str(first.renew(Ranges([(0, 1)]))) == "0-1"


def test_only_what_is_asked_for_is_renewed(two: list[Client]) -> None:
    """What this process holds and does not name another gets when its lease is over."""
    one, other = two
    one.append(2)
    first, second = share_of(one, seconds=1.0), share_of(other, seconds=1.0)
    assert take(first) == [0, 1]
    assert take_until(second, 1, lambda: first.renew(Ranges([(0, 0)]))) == [1]


def test_a_lease_counts_as_renewed_only_if_the_server_says_so(own_server: Callable[..., Server]) -> None:
    """If it is not there, or stands still, the lease ends when it would have ended."""
    server = own_server()
    with clients(server, 1) as (one,):
        one.append(2)
        share = share_of(one, seconds=3.0)
        assert take(share) == [0, 1]
        until = dict(share._until)
        assert not share.renew(Ranges([(0, 1)]))
        renewed = dict(share._until)
        assert all(renewed[offset] > until[offset] for offset in until)
        server.suspend()
        share.renew(Ranges([(0, 1)]))
        server.resume()
        assert share._until == renewed
        server.kill()
        share.renew(Ranges([(0, 1)]))
        assert share._until == renewed


def test_what_several_have_handled_takes_little_room(two: list[Client]) -> None:
    """What others have handled closes the gaps: neither a member nor the record keeps a range for each event."""
    one, other = two
    one.append(400)
    shares = [share_of(client) for client in two]
    assert take(shares[0], 1) == [0]  # and does not handle it
    for at in range(1, 400):
        assert take(shares[at % 2], 1) == [at]
        shares[at % 2].handle(Ranges([(at, at)]))
    for share in (*shares, *shares):
        share.group.sync()
        share.group.say(word="")
    assert [str(share.group.state.handled) for share in shares] == ["1-399", "1-399"]
    shares[0].handle(Ranges([(0, 0)]))
    for share in shares:
        share.group.sync()
        assert (share.group.state.committed, len(share.group.state.handled)) == (400, 0)
    assert other.topic.standing("g").committed == 400


def test_what_is_not_ours_is_refused(two: list[Client]) -> None:
    """Only what this member has leased it can say to be handled."""
    one, other = two
    one.append(10)
    first, second = share_of(one), share_of(other)
    assert take(first, 3) == [0, 1, 2]
    assert take(second, 3) == [3, 4, 5]
    assert str(first.handle(Ranges([(2, 8)]))) == "3-8"
    first.group.sync()
    assert ack_state(one) == (0, 5)
    assert str(first.handle(Ranges([(2, 2)]))) == "2"


def test_what_nobody_wants_is_handled(two: list[Client]) -> None:
    """Events that the selection leaves out are acknowledged; the others are leased, as many as were asked for."""
    one, other = two
    one.append(20)
    share = share_of(one, wants=odd)
    assert take(share, 4) == [1, 3, 5, 7]
    share.group.sync()
    assert ack_state(one) == (1, 4)
    assert take(share) == [9, 11, 13, 15, 17, 19]
    assert not share.handle(Ranges((at, at) for at in range(1, 20, 2)))
    share.group.sync()
    assert take(share) == []
    assert share.is_drained
    assert other.topic.standing("g").lag == 0


def test_others_see_what_is_leased(two: list[Client]) -> None:
    """All members are told of, each with what it has."""
    one, other = two
    one.append(20)
    first, second = share_of(one), share_of(other)
    take(first, 5)
    take(second, 7)
    members = {member.name: member for member in one.topic.standing("g").members}
    assert members[first.group.member].leased.count() == 5
    assert members[second.group.member].leased.count() == 7
    assert {member.mode for member in members.values()} == {SHARED}
    first.leave()
    first.group.release()
    assert [member.name for member in one.topic.standing("g").members] == [second.group.member]


def test_what_was_handled_by_several_is_known_to_one_alone(two: list[Client]) -> None:
    """Whoever consumes alone after them gets all that is left, in order, and nothing that any of them has handled."""
    one, other = two
    one.append(40)
    first, second = share_of(one), share_of(other)
    assert take(first, 20) == list(range(20))
    assert take(second, 20) == list(range(20, 40))
    first.handle(Ranges([(4, 7), (10, 10)]))
    second.handle(Ranges([(22, 39)]))
    for share in (first, second):
        share.leave()
        share.group.sync()
        share.group.release()
    alone = NatsGroup(one.connection, "t", "g")
    wait_until(alone.try_acquire)
    committed = alone.committed
    assert committed == 0
    assert read_all(alone.reader(alone.join(committed))) == [*range(4), 8, 9, *range(11, 22)]


# Seek, again, removal


def test_a_seek_moves_all_members(two: list[Client]) -> None:
    """Each is told, and what they had is not theirs any more; then they share what is from there on."""
    one, other = two
    one.append(20)
    first, second = share_of(one), share_of(other)
    mine, theirs = take(first, 10), take(second, 10)
    first.handle(Ranges.of(mine))
    first.group.sync()
    other.topic.seek("g", 5)
    for share in (first, second):
        hear_notice(share.group)
        with pytest.raises(Moved):
            take(share)
        with pytest.raises(Moved):
            share.handle(Ranges.of(theirs))
        share.leave()
        share.group.sync()
    first, second = again(first.group), again(second.group)
    assert sorted(take(first, 8) + take(second, 8)) == list(range(5, 20))


@pytest.mark.parametrize("is_deaf", [False, True])
def test_nothing_of_what_was_before_a_seek_is_acknowledged_after_it(two: list[Client], is_deaf: bool) -> None:
    """A member that was in the middle of saying what it had handled is too late: it is handled anew by whom has it now.

    is_deaf: the member has not heard of the new record, and is told by the question that the seek asks.
    """
    one, other = two
    one.append(20)
    first = share_of(one)
    take(first)
    group = first.group
    acks, replies = group.acks, group.held.replies()
    assert acks is not None
    if is_deaf:
        assert group.seat._watching is not None
        one.connection.run(group.seat._watching.unsubscribe())
    other.topic.seek("g", 0)
    second = share_of(other)
    assert take(second) == list(range(20))
    acks.add(replies)  # as another thread would do that had looked before the seek
    one.connection.run(one.connection.client.flush())
    assert ack_state(other) == (0, 20)
    with pytest.raises(Moved):
        first.handle(Ranges([(0, 19)]))


def test_what_is_called_again_one_member_gets(two: list[Client]) -> None:
    """It is leased to one of them and comes again until it is handled; only then is the group drained."""
    one, other = two
    one.append(20)
    first, second = share_of(one), share_of(other)
    first.handle(Ranges.of(take(first)))
    first.group.sync()
    assert one.topic.standing("g").lag == 0
    other.topic.call_again("g", Ranges([(3, 5), (9, 9)]))
    hear_again(first.group)
    hear_again(second.group)
    assert take(first, 3) == [3, 4, 5]
    assert take(second) == [9]
    assert take(second) == []
    assert (second.count, second.is_drained) == (4, False)
    assert one.topic.standing("g").lag == 4
    assert not second.handle(Ranges([(9, 9)]))
    assert not first.handle(Ranges([(4, 4)]))
    first.leave()
    first.group.release()
    assert take_until(second, 2) == [3, 5]
    assert not second.handle(Ranges([(3, 3), (5, 5)]))
    assert take(second) == []
    assert second.is_drained
    assert one.topic.standing("g").lag == 0


def test_what_comes_again_and_a_killed_member_had_is_not_lost(
    two: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that is left finds out that the other is gone, and gets what that had taken."""
    one, other = two
    one.append(20)
    first, second = share_of(one), share_of(other, seconds=0.05)
    first.handle(Ranges.of(take(first)))
    other.topic.call_again("g", Ranges([(3, 5)]))
    hear_again(first.group)
    assert take(first) == [3, 4, 5]
    one.connection.close()
    assert take_until(second, 3) == [3, 4, 5]


def test_what_comes_again_and_is_not_there_is_handled(two: list[Client]) -> None:
    """An event that was trimmed away meanwhile keeps nobody waiting."""
    one, other = two
    one.append(20)
    share = share_of(one)
    share.handle(Ranges.of(take(share)))
    other.topic.trim(10)
    other.topic.call_again("g", Ranges([(3, 3), (12, 12)]))
    hear_again(share.group)
    assert take(share) == [12]
    share.handle(Ranges([(12, 12)]))
    assert take(share) == []
    assert share.is_drained


def test_a_topic_that_is_removed_ends_its_members(two: list[Client], server: Server) -> None:
    """The next take says so."""
    one, _ = two
    one.append(20)
    share = share_of(one)
    take(share, 5)
    assert not share.is_gone()
    with server.wire() as wire:
        wire.api("STREAM.DELETE.evtool_t")

    with pytest.raises(NotFoundError, match=r"t: (the topic was removed|no such topic)"):
        take_until(share, 100)
    share.group.release()


def test_a_consumer_that_another_tool_removes_is_made_anew(two: list[Client], server: Server) -> None:
    """The members are told, and go on where the group stood at the last sync."""
    one, _ = two
    one.append(20)
    share = share_of(one)
    assert take(share, 8) == list(range(8))
    share.handle(Ranges([(0, 4)]))
    share.group.sync()
    with server.wire() as wire:
        wire.api("CONSUMER.DELETE.evtool_t.g")

    def moved() -> bool:
        try:
            take(share)
        except Moved:
            return True
        return False

    wait_until(moved)
    assert take(again(share.group)) == list(range(5, 20))


# What is gone, and what breaks


def test_what_retention_takes_is_told(two: list[Client]) -> None:
    """Events that nobody was given and that were removed are told, before it joined and while it runs."""
    one, other = two
    one.append(100)
    other.group(SHARED).join(0)
    other.topic.trim(10)
    missed: list[tuple[int, int]] = []
    share = share_of(one, missed=missed)
    assert missed == [(0, 9)]
    assert take(share, 20) == list(range(10, 30))
    other.topic.trim(50)
    assert take(share, 20) == list(range(50, 70))
    assert missed == [(0, 9), (30, 49)]
    other.topic.trim(60)  # what was given out
    assert take(share) == list(range(70, 100))
    assert missed == [(0, 9), (30, 49)]


def test_what_another_member_has_is_not_missed(two: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """Events between ours that others were given are no loss, though they may be trimmed away by now."""
    monkeypatch.setattr("evtool.stores.nats.share._FRESH_SECONDS", 0.0)
    one, other = two
    one.append(100)
    missed: list[tuple[int, int]] = []
    first, second = share_of(one, missed=missed), share_of(other, missed=missed)
    for at in range(0, 100, 20):
        assert take(first, 10) == list(range(at, at + 10))
        assert take(second, 10) == list(range(at + 10, at + 20))
        first.handle(Ranges([(at, at + 9)]))
        second.handle(Ranges([(at + 10, at + 19)]))
        other.topic.trim(at + 20)
    assert missed == []


def test_it_goes_on_after_a_lost_connection(two: list[Client]) -> None:
    """What was handled is acknowledged in the end, and what was on its way comes again when its lease is over."""
    one, other = two
    one.append(3000)
    share = share_of(one, seconds=1.5)
    seen: list[int] = []
    for _ in range(4):
        some = take(share, 100)
        seen += some
        one.connection.loop.call_soon_threadsafe(one.connection.client.drop)
        share.handle(Ranges.of(sorted(some)))

    def go_on() -> bool:
        some = take(share, 1000)
        seen.extend(some)
        share.handle(Ranges.of(sorted(some)))
        return share.is_drained

    wait_until(go_on)
    share.group.sync()
    assert {*seen} == {*range(3000)}
    assert other.topic.standing("g").lag == 0


def test_members_at_work_while_some_are_killed_lose_nothing(cluster: Cluster) -> None:
    """On three replicas: members come, are killed, leave; all events are handled."""
    with clients(cluster, 2) as (one, other):
        one.append(2000)
        handled: set[int] = set()
        killed = [other_process(cluster, 2.0, 50) for _ in range(3)]
        first, second = share_of(one, seconds=2.0), share_of(other, seconds=2.0)

        def work() -> bool:
            for share in (first, second):
                some = take(share, 100)
                refused = share.handle(Ranges.of(sorted(some)))
                handled.update(offset for offset in some if offset not in refused)
            if killed:
                process = killed.pop()
                process.kill()
                process.communicate()
            return first.is_drained

        wait_until(work)
        assert handled == {*range(2000)}
        first.group.sync()
        assert one.topic.standing("g").lag == 0


def test_a_server_that_was_started_anew_is_asked_again(own_server: Callable[..., Server]) -> None:
    """Members have their leases still, and nothing is lost."""
    server = own_server()
    with clients(server, 1) as (one,):
        one.append(100)
        share = share_of(one)
        mine = take(share, 40)
        server.kill()
        server.start()
        assert sorted(mine + take_until(share, 60)) == list(range(100))
        assert not share.handle(Ranges([(0, 99)]))
        share.group.sync()
        assert ack_state(one) == (100, 0)


def test_a_program_that_shares_and_has_nothing_to_do_is_quiet(
    server: Server, nats_program: Callable[[str], Any]
) -> None:
    """The server hears next to nothing of it."""
    with clients(server, 1) as (one,):
        one.append(1)
    run = nats_program(server.url)
    process = run.start("subscribe", "t", "--group", "g", "--from", "earliest", "--share", "--", "cat")
    try:
        assert line.offset_of(process.stdout.readline()) == 0

        def is_quiet() -> bool:
            before = server.look("varz")["in_msgs"]
            time.sleep(1)
            return bool(server.look("varz")["in_msgs"] - before < 10)

        wait_until(is_quiet, "a second of silence")
    finally:
        process.terminate()
        process.communicate()


def test_the_group_of_a_program_that_shares(server: Server, nats_program: Callable[[str], Any]) -> None:
    """`subscribe --share --drain` handles all, beside another that does the same."""
    with clients(server, 1) as (one,):
        one.append(200)
        run = nats_program(server.url)
        arguments = ("subscribe", "t", "--group", "g", "--from", "earliest", "--share", "--drain", "--", "cat")
        processes = [run.start(*arguments) for _ in range(2)]
        lines = b"".join(process.communicate()[0] for process in processes)
        assert [process.returncode for process in processes] == [0, 0]
        assert sorted(line.offset_of(text) for text in lines.split(b"\n")[:-1]) == list(range(200))
        assert one.topic.standing("g").lag == 0

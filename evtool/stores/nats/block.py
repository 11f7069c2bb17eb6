"""Many delivered messages as lines at once, which takes half the time that `message.line_of` takes for each.

All of a block are looked at together; a block with a message in it that is not surely one of ours is made line by line.
"""

from __future__ import annotations

from evtool.log import line, payload
from evtool.stores.nats import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ACK_TOKENS = 9
_FRACTION = slice(-9, -3)  # of a time in nanoseconds, that which makes microseconds


class Block:
    """Messages as a consumer delivered them, pairs of payload and reply, at least one.

    stream_seqs, consumer_seqs: where each stands. pending: how many the consumer had yet to deliver after the last one.
    """

    __slots__ = ("_payloads", "_times", "consumer_seqs", "pending", "stream_seqs")

    def __init__(self, messages: Sequence[tuple[bytes, str]]) -> None:
        self._payloads = [text for text, _ in messages]
        columns = list(zip(*[reply.split(".") for _, reply in messages], strict=True))
        start = 4 if len(columns) == _ACK_TOKENS else 6  # see `message.place_of`
        self.stream_seqs = list(map(int, columns[start + 1]))
        self.consumer_seqs = list(map(int, columns[start + 2]))
        self._times = columns[start + 3]
        self.pending = int(columns[start + 4][-1])

    def run_from(self, first: int) -> int:
        """How many of its deliveries follow one another, from the one with the number `first` on."""
        numbers = self.consumer_seqs
        if numbers == list(range(first, first + len(numbers))):
            return len(numbers)
        return next(count for count, number in enumerate(numbers) if number != first + count)

    def lines(self, start: int, end: int) -> bytes:
        """The lines of some of them, from the one at `start` to the one before `end`."""
        payloads, times = self._payloads[start:end], self._times[start:end]
        seqs = self.stream_seqs[start:end]
        if not _all_ours(payloads):
            return b"".join(map(message.line_at, seqs, map(int, times), payloads))
        seconds = {time[:-9] for time in times}
        before = {second: line.stamp(int(second) * 10**9)[:-7].decode() for second in seconds}
        heads = [
            f'{{"offset":{seq - 1},"time":"{before[time[:-9]]}{time[_FRACTION]}Z",'.encode()
            for seq, time in zip(seqs, times, strict=True)
        ]
        return b"".join([b"%b%b\n" % (head, text[1:]) for head, text in zip(heads, payloads, strict=True)])


def removed(sequences: Sequence[int], before: int, first: int) -> Iterator[tuple[int, int]]:
    """The first and the last offset of each gap before these sequences that limits or a trim have left.

    before: the next offset as of then. first: the sequence of the earliest event that is left.
    """
    for sequence in sequences:
        if before + 1 < sequence and before + 1 < first:
            yield before, min(sequence, first) - 2
        before = sequence


def end_before(lines: bytes, until: int) -> int:
    """Where the lines with offsets before `until` end."""
    end = len(lines)
    while end:
        start = lines.rfind(b"\n", 0, end - 1) + 1
        if line.offset_of(lines[start : start + line.HEAD_LENGTH]) < until:
            break
        end = start
    return end


def _all_ours(payloads: list[bytes]) -> bool:
    """Whether each of these surely has the form that `message.encode` gives it."""
    heads = list(map(message.head, payloads))
    if None in heads or not all(text.endswith(b"}") for text in payloads):
        return False
    joined = b"".join(payloads)
    if b"\n" in joined:
        return False
    try:
        joined.isascii() or joined.decode()
    except UnicodeDecodeError:
        return False
    return payload.all_valid([text[head.end() : -1] for text, head in zip(payloads, heads, strict=True) if head])

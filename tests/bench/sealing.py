"""What it costs the append that rolls that the segment gets a seal."""

from __future__ import annotations

import statistics
import subprocess
from typing import TYPE_CHECKING

from tests.bench import corpus
from tests.bench.measure import Row, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.measure import Bench

_MOST = 0.005
# Fills a segment of one topic and rolls, then of another one that is not sealed, in turn. Prints for each two rolls how
# long the append took that rolled, with sealing and without, and how much of the former `after_roll` was. Each sealing
# is waited for, so that every roll has one to begin.
_ROLL = """
import os, sys, time
from evtool.log import names, sealing
from evtool.log.topic import segment_offsets
from evtool.stores import open_store
path, rounds = sys.argv[1], int(sys.argv[2])
store = open_store(path, create=True)
original = sealing.after_roll
spent = 0.0
def timed(*rolled):
    global spent
    start = time.perf_counter()
    original(*rolled)
    spent = time.perf_counter() - start
def nothing(*_):
    pass
event = b'"data":"' + b"x" * 900 + b'"'
batch, last = [event] * 1000, [b'"data":"' + b"y" * (1 << 20) + b'"']
def newest(directory):
    first = segment_offsets(directory)[-1]
    return first, os.stat(names.segment_name(first), dir_fd=directory.fd).st_size
def roll(log, after_roll):
    sealing.after_roll = after_roll
    log.next_offset()
    while newest(log.directory)[1] < log.settings.segment_bytes - len(last[0]):
        log.append(batch)
    log.sync()
    active = newest(log.directory)[0]
    start = time.perf_counter()
    log.append(last)
    taken = time.perf_counter() - start
    assert newest(log.directory)[0] > active, "it did not roll"
    log.sync()
    while after_roll is timed and list(sealing.without_seal(log.directory)):
        time.sleep(0.01)
    return taken
sealed, bare = store.ensure_topic("sealed").writer(), store.ensure_topic("bare").writer()
for _ in range(rounds):
    print(roll(sealed, timed), roll(bare, nothing), spent)
"""


def rows(bench: Bench) -> Iterator[Row]:
    rounds = bench.pick(15, 5)
    bench.need_space(2 * (rounds + 1) * corpus.SEGMENT_BYTES)
    home = bench.home("sealing")
    command = [bench.python, "-c", _ROLL, str(home), str(rounds + 1)]
    run = subprocess.run(command, env=bench.on(home), stdout=subprocess.PIPE, check=True, text=True)
    bench.home("sealing")
    figures = [[float(word) for word in row.split()] for row in run.stdout.splitlines()]
    with_seal, without, spent = (statistics.median(column) for column in zip(*figures[1:], strict=True))
    ours = f"{milliseconds(with_seal)}, of which {milliseconds(spent)} are for the seal"
    more = max(spent, with_seal - without)
    yield Row(
        f"the append that rolls, segments of {corpus.SEGMENT_BYTES >> 20} MiB, median of {rounds}",
        ours,
        f"without a seal {milliseconds(without)}",
        round(with_seal / without, 2),
        f"< {milliseconds(_MOST)} more",
        more < _MOST,
    )

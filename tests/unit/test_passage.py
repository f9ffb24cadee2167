"""Reading the skips again while a partition stands: soon, and no more often than that takes."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from consumer.passage import Passage

STANDS_S = 3.0
MOST_READS = 4


class Counted:
    """What operators let pass: nothing, counted as often as it is read."""

    changes = 0
    reads = 0

    def read(self) -> list[object]:
        self.reads += 1
        return []


def test_a_partition_that_stands_costs_a_look_a_second() -> None:
    """However often a stage that stands asks, each look makes clients of Kafka: they are made once a second."""
    allowed, nobody = Counted(), cast("Any", None)
    passage = Passage(cast("Any", allowed), nobody, metrics=nobody, log=nobody)
    stop = threading.Event()
    beside = threading.Thread(target=passage.run, args=(stop,), daemon=True)
    beside.start()
    ends = time.monotonic() + STANDS_S
    while time.monotonic() < ends:
        passage.ask()
        time.sleep(0.01)
    stop.set()
    beside.join(STANDS_S)
    assert not beside.is_alive()
    assert 2 <= allowed.reads <= MOST_READS

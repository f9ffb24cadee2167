"""Whether the ledger still is the topic that it was, and safe (L1): Kafka is asked now and then while a worker runs."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from consumer.domain.losses import SENTENCES, Loss
from consumer.kafka.offsets import OffsetsUnavailable
from consumer.kafka.topics import TopicError
from consumer.ledger import LedgerFault
from consumer.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.ledger import Ledger
    from consumer.ops.losses import Losses
    from consumer.ops.metrics import Metrics

IDENTIFY_EVERY = 30.0
"""Seconds after which Kafka is asked again."""


class LedgerWatch:
    """Asks for the ledger's id and for its settings. Where a broker can tell no ids, `topic_id` is None."""

    def __init__(
        self,
        ledger: Ledger,
        topic_id: Callable[[], str] | None,
        unsafe: Callable[[], Sequence[str]],
        *,
        metrics: Metrics,
        losses: Losses,
        log: FilteringBoundLogger,
    ) -> None:
        self._ledger = ledger
        self._topic_id = topic_id
        self._unsafe = unsafe
        self._found_unsafe: frozenset[str] = frozenset()
        self._metrics = metrics
        self._losses = losses
        self._log = log
        self._looked = -math.inf
        self._lock = threading.Lock()

    def look_now(self) -> None:
        """Ask. Raises LedgerFault for another topic, OffsetsUnavailable."""
        if self._topic_id is not None:
            with self._lock:
                self._ask(self._topic_id)

    def look(self) -> None:
        """Ask, if it is time to and nobody does. Raises LedgerFault for another topic, OffsetsUnavailable."""
        if self._topic_id is None or time.monotonic() - self._looked < IDENTIFY_EVERY:
            return
        if self._lock.acquire(blocking=False):
            try:
                self._ask(self._topic_id)
            finally:
                self._lock.release()

    def _ask(self, topic_id: Callable[[], str]) -> None:
        began = time.monotonic()
        try:
            found, unsafe = together(topic_id, self._unsafe)
        except TopicError as problem:
            raise OffsetsUnavailable(str(problem)) from None
        if found != self._ledger.topic_id:
            raise LedgerFault(
                f"{self._ledger.topic} is another topic (id {found} instead of {self._ledger.topic_id}): it "
                "was deleted and made anew; restore the old one, which holds the opt-outs",
                Loss.LEDGER_RECREATED,
            )
        self._tell(frozenset(unsafe))
        self._looked = began

    def _tell(self, unsafe: frozenset[str]) -> None:
        """Cry out where the ledger's settings were changed so that it can lose records.

        No reason to stop: nothing is lost yet, and a worker that stands still keeps no opt-out either. Who reads the
        log can set them back; the next start refuses.
        """
        if unsafe - self._found_unsafe:
            self._losses.ledger(Loss.LEDGER_UNSAFE)
            self._log.error(SENTENCES[Loss.LEDGER_UNSAFE], loss=Loss.LEDGER_UNSAFE.value, settings=sorted(unsafe))
        elif self._found_unsafe and not unsafe:
            self._log.info("the ledger's settings are safe again", loss=Loss.LEDGER_UNSAFE.value)
        self._found_unsafe = unsafe
        self._metrics.unsafe.set(len(unsafe))

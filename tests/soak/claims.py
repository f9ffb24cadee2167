"""Senders of confirmations: several are told of each one, and ask for its pass at the same moment, again and again."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, TopicPartition

from consumer.guard import Guard
from tests.parts import oracle
from tests.soak.askers import TIMEOUT_S
from tests.soak.records import Claim, milliseconds

if TYPE_CHECKING:
    from tests.parts.system import System

SENDERS = 3
ATTEMPTS = 2
AGAIN_S = 0.5
"""After which a claim is made again, whatever came of it: a sender does not know what it did before it died."""


class Claims:
    """Reads the confirmations, and claims each with every sender."""

    def __init__(self, system: System, url: str, buckets: int) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": system.bootstrap,
                "logger": system.client()["logger"],
                "group.id": f"{system.prefix}claims",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        topic = system.topics["confirmations"]
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in system.ends("confirmations")])
        self._guards = [Guard.from_url(url, buckets=buckets, timeout=TIMEOUT_S) for _ in range(SENDERS)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claims", daemon=True)
        self.claims: list[Claim] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._consumer.close()
        for guard in self._guards:
            guard.close()

    def _run(self) -> None:
        with ThreadPoolExecutor(SENDERS * 16) as senders:
            while not self._stop.is_set():
                for message in self._consumer.consume(20, 0.1):
                    if not message.error():
                        record = oracle.decode(message.value() or b"")
                        for guard in self._guards:
                            senders.submit(self._claim, guard, record)

    def _claim(self, guard: Guard, record: dict[str, object]) -> None:
        asked = str(record["location_id"]), str(record["patient_number"]), str(record["event_id"])
        for _ in range(ATTEMPTS):
            kind = str(guard.claim_confirmation(*asked).kind)
            self.claims.append(Claim(asked[2], kind, milliseconds(record["expires_at"]), time.time() * 1000))  # type: ignore[arg-type]
            if self._stop.wait(AGAIN_S):
                return

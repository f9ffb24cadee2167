"""Reads the changes as a downstream system would, and writes down when it met each."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, TopicPartition

from tests.parts import oracle
from tests.soak.records import Told, milliseconds

if TYPE_CHECKING:
    from tests.parts.system import System


class Listener:
    """A read_committed reader in a thread."""

    def __init__(self, system: System) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": system.bootstrap,
                "logger": system.client()["logger"],
                "group.id": f"{system.prefix}listener",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            }
        )
        topic = system.topics["changed"]
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in system.ends("changed")])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self.told: list[Told] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(100, 0.1):
                if message.error():
                    continue
                record = oracle.decode(message.value() or b"")
                patient = (record["location_id"], record["patient_number"])
                out = record["status"] == "OPTED_OUT"
                self.told.append(Told(patient, out, milliseconds(record["occurred_at"]), time.monotonic()))

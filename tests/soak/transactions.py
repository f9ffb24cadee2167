"""A producer of upstream's that leaves a transaction open: what Kafka holds behind it cannot be read meanwhile."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined] # public all the same

from tests.parts.system import inbound, wait_for
from tests.soak.records import Text
from tests.soak.traffic import patients

if TYPE_CHECKING:
    import threading

    from confluent_kafka import Message

    from tests.parts.system import System
    from tests.soak.traffic import Traffic

ROLES = ("inbound", "second")
ENDS = ("aborted", "committed", "left to the broker")
WORDS = ("START", "STOP", "START")
ATTEMPTS = 5
OPEN_WITHIN_S, ENDS_WITHIN_S = 30.0, 60.0
SPARE_S = 10.0
"""By which a transaction may last longer than it is meant to, before the broker ends it."""


class Within(NamedTuple):
    """A text within a transaction, which counts only if Kafka gives it to those who read what is committed."""

    role: str
    value: bytes
    text: Text


class OpenTransactions:
    """Leaves transactions open on the topics of inbound, one after the other."""

    def __init__(self, system: System, traffic: Traffic, seed: int) -> None:
        self._system = system
        self._traffic = traffic
        self._chance = random.Random(f"{seed}/transactions")
        self._partitions = {role: len(system.ends(role)) for role in ROLES}
        self._within: list[Within] = []
        self.opened = 0
        self.behind = 0
        self.counted = 0

    def leave_open(self, number: int, seconds: float, stop: threading.Event) -> str:
        """Open one, see that others' texts stand behind it, and end it in the way that `number` says."""
        role, how = ROLES[number % len(ROLES)], ENDS[number % len(ENDS)]
        place = TopicPartition(self._system.topics[role], self._chance.randrange(self._partitions[role]))
        lasts = seconds if how == "left to the broker" else seconds + SPARE_S + OPEN_WITHIN_S
        producer, within, first = self._open(role, place, lasts)
        began = time.monotonic()
        behind = 0

        def is_felt() -> bool:
            nonlocal behind
            stable, held = self._ends(place)
            behind = max(behind, held - first - len(within)) if stable == first else behind
            return behind > 0

        wait_for("texts stand behind an open transaction", is_felt, OPEN_WITHIN_S)
        stop.wait(seconds)
        is_felt()
        if how == "committed":
            producer.commit_transaction(ENDS_WITHIN_S)
            for one in within:
                one.text.acked = time.monotonic()
        elif how == "aborted":
            producer.abort_transaction(ENDS_WITHIN_S)
        wait_for(f"a transaction that was {how} ends", lambda: self._ends(place)[0] > first, ENDS_WITHIN_S)
        self.opened += 1
        self.behind += behind
        lasted = time.monotonic() - began
        return f"on {role} [{place.partition}] for {lasted:.1f} s, then {how}; {behind} records stood behind it"

    def _open(self, role: str, place: TopicPartition, lasts: float) -> tuple[Producer, list[Within], int]:
        """Return a producer with an open transaction, the texts in it, and the offset of its first."""
        for attempt in range(ATTEMPTS):
            within = [self._text(role, word) for word in WORDS]
            self._within += within
            try:
                producer, first = self._begin(f"upstream-{self.opened}-{attempt}", place, within, lasts)
            except KafkaException:  # a broker is away; the broker ends what is left of it
                continue
            if first is not None:
                return producer, within, first
        raise TimeoutError(f"no transaction could be opened on {role} [{place.partition}]")

    def _begin(
        self, name: str, place: TopicPartition, within: list[Within], lasts: float
    ) -> tuple[Producer, int | None]:
        """Return a producer with an open transaction, and where its first text stands; None if it does not hold all."""
        producer = Producer(
            {
                "bootstrap.servers": self._system.bootstrap,
                "logger": self._system.client()["logger"],
                "transactional.id": f"{self._system.prefix}{name}",
                "transaction.timeout.ms": int(lasts * 1000),
                "message.timeout.ms": int(min(lasts, OPEN_WITHIN_S) * 1000),
                "retry.backoff.ms": 5,
            }
        )
        offsets: list[int | None] = []

        def delivered(error: object, stored: Message) -> None:
            offsets.append(None if error else stored.offset())

        producer.init_transactions(OPEN_WITHIN_S)
        producer.begin_transaction()
        for one in within:
            producer.produce(place.topic, one.value, partition=place.partition, on_delivery=delivered)
        producer.flush(OPEN_WITHIN_S)
        return producer, offsets[0] if len(offsets) == len(within) and None not in offsets else None

    def _text(self, role: str, word: str) -> Within:
        patient = self._chance.choice(patients())
        message = inbound(*patient, word)
        self._traffic.recent.append(patient)
        text = Text(patient, word == "STOP", message["received_at"], time.monotonic())
        return Within(role, self._system.text(message), text)

    def _ends(self, place: TopicPartition) -> tuple[int, int]:
        """Return up to where a partition can be read, and what Kafka holds of it; (-1, -1) where it does not say."""
        found = []
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
            future = self._system.admin.list_offsets({place: OffsetSpec.latest()}, isolation_level=level)[place]  # type: ignore[no-untyped-call]
            try:
                found.append(int(future.result(10).offset))
            except KafkaException:  # its broker is away
                return -1, -1
        return found[0], found[1]

    def settle(self) -> None:
        """Have those texts count which Kafka gives to whoever reads what is committed, at their places."""
        by_value = {(one.role, one.value): one.text for one in self._within}
        for role in ROLES:
            for message in self._system.messages(role):
                text = by_value.get((role, message.value() or b""))
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                if text is not None and topic is not None and partition is not None and offset is not None:
                    text.place = (topic, partition, offset)
                    self._traffic.texts.append(text)
                    self.counted += 1

    def line(self) -> str:
        """Return what they did."""
        return (
            f"open transactions: {self.opened}, of {len(self._within)} texts in them {self.counted} were committed; "
            f"{self.behind} records stood behind them, there and unreadable"
        )

"""Records that nobody can read, or that are too much for somebody: among the texts, and in the ledger."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer
from redis import RedisError

from consumer.wire.framing import header
from tests.parts import oracle
from tests.parts.damage import pieces, varint
from tests.parts.system import inbound, location_in, wait_for
from tests.soak.records import milliseconds
from tests.soak.traffic import patients

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from tests.parts.system import System
    from tests.soak.records import Place
    from tests.soak.traffic import Traffic

LIMITS = {
    "OPTOUT_KAFKA_RECEIVE_MESSAGE_MAX_BYTES": "8000000",
    "OPTOUT_KAFKA_FETCH_MAX_BYTES": "6000000",
    "OPTOUT_KAFKA_FETCH_MESSAGE_MAX_BYTES": "4000000",
    "OPTOUT_KAFKA_MESSAGE_MAX_BYTES": "4000000",
}
"""Of the workers' clients: for them a batch of some megabytes is what one of 150 MB is for one without settings."""
UNPACKED = 12_000_000
LARGEST = 20_000_000
LONG_ID = 900_000
UNKNOWN_ID = 0x534D53FF
TOO_MUCH = 2**40
WRITTEN_WITHIN_S, SKIPPED_WITHIN_S, GOES_ON_WITHIN_S = 60.0, 90.0, 60.0
KINDS = (
    "undecodable text",
    "undecodable ledger record",
    "text with a megabyte id",
    "text under an unknown schema",
    "batch that cannot be unpacked",
    "text whose length is too large",
    "int in the ledger that is too large",
    "forged number in the ledger",
)


class Poison:
    """Writes one such record after the other, and has skipped what an operator has to skip."""

    def __init__(self, system: System, traffic: Traffic, seed: int) -> None:
        self._system = system
        self._traffic = traffic
        self._chance = random.Random(f"{seed}/poison")
        self._partitions = {role: len(system.ends(role)) for role in ("inbound", "ledger")}
        self.letters: set[Place] = set()
        """The places of inbound whose records must be found among the dead letters."""
        self.in_ledger: set[bytes] = set()
        """What is in the ledger and counts for nothing."""
        self.skipped = 0
        self.long_ids = 0

    def put(self, number: int) -> str:
        """Write one of the kind that `number` says; return when it is written or, if it has to be, skipped."""
        kind = KINDS[number % len(KINDS)]
        if kind == "text with a megabyte id":
            patient = self._chance.choice(patients())
            self._traffic.send(inbound(*patient, "STOP", message_id=os.urandom(LONG_ID // 2).hex()))
            self.long_ids += 1
            return kind
        role = "ledger" if "ledger" in kind else "inbound"
        partition = self._chance.randrange(self._partitions[role])
        value = self._value(kind, partition)
        if role == "ledger":
            self.in_ledger.add(value)
        offset = self._write(role, partition, value)
        if role == "ledger" or kind == "batch that cannot be unpacked":
            self._skip(role, partition, offset)
            self._goes_on(role, partition, offset + 1)
        else:
            self.letters.add((self._system.topics[role], partition, offset))
        return f"{kind} at {role} [{partition}] {offset}"

    def _value(self, kind: str, bucket: int) -> bytes:
        if kind == "batch that cannot be unpacked":
            return bytes(UNPACKED)
        patient = self._chance.choice(patients())
        text = inbound(*patient, "STOP")
        if kind == "text under an unknown schema":
            return header(UNKNOWN_ID) + self._system.text(text)[5:]
        if kind == "text whose length is too large":  # the body's, which stands first
            return self._system.text(text)[:5] + varint(TOO_MUCH) + self._system.text(text)[6:]
        here = location_in(bucket, self._partitions["ledger"])
        if kind == "int in the ledger that is too large":
            return _framed(self._system.line(here, patient[1], "START"), pack_version=TOO_MUCH)
        if kind == "forged number in the ledger":
            return self._system.line(here, "+epoch", "START")
        return os.urandom(40)

    def _write(self, role: str, partition: int, value: bytes) -> int:
        """Write a value as a batch of its own and return its offset."""
        stored: list[Message] = []
        producer = Producer(
            {
                "bootstrap.servers": self._system.bootstrap,
                "logger": self._system.client()["logger"],
                "enable.idempotence": True,
                "compression.type": "zstd",
                "batch.size": LARGEST,
                "message.max.bytes": LARGEST,
            }
        )
        producer.produce(
            self._system.topics[role],
            value,
            partition=partition,
            on_delivery=lambda error, message: None if error else stored.append(message),
        )
        producer.flush(WRITTEN_WITHIN_S)
        if not stored:
            raise TimeoutError(f"Kafka did not take a record for {role} [{partition}]")
        offset = stored[0].offset()
        return self._find(role, partition, value) if offset is None else offset

    def _find(self, role: str, partition: int, value: bytes) -> int:
        """Return where a record stands that Kafka had already when it was sent again: it does not say where, then."""
        found = [m.offset() for m in self._system.messages(role) if m.value() == value and m.partition() == partition]
        assert found[0] is not None
        return found[0]

    def _skip(self, role: str, partition: int, offset: int) -> None:
        """Skip it as an operator does, who tries again while Kafka or Redis is away, or its bucket not there yet."""
        place = f"{self._system.topics[role]}:{partition}:{offset}"
        until, said = time.monotonic() + SKIPPED_WITHIN_S, "no answer"
        while time.monotonic() < until:
            try:
                done = self._system.run("skip", place, "--reason", "a soak", "--yes")
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                self.skipped += 1
                return
            said = done.stderr.strip()[-300:]
            time.sleep(0.3)
        raise TimeoutError(f"{role} [{partition}] {offset} could not be skipped: {said}")

    def _goes_on(self, role: str, partition: int, offset: int) -> None:
        """Wait until what stands behind the place is read again."""

        def is_past() -> bool:
            try:
                if role == "ledger":
                    return self._system.metas("applied")[partition] >= offset
                return self._system.committed("classify.kept", role)[partition] >= offset
            except (KafkaException, RedisError):  # away for now
                return False

        wait_for(f"{role} [{partition}] goes on behind {offset}", is_past, GOES_ON_WITHIN_S)

    def line(self) -> str:
        """Return what was written."""
        return (
            f"poison: {len(self.letters)} texts to be dead letters, {self.long_ids} STOPs with a megabyte id, "
            f"{len(self.in_ledger)} records in the ledger, {self.skipped} places skipped"
        )


def _framed(value: bytes, **fields: int) -> bytes:
    """Return a record of the ledger with other numbers in these fields, however large they are."""
    schema: Any = json.loads((oracle.SCHEMAS / "KeywordRecord.avsc").read_text())
    return value[:5] + b"".join(pieces(schema, {**_plain(oracle.decode(value)), **fields}))


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its times as the numbers that are written."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found[name] = _plain(value)
        else:
            found[name] = milliseconds(value) if isinstance(value, datetime) else value
    return found

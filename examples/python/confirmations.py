"""The sender of confirmations: one for each change, the one message that passes to a patient who has opted out.

    python confirmations.py kafka-1:9092 redis://optout-confirmations:password@redis-1:6379/0 my-group

Run as many as you like: each confirmation passes the guard once. Its pass is taken, and its offset committed, right
before it is sent: who dies in between has not sent it, and nobody sends it twice.
"""

from __future__ import annotations

import json
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from consumer.domain.events import ConfirmationRequested
from consumer.guard import Guard, VerdictKind
from consumer.wire.codec import Codec
from consumer.wire.errors import Unreadable
from consumer.wire.schemas import Schemas

TOPIC = "sms.confirmation-requested"
ASK_AGAIN_S = 0.5


def send(confirmation: ConfirmationRequested) -> None:
    """Hand a confirmation to the provider: here it is printed."""
    fields = {"from": confirmation.location_number, "to": confirmation.patient_number, "text": confirmation.text}
    print(json.dumps({"sent": fields}), flush=True)


def main(brokers: str, redis_url: str, group: str, topic: str = TOPIC) -> int:
    """Send until told to stop."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda which, _frame: stopping.append(which))
    guard, codec = Guard.from_url(redis_url), Codec(Schemas())
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    try:
        while not stopping:
            record = consumer.poll(0.5)
            if record is None:
                continue
            if record.error():
                raise KafkaException(record.error())
            if not is_settled(guard, codec, consumer, record):
                consumer.seek(place_of(record))
                time.sleep(ASK_AGAIN_S)
    finally:
        consumer.close()
    return 0


def place_of(record: Message) -> TopicPartition:
    """Return where to go on reading, to get this record again."""
    topic, partition, offset = record.topic(), record.partition(), record.offset()
    assert topic is not None and partition is not None and offset is not None  # noqa: PT018 - an error has none
    return TopicPartition(topic, partition, offset)


def is_settled(guard: Guard, codec: Codec, consumer: Consumer, record: Message) -> bool:
    """Send a confirmation, or leave it for good; False if it is to be asked about again."""
    where = f"{record.topic()} [{record.partition()}] {record.offset()}"
    try:
        asked = codec.decode(ConfirmationRequested, record.value())
    except Unreadable:
        print(f"{where}: cannot be read; is this program older than the schemas?", file=sys.stderr)
        consumer.commit(message=record, asynchronous=False)
        return True
    verdict = guard.claim_confirmation(asked.location_id, asked.patient_number, asked.event_id)
    if verdict.kind is VerdictKind.UNKNOWN:
        print(f"{where}: held: {verdict.reason}", file=sys.stderr)
        return False
    consumer.commit(message=record, asynchronous=False)
    if verdict.kind is VerdictKind.ALLOWED:
        send(asked)
    else:
        print(f"{where}: not sent: it has passed before, or its five minutes are over", file=sys.stderr)
    return True


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:5]))

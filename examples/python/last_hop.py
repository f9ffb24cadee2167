"""The last hop: takes messages out of the topic, asks again, and hands to the provider what is still ALLOWED.

    python last_hop.py kafka-1:9092 redis://sender:password@redis-1:6379/0 sms.outbound my-group

A message may have waited for hours since its producer asked, and the patient may have texted STOP meanwhile. So the
verdict of then is worth nothing, and the guard is asked right before the provider is. While it says UNKNOWN the message
stays where it is: its offset is not committed, and reading goes on at it.

`guard.check(..., catch_up=5)` waits, for about a second, until every STOP that Kafka held when it was asked is in
force: too slow for a bulk of reminders, and right for a message that must not cross a STOP.
"""

from __future__ import annotations

import json
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from consumer.guard import Guard, NotANumber, VerdictKind

ASK_AGAIN_S = 1.0


def send(message: dict[str, str]) -> None:
    """Hand a message to the provider: here it is printed. Yours should take the same message twice for one."""
    print(json.dumps({"sent": message}), flush=True)


def main(brokers: str, redis_url: str, topic: str, group: str) -> int:
    """Send until told to stop."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda which, _frame: stopping.append(which))
    guard = Guard.from_url(redis_url)
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
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
            if is_settled(guard, record):
                consumer.commit(message=record, asynchronous=False)
            else:
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


def is_settled(guard: Guard, record: Message) -> bool:
    """Send a message, or leave it for good; False if it is to be asked about again."""
    where = f"{record.topic()} [{record.partition()}] {record.offset()}"
    try:
        message = json.loads(record.value() or "")
        verdict = guard.check(message["location_id"], message["patient_number"])
    except (NotANumber, KeyError, TypeError, ValueError) as wrong:
        print(f"{where}: never sent: {type(wrong).__name__}", file=sys.stderr)  # to a dead-letter topic of yours
        return True
    if verdict.kind is VerdictKind.ALLOWED:
        send(message)
    elif verdict.kind is VerdictKind.SUPPRESSED:
        print(f"{where}: never sent: the patient has opted out", file=sys.stderr)
    else:
        print(f"{where}: held: {verdict.reason}", file=sys.stderr)
    return verdict.kind is not VerdictKind.UNKNOWN


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:5]))

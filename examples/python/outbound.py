"""An outbound producer: reads messages, asks the guard, and writes those that may be sent to a topic.

    python outbound.py kafka-1:9092 redis://sender:password@redis-1:6379/0 sms.outbound < reminders.jsonl

A line is {"location_id": ..., "patient_number": ..., "text": ...}. Copy it and put your own source of messages in its
place. What counts: ask for every message; take nothing but ALLOWED for a yes; and let none vanish, which is why this
ends with 1 if a message was neither produced nor suppressed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from confluent_kafka import KafkaException, Producer

from consumer.guard import Guard, GuardedProducer, NotAllowed, NotANumber, Withheld, content_faults

HOLD_S = 60.0
"""How long an UNKNOWN is held before the message goes back to where it came from."""


def main(brokers: str, redis_url: str, topic: str) -> int:
    """Produce what stands on standard input; return the exit code."""
    counts: Counter[str] = Counter()

    def suppressed(message: Withheld) -> None:  # your own system marks it as not sent, because the patient opted out
        counts["suppressed"] += 1
        print(f"suppressed: a message of {message.location_id}", file=sys.stderr)

    def delivered(error: object, _message: object) -> None:
        counts["produced" if error is None else "failed"] += 1

    guard = Guard.from_url(redis_url)
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 20})
    guarded = GuardedProducer(producer, guard, on_suppressed=suppressed, hold=HOLD_S)
    for place, line in enumerate(sys.stdin, 1):
        try:
            message = json.loads(line)
            faults = content_faults(message["text"])
            if faults:
                raise ValueError(faults[0].sentence)
            guarded.produce(
                topic,
                line.strip(),
                f"{message['location_id']}:{message['patient_number']}",
                location_id=message["location_id"],
                number=message["patient_number"],
                on_delivery=delivered,
            )
        except NotAllowed as held:
            counts["held"] += 1
            print(f"line {place}: not sent yet, {held}: give it to me again", file=sys.stderr)
        except (NotANumber, KeyError, TypeError, ValueError) as wrong:
            counts["wrong"] += 1
            print(f"line {place}: {type(wrong).__name__}: {wrong}", file=sys.stderr)
        except (BufferError, KafkaException):
            counts["failed"] += 1
            print(f"line {place}: Kafka does not take it: give it to me again", file=sys.stderr)
        guarded.poll(0)
    counts["failed"] += guarded.flush(30)
    print(json.dumps(dict(counts)))
    return 1 if counts["held"] or counts["failed"] or counts["wrong"] else 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:4]))

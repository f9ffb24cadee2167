"""The same producer for a program that runs on asyncio: many messages are asked about at the same time.

python outbound_async.py kafka-1:9092 redis://sender:password@redis-1:6379/0 sms.outbound < reminders.jsonl
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from confluent_kafka import KafkaException
from confluent_kafka.aio import AIOProducer

from consumer.guard import AsyncGuard, AsyncGuardedProducer, NotAllowed, NotANumber, Withheld, content_faults

HOLD_S = 60.0
AT_ONCE = 100
"""Messages that are under way at the same time."""


async def main(brokers: str, redis_url: str, topic: str) -> int:
    """Produce what stands on standard input; return the exit code."""
    counts: Counter[str] = Counter()

    async def suppressed(message: Withheld) -> None:
        counts["suppressed"] += 1
        print(f"suppressed: a message of {message.location_id}", file=sys.stderr)

    free = asyncio.Semaphore(AT_ONCE)
    async with AsyncGuard.from_url(redis_url) as guard:
        producer = AIOProducer({"bootstrap.servers": brokers, "enable.idempotence": True}, buffer_timeout=0.1)
        guarded = AsyncGuardedProducer(producer, guard, on_suppressed=suppressed, hold=HOLD_S)
        try:
            async with asyncio.TaskGroup() as tasks:
                for place, line in enumerate(sys.stdin, 1):
                    await free.acquire()
                    task = tasks.create_task(send(guarded, topic, place, line, counts))
                    task.add_done_callback(lambda _: free.release())
        finally:
            await guarded.close()
    print(json.dumps(dict(counts)))
    return 1 if counts["held"] or counts["failed"] or counts["wrong"] else 0


async def send(guarded: AsyncGuardedProducer, topic: str, place: int, line: str, counts: Counter[str]) -> None:
    """Produce the message of one line, and say what became of it."""
    try:
        message = json.loads(line)
        faults = content_faults(message["text"])
        if faults:
            raise ValueError(faults[0].sentence)
        location, number = message["location_id"], message["patient_number"]
        delivery = await guarded.produce(
            topic, line.strip(), f"{location}:{number}", location_id=location, number=number
        )
        if delivery is not None:
            await delivery
            counts["produced"] += 1
    except NotAllowed as held:
        counts["held"] += 1
        print(f"line {place}: not sent yet, {held}: give it to me again", file=sys.stderr)
    except (NotANumber, KeyError, TypeError, ValueError) as wrong:
        counts["wrong"] += 1
        print(f"line {place}: {type(wrong).__name__}: {wrong}", file=sys.stderr)
    except (BufferError, KafkaException):
        counts["failed"] += 1
        print(f"line {place}: Kafka does not take it: give it to me again", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:4])))

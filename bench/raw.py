"""The raw client: reads a topic to its end, so many times, and does nothing with the messages. A process of its own.

    python -m bench.raw BOOTSTRAP TOPIC BATCH ROUNDS

prints one line of JSON, see `Measurement`. It is the most that a Python consumer on this client can reach: no group, no
decoding, no look at a message, and the settings that were the cheapest a message among those that were tried.
"""

from __future__ import annotations

import gc
import sys
import time

from confluent_kafka import Consumer, TopicPartition

from bench.measurement import Measurement

PATIENCE_S = 30.0
SETTINGS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A short queue, looked at often: what was fetched is still in the processor's cache when it is consumed. That takes
    # a third off the cost of a message with the client's defaults, at the same rate by the clock.
    "queued.min.messages": 2_000,
    "queued.max.messages.kbytes": 1_024,
    "fetch.queue.backoff.ms": 1,
}


def main(bootstrap: str, topic: str, batch: int, rounds: int) -> None:
    """Read the topic and tell what it took."""
    consumer = Consumer({**SETTINGS, "bootstrap.servers": bootstrap, "group.id": "optout-bench-raw"})  # never joined
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    places = [TopicPartition(topic, number, 0) for number in partitions]
    ends = {place.partition: consumer.get_watermark_offsets(place, timeout=10)[1] for place in places}
    messages = sum(ends.values())
    gc.collect()
    gc.freeze()  # the collector would go through what was imported, again and again
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(rounds):
        consumer.assign(places)
        if left := read(consumer, messages, batch):
            sys.exit(f"{topic} could not be read to its end: {left} messages were missing")
        if {place.partition: place.offset for place in consumer.position(places)} != ends:
            sys.exit(f"{topic} was not read to its end: some of what came was no message")
    Measurement(rounds * messages, time.process_time() - cpu, time.perf_counter() - wall).tell()
    consumer.close()


def read(consumer: Consumer, messages: int, batch: int) -> int:
    """Read so many messages; return how many did not come."""
    left, progress = messages, time.perf_counter()
    while left > 0:
        count = len(consumer.consume(min(batch, left), 0.1))
        left -= count
        if count:
            progress = time.perf_counter()
        elif time.perf_counter() - progress > PATIENCE_S:
            break
    return left


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

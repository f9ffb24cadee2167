"""`optout demo`: the whole path on an embedded Kafka and Redis, and whether it did what it should.

    day          the hours, and in each the few texts and the sends that are told
    texts        what patients say: some hundreds of texts more, the same each time
    expectation  what must become of them, counted apart: shares no code with the product
    observation  what became of them, by Kafka's topics, Redis and the guard
    comparison   whether the two agree
    outcome      what became of one text, in words
    summary      the day in figures
    screen       how it looks
    play         starts the parts, publishes, waits, asks and tells

It needs neither settings nor a network, and ends all that it started.
"""

from consumer.demo.play import demo

__all__ = ["demo"]

"""Plays the day: publishes each hour's texts, waits until they are in force, asks for the sends, tells what it saw.

The last line of stdout is JSON with these counts, and `ok`, whether everything is as expected:

    inbound           records published: texts, and bytes that are none
    opted_out         changes to OPTED_OUT that were told, each counted once
    opted_in          changes to OPTED_IN, likewise
    dead_lettered     records that nobody could read, or that no patient could be named for
    ignored           all other records, by the expectation's count: see `Expectation`
    confirmations     confirmations that were asked for: one a change
    sends_allowed     sends that the guard let through at the end, one asked for each patient and location
    sends_suppressed  sends that it did not
    sends_produced    messages of the day's sends that the guarded producer wrote to the outbound topic

Each record is one of the middle four, so that inbound is their sum.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import click
import redis
from confluent_kafka import Producer

from consumer.demo import observation
from consumer.demo.comparison import differences, wrong_verdicts
from consumer.demo.expectation import expected
from consumer.demo.observation import Observation, Watch
from consumer.demo.outcome import Outcomes
from consumer.demo.screen import Screen
from consumer.demo.summary import COLUMNS, counted, rows
from consumer.demo.texts import LOCATIONS, PATIENTS, hours
from consumer.domain.buckets import DEFAULT_BUCKETS
from consumer.domain.events import InboundMessage, subscription_key
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.stack import EmbeddedStack, product_topics
from consumer.guard import Guard, GuardedProducer, NotAllowed
from consumer.kafka.producers import LedgerProducer, Outgoing
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from consumer.demo.day import Send
    from consumer.demo.expectation import Subscription
    from consumer.demo.texts import Hour, Record
    from consumer.guard import Verdict, VerdictKind, Withheld

WORKERS = 2
DEADLINE_S = 45.0
"""For everything between the start of the workers and the last look, together."""
LOOK_EVERY_S = 0.02
GUARD_HOLD_S = 5.0
OUTBOUND = "sms.outbound"
"""A topic of the practices' own: whoever sends takes messages from it."""
TEXT = "A word from your practice. Reply STOP to opt out."


class Unfinished(EmbeddedError):
    """One sentence: what the demo waited for in vain, or which part of it ended."""


def demo(picture: Path | None = None) -> int:
    """Run the demo; return 0 if everything became what it should, 1 if not. Raises EmbeddedError.

    `picture` is a file into which it is drawn as well, as SVG. Everything that it starts ends with it, also on Ctrl-C.
    """
    began = time.monotonic()
    screen = Screen(picture)
    screen.say("A day at three practices, from patients' texts to sends, on an embedded Kafka.", "bold")
    screen.say("That Kafka is for trying out: it keeps nothing, and unlike a real one it is not exactly-once.")
    with EmbeddedStack(topics()) as stack:
        play = Play(stack, screen)
        ok = play.run()
    screen.say(f"Done in {time.monotonic() - began:.1f} s; everything that was started has ended.")
    screen.close()
    click.echo(json.dumps({**play.counts, "ok": ok}))
    return 0 if ok else 1


def topics() -> dict[str, int]:
    """Return the topics that the demo needs, with their numbers of partitions."""
    return {spec.name: spec.partitions for spec in product_topics().values()} | {OUTBOUND: 1}


class Play:
    """The demo on a stack that runs, shown on a screen."""

    def __init__(self, stack: EmbeddedStack, screen: Screen) -> None:
        self._stack = stack
        self._screen = screen
        self._specs = product_topics()
        self._bootstrap = stack.environment["OPTOUT_KAFKA_BOOTSTRAP_SERVERS"]
        self._redis = stack.redis_client()
        self._guard = Guard(self._redis, buckets=DEFAULT_BUCKETS)
        self._codec = Codec(Schemas())
        self._watch = Watch(self._bootstrap, self._specs, self._codec)
        self._producer = LedgerProducer(
            {"bootstrap.servers": self._bootstrap, "log_level": 0}, lambda _name, _reason: None
        )
        self._outbound = GuardedProducer(
            Producer({"bootstrap.servers": self._bootstrap, "log_level": 0}),
            self._guard,
            on_suppressed=self._take_back,
            hold=GUARD_HOLD_S,
        )
        self._due: Counter[Subscription] = Counter()
        """How many messages each patient must have been sent, by the texts that came in."""
        self._withheld: Counter[Subscription] = Counter()
        self._outcomes = Outcomes()
        self._published: list[Record] = []
        self._wrong: list[str] = []
        self._deadline = 0.0
        self.counts: dict[str, int] = {}
        """What is told at the end, by name."""

    def run(self) -> bool:
        """Play it all; return whether everything became what it should. Raises EmbeddedError."""
        self._deadline = time.monotonic() + DEADLINE_S
        try:
            for _ in range(WORKERS):
                self._stack.start_worker((), {"OPTOUT_CONFIRMATIONS": "ours"})
            server = self._stack.redis.executable.name if self._stack.redis else "the one given"
            self._screen.say(f"Started: Kafka, Redis ({server}), and {WORKERS} workers, each a process of its own.")
            with self._screen.waiting("the workers share the partitions out"):
                self._stack.await_ready(self._redis)
            for hour in hours(time.time_ns() // 1_000_000):
                self._play(hour)
            return self._end()
        except redis.RedisError as problem:
            raise Unfinished(f"the demo's Redis did not answer ({type(problem).__name__})") from None
        finally:
            self._watch.close()
            self._redis.close()

    def _play(self, hour: Hour) -> None:
        self._screen.hour(hour.scene.begins)
        with self._screen.waiting("texts come in"):
            self._publish(hour.records)
            self._wait_until_told()
        seen = self._watch.look()
        for place, line in hour.told.items():
            self._screen.line(line, self._outcomes.of(hour.records[place], seen))
        told = {getattr(hour.records[place], "message_id", "") for place in hour.told}
        changed = sum(change.origin.message_id not in told for change in seen.changes.values())
        reviews = sum(review.origin.message_id not in told for review in seen.reviews.values())
        self._screen.others(len(hour.records) - len(hour.told), changed, reviews)
        for send in hour.scene.sends:
            self._send(send)

    def _publish(self, records: Sequence[Record]) -> None:
        for record in records:
            self._producer.write(self._outgoing(record))
        if not self._producer.flush(self._left()):
            raise Unfinished(f"the embedded Kafka did not take all texts within {DEADLINE_S:.0f} s")
        self._published += records

    def _outgoing(self, record: Record) -> Outgoing:
        """Return the record with its subscription as key: what a patient says then arrives in that order."""
        topic = self._specs["inbound"].name
        if not isinstance(record, InboundMessage):
            return Outgoing(topic, None, record)
        key = subscription_key(record.location_id, record.patient_number)
        return Outgoing(topic, key.encode(), self._codec.encode(record))

    def _wait_until_told(self) -> None:
        """Wait until all that was published is in force in Redis, and then until every change of it is told."""
        seconds, microseconds = self._redis.time()
        published = seconds * 1000 + microseconds // 1000 + 1  # all was taken before this millisecond began
        self._wait(lambda: self._fresh() >= published, "everything that came in to be in force in Redis")
        self._wait(lambda: observation.outboxes_are_empty(self._redis), "every change to be told on its topic")

    def _fresh(self) -> int:
        """Return up to when, by Redis's clock, all that came in is in force for every location."""
        return min(self._guard.check(location, PATIENTS[0]).fresh or 0 for location in LOCATIONS)

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        while not reached():
            self._stack.check_workers()
            if not self._left():
                raise Unfinished(f"the demo waited for {what}, and that did not happen within {DEADLINE_S:.0f} s")
            time.sleep(LOOK_EVERY_S)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _send(self, send: Send) -> None:
        """Produce a message to each of these patients, show what became of them, and hold it against what must be."""
        verdicts = [(number, self._produce(send, number)) for number in send.patients or PATIENTS]
        self._screen.send(send, verdicts)
        opted_out = expected(self._published).opted_out
        self._due.update({(send.location, number) for number, _ in verdicts} - opted_out)
        kinds = {(send.location, number): verdict.kind for number, verdict in verdicts}
        self._wrong += wrong_verdicts(f"the verdicts on {send.what} at {send.at}", opted_out, kinds)

    def _produce(self, send: Send, number: str) -> Verdict:
        message = json.dumps({"location_id": send.location, "patient_number": number, "text": TEXT})
        try:
            return self._outbound.produce(OUTBOUND, message, location_id=send.location, number=number)
        except NotAllowed as held:
            return held.verdict

    def _take_back(self, withheld: Withheld) -> None:
        self._withheld[withheld.location_id, withheld.number] += 1

    def _ask(self, location: str, numbers: Sequence[str]) -> list[tuple[str, Verdict]]:
        return list(zip(numbers, self._guard.check_many(location, numbers), strict=True))

    def _end(self) -> bool:
        """Ask for everybody, compare, and show the table; return whether all of it is as expected."""
        if self._outbound.flush(self._left()):
            raise Unfinished(f"the embedded Kafka did not take all messages within {DEADLINE_S:.0f} s")
        sent = observation.sent(self._bootstrap, OUTBOUND)
        seen, wanted = self._watch.seen, expected(self._published)
        verdicts: dict[tuple[str, str], VerdictKind] = {
            (location, number): verdict.kind
            for location in LOCATIONS
            for number, verdict in self._ask(location, PATIENTS)
        }
        found = Observation(
            changes=observation.by_subscription(seen.changes.values()),
            confirmations=observation.confirmed(seen.confirmations.values(), seen.changes),
            dead_letters=Counter(seen.dead_letters.values()),
            reviews=Counter(review.origin.message_id for review in seen.reviews.values()),
            members=observation.members(self._redis),
            verdicts=verdicts,
        )
        self._stack.check_workers()  # one that has ended would have gone unnoticed: the other takes its work over
        self.counts = {**counted(len(self._published), wanted, found), "sends_produced": sent.total()}
        self._screen.summary(COLUMNS, rows(self._published, seen, found))
        wrong = [*self._wrong, *differences(wanted, found)]
        if sent != self._due:
            wrong.append(f"the messages on {OUTBOUND} are not those that may be sent")
        self._screen.say(
            f"Sent: {sent.total()} messages on {OUTBOUND}; {self._withheld.total()} handed back, because the patient "
            "had opted out."
        )
        if wrong:
            click.echo(f"optout: the demo found what must not be: {'; '.join(wrong)}", err=True)
        else:
            self._screen.say("Checked: the topics, Redis and the guard all agree with a count that was made apart.")
        return not wrong

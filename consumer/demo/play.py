"""Starts the parts, publishes the texts, waits until they are in force, asks the guard, and tells what it saw.

The last line of stdout is JSON with these counts, and `ok`, whether everything is as expected:

    inbound           records published: texts, and bytes that are none
    opted_out         changes to OPTED_OUT that were told, each counted once
    opted_in          changes to OPTED_IN, likewise
    dead_lettered     records that nobody could read, or that no patient could be named for
    ignored           all other records, by the expectation's count: see `Expectation`
    confirmations     confirmations that were asked for: one a change
    sends_allowed     sends that the guard let through, one asked for each patient and location
    sends_suppressed  sends that it did not

Each record is one of the middle four, so that inbound is their sum.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import click
import redis

from consumer.demo import observation
from consumer.demo.comparison import differences
from consumer.demo.expectation import expected
from consumer.demo.observation import NotRead, Observation
from consumer.demo.texts import LOCATIONS, PATIENTS, texts
from consumer.domain.buckets import DEFAULT_BUCKETS
from consumer.domain.events import InboundMessage, subscription_key
from consumer.domain.phone import masked
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.stack import EmbeddedStack
from consumer.guard import Guard, VerdictKind
from consumer.kafka import topics
from consumer.kafka.producers import LedgerProducer, Outgoing
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas, schemas_directory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Message

    from consumer.demo.expectation import Expectation, Subscription
    from consumer.demo.texts import Record
    from consumer.kafka.topics import TopicSpec

WORKERS = 2
DEADLINE_S = 25.0
"""For everything between the start of the workers and the last look, together."""
LOOK_EVERY_S = 0.05
REDIS_TIMEOUT_S = 5.0
EXAMPLES = 5


class Unfinished(EmbeddedError):
    """One sentence: what the demo waited for in vain, or which part of it ended."""


def demo() -> int:
    """Run the demo; return 0 if everything became what it should, 1 if not. Raises EmbeddedError.

    Everything that it starts ends with it, also on Ctrl-C.
    """
    began = time.monotonic()
    click.echo("The whole path, from patients' texts to sends, on an embedded Kafka.")
    click.echo("That Kafka is for trying out: it keeps nothing, and unlike a real one it is not exactly-once.")
    specs = demo_topics()
    with EmbeddedStack({spec.name: spec.partitions for spec in specs.values()}) as stack:
        play = Play(stack, specs)
        ok = play.run()
    click.echo(f"Done in {time.monotonic() - began:.1f} s; everything that was started has ended.")
    click.echo(json.dumps({**play.counts, "ok": ok}))
    return 0 if ok else 1


def demo_topics() -> dict[str, TopicSpec]:
    """Return every topic by its role, under the name that it has by default."""
    specs = topics.load(schemas_directory() / "topics.yaml", partitions={"keyword_ledger": DEFAULT_BUCKETS})
    return {spec.role: spec for spec in specs}


class Play:
    """The demo on a stack that runs. `specs` are its topics by role."""

    def __init__(self, stack: EmbeddedStack, specs: Mapping[str, TopicSpec]) -> None:
        self._stack = stack
        self._specs = specs
        self._bootstrap = stack.environment["OPTOUT_KAFKA_BOOTSTRAP_SERVERS"]
        self._redis = redis.Redis.from_url(stack.environment["OPTOUT_REDIS_URL"], socket_timeout=REDIS_TIMEOUT_S)
        self._guard = Guard(self._redis, buckets=DEFAULT_BUCKETS)
        self._codec = Codec(Schemas())
        self._workers: list[subprocess.Popen[bytes]] = []
        self._deadline = 0.0
        self.counts: dict[str, int] = {}
        """What is told at the end, by name."""

    def run(self) -> bool:
        """Play it all; return whether everything became what it should. Raises Unfinished."""
        self._deadline = time.monotonic() + DEADLINE_S
        try:
            self._workers += [self._stack.start_worker((), {"OPTOUT_CONFIRMATIONS": "ours"}) for _ in range(WORKERS)]
            server = self._stack.redis.executable.name if self._stack.redis else "the one given"
            click.echo(f"Started: Kafka, Redis ({server}), and {WORKERS} workers, each a process of its own.")
            records = texts(time.time_ns() // 1_000_000)
            self._publish(records)
            self._wait_until_told()
            return self._tell(records, self._observe())
        except redis.RedisError as problem:
            raise Unfinished(f"the demo's Redis did not answer ({type(problem).__name__})") from None
        except NotRead as problem:
            raise Unfinished(str(problem)) from None
        finally:
            self._redis.close()

    def _publish(self, records: Sequence[Record]) -> None:
        producer = LedgerProducer({"bootstrap.servers": self._bootstrap, "log_level": 0}, lambda _name, _reason: None)
        for record in records:
            producer.write(self._outgoing(record))
        if not producer.flush(self._left()):
            raise Unfinished(f"the embedded Kafka did not take all texts within {DEADLINE_S:.0f} s")
        click.echo(
            f"In: {len(records)} records, texts to {len(LOCATIONS)} locations: keywords in "
            "many spellings, twice and out of order, retired words, near misses, talk, and some that nobody can read."
        )

    def _outgoing(self, record: Record) -> Outgoing:
        """Return the record with its subscription as key: what a patient says then arrives in that order."""
        topic = self._specs["inbound"].name
        if not isinstance(record, InboundMessage):
            return Outgoing(topic, None, record)
        key = subscription_key(record.location_id, record.patient_number)
        return Outgoing(topic, key.encode(), self._codec.encode(record))

    def _wait_until_told(self) -> None:
        """Wait until all that was published is in force in Redis, and then until every change of it is told."""
        began = time.monotonic()
        click.echo("Waiting: the embedded Kafka takes some seconds to share its partitions out among the workers.")
        seconds, microseconds = self._redis.time()
        published = seconds * 1000 + microseconds // 1000 + 1  # all was taken before this millisecond began
        self._wait(lambda: self._fresh() >= published, "everything that came in to be in force in Redis")
        click.echo(f"In force: the guard knows everything that came in, after {time.monotonic() - began:.1f} s.")
        self._wait(lambda: observation.outboxes_are_empty(self._redis), "every change to be told on its topic")

    def _fresh(self) -> int:
        """Return up to when, by Redis's clock, all that came in is in force for every location."""
        return min(self._guard.check(location, PATIENTS[0]).fresh or 0 for location in LOCATIONS)

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        while not reached():
            self._check_workers()
            if not self._left():
                raise Unfinished(f"the demo waited for {what}, and that did not happen within {DEADLINE_S:.0f} s")
            time.sleep(LOOK_EVERY_S)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _check_workers(self) -> None:
        for number, worker in enumerate(self._workers, 1):
            code = worker.poll()
            if code is not None:
                lines = self._stack.log_of(worker).read_text("utf-8", "replace").splitlines() or ["(it has none)"]
                raise Unfinished(f"worker {number} ended with exit code {code}; the last line of its log: {lines[-1]}")

    def _observe(self) -> Observation:
        changes = observation.changes_of(self._read("subscription_changed"), self._codec)
        confirmations = observation.confirmations_of(self._read("confirmation_requested"), self._codec)
        found = Observation(
            changes=observation.by_subscription(changes),
            confirmations=observation.confirmed(confirmations, changes),
            dead_letters=observation.dead_letters_of(self._read("dead_letter"), self._codec),
            members=observation.members(self._redis),
            verdicts=self._ask(),
        )
        self._check_workers()  # one that has ended would have gone unnoticed: the other takes its work over
        return found

    def _read(self, role: str) -> list[Message]:
        spec = self._specs[role]
        return observation.read_to_end(self._bootstrap, spec.name, spec.partitions)

    def _ask(self) -> dict[Subscription, VerdictKind]:
        """Ask for a send to every patient from every location: most of them took part there, some did not."""
        return {
            (location, patient): verdict.kind
            for location in LOCATIONS
            for patient, verdict in zip(PATIENTS, self._guard.check_many(location, PATIENTS), strict=True)
        }

    def _tell(self, records: Sequence[Record], found: Observation) -> bool:
        """Say what was found and how it compares; return whether all of it is as expected."""
        wanted = expected(records)
        self.counts = counted(len(records), wanted, found)
        counts = self.counts
        click.echo(f"Changed: {counts['opted_out']} times opted out, {counts['opted_in']} times in again. For example:")
        for (location, number), made in sorted(found.changes.items())[:EXAMPLES]:
            click.echo(f"  {masked(number)} at {location}: {', then '.join(status for _, status in made)}")
        click.echo(
            f"No change: {counts['ignored']} texts. Dead letters: {counts['dead_lettered']}. "
            f"Confirmations to be sent: {counts['confirmations']}."
        )
        click.echo(
            f"Sends asked for, each patient from each location: {counts['sends_allowed']} allowed, "
            f"{counts['sends_suppressed']} suppressed."
        )
        wrong = differences(wanted, found)
        if wrong:
            click.echo(f"optout: the demo found what must not be: {'; '.join(wrong)}", err=True)
        else:
            click.echo("Checked: the topics, Redis and the guard all agree with a count that was made apart.")
        return not wrong


def counted(inbound: int, wanted: Expectation, found: Observation) -> dict[str, int]:
    """Return the counts of the last line, see above."""
    statuses = Counter(status for made in found.changes.values() for _, status in made)
    verdicts = Counter(found.verdicts.values())
    return {
        "inbound": inbound,
        "opted_out": statuses["OPTED_OUT"],
        "opted_in": statuses["OPTED_IN"],
        "ignored": wanted.ignored,
        "dead_lettered": found.dead_letters.total(),
        "confirmations": sum(map(len, found.confirmations.values())),
        "sends_allowed": verdicts[VerdictKind.ALLOWED],
        "sends_suppressed": verdicts[VerdictKind.SUPPRESSED],
    }

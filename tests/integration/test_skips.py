"""Skips on a real Kafka and a real Redis: what nobody can read is passed over where an operator wrote so, and there."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from consumer import applier, reading
from consumer.committing import Commits
from consumer.domain.events import NO_RECORD, OptOutRequested, Skip, Source, digest_of
from consumer.kafka import inbox, topics
from consumer.kafka.inbox import Partition, Read
from consumer.settings import load
from consumer.skipping import finding
from consumer.skipping.finding import NotSkipped, in_ledger
from consumer.skipping.place import Places
from consumer.skipping.writing import write_skips
from tests.integration.test_dead_letters import configure
from tests.parts.system import Applying, Classifying, System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from consumer.settings import Settings
    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER = "+12025550143", "+12025550144"
POISON = b"a stranger's bytes"


@pytest.fixture
def system(
    kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[System]:
    """Two buckets, and the topic of skips."""
    monkeypatch.setattr(applier, "ASK_AGAIN", 0.05)
    monkeypatch.setattr(reading, "GAP_SECONDS", 0.3)
    monkeypatch.setattr(finding, "STANDS_SECONDS", 0.1)
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1, skips=1, requests=1)
        yield deployment


@pytest.fixture
def settings(system: System, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as a command in this process finds them."""
    for name in [name for name in os.environ if name.startswith("OPTOUT_") and not name.startswith("OPTOUT_TEST_")]:
        monkeypatch.delenv(name)
    for name, value in system.environment.items():
        if name.startswith("OPTOUT_"):
            monkeypatch.setenv(name, value)
    return load()


def until(member: Applying, condition: Callable[[], bool]) -> None:
    """Go round the applier's loop, and beside it, until it holds."""

    def holds() -> bool:
        member.apply(3)
        member.passage.look()
        return condition()

    wait_for("it is applied", holds)


@contextmanager
def skips_read_beside(member: Applying) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Have skips read only where the applier asks for them, as in a worker; yield what goes round its loop."""
    stop = threading.Event()
    beside = threading.Thread(target=member.passage.run, args=(stop,))
    beside.start()

    def applied_until(condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            member.apply(3)
            return condition()

        wait_for("it is applied", holds)

    try:
        yield applied_until
    finally:
        stop.set()
        beside.join()


def stands(member: Applying, bucket: int = 0) -> Callable[[], bool]:
    return lambda: f'optout_bucket_stopped{{bucket="{bucket}"}}' in member.ops.exposed()


def written(system: System, **fields: Any) -> Skip:
    """Return a skip of the first bucket's offset 0, but for these fields."""
    return Skip(
        **{
            "topic": system.topics["ledger"],
            "topic_id": system.ledger.topic_id,
            "partition": 0,
            "offset": 0,
            "end": 1,
            "digest": digest_of(POISON),
            "by": "a test",
            "reason": "a test",
            "recorded_at": 1_764_000_000_000,
            **fields,
        }
    )


def place(system: System, first: int, last: int | None = None, bucket: int = 0) -> Places:
    return Places(Partition(system.topics["ledger"], bucket), first, last)


def whole(system: System) -> bool:
    return system.metas("applied") == system.ends("ledger")


def lose_all(system: System) -> None:
    """Flush Redis, and have each owner notice."""
    system.flush_redis()
    system.append((HERE, "+12025550150", "START"), (THERE, "+12025550150", "START"))


def skip(settings: Settings, places: Places) -> None:
    """Skip these places as the command does."""
    write_skips(settings, in_ledger(settings, places).skips(by="a test", reason="a test"))


def transaction(system: System, *, commit: bool = False) -> None:
    """Write to the ledger as a stranger does, in a transaction."""
    stranger = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": f"{system.prefix}{time.time_ns()}"})
    stranger.init_transactions(10)
    stranger.begin_transaction()
    stranger.produce(system.topics["ledger"], system.line(HERE, OTHER, "STOP"), partition=0)
    stranger.flush(10)
    (stranger.commit_transaction if commit else stranger.abort_transaction)(10)


def test_unreadable_record_is_skipped_without_a_restart(system: System) -> None:
    """A running worker goes on behind what an operator skipped; each replay, `verify` and `history` do the same."""
    system.append((HERE, PATIENT, "STOP"))
    system.write("ledger", (0, POISON))
    system.append((HERE, PATIENT, "START"), (HERE, OTHER, "STOP"), (THERE, PATIENT, "STOP"))
    member = Applying(system, skips=True)
    until(member, stands(member))
    assert system.metas("applied") == {0: 1, 1: 1}
    done = system.run("skip", f"{system.topics['ledger']}:0:1", "--reason", "bytes of a load test", "--yes")
    assert done.returncode == 0, done.stderr
    assert digest_of(POISON) in done.stderr
    until(member, lambda: whole(system))
    found = {(HERE, OTHER), (THERE, PATIENT)}
    assert system.members() == found
    assert member.ops.value("optout_places_passed_over_total", stage="apply") == 1
    assert any("passed over what nobody can read" in event for event in member.said())
    member.publish()
    lose_all(system)
    until(member, lambda: whole(system))  # the same owner, and one that knows nothing yet
    member.die()
    lose_all(system)
    heir = Applying(system, skips=True)
    until(heir, lambda: whole(system))
    assert system.members() == found
    heir.die()
    compared = system.run("verify", "--json")
    assert [line for line in compared.stdout.splitlines() if "not vouched for" not in line] == []
    told = system.run("history", HERE, PATIENT)
    assert (told.returncode, "opted in" in told.stdout.splitlines()[0]) == (0, True), told.stderr


def test_only_where_the_bucket_stands(system: System, settings: Settings) -> None:
    """What can be read is never skipped, nor what was applied, nor what the bucket has not come to."""
    system.append((HERE, PATIENT, "STOP"), (HERE, OTHER, "STOP"))
    system.write("ledger", (0, POISON), (0, POISON))
    system.append((HERE, PATIENT, "START"))
    member = Applying(system, skips=True)
    until(member, stands(member))
    for places, why in (
        (place(system, 0), "is past this place"),
        (place(system, 1), "is past this place"),
        (place(system, 3), "has not come to this place"),
        (place(system, 2, 4), "the record at offset 4 .* can be read"),
        (place(system, 0, bucket=1), "nothing stands at offset 0"),
        (place(system, 0, bucket=7), "has 2 partitions"),
    ):
        with pytest.raises(NotSkipped) as refused:
            in_ledger(settings, places)
        assert re.search(why, str(refused.value))
    assert system.messages("skips") == []
    skip(settings, place(system, 2, 3))
    until(member, lambda: whole(system))
    member.die()


def test_bucket_that_is_read_is_not_skipped(system: System, settings: Settings) -> None:
    """A record that a worker of another version reads meanwhile, and only our tools cannot, is not skipped."""
    member = Applying(system, skips=True)
    until(member, lambda: set(system.metas("applied").values()) == {0})
    system.write("ledger", (0, POISON))
    moved = system.view().metas

    def read_by_another(*_: object) -> None:
        with system.redis() as client:
            client.hset(f"optout:{{0.{BUCKETS}}}:meta", "applied", "1")

    assert moved([0])[0] is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", read_by_another)
        with pytest.raises(NotSkipped, match="is past this place"):
            in_ledger(settings, place(system, 0))
    member.die()


def test_what_was_told_is_not_skipped_again(system: System, settings: Settings) -> None:
    """After a loss a bucket may stand in front of what another version told: that is skipped only on demand."""
    system.write("ledger", (0, POISON))
    member = Applying(system, skips=True)
    until(member, stands(member))
    assert not in_ledger(settings, place(system, 0)).told
    member.die()
    system.commit("apply", "ledger", {0: 1})
    assert in_ledger(settings, place(system, 0)).told
    name = f"{system.topics['ledger']}:0:0"
    refused = system.run("skip", name, "--reason", "a test", "--yes")
    assert (refused.returncode, system.messages("skips")) == (1, [])
    assert "another version could read it" in refused.stderr
    assert system.run("skip", name, "--reason", "a test", "--yes", "--told").returncode == 0


WRONG: tuple[dict[str, Any], ...] = (
    {"digest": digest_of(b"something else")},
    {"topic_id": "mT5b2fWqRkyK0p1V6dGz_w"},
    {"digest": NO_RECORD},
    {"end": 3},
    {"digest": "all"},
    {"partition": 7},
    {"topic": "no topic of ours"},
)


def test_wrong_skips_of_an_unreadable_record(system: System, settings: Settings) -> None:
    """A skip that does not name this ledger, this place and this record's digest lets nothing pass."""
    system.write("ledger", (0, POISON))
    write_skips(settings, [written(system, **fields) for fields in WRONG])
    member = Applying(system, skips=True)
    until(member, stands(member))
    system.append((HERE, PATIENT, "STOP"))
    for _ in range(3):
        member.apply(3)
        member.passage.look()
    assert system.metas("applied")[0] == 0
    listed = system.run("skip", "--list")
    assert listed.stdout.count("skipped nothing, for") == len(WRONG), listed.stderr
    member.die()


def test_readable_record_counts_whatever_is_written(system: System, settings: Settings) -> None:
    """Whoever can write skips cannot take a STOP away: a record that can be read counts, and the skip is named."""
    system.append((HERE, PATIENT, "STOP"))
    (line,) = [message.value() for message in system.messages("ledger")]
    write_skips(settings, [written(system, digest=digest_of(line)), written(system, digest=NO_RECORD, end=2)])
    system.write("skips", (0, b"no skip at all"))
    member = Applying(system, skips=True)
    until(member, lambda: whole(system))
    assert system.members() == {(HERE, PATIENT)}
    said = member.said()
    assert any("the record can be read, and counts" in event for event in said)
    assert member.ops.value("optout_void_skips_total") == 1
    listed = system.run("skip", "--list")
    assert listed.stdout.count("skipped nothing, for the record there can be read") == 2
    assert f"{system.topics['skips']} [0] 2: skips nothing: it cannot be read" in listed.stdout
    member.die()


def test_what_was_fetched_before_proves_no_gap(system: System, settings: Settings) -> None:
    """Where the client hands out a later record, a skip of "no record" lets nothing pass that is there after all."""
    system.append((HERE, PATIENT, "STOP"), (HERE, OTHER, "STOP"))
    write_skips(settings, [written(system, digest=NO_RECORD)])
    later = [message for message in system.messages("ledger") if message.offset() == 1]
    member = Applying(system, skips=True)
    member.applier.assigned([Partition(system.topics["ledger"], 0)])
    for _ in range(3):
        member.applier.step(Read(list(later)))
        member.passage.look()
    assert system.metas("applied")[0] == 0
    member.die()


@pytest.mark.parametrize("commit", [False, True], ids=["aborted", "committed"])
def test_gap_is_skipped(system: System, settings: Settings, *, commit: bool) -> None:
    """A stranger's transaction leaves places without a record: they are skipped as "none", in a replay at once."""
    system.append((HERE, PATIENT, "STOP"))
    transaction(system, commit=commit)
    gap = 2 if commit else 1
    member = Applying(system, skips=True)
    until(member, stands(member))  # also where nothing stands behind it
    system.append((HERE, PATIENT, "START"))
    with pytest.raises(NotSkipped, match="can be read"):
        in_ledger(settings, place(system, gap, 3))
    skip(settings, place(system, gap))
    until(member, lambda: whole(system))
    found = {(HERE, OTHER)} if commit else set()
    assert system.members() == found
    member.publish()
    lose_all(system)
    until(member, lambda: whole(system))
    assert system.members() == found
    assert sum("has no record at offset" in event for event in member.said()) == 1
    member.die()
    compared = system.run("verify", "--json")
    assert [line for line in compared.stdout.splitlines() if "not vouched for" not in line] == []


def test_unskipped_gap_ends_every_fold(system: System) -> None:
    """`verify` and `history` end in words at places without a record, also where nothing stands behind them."""
    system.append((HERE, PATIENT, "STOP"))
    transaction(system)
    member = Applying(system, skips=True)
    until(member, stands(member))
    member.die()
    compared = system.run("verify")
    assert (compared.returncode, "has no record at offset 1" in compared.stdout) == (1, True), compared.stderr
    told = system.run("history", HERE, PATIENT)
    assert (told.returncode, "has no record at offset 1" in told.stderr) == (1, True), told.stdout


def test_topic_that_loses_skips_is_named(system: System) -> None:
    """A topic of skips that does not keep them for ever is a sentence of `check-config`."""
    said = system.run("check-config").stderr
    assert f"{system.topics['skips']} has retention.ms=604800000: set -1" in said


def test_forged_opt_in_that_is_dated_ahead(system: System) -> None:
    """A START that an older ledger believes to be of another year is beaten by an opt-out of the same date."""
    ahead = time.time_ns() // 1_000_000 + 10 * 365 * 24 * 60 * 60 * 1000
    system.append((HERE, PATIENT, "STOP"))
    system.write("ledger", (0, system.line(HERE, PATIENT, "START", ahead)))
    system.append((HERE, PATIENT, "STOP"))
    member = Applying(system, skips=True)
    until(member, lambda: whole(system))
    assert system.members() == set()
    dates = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": "9223372036854775807"}
    for name, value in dates.items():
        configure(system, system.topics["requests"], name, value)
    request = OptOutRequested(
        request_id="forged-1", location_id=HERE, patient_number=PATIENT, source=Source.IMPORT, occurred_at=ahead
    )
    producer = Producer({"bootstrap.servers": system.bootstrap})
    producer.produce(system.topics["requests"], system.codec.encode(request), timestamp=ahead)
    assert producer.flush(10) == 0
    classifier = Classifying(system, system.topics["requests"])
    classifier.until(lambda: system.ends("ledger")[0] == 4)
    until(member, lambda: whole(system))
    assert system.members() == {(HERE, PATIENT)}
    member.die()
    classifier.die()


def test_opt_out_is_proposed_for_whom_the_key_names(system: System) -> None:
    """Whose an unreadable record is by its key is shown, masked, and `--opt-out` asks for that patient's opt-out."""
    producer = Producer({"bootstrap.servers": system.bootstrap})
    for key in (f"{HERE}:{PATIENT}", f"{THERE}:{PATIENT}", "no subscription"):
        producer.produce(system.topics["ledger"], POISON, key, partition=0)
        assert producer.flush(10) == 0
    member = Applying(system, skips=True)
    until(member, stands(member))
    name = f"{system.topics['ledger']}:0:0-2"
    shown = system.run("skip", name, "--reason", "a test", "--yes", "--opt-out")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.count("its key names ***43") == 1
    assert PATIENT[2:] not in shown.stdout + shown.stderr
    (request,) = [message.value() for message in system.messages("requests")]
    asked = system.codec.decode(OptOutRequested, request)
    assert (asked.location_id, asked.patient_number) == (HERE, PATIENT)
    listed = system.run("skip", "--list", "--json")
    assert listed.stdout.count('"problem": null') == 3
    member.die()


SMALL = {
    "OPTOUT_KAFKA_RECEIVE_MESSAGE_MAX_BYTES": "600000",
    "OPTOUT_KAFKA_FETCH_MAX_BYTES": "500000",
    "OPTOUT_KAFKA_FETCH_MESSAGE_MAX_BYTES": "400000",
    "OPTOUT_KAFKA_MESSAGE_MAX_BYTES": "400000",
}
"""A client for which a batch of some megabytes is what one of 150 MB is for one without settings."""
SMALL_CLIENT = {name.removeprefix("OPTOUT_KAFKA_").replace("_", ".").lower(): value for name, value in SMALL.items()}


def batch(system: System, role: str = "inbound", *values: bytes) -> None:
    """Write records into one batch that takes far more room unpacked than on its way; ten of nothing without values."""
    producer = Producer(
        {
            "bootstrap.servers": system.bootstrap,
            "compression.type": "zstd",
            "linger.ms": 1000,
            "batch.size": 10_000_000,
            "message.max.bytes": 10_000_000,
        }
    )
    for value in values or [bytes(200_000)] * 10:
        producer.produce(system.topics[role], value, partition=0)
    assert producer.flush(20) == 0


def test_batch_that_cannot_be_unpacked_is_skipped(system: System, settings: Settings) -> None:
    """A classifier goes on behind such a batch without a restart, and reads what a skip names too much of.

    Also what takes more room than a client's settings allow, and no more than its topics do.
    """
    system.make_topics(inbound=1, reviews=1, dead=1, confirmations=1, actions=1)
    worker = system.start_worker("--only", "classify", **SMALL)
    system.send([inbound(HERE, PATIENT, "STOP")])
    wait_for("it classifies", lambda: system.ends("ledger")[0] == 1)
    batch(system)
    system.send([inbound(HERE, OTHER, "STOP")])
    batch(system, "inbound", system.text(inbound(HERE, "+12025550146", "STOP", message_id="m" * 900_000)))
    batch(system)
    system.send([inbound(HERE, "+12025550145", "STOP")])
    wait_for("it stands", lambda: any("cannot be read from offset 1 on" in event for event in worker.events()))
    topic = system.topics["inbound"]
    refused = system.run("skip", f"{topic}:0:0", "--reason", "a test", "--yes", **SMALL)
    assert (refused.returncode, "can be read from offset 0 on" in refused.stderr) == (1, True), refused.stderr
    ids = topics.topic_ids(system.admin, [topic])
    write_skips(settings, [written(system, topic=topic, topic_id=ids[topic], offset=1, end=13, digest=NO_RECORD)])
    wait_for("the texts behind it count", lambda: system.ends("ledger")[0] == 3)
    done = system.run("skip", f"{topic}:0:13", "--reason", "a test", "--yes", **SMALL)
    assert (done.returncode, "10 texts in a batch" in done.stderr) == (0, True), done.stderr
    wait_for("and that behind the next one", lambda: system.ends("ledger")[0] == 4)
    wait_for("all is committed", lambda: system.committed("classify", "inbound")[0] == 24)
    assert worker.process.poll() is None
    assert sum("passed over what nobody can read" in event for event in worker.events()) == 2
    assert system.messages("dead") == []


def test_heir_passes_over_what_was_skipped(system: System, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skip counts in the topic that it names, and for whoever comes to its place before it is committed past."""
    monkeypatch.setattr(inbox, "TRY_AGAIN", 0.2)
    system.make_topics(inbound=1, reviews=1, dead=1)
    batch(system)
    system.send([inbound(HERE, PATIENT, "STOP")])
    topic = system.topics["inbound"]
    skipped = written(system, topic=topic, end=10, digest=NO_RECORD, recorded_at=time.time_ns() // 1_000_000)
    write_skips(settings, [replace(skipped, topic_id="mT5b2fWqRkyK0p1V6dGz_w")])

    def passes(member: Classifying) -> None:
        member.until(lambda: bool(member.inbox.blocked))

        def classified() -> bool:
            member.passage.look()
            return system.ends("ledger")[0] > 0

        member.until(classified)

    with monkeypatch.context() as patch:
        for method in ("send", "finish"):
            patch.setattr(Commits, method, lambda *_: None)
        dead = Classifying(system, properties=SMALL_CLIENT, skips=True)
        dead.until(lambda: bool(dead.inbox.blocked))
        for _ in range(3):
            dead.passage.look()
            dead.classify(3)
        assert system.ends("ledger")[0] == 0
        now, of_topic = time.time_ns() // 1_000_000, topics.topic_ids(system.admin, [topic])[topic]
        write_skips(settings, [replace(skipped, topic_id=of_topic, recorded_at=now)])
        passes(dead)
        dead.die()
    assert system.committed("classify", "inbound")[0] < 10
    heir = Classifying(system, properties=SMALL_CLIENT, skips=True)

    def all_classified() -> bool:
        heir.passage.look()
        return system.committed("classify", "inbound")[0] == 11

    heir.until(all_classified)
    heir.die()


def test_batch_behind_a_transactions_marker_is_skipped(system: System, settings: Settings) -> None:
    """The offset that the log names is the one to skip, also where a marker stands between it and the position."""
    system.make_topics(inbound=1, reviews=1, dead=1)
    upstream = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": f"{system.prefix}upstream"})
    upstream.init_transactions(10)
    upstream.begin_transaction()
    upstream.produce(system.topics["inbound"], system.text(inbound(HERE, PATIENT, "STOP")), partition=0)
    upstream.commit_transaction(10)
    batch(system)
    system.send([inbound(HERE, OTHER, "STOP")])
    topic = system.topics["inbound"]
    classifier = Classifying(system, properties=SMALL_CLIENT, skips=True)
    classifier.until(lambda: bool(classifier.inbox.blocked))
    assert [blocked.offset for blocked in classifier.inbox.blocked.values()] == [2]
    of_topic = topics.topic_ids(system.admin, [topic])[topic]
    write_skips(settings, [written(system, topic=topic, topic_id=of_topic, offset=2, end=12, digest=NO_RECORD)])

    def classified() -> bool:
        classifier.passage.look()
        return system.ends("ledger")[0] == 2

    classifier.until(classified)
    assert classifier.ops.value("optout_places_passed_over_total", stage="classify") == 10
    classifier.die()


def test_every_fold_passes_over_a_batch_that_cannot_be_unpacked(system: System) -> None:
    """In the ledger such a batch stops `verify` and `history` as it stops its bucket; skipped, all go on behind it."""
    system.make_topics(dead=1, confirmations=1, actions=1, reviews=1, inbound=1)
    system.append((HERE, PATIENT, "STOP"))
    batch(system, "ledger")
    system.append((HERE, OTHER, "STOP"), (HERE, PATIENT, "START"))
    worker = system.start_worker("--only", "apply", **SMALL)
    why = "cannot be read from offset 1 on"
    wait_for("it stands", lambda: any(why in event for event in worker.events()))
    told, compared = system.run("history", HERE, PATIENT, **SMALL), system.run("verify", **SMALL)
    assert (told.returncode, why in told.stderr) == (1, True), told.stderr
    assert (compared.returncode, why in compared.stdout) == (1, True), compared.stderr
    done = system.run("skip", f"{system.topics['ledger']}:0:1", "--reason", "a test", "--yes", **SMALL)
    assert (done.returncode, "10 records in a batch" in done.stderr) == (0, True), done.stderr
    wait_for("all is applied", lambda: whole(system))
    assert system.members() == {(HERE, OTHER)}
    compared = system.run("verify", "--origins", "--json", **SMALL)
    assert [line for line in compared.stdout.splitlines() if "vouched for" not in line and "text" not in line] == []
    told = system.run("history", HERE, PATIENT, **SMALL)
    assert (told.returncode, "opted in" in told.stdout.splitlines()[0]) == (0, True), told.stderr


def test_batch_behind_places_without_a_record(system: System, settings: Settings) -> None:
    """A bucket in front of such places is named with where it stands, and each skip counts without a restart."""
    transaction(system)
    batch(system, "ledger")
    system.append((HERE, PATIENT, "STOP"))
    member = Applying(system, properties=SMALL_CLIENT, skips=True)
    standing = "cannot be read from offset 2 on"
    with skips_read_beside(member) as applied_until:
        applied_until(lambda: any(standing in event for event in member.said()))
        (said,) = (event for event in member.said() if standing in event)
        assert said.endswith("bucket 0 stands at offset 0: a skip begins there")
        applied_until(lambda: said in member.ops.health.unready().get("apply", ()))
        write_skips(settings, [written(system, digest=NO_RECORD, end=2)])
        applied_until(lambda: system.metas("applied")[0] == 2)
        assert system.members() == set()
        write_skips(settings, [written(system, digest=NO_RECORD, offset=2, end=12)])
        applied_until(lambda: whole(system))
        assert system.members() == {(HERE, PATIENT)}
        applied_until(lambda: "apply" not in member.ops.health.unready())
    member.die()


def test_rest_of_a_batch_is_skipped(system: System, settings: Settings) -> None:
    """A bucket that a worker with more memory left within such a batch is named, and a skip of the rest counts."""
    batch(system, "ledger")
    system.append((HERE, PATIENT, "STOP"))
    first = Applying(system, skips=True)
    until(first, stands(first))
    write_skips(settings, [written(system, digest=digest_of(bytes(200_000)))])
    until(first, lambda: system.metas("applied")[0] == 1)
    first.die()
    member = Applying(system, properties=SMALL_CLIENT, skips=True)
    with skips_read_beside(member) as applied_until:
        applied_until(lambda: any("bucket 0 stands at offset 1:" in event for event in member.said()))
        write_skips(settings, [written(system, digest=NO_RECORD, offset=1, end=10)])
        applied_until(lambda: whole(system))
    assert system.members() == {(HERE, PATIENT)}
    member.die()

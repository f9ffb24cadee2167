"""`optout verify` on a real ledger and a real Redis: what was damaged by hand is found and named, and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import TopicPartition

from consumer.cli import run
from consumer.recovery.verify import AT_ONCE
from consumer.suppression.contents import Reading
from tests.parts.system import Applying, System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from consumer.suppression.contents import Contents
    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
STAYED_OUT, CAME_BACK, NEVER_OUT = "+12025550143", "+12025550144", "+12025550145"
KEYWORDS = [
    (HERE, STAYED_OUT, "STOP"),
    (HERE, CAME_BACK, "STOP"),
    (HERE, CAME_BACK, "START"),
    (HERE, NEVER_OUT, "START"),
    (THERE, STAYED_OUT, "STOP"),
]


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets in which all is applied, told and vouched for, and no worker."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1)
        deployment.append(*KEYWORDS)
        member = Applying(deployment)
        apply(deployment, member)
        wait_for("told", lambda: member.publish() and not any(deployment.metas("outbox").values()))
        member.die()
        vouch(deployment)
        yield deployment


def apply(system: System, member: Applying) -> None:
    """Apply all that is in the ledger."""

    def applied() -> bool:
        member.apply()
        return system.metas("applied") == system.ends("ledger")

    wait_for("applied", applied)


def vouch(system: System) -> None:
    """Vouch for both buckets, as a voucher would."""
    view, ends = system.view(), system.ends("ledger")
    server, metas = view.server(), view.metas(ends)
    done = view.vouch(server, server.time, {b: (meta.epoch, ends[b]) for b, meta in metas.items() if meta})
    assert list(done.values()) == ["OK"] * BUCKETS


Verify = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def verified(system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run the command in this process; return the differences that it lists."""
    for name, value in system.environment.items():
        if name.startswith("OPTOUT_"):
            monkeypatch.setenv(name, value)

    def verify(*arguments: str, code: int = 1) -> list[dict[str, Any]]:
        answer = run(["verify", "--json", "--numbers", *arguments])
        said = capsys.readouterr()
        assert (answer, "Traceback" in said.err) == (code, False), said.err
        return [json.loads(line) for line in said.out.splitlines()]

    return verify


def key(bucket: int, name: str) -> str:
    return f"optout:{{{bucket}.{BUCKETS}}}:{name}"


def unlisted(client: redis.Redis) -> None:
    client.srem(key(0, "locations"), HERE)


SET, STATE, META, OUTBOX = f"set:{HERE}", f"state:{HERE}", "meta", "outbox"
OUT, BACK, NEVER = (number[1:] for number in (STAYED_OUT, CAME_BACK, NEVER_OUT))

DAMAGES: dict[str, tuple[Callable[[redis.Redis], object], list[tuple[str, str | None]]]] = {
    "member removed": (lambda r: r.srem(key(0, SET), OUT), [("member missing", OUT)]),
    "set deleted": (lambda r: r.delete(key(0, SET)), [("member missing", OUT)]),
    "member added": (lambda r: r.sadd(key(0, SET), BACK), [("member too many", BACK)]),
    "stranger added": (lambda r: r.sadd(key(0, SET), "12025550199"), [("member too many", "12025550199")]),
    "record removed": (lambda r: r.hdel(key(0, STATE), NEVER), [("state missing", NEVER)]),
    "record of a stranger": (
        lambda r: r.hset(key(0, STATE), "12025550199", "I:0:1:1:START"),
        [("state too many", "12025550199")],
    ),
    "other version": (
        lambda r: r.hset(key(0, STATE), OUT, b"O:2" + cast("bytes", r.hget(key(0, STATE), OUT))[3:]),
        [("state differs", OUT)],
    ),
    "no record at all": (lambda r: r.hset(key(0, STATE), OUT, "nonsense"), [("state differs", OUT)]),
    "state deleted": (
        lambda r: r.delete(key(0, STATE)),
        [("state missing", OUT), ("state missing", BACK), ("state missing", NEVER), ("location", None)],
    ),
    "state of another epoch": (lambda r: r.hset(key(0, STATE), "epoch", "other"), [("location", None)]),
    "location not listed": (unlisted, [("location", None), ("count", None)]),
    "location of nobody": (lambda r: r.sadd(key(0, "locations"), "nowhere"), [("location", None), ("count", None)]),
    "set of another type": (
        lambda r: (r.delete(key(0, SET)), r.set(key(0, SET), "x")),
        [("member missing", OUT), ("key", None)],
    ),
    "count of members": (lambda r: r.hincrby(key(0, META), "members", 1), [("count", None)]),
    "count of records": (lambda r: r.hincrby(key(0, META), "states", -1), [("count", None)]),
    "count of changes": (lambda r: r.hincrby(key(0, META), "outbox", 1), [("count", None)]),
    "change of nobody": (
        lambda r: r.zadd(key(0, OUTBOX), {b"3:1:x": 3}),
        [("change too many", None), ("count", None)],
    ),
    "other change": (
        lambda r: (r.zadd(key(0, OUTBOX), {b"0:7:x": 0}), r.hincrby(key(0, META), "outbox", 1)),
        [("change differs", None)],
    ),
    "marker removed": (lambda r: r.hdel(key(0, META), "fresh"), [("bucket", None)]),
    "marker of another server": (lambda r: r.hset(key(0, META), "run", "other"), [("bucket", None)]),
    "half a meta": (lambda r: r.hdel(key(0, META), "applied"), [("bucket", None)]),
    "no meta": (lambda r: r.delete(key(0, META)), [("bucket", None)]),
    "another ledger": (lambda r: r.hset(key(0, META), "log", "other/group"), [("bucket", None)]),
    "more applied than there is": (lambda r: r.hset(key(0, META), "applied", 9), [("ledger", None)]),
}


def everything(client: redis.Redis) -> dict[bytes, bytes]:
    """Return all that Redis holds, byte for byte."""
    return {name: client.dump(name) or b"" for name in client.scan_iter()}


def test_each_damage_is_named(system: System, verified: Verify) -> None:
    """What is damaged by hand is named, and nothing beside it; nothing is found before and after, no byte moves."""
    failed = {}
    with system.redis() as client:
        whole = everything(client)
        assert verified(code=0) == []
        for name, (damage, expected) in DAMAGES.items():
            damage(client)
            damaged = everything(client)
            found = [(one["kind"], one["patient_number"] and one["patient_number"][1:]) for one in verified()]
            if found != expected:
                failed[name] = found
            assert everything(client) == damaged
            client.flushdb()
            for there, value in whole.items():
                client.restore(there, 0, value)
        assert not failed
        assert verified(code=0) == []
        assert everything(client) == whole


def test_change_that_is_neither_told_nor_waiting(system: System, verified: Verify) -> None:
    """A change that is not published has to wait in the outbox; how far it is published is asked of Kafka."""
    system.append((HERE, STAYED_OUT, "START"), (HERE, CAME_BACK, "STOP"))
    member = Applying(system)
    apply(system, member)
    assert verified(code=0) == []
    with system.redis() as client:
        client.zremrangebyscore(key(0, OUTBOX), 5, 5)
        client.hincrby(key(0, META), "outbox", -1)
        (found,) = verified()
        assert (found["kind"], found["what"]) == (
            "change missing",
            "the change at offset 5 is not published and not waiting",
        )
        assert member.publish()  # told up to there: what is no longer waiting is not missed
        client.hset(key(0, META), "published", 0)
        assert verified(code=0) == []
    member.die()


def test_what_moves_meanwhile_is_no_difference(
    system: System, verified: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is applied while a bucket is read, before or after it was seen, is looked at again and found to be right."""
    member = Applying(system)
    apply(system, member)
    reads: list[int] = []
    read = Reading.contents

    def read_between(reading: Reading, bucket: int) -> Contents:
        system.append((HERE, STAYED_OUT, "START"), (HERE, NEVER_OUT, "STOP"), (THERE, f"+1305555{bucket:04}", "STOP"))
        apply(system, member)
        found = read(reading, bucket)
        system.append((HERE, STAYED_OUT, "STOP"), (HERE, CAME_BACK, "END"), (THERE, STAYED_OUT, "START"))
        apply(system, member)
        reads.append(bucket)
        return found

    monkeypatch.setattr(Reading, "contents", read_between)
    assert verified(code=0) == []
    assert reads == [0, 1]
    member.die()


def test_bucket_that_is_begun_anew_meanwhile(system: System, verified: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is begun anew while it is read is read again; one that always is cannot be compared."""
    times = [1]
    read = Reading.contents

    def begin_anew(reading: Reading, bucket: int) -> Contents:
        if times[0]:
            times[0] -= 1
            system.view().begin(bucket, damaged="")
        return read(reading, bucket)

    monkeypatch.setattr(Reading, "contents", begin_anew)
    (found,) = verified("--bucket", "0")
    assert found["what"] == "not vouched for on this server: its locations answer UNKNOWN"
    times[0] = 100
    assert verified("--bucket", "0", code=2) == []


def test_nothing_is_found_while_texts_flow(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    """On a healthy system under load nothing differs, however often it is compared."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as system:
        system.create_topics()
        workers = [system.start_worker(), system.start_worker()]
        wait_for("vouched for", lambda: min(system.metas("fresh").values()) > 0, 60)
        now = time.time_ns() // 1_000_000
        moved = 0
        for turn in range(3):
            system.send(
                inbound(
                    (HERE, THERE)[number % 2],
                    f"+1202555{number % 500:04d}",
                    ("STOP", "START")[number // 500 % 2],
                    received_at=now - 60_000 + 4000 * turn + number,
                )
                for number in range(4000)
            )
            before = system.metas("applied")
            done = system.run("verify")
            assert (done.returncode, done.stdout.splitlines()) == (
                0,
                ["2 buckets compared: Redis holds what the ledger says"],
            )
            moved += system.metas("applied") != before
        assert moved
        assert all(worker.stop() == 0 for worker in workers)


def test_all_that_is_suspect_is_looked_at(system: System, verified: Verify) -> None:
    """However much is lost at once, each patient is named: suspects are looked at again some at a time, all of them."""
    several = 2 * AT_ONCE + 7
    system.append(*((HERE, f"+1202555{number:04d}", "STOP") for number in range(1000, 1000 + several)))
    apply(system, member := Applying(system))
    member.die()
    with system.redis() as client:
        client.delete(key(0, SET))
    missing = [one for one in verified("--bucket", "0", "--limit", "5000") if one["kind"] == "member missing"]
    assert len({one["patient_number"] for one in missing}) == len(missing) == several + 1


def test_an_opt_in_that_is_dated_ahead_is_listed(system: System, verified: Verify) -> None:
    """In a ledger that keeps its writers' times one that beats the STOPs to come is named while it is in force."""
    now = time.time_ns() // 1_000_000
    day = 24 * 60 * 60 * 1000
    system.write("ledger", (0, system.line(HERE, STAYED_OUT, "START", now + day)))
    system.write("ledger", (0, system.line(HERE, NEVER_OUT, "STOP", now + day)))
    apply(system, member := Applying(system))
    wait_for("told", lambda: member.publish() and not any(system.metas("outbox").values()))
    member.die()
    vouch(system)
    (found,) = verified()
    assert (found["kind"], found["patient_number"]) == ("opt-in dated ahead", STAYED_OUT)
    assert "the one at offset 4 is of a later time than its record" in found["what"]
    system.write("ledger", (0, system.line(HERE, STAYED_OUT, "STOP", now + day)))
    apply(system, member := Applying(system))
    member.die()
    vouch(system)
    assert [one for one in verified(code=0) if one["kind"] == "opt-in dated ahead"] == []


def test_ledger_that_is_not_whole(system: System, verified: Verify) -> None:
    """A record that cannot be read, and a ledger whose beginning is gone, are named; the other bucket is compared."""
    system.write("ledger", (0, b"nonsense"))
    (found,) = verified()
    assert (found["bucket"], found["kind"]) == (0, "ledger")
    assert "stops at offset 4: it cannot be read" in found["what"]
    place = TopicPartition(system.topics["ledger"], 1, 1)
    system.admin.delete_records([place])[place].result(10)
    (found,) = verified("--bucket", "1")
    assert (found["bucket"], found["kind"]) == (1, "ledger")
    assert "begins at offset 1" in found["what"]


def test_in_words(system: System) -> None:
    """A person reads a line for each difference, without whole numbers unless asked for, then how many there are."""
    with system.redis() as client:
        client.srem(key(0, SET), OUT)
        client.sadd(key(0, SET), BACK, NEVER)
    done = system.run("verify", "--limit", "2")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"[0] member missing {HERE} …0143: opted out by the ledger, and not in the set: reads ALLOWED",
        f"[0] member too many {HERE} …0144: in the set, and not opted out by the ledger: reads SUPPRESSED",
        "2 buckets compared: 1 x member missing, 2 x member too many (2 shown)",
    ]
    assert done.stderr == ""
    done = system.run("verify", "--bucket", "1")
    assert (done.returncode, done.stdout) == (0, "1 bucket compared: Redis holds what the ledger says\n")


def test_what_cannot_be_compared(system: System) -> None:
    """Where Redis or Kafka is away, or there is no such bucket, that is one sentence and exit 2."""
    done = system.run("verify", OPTOUT_REDIS_URL="redis://127.0.0.1:1/0")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("optout: not compared: Redis does not answer (ConnectionError): is it running")
    done = system.run("verify", "--bucket", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "optout: --bucket 2: there are 2 buckets, 0 to 1\n"

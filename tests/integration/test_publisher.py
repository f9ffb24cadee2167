"""Each change is told once, whoever dies and whatever moves between two steps: on a real Kafka and a real Redis."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from structlog.testing import CapturingLogger

from consumer.kafka.committed import Kept, Partition
from consumer.kafka.producers import NotPublished, PlainOutbox, TransactionalOutbox
from consumer.ledger import LedgerFault
from consumer.published import Published
from consumer.publisher import LEARN_SECONDS, MOST_CHANGES
from consumer.suppression.scripts import ViewUnavailable
from tests.parts import oracle
from tests.parts.system import Applying, System, Watched, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from consumer.kafka.inbox import Inbox
    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENTS = [f"+12025550{number:03d}" for number in range(100, 104)]
SEND, COMMIT = "send_offsets_to_transaction", "commit_transaction"
NO_CALLS: Mapping[str, Callable[[], object]] = {}


class Killed(Exception):
    """The process ends here."""


def kill() -> None:
    raise Killed


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Do it the first time only."""
    acts = [act]

    def do() -> None:
        if acts:
            acts.pop()()

    return do


def at_call(number: int, act: Callable[[], object]) -> Callable[[], None]:
    """Do it at that call alone, counted from 1."""
    calls = itertools.count(1)

    def do() -> None:
        if next(calls) == number:
            act()

    return do


class Interrupted(TransactionalOutbox):
    """The real outbox, with the hands of a test between the calls of its producer."""

    before: Mapping[str, Callable[[], object]] = NO_CALLS
    after: Mapping[str, Callable[[], object]] = NO_CALLS

    def _ready(self) -> Any:
        return Watched(super()._ready(), before=self.before, after=self.after)


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets, and where their changes are told."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=2)
        yield deployment


@pytest.fixture
def replicated(replicated_kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """The same on several brokers."""
    with System(replicated_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=2)
        yield deployment


def turn(*members: Applying, until: Callable[[], bool]) -> None:
    """Let the members poll in turn until it holds."""

    def holds() -> bool:
        for member in members:
            member.apply()
        return until()

    wait_for("the members have turned", holds)


def owner(system: System, **parts: Any) -> Applying:
    """Return a member that owns both buckets and has applied the whole ledger."""
    member = Applying(system, **parts)
    turn(member, until=lambda: member.owned == {0, 1} and system.metas("applied") == system.ends("ledger"))
    return member


def publish(*members: Applying) -> None:
    """Let the members poll and publish in turn until nothing is left to tell."""

    def nothing_left() -> bool:
        for member in members:
            member.apply()
        done = [member.publish() and not member.publisher._noticed for member in members]
        return all(done)

    wait_for("published", nothing_left)


def each_once(system: System, count: int) -> None:
    """Assert that a read_committed reader meets each change that the ledger makes, once, and there are so many."""
    expected = oracle.changes_of(system.read("ledger"))
    assert len(expected) == count
    wait_for("told", lambda: len(system.messages("changed")) >= count)
    told = oracle.told(system.read("changed"))
    assert not oracle.twice(told)
    assert told == expected
    ends = system.ends("ledger")
    for stage in ("apply", "apply.kept"):
        wait_for("committed", lambda stage=stage: system.committed(stage, "ledger") == ends)  # type: ignore[misc]


def keywords(system: System, *words: str) -> None:
    """Write the words, of one patient after the other, to the ledger of both buckets."""
    system.append(
        *((place, PATIENTS[i % len(PATIENTS)], word) for i, word in enumerate(words) for place in (HERE, THERE))
    )


def test_changes_are_told_with_their_offset(system: System) -> None:
    """What changed is told, what changed nothing is not, the offset covers both, and then nothing waits any more."""
    keywords(system, "STOP", "START", "quit", "STOP")
    system.append(*((place, PATIENTS[0], word) for place in (HERE, THERE) for word in ("stop", "START")))
    member = owner(system)
    assert set(system.metas("outbox").values()) == {4}
    publish(member)
    each_once(system, 8)
    assert set(system.metas("outbox").values()) == {0}
    keywords(system, "START")  # changes nothing: he is opted in again
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
    assert system.metas("outbox") == {0: 0, 1: 0}
    member.die()
    heir = owner(system)  # one that takes over commits how far the buckets are, changes or not
    publish(heir)
    each_once(system, 8)
    heir.die()


def test_a_client_that_does_not_come_back_is_replaced(system: System) -> None:
    """Where the client's call does not return though its time is over, another one tells the change, once."""
    keywords(system, "STOP")
    released = threading.Event()
    outbox = Interrupted(system.client(), timeout=2.0)
    outbox.before = {"send_offsets_to_transaction": once(lambda: released.wait(60))}
    member = owner(system, outbox=outbox)
    began = time.monotonic()
    assert not member.publish()
    assert time.monotonic() - began < 20
    publish(member)
    each_once(system, 2)
    released.set()  # it does return at last, into a transaction that is not its own any more
    keywords(system, "START")
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(member)
    each_once(system, 4)
    member.die()


def test_a_client_that_was_fenced_in_mid_transaction_is_replaced(replicated: System) -> None:
    """A client whose transactional id another one took over fails in whatever call it is in; its heir tells each once.

    Out of `flush` comes a SystemError where more than one broker refuses it: the client writes its lines into our log
    behind the fatal error. Hence so many partitions.
    """
    system = replicated
    system.make_topics(confirmations=6)
    outbox = Interrupted(system.client(), timeout=4.0)
    member = owner(system, outbox=outbox, confirms=True)

    def take_over() -> None:
        assert outbox._producer is not None
        outbox._producer.flush(4.0)
        Producer(outbox._config).init_transactions(10)

    patients = [f"+1202555{number:04d}" for number in range(100, 140)]
    moments = ({"produce": at_call(41, take_over)}, {SEND: at_call(1, take_over)}, {COMMIT: at_call(1, take_over)})
    for number, before in enumerate(moments, 1):
        outbox.before = before
        system.append(*((HERE, patient, ("STOP", "START")[number % 2 - 1]) for patient in patients))
        turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
        assert not member.publish()
        publish(member)
        each_once(system, number * len(patients))
    member.die()


def test_heir_tells_what_the_dead_one_applied(system: System) -> None:
    """What a worker applied and did not live to tell is told by the next owner, once."""
    keywords(system, "STOP", "STOP")
    owner(system).die()
    assert system.metas("outbox") == {0: 2, 1: 2}
    heir = owner(system)
    publish(heir)
    each_once(system, 4)
    heir.die()


def test_lost_outbox_is_noticed(system: System) -> None:
    """A bucket whose outbox was lost tells nothing of what it held until it has been begun anew; then each once."""
    keywords(system, "STOP", "STOP")
    member = owner(system)
    with system.redis() as client:
        assert client.delete(*(f"optout:{{{bucket}.{BUCKETS}}}:outbox" for bucket in range(BUCKETS))) == BUCKETS
    publish(member)
    assert set(system.committed("apply", "ledger").values()) == {-1001}
    keywords(system, "START")  # the bucket is found damaged and read again from its beginning
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(member)
    each_once(system, 6)
    member.die()


@pytest.mark.parametrize("found", [b"0:1:\x00nothing", b"nobody wrote this"])
def test_waiting_change_that_cannot_be_read(system: System, found: bytes) -> None:
    """An outbox in which something else stands stops nobody: its bucket is replayed, and each change is told once."""
    keywords(system, "STOP", "STOP")
    member = owner(system)
    with system.redis() as client:
        outbox = f"optout:{{0.{BUCKETS}}}:outbox"
        assert client.zremrangebyscore(outbox, 0, 0) == 1
        client.zadd(outbox, {found: 0})
    member.publish()
    assert "Redis lost some keys of these buckets, or another system writes under their names" in member.said()
    keywords(system, "START")  # the next record is refused, and the bucket read again from its beginning
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(member)
    each_once(system, 6)
    member.die()


def test_what_is_applied_after_the_taking_is_told_later(system: System) -> None:
    """The offset that goes with what was taken never covers a change that came a moment later."""
    keywords(system, "STOP")

    def go_on() -> None:
        keywords(system, "START")
        turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))

    view = Watched(system.view(), after={"take": once(go_on)})
    member = owner(system, view=view)
    assert member.publish()
    wait_for("committed", lambda: set(system.committed("apply", "ledger").values()) == {1})
    publish(member)
    each_once(system, 4)
    member.die()


@pytest.mark.parametrize("moment", ["send_offsets_to_transaction", "commit_transaction"])
def test_killed_before_the_commit(system: System, moment: str) -> None:
    """A worker that dies before it commits has told nothing and trimmed nothing; the next owner tells each once."""
    keywords(system, "STOP", "STOP")
    outbox = Interrupted(system.client(), timeout=2.0)
    outbox.before = {moment: kill}
    dead = owner(system, outbox=outbox)
    with pytest.raises(Killed):
        dead.publish()
    dead.die()
    assert system.metas("outbox") == {0: 2, 1: 2}
    heir = owner(system)
    publish(heir)
    each_once(system, 4)
    heir.die()


def test_killed_after_the_commit(system: System) -> None:
    """A worker that dies after it committed leaves its outbox untrimmed, and nobody tells from it again."""
    keywords(system, "STOP", "STOP")
    dead = owner(system, view=Watched(system.view(), before={"trim": kill}))
    with pytest.raises(Killed):
        dead.publish()
    dead.die()
    assert system.metas("outbox") == {0: 2, 1: 2}
    heir = owner(system)
    publish(heir)
    keywords(system, "START")
    turn(heir, until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(heir)
    each_once(system, 6)
    assert system.metas("outbox") == {0: 0, 1: 0}
    heir.die()


def test_view_that_is_lost_after_the_commit(system: System) -> None:
    """Where Redis goes away between commit and trimming, what was told stays in the outbox and is not told again.

    Nor by an heir from whom it goes away at the same point: what it knows to be told is not in its outbox's hands.
    """
    keywords(system, "STOP", "STOP")
    sent: list[str] = []

    def go_away() -> None:
        if sent:
            sent.clear()
            raise ViewUnavailable("away")

    def away() -> None:
        raise ViewUnavailable("away")

    outbox = Watched(TransactionalOutbox(system.client()), after={"publish": once(lambda: sent.append("sent"))})
    member = owner(system, view=Watched(system.view(), before={"trim": go_away}), outbox=outbox)
    assert not member.publish()
    assert system.metas("outbox") == {0: 2, 1: 2}
    member.die()
    keywords(system, "START")
    heir = owner(system, view=Watched(system.view(), before={"trim": once(away)}))
    assert system.metas("outbox") == {0: 3, 1: 3}  # applied before it knew how far they were told
    assert not heir.publish()
    wait_for("told", lambda: heir.publish() and not any(system.metas("outbox").values()))
    each_once(system, 6)
    heir.die()


@pytest.mark.parametrize("who", ["the same worker", "another worker"])
def test_replay_tells_nothing_again(system: System, who: str) -> None:
    """After a flush the whole ledger is applied again, and of what was told nothing is told again."""
    keywords(system, "STOP", "STOP", "STOP")
    member = owner(system)
    publish(member)
    each_once(system, 6)
    if who == "another worker":  # it applies everything before it knows what was told
        member.die()
        system.flush_redis()
        member = owner(system)
        assert system.metas("outbox") == {0: 3, 1: 3}
    else:
        system.flush_redis()
        keywords(system, "STOP")  # the flush is noticed with the next record
        turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
        assert system.metas("outbox") == {0: 0, 1: 0}
    publish(member)
    keywords(system, "START", "START")
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(member)
    each_once(system, 10)
    assert system.metas("outbox") == {0: 0, 1: 0}
    member.die()


def test_what_was_told_is_forgotten_again(system: System) -> None:
    """A view that is put back to when a change still waited does not keep it: it was told, and the owner knows."""
    member = owner(system)
    keywords(system, "STOP", "START")
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))
    with system.redis() as client:
        copies = {key: client.dump(key) for key in client.keys("optout:*")}
        publish(member)
        assert set(system.metas("outbox").values()) == {0}
        for key, copy in copies.items():
            assert copy is not None
            client.restore(key, 0, copy, replace=True)
    assert max(system.metas("outbox").values()) > 0
    member.publisher._swept = -1e9  # half a minute later
    publish(member)
    assert set(system.metas("outbox").values()) == {0}
    assert system.metas("published") == system.ends("ledger")
    assert not oracle.twice(oracle.told(system.read("changed")))


def test_taken_under_an_earlier_assignment_is_not_sent(system: System) -> None:
    """What was taken before a bucket went to another worker and came back is never sent: it was told meanwhile."""
    keywords(system, "STOP", "STOP")
    sent: list[str] = []

    def away_and_back() -> None:
        guest = Applying(system)
        turn(member, guest, until=lambda: len(member.owned) == len(guest.owned) == 1)
        publish(guest)
        guest.die()
        turn(member, until=lambda: member.owned == {0, 1})
        sent.clear()

    view = Watched(system.view(), after={"take": once(away_and_back)})
    outbox = Watched(TransactionalOutbox(system.client()), before={"publish": lambda: sent.append("sent")})
    member = owner(system, view=view, outbox=outbox)
    assert member.publish()
    assert not sent
    wait_for("the guest's are told", lambda: len(system.read("changed")) == 2)
    publish(member)
    each_once(system, 4)
    member.die()


def test_rebalance_in_the_middle_of_sending(system: System) -> None:
    """A transaction that was begun under one assignment and would commit under the next is refused and aborted."""
    keywords(system, "STOP", "STOP")
    guests: list[Applying] = []

    def join() -> None:
        guests.append(Applying(system))
        turn(member, guests[0], until=lambda: len(member.owned) == len(guests[0].owned) == 1)

    outbox = Interrupted(system.client())
    outbox.before = {"send_offsets_to_transaction": once(join)}
    member = owner(system, outbox=outbox)
    assert not member.publish()
    assert set(system.committed("apply", "ledger").values()) == {-1001}
    publish(member, *guests)
    each_once(system, 4)
    guests[0].die()
    member.die()


def test_zombie_is_refused(system: System) -> None:
    """A worker that slept while another took over sends what it took under its old assignment: refused, told once."""
    keywords(system, "STOP", "STOP")
    heirs: list[Applying] = []

    def sleep() -> None:
        heirs.append(owner(system))
        publish(heirs[0])

    slow = {"session.timeout.ms": 1500, "max.poll.interval.ms": 1500}
    zombie = owner(system, view=Watched(system.view(), after={"take": once(sleep)}), properties=slow)
    token = zombie.inbox.token
    assert not zombie.publish()
    assert zombie.inbox.token is token  # it has noticed nothing: only the broker could refuse
    refused = [call.kwargs["reason"] for call in zombie.logger.calls if "reason" in call.kwargs]
    assert refused[0].startswith(("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"))
    each_once(system, 4)
    keywords(system, "START")
    turn(heirs[0], until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(heirs[0])
    each_once(system, 6)
    turn(zombie, heirs[0], until=lambda: len(zombie.owned) == len(heirs[0].owned) == 1)  # it wakes up and takes part
    keywords(system, "STOPALL")
    turn(zombie, heirs[0], until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(zombie, heirs[0])
    each_once(system, 8)
    zombie.die()
    heirs[0].die()


@pytest.mark.parametrize("ends", ["it commits", "it dies"])
def test_pending_transaction_is_waited_for(system: System, ends: str) -> None:
    """While a former owner's transaction is undecided the next one tells nothing; then each change is told once."""
    keywords(system, "STOP", "STOP")
    heirs: list[Applying] = []

    def take_over() -> None:
        former.inbox.close()
        heirs.append(owner(system))
        assert not heirs[0].publish()
        assert system.metas("outbox") == {0: 2, 1: 2}
        if ends == "it dies":
            raise Killed

    outbox = Interrupted(system.client(), timeout=5.0)
    outbox.before = {"commit_transaction": take_over}
    former = owner(system, outbox=outbox)
    try:
        former.publish()
    except Killed:
        assert ends == "it dies"
    publish(heirs[0])
    each_once(system, 4)
    heirs[0].die()


def test_pending_transactions_hold_up_their_own_buckets(system: System) -> None:
    """However many buckets wait for a transaction to end, it is known at once how far those behind them were told."""
    pending = [Partition(system.topics["ledger"], bucket) for bucket in range(BUCKETS)]
    behind = Partition(system.topics["changed"], 0)  # any partition will do
    group, note = f"{system.group}.apply", system.ledger.topic_id
    published = Published(system.client(), group, note, system.topics["changed"], cast("Any", CapturingLogger()))
    stuck = Producer(system.client() | {"transactional.id": f"{system.prefix}stuck"})
    stuck.init_transactions(10)
    stuck.begin_transaction()
    stuck.send_offsets_to_transaction(
        [TopicPartition(place.topic, place.number, 1, note) for place in pending], published._copy.metadata, 10
    )
    told, unknown = published.ask(dict.fromkeys([*pending, behind], 0), LEARN_SECONDS)
    assert set(unknown) == set(pending)
    assert {place: found.offset for place, found in told.items()} == {behind: 0}
    stuck.abort_transaction(10)
    published.close()


def test_no_bucket_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each of 64 buckets is waited for in turn, the time for all is over with that of the first of them."""
    places = [Partition("ledger", bucket) for bucket in range(64)]
    published = Published({"bootstrap.servers": "127.0.0.1:1"}, "g", "note", "told", cast("Any", CapturingLogger()))
    asked: list[Partition] = []

    def told(partition: Partition, *_rest: object) -> NoReturn:
        asked.append(partition)
        time.sleep(0.2)
        raise TimeoutError

    monkeypatch.setattr(published._copy, "all_committed", lambda some, _timeout: dict.fromkeys(some))
    monkeypatch.setattr(published._at_once, "both", lambda some, _timeout: dict.fromkeys(some, Kept(None, None)))
    monkeypatch.setattr(published, "_told", told)
    assert published.ask(dict.fromkeys(places, 0), 0.1)[1].keys() == {places[0]}
    assert asked == [places[0]]
    published.close()


@pytest.mark.parametrize("committed", [True, False])
def test_commit_in_doubt_is_looked_up(system: System, committed: bool) -> None:  # noqa: FBT001
    """A commit of which nobody knows whether it happened is settled at once and looked up: each change is told once."""
    keywords(system, "STOP", "STOP")

    def time_out() -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", retriable=False))

    outbox = Interrupted(system.client(), timeout=40.0)  # the broker would not end it before this test has failed
    hook = {"commit_transaction": once(time_out)}
    outbox.after, outbox.before = (hook, NO_CALLS) if committed else (NO_CALLS, hook)
    member = owner(system, outbox=outbox)
    assert not member.publish()
    assert system.metas("outbox") == {0: 2, 1: 2}
    publish(member)
    each_once(system, 4)
    member.die()


def test_more_waits_than_is_taken(system: System) -> None:
    """Where more waits than one transaction takes, its offset goes as far as the last one taken; the rest follows."""
    waiting = MOST_CHANGES + 7
    system.append(*((HERE, f"+1202555{number:04d}", "STOP") for number in range(waiting)))
    member = owner(system)
    assert member.publish()
    wait_for("committed", lambda: system.committed("apply", "ledger")[0] > 0)
    told = system.committed("apply", "ledger")[0]
    assert told <= MOST_CHANGES
    wait_for("some are told", lambda: len(system.messages("changed")) == told)
    member.die()
    heir = owner(system)
    publish(heir)
    each_once(system, waiting)
    heir.die()


def test_offset_below_what_was_told_is_a_fault(system: System) -> None:
    """A committed offset below what is known to be told was reset by somebody: the worker ends in words."""
    keywords(system, "STOP", "STOP", "STOP")
    member = owner(system)
    publish(member)
    each_once(system, 6)
    member.die()
    system.commit_both("apply", "ledger", {1: 1})
    heir = owner(system)
    with pytest.raises(
        LedgerFault,
        match=r"ledger \[1\] is 1, but changes up to 3 were told .*`optout offsets set apply --to 1:3`",
    ):
        publish(heir)
    heir.die()


def test_change_is_told_again_in_the_same_words(system: System) -> None:
    """Told again, with Redis and the group's offsets lost, a change is the same record to the byte."""
    keywords(system, "STOP", "START", "Cancel")
    keywords(system, "START", "YES", "START")

    def tell(in_all: int) -> list[tuple[bytes | str | None, bytes | str | None]]:
        member = owner(system)
        publish(member)
        member.die()
        wait_for("told", lambda: len(system.read("changed")) >= in_all)
        return [(message.key(), message.value()) for message in system.messages("changed")]

    first = tell(8)
    assert len(first) == 8
    system.flush_redis()
    system.expire("apply")
    time.sleep(0.01)  # no clock of the second telling may show
    assert sorted(tell(16), key=str) == sorted(first * 2, key=str)
    told = oracle.told(system.read("changed"))
    assert sorted(set(told)) == sorted(oracle.changes_of(system.read("ledger")))
    assert len({record.record["event_id"] for record in system.read("changed")}) == 8


def plain(system: System, before: Mapping[str, Callable[[], object]] = NO_CALLS) -> Applying:
    """Return an owner that publishes without transactions; something may happen before its offsets are committed."""
    member = Applying(system)
    outbox = PlainOutbox(system.client(), cast("Inbox", Watched(member.inbox, before=before)))
    member.outbox = member.publisher._outbox = outbox
    turn(member, until=lambda: member.owned == {0, 1} and system.metas("applied") == system.ends("ledger"))
    return member


def test_without_transactions_none_is_lost(system: System) -> None:
    """Where the broker has no transactions, a crash before the offset tells changes again under the same ids, all."""
    keywords(system, "STOP", "STOP")
    dead = plain(system, {"commit": kill, "commit_beside": kill})
    with pytest.raises(Killed):
        dead.publish()
    dead.die()
    assert system.metas("outbox") == {0: 2, 1: 2}
    heir = plain(system)
    publish(heir)
    keywords(system, "START")
    turn(heir, until=lambda: system.metas("applied") == system.ends("ledger"))
    publish(heir)
    told = [written.record for written in system.read("changed")]
    assert sorted(set(oracle.told(system.read("changed")))) == sorted(oracle.changes_of(system.read("ledger")))
    assert len(told) == 10
    assert len({record["event_id"] for record in told}) == 6
    assert system.committed("apply", "ledger") == system.ends("ledger")
    heir.die()


def test_without_transactions_nothing_is_committed_for_others(system: System) -> None:
    """Without transactions, offsets that were taken under an earlier assignment are not committed under a later one."""
    keywords(system, "STOP", "STOP")
    member = plain(system)
    token, offsets = member.inbox.token, dict.fromkeys(member.inbox.owned, 1)
    guest = Applying(system)
    turn(member, guest, until=lambda: len(member.owned) == len(guest.owned) == 1)
    with pytest.raises(NotPublished):
        member.outbox.publish([], offsets, token)
    assert set(system.committed("apply", "ledger").values()) == {-1001}
    guest.die()
    member.die()

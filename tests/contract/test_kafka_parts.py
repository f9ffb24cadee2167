"""What the cluster in memory does as a real one does: all that the machine of `tests/machine` stands on.

Each promise is held twice, by the product's own classes on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer.kafka.committed import KeptOffsets, copy_of
from consumer.kafka.inbox import NO_TOKEN, Inbox, Partition, Token
from consumer.kafka.producers import NotPublished, Outgoing
from tests.parts.fake_kafka import Broker, Clock, installed
from tests.parts.kafka_kits import (
    SLOW,
    Member,
    MemoryKit,
    RealKit,
    closed,
    committed,
    ledger_producer,
    member,
    offsets,
    outbox,
    read_all,
    reader,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from consumer.kafka.producers import Publishing
    from tests.parts.kafka import Kafka
    from tests.parts.kafka_kits import Kit


def no_answer() -> None:
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", retriable=False))


def killed() -> None:
    raise ConnectionAbortedError


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Do it the first time only."""
    acts = [act]

    def do() -> None:
        if acts:
            acts.pop()()

    return do


def publish(kit: Kit, sending: Publishing, one: Member, offsets: dict[Partition, int], *records: Outgoing) -> None:
    """Publish as soon as the member has heard of the newest generation."""

    def done() -> bool:
        try:
            sending.publish(records, offsets, one.inbox.token)
        except NotPublished:
            return False
        return True

    kit.until(done, one)


class Promises:
    """Held on both."""

    def test_rebalance_renews_every_token(self, kit: Kit) -> None:
        """Each generation calls every member back and renews its token; who gives a partition up hears it first."""
        topic = kit.topic(2)
        first = member(kit, topic)
        assert first.inbox.token is NO_TOKEN
        kit.until(lambda: first.owned == {0, 1}, first)
        alone = first.inbox.token
        second = member(kit, topic)
        kit.until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
        assert first.owned != second.owned
        assert first.heard.revoked_ == [(sorted(second.owned), False)]
        assert first.inbox.token is not alone
        assert first.inbox.token.partitions < alone.partitions
        second.inbox.close()
        kit.until(lambda: first.owned == {0, 1}, first)
        assert [numbers for numbers in first.heard.assigned_ if numbers] == [
            [0, 1],
            sorted(second.heard.revoked_[-1][0]),
        ]
        closed(first)

    def test_earlier_token_is_refused(self, kit: Kit) -> None:
        """What goes out under the token of an earlier generation is aborted, and the same outbox can go on."""
        topic, told = kit.topic(2), kit.topic(1)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0, 1}, first)
        earlier = first.inbox.token
        second = member(kit, topic)
        kit.until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
        (mine,) = first.inbox.owned
        sending = outbox(kit)
        with pytest.raises(NotPublished):
            sending.publish([Outgoing(told, b"k", b"refused")], {mine: 5}, earlier)
        sending.settle()
        assert committed(kit, topic, mine) is None
        publish(kit, sending, first, {mine: 1}, Outgoing(told, b"k", b"taken"))
        kit.until(lambda: committed(kit, topic, mine) == 1)
        assert read_all(kit, told, 1) == [b"taken"]
        sending.close()
        closed(second, first)

    def test_ownership_is_never_checked(self, kit: Kit) -> None:
        """Offsets of somebody else's partition are taken from any member of the newest generation."""
        topic = kit.topic(2)
        first = member(kit, topic)
        second = member(kit, topic)
        kit.until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
        (theirs,) = second.inbox.owned
        sending = outbox(kit)
        publish(kit, sending, first, {theirs: 3})
        kit.until(lambda: committed(kit, topic, theirs) == 3)
        assert first.inbox.commit({theirs: 4})
        kit.until(lambda: committed(kit, topic, theirs) == 4)
        sending.close()
        closed(first, second)

    def test_stranger_is_taken_for_everybody(self, kit: Kit) -> None:
        """The metadata of a consumer that never joined is accepted for every partition."""
        topic = kit.topic(1)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0}, first)
        stranger = reader(kit, topic)
        (mine,) = first.inbox.owned
        sending = outbox(kit)
        token = Token(frozenset({mine}), stranger._consumer.consumer_group_metadata(), first.inbox.copy.metadata)
        sending.publish([], {mine: 2}, token)
        kit.until(lambda: committed(kit, topic, mine) == 2)
        stranger.close()
        sending.close()
        closed(first)

    def test_zombie_commits_nothing(self, kit: Kit) -> None:
        """A member that was taken for dead commits nothing, in a transaction or without, until it hears and rejoins."""
        topic, told = kit.topic(2), kit.topic(1)
        zombie = member(kit, topic, **SLOW)
        kit.until(lambda: zombie.owned == {0, 1}, zombie)
        heir = member(kit, topic)
        kit.until(lambda: len(zombie.owned) == len(heir.owned) == 1, zombie, heir)
        token, (mine,) = zombie.inbox.token, zombie.inbox.owned
        kit.take_for_dead(zombie, heir)
        sending = outbox(kit)
        with pytest.raises(NotPublished):
            sending.publish([Outgoing(told, b"k", b"zombie's")], {mine: 5}, token)
        assert not zombie.inbox.commit({mine: 5})
        assert zombie.inbox.token is token
        assert committed(kit, topic, mine) is None
        assert read_all(kit, told, 1) == []
        kit.until(lambda: len(zombie.owned) == len(heir.owned) == 1, zombie, heir)
        assert ([mine.number], True) in zombie.heard.revoked_
        assert zombie.inbox.token is not token
        sending.close()
        closed(heir, zombie)

    def test_pending_transaction_holds_everything_back(self, kit: Kit) -> None:
        """While a transaction is open its offsets cannot be asked for, and its topic can be read up to it alone."""
        topic, told = kit.topic(2), kit.topic(1)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        first, stranger = member(kit, topic), member(kit, told)
        kit.until(lambda: first.owned == {0, 1} and stranger.owned == {0}, first, stranger)
        sending = outbox(kit)
        seen: list[object] = []

        def look() -> None:
            kit.append(told, 0, b"behind it")
            seen.extend((committed(kit, topic, zero), committed(kit, topic, one), read_all(kit, told, 1)))
            asked = offsets(kit, topic)
            seen.extend((asked.stable_ends([Partition(told, 0)]), asked.ends([Partition(told, 0)])))
            kit.until(lambda: Partition(told, 0) in stranger.ends, stranger)
            seen.append([stranger.inbox.known_end(Partition(told, 0), at) for at in (0, 1)])
            seen.append(asked.classified([zero, one], {topic: ""}))  # what is asked at once waits for nobody

        sending.before = {"commit_transaction": once(look)}
        sending.publish([Outgoing(told, b"k", b"told")], {zero: 7}, first.inbox.token)
        ends = [{Partition(told, 0): 0}, {Partition(told, 0): 2}]
        assert seen == ["pending", None, [], *ends, [0, 2], {zero: None, one: None}]
        kit.until(lambda: committed(kit, topic, zero) == 7)
        kit.until(lambda: offsets(kit, topic).stable_ends([Partition(told, 0)]) == {Partition(told, 0): 3})
        assert read_all(kit, told, 1) == [b"told", b"behind it"]
        sending.close()
        closed(first)

    @pytest.mark.parametrize("happened", [True, False])
    def test_doubt_is_settled_under_the_same_id(self, kit: Kit, happened: bool) -> None:  # noqa: FBT001
        """How a commit without an answer ended is known as soon as the same outbox has settled."""
        topic, told = kit.topic(1), kit.topic(1)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0}, first)
        (mine,) = first.inbox.owned
        sending = outbox(kit, timeout=40.0)
        hook = {"commit_transaction": once(no_answer)}
        sending.before, sending.after = ({}, hook) if happened else (hook, {})
        with pytest.raises(NotPublished):
            sending.publish([Outgoing(told, b"k", b"doubtful")], {mine: 1}, first.inbox.token)
        if not happened:
            assert committed(kit, topic, mine) == "pending"
        sending.settle()
        kit.until(lambda: committed(kit, topic, mine) == (1 if happened else None))
        assert read_all(kit, told, 1) == ([b"doubtful"] if happened else [])
        sending.publish([Outgoing(told, b"k", b"the next")], {mine: 2}, first.inbox.token)
        kit.until(lambda: committed(kit, topic, mine) == 2)
        sending.close()
        closed(first)

    def test_transaction_of_the_dead_times_out(self, kit: Kit) -> None:
        """What a dead worker left open is aborted in the end; then its offsets can be asked for, and it is fenced."""
        topic, told = kit.topic(1), kit.topic(1)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0}, first)
        (mine,) = first.inbox.owned
        dead = outbox(kit, timeout=1.0)
        dead.before = {"commit_transaction": once(killed)}
        with pytest.raises(ConnectionAbortedError):
            dead.publish([Outgoing(told, b"k", b"never told")], {mine: 1}, first.inbox.token)
        assert committed(kit, topic, mine) == "pending"
        kit.let_transactions_time_out(lambda: committed(kit, topic, mine) is None)
        assert read_all(kit, told, 1) == []
        with pytest.raises(KafkaException) as fenced:
            dead._ready().commit_transaction(10.0)
        assert fenced.value.args[0].fatal()
        dead._producer = None
        closed(first)

    def test_ends_lie_behind_control_records(self, kit: Kit) -> None:
        """A reader is told the end of a partition, behind the marker of the last transaction, and again after news."""
        topic = kit.topic(1)
        first = member(kit, topic)
        kit.until(lambda: first.ends == {Partition(topic, 0): 0}, first)
        sending = outbox(kit)
        token = first.inbox.token
        nothing = Token(frozenset(), token.group_metadata, token.copy_metadata)
        sending.publish([Outgoing(topic, b"k", b"one")], {}, nothing)
        kit.until(lambda: first.ends == {Partition(topic, 0): 2}, first)
        assert first.values == [(0, b"one")]
        kit.append(topic, 0, b"two")
        kit.until(lambda: first.ends == {Partition(topic, 0): 3}, first)
        assert first.values == [(0, b"one"), (0, b"two")]
        sending.close()
        closed(first)

    def test_seek_reads_again(self, kit: Kit) -> None:
        """After a seek reading goes on at that offset, back or ahead, and the end is told anew."""
        topic = kit.topic(1)
        zero = Partition(topic, 0)
        kit.append(topic, 0, b"0", b"1", b"2")
        first = member(kit, topic)
        kit.until(lambda: first.ends == {zero: 3}, first)
        for offset, found in ((1, [b"1", b"2"]), (2, [b"2"]), (0, [b"0", b"1", b"2"])):
            first.values, first.ends = [], {}
            kit.until(lambda offset=offset: first.inbox.seek(zero, offset), first)  # type: ignore[misc]
            kit.until(lambda: first.ends == {zero: 3}, first)
            assert [value for _, value in first.values] == found
        closed(first)

    def test_pause_keeps_the_membership(self, kit: Kit) -> None:
        """A paused partition brings nothing and stays ours; after that reading goes on where it was."""
        topic = kit.topic(2)
        first = member(kit, topic)
        kit.until(lambda: len(first.ends) == 2, first)
        token = first.inbox.token
        first.inbox.pause([Partition(topic, 0)])
        kit.append(topic, 0, b"waits")
        kit.append(topic, 1, b"comes")
        kit.until(lambda: first.ends[Partition(topic, 1)] == 1, first)
        assert first.values == [(1, b"comes")]
        assert first.inbox.token is token
        first.inbox.resume([Partition(topic, 0)])
        kit.until(lambda: first.ends[Partition(topic, 0)] == 1, first)
        assert first.values == [(1, b"comes"), (0, b"waits")]
        closed(first)

    def test_note_stays_until_the_next_commit(self, kit: Kit) -> None:
        """A note comes back with its offset, to members and strangers; the next commit replaces it, with none too."""
        topic = kit.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0, 1}, first)
        asked = offsets(kit, topic)
        assert first.inbox.committed([zero, one], 5.0) == {zero: None, one: None}
        assert asked.classified([zero, one], {topic: "ours"}) == {zero: None, one: None}
        assert first.inbox.commit({zero: 3}, {topic: "ours"})
        assert first.inbox.commit({one: 4}, {topic: "another's"})
        assert first.inbox.committed([zero, one], 5.0) == {zero: (3, "ours"), one: (4, "another's")}
        assert asked.classified([zero, one], {topic: "ours"}) == {zero: 3, one: None}
        assert first.inbox.commit({one: 4})
        assert asked.classified([zero, one], {topic: "ours"}) == {zero: 3, one: None}
        closed(first)

    def test_commit_that_nobody_waits_for(self, kit: Kit) -> None:
        """Commits without waiting are heard of by a read, with what Kafka took; a stranger's is refused there."""
        topic = kit.topic(2)
        first = member(kit, topic, **SLOW)
        kit.until(lambda: first.owned == {0, 1}, first)
        zero, one = (Partition(topic, number) for number in range(2))
        heard: list[Mapping[Partition, int | None]] = []
        first.inbox.commit_soon({zero: 2, one: 4}, {topic: "ours"}, heard.append)
        first.inbox.commit_soon({zero: 3}, {topic: "ours"}, heard.append)
        assert heard == []
        kit.until(lambda: len(heard) == 2, first)
        assert heard == [{zero: 2, one: 4}, {zero: 3}]
        assert first.inbox.committed([zero, one], 5.0) == {zero: (3, "ours"), one: (4, "ours")}
        assert first.inbox.commit({zero: 5})
        assert len(heard) == 2
        second = member(kit, topic)
        kit.take_for_dead(first, second)
        first.inbox.commit_soon({zero: 7}, {}, heard.append)
        kit.until(lambda: len(heard) == 3, first, second)
        assert heard[2] == {zero: None}
        assert committed(kit, topic, zero) == 5
        closed(first, second)

    def test_copy_is_written_beside_the_group(self, kit: Kit) -> None:
        """Whoever never joined writes the copy of a group that has members, until somebody joins the copy itself."""
        topic = kit.topic(2)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0, 1}, first)
        asked = KeptOffsets(kit.config(), topic)
        assert first.inbox.commit({zero: 3}, {topic: "ours"})
        assert first.inbox.copy.write({zero: 2, one: 1}, {topic: "ours"})
        assert asked.both([zero, one], 5.0) == {zero: ((3, "ours"), (2, "ours")), one: (None, (1, "ours"))}
        intruder = Member(Inbox(kit.config() | {"group.id": copy_of(topic)}, lambda *_: None), topic)
        kit.until(lambda: intruder.owned == {0, 1}, intruder)
        assert not first.inbox.copy.write({zero: 4}, {topic: "ours"})
        sending = outbox(kit)
        sending.publish([], {one: 5}, first.inbox.token, "ours")
        kit.until(lambda: asked.both([one], 5.0) == {one: ((5, "ours"), (5, "ours"))})
        sending.close()
        asked.close()
        closed(first, intruder)

    def test_bounds_and_partitions_are_live(self, kit: Kit) -> None:
        """Starts, ends and the list of partitions are those of now; a new partition comes to a member in its turn."""
        topic = kit.topic(1)
        zero, one = Partition(topic, 0), Partition(topic, 1)
        asked = offsets(kit, topic)
        first = member(kit, topic)
        kit.until(lambda: first.owned == {0}, first)
        beside = reader(kit, topic)
        assert not beside.ever_held(topic, 5.0)
        assert (asked.partitions([topic]), asked.ends([zero]), asked.starts([zero])) == ([zero], {zero: 0}, {zero: 0})
        kit.append(topic, 0, b"0", b"1")
        assert (asked.ends([zero]), asked.starts([zero])) == ({zero: 2}, {zero: 0})
        assert beside.ever_held(topic, 5.0)
        beside.close()
        kept = KeptOffsets(kit.config(), topic)
        assert kept.firsts([zero], 5.0) == {zero: 0}
        kept.close()
        kit.until(lambda: first.inbox.known_end(zero, 0) == 2, first)
        assert first.inbox.known_end(zero, 2) == 2
        kit.add_partition(topic, 2)
        kit.until(lambda: sorted(asked.partitions([topic])) == [zero, one])
        kit.until(lambda: first.owned == {0, 1}, first)
        closed(first)

    def test_what_is_flushed_is_there(self, kit: Kit) -> None:
        """What a producer flushed stands in the log, in its order, and a key always leads to the same partition."""
        topic = kit.topic(3)
        writing = ledger_producer(kit)
        for number in range(6):
            writing.write(Outgoing(topic, b"key", b"%d" % number))
        writing.write(Outgoing(topic, b"key", b"placed", partition=1))
        assert writing.flush(10.0)
        assert writing.waiting() == 0
        found = read_all(kit, topic, 3)
        assert sorted(value or b"" for value in found) == [b"%d" % number for number in range(6)] + [b"placed"]
        assert [value for value in found if value != b"placed"] == [b"%d" % number for number in range(6)]


class TestInMemory(Promises):
    @pytest.fixture
    def kit(self) -> Iterator[Kit]:
        broker = Broker(Clock())
        with installed(broker):
            yield MemoryKit(broker)


class TestOnARealCluster(Promises):
    @pytest.fixture
    def kit(self, kafka: Kafka, topic_prefix: str) -> Kit:
        return RealKit(kafka, topic_prefix)

"""Somebody else in our consumer groups: what they commit stands for nothing, on a real Kafka with a real member."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer import classifier as classifier_module
from consumer.kafka.committed import CommittedReader, KeptOffsets, Partition
from consumer.kafka.errors import KafkaGone
from consumer.kafka.members import members
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.keeper import Keeper
from consumer.ledger import LedgerFault
from consumer.strangers import Strangers, client_id
from tests.integration.test_publisher import (
    HERE,
    PATIENTS,
    Interrupted,
    each_once,
    keywords,
    owner,
    plain,
    publish,
    system,
    turn,
)
from tests.parts.system import Applying, Classifying, Ops, Watched, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.testing import CapturingLogger

    from tests.parts.system import System

__all__ = ["system"]


def joining(system: System, stage: str, role: str, **properties: Any) -> Consumer:
    """Join a stage's group as another program does whose assignor fits, under the client library's own client id."""
    consumer = Consumer(
        system.client(**properties)
        | {
            "group.id": f"{system.group}.{stage}",
            "partition.assignment.strategy": "cooperative-sticky",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([system.topics[role]])
    return consumer


def stranger(system: System, stage: str, role: str, **properties: Any) -> Consumer:
    """Join a stage's group as another program does; return it when it owns every partition."""
    consumer = joining(system, stage, role, **properties)
    everything = len(system.ends(role))

    def owns() -> bool:
        consumer.poll(0.1)
        return len(consumer.assignment()) == everything

    wait_for("the stranger owns everything", owns)
    return consumer


def take(system: System, stage: str, role: str) -> None:
    """Let a stranger join, commit the end of everything, and leave."""
    consumer = stranger(system, stage, role)
    ends = [TopicPartition(system.topics[role], number, end) for number, end in system.ends(role).items()]
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()
    assert system.committed(stage, role) == system.ends(role)


def both(system: System, stage: str, role: str) -> dict[int, list[tuple[int, str] | None]]:
    """Return what a group and its copy hold of each partition."""
    kept = KeptOffsets(system.client(), f"{system.group}.{stage}")
    try:
        found = kept.both([Partition(system.topics[role], number) for number in system.ends(role)], 10.0)
    finally:
        kept.close()
    return {partition.number: [one and tuple(one) for one in pair] for partition, pair in found.items()}  # type: ignore[misc]


def stands(system: System, stage: str, role: str) -> bool:
    """Whether both hold the end of everything in our name."""
    note = system.note(stage, role)
    return both(system, stage, role) == {number: [(end, note)] * 2 for number, end in system.ends(role).items()}


def wait_until_told(system: System) -> None:
    """Wait until both hold the end of the ledger: a group's coordinator is told last that a transaction is over."""
    wait_for("everything is told", lambda: stands(system, "apply", "ledger"))


def stands_in_group(system: System) -> bool:
    """Whether the classifiers' group holds the end of everything in our name."""
    note, ends = system.note("classify", "inbound"), system.ends("inbound")
    return {number: pair[0] for number, pair in both(system, "classify", "inbound").items()} == {
        number: (end, note) for number, end in ends.items()
    }


def keeper(system: System, classifying: Classifying) -> Keeper:
    kept = KeptOffsets(system.client(), f"{system.group}.classify")
    return Keeper(classifying.classifier, classifying.inbox.copy, kept, cast("Any", classifying.logger))


def test_texts_that_a_stranger_took(system: System) -> None:
    """A STOP that another program took out of our group is not vouched for, and is classified when that one is gone."""
    system.make_topics(inbound=1)
    text = Partition(system.topics["inbound"], 0)
    system.write("inbound", (0, system.text(inbound(HERE, PATIENTS[0], "hello"))))
    first = Classifying(system)
    keeping = keeper(system, first)
    first.until(lambda: system.committed("classify", "inbound") == {0: 1})
    keeping.keep()
    first.die()
    system.write("inbound", (0, system.text(inbound(HERE, PATIENTS[0], "STOP"))))
    take(system, "classify", "inbound")
    note = system.note("classify", "inbound")
    asked = Offsets(system.admin, keeping._kept)
    assert asked.classified([text], {text.topic: note}) == {text: 1}
    heir = Classifying(system)
    heir.until(lambda: both(system, "classify", "inbound")[0][0] == (2, note))
    assert [line.record["keyword"] for line in system.read("ledger")] == ["STOP"]
    assert asked.classified([text], {text.topic: note}) == {text: 2}
    heir.die()


def test_what_was_overwritten_is_written_again(system: System) -> None:
    """Where nothing moves, too, owners write again what a stranger overwrote in the group and in its copy."""
    system.make_topics(inbound=1)
    member = Classifying(system)
    keeping = keeper(system, member)
    member.until(lambda: system.committed("classify", "inbound") == {0: 0})
    keeping.keep()
    assert stands(system, "classify", "inbound")
    assert member.inbox.commit({Partition(system.topics["inbound"], 0): 0})  # as any member may, without a note
    system.commit("classify.kept", "inbound", {0: 0}, note="")
    assert [one[1] for one in both(system, "classify", "inbound")[0] if one] == ["", ""]
    keeping._looked = -1e9  # ten seconds later
    keeping.keep()
    member.until(lambda: stands(system, "classify", "inbound"))
    assert any("somebody else commits" in str(call.args[0]) for call in member.logger.calls)
    member.die()


def silent(group: str) -> CommittedReader:
    """Return a reader of a group whose coordinator is away."""
    return CommittedReader({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, group, waits_for_transactions=False)


@pytest.mark.parametrize("side", ["_group", "_copy"])
def test_one_of_the_two_is_enough_where_it_is_ours(system: System, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody says what the group holds, or its copy, the other is enough for the time; to begin, the group is.

    What the other says may be lower. Then texts are read again, which changes nothing, and no age looks newer.
    """
    system.make_topics(inbound=1)
    text = Partition(system.topics["inbound"], 0)
    note = system.note("classify", "inbound")
    words, now = {1: "STOP", 2: "START", 3: "STOP"}, time.time_ns() // 1_000_000
    texts = (inbound(HERE, PATIENTS[0], word, received_at=now - 1000 * (3 - at)) for at, word in words.items())
    system.write("inbound", *((0, system.text(one)) for one in texts))
    first = Classifying(system)
    first.until(lambda: system.committed("classify", "inbound") == {0: 3})
    first.die()
    system.commit("classify.kept", "inbound", {0: 3})
    answering = "classify" if side == "_copy" else "classify.kept"
    system.commit(answering, "inbound", {0: 1})
    monkeypatch.setattr(classifier_module, "ASKED_WITHIN", 2.0)
    heir = Classifying(system)
    group = f"{system.group}.classify" if side == "_group" else f"{system.group}.classify.kept"
    setattr(heir.classifier._kept, side, silent(group))
    asked = Offsets(system.admin, heir.classifier._kept, timeout=1.0)
    assert asked.classified([text], {text.topic: note}) == {text: 1}
    with pytest.raises(OffsetsUnavailable, match=rf"{group}: "):
        asked.classified([text], {text.topic: "of another topic"})
    if side == "_group":
        with pytest.raises(KafkaGone, match="the offsets to begin at cannot be read"):
            heir.until(lambda: bool(heir.inbox.owned))
        heir.die()
        return
    heir.until(lambda: system.committed("classify", "inbound") == {0: 3})
    assert [line.record["keyword"] for line in system.read("ledger")] == ["STOP", "START", "STOP", "START", "STOP"]
    heir.die()
    applying = owner(system)
    publish(applying)
    each_once(system, 3)
    applying.die()


def told_so_far(system: System, *words: str) -> None:
    """Have words told by a worker that then dies."""
    keywords(system, *words)
    member = owner(system)
    publish(member)
    member.die()
    wait_until_told(system)


@pytest.mark.parametrize("flushed", [False, True])
def test_changes_behind_a_stranger_are_told(system: System, flushed: bool) -> None:  # noqa: FBT001
    """What another program commits in the appliers' group skips no change and repeats none, with Redis lost or not."""
    told_so_far(system, "STOP")
    keywords(system, "START", "STOP")
    take(system, "apply", "ledger")
    if flushed:
        system.flush_redis()
    heir = owner(system)
    publish(heir)
    each_once(system, 6)
    wait_for("in both", lambda: stands(system, "apply", "ledger"))
    heir.die()


def test_stranger_where_there_are_no_transactions(system: System) -> None:
    """Without transactions, too, what another program commits in the appliers' group skips no change, repeats none."""
    keywords(system, "STOP")
    first = plain(system)
    publish(first)
    first.die()
    wait_until_told(system)
    keywords(system, "START", "STOP")
    take(system, "apply", "ledger")
    heir = plain(system)
    publish(heir)
    each_once(system, 6)
    wait_for("in both", lambda: stands(system, "apply", "ledger"))
    heir.die()


def test_stranger_in_the_copy_moves_nothing(system: System) -> None:
    """An offset without our note in the copy proves nothing: what the group says in our name counts."""
    told_so_far(system, "STOP")
    keywords(system, "START", "STOP")
    system.commit("apply.kept", "ledger", system.ends("ledger"), note="")
    heir = owner(system)
    publish(heir)
    each_once(system, 6)
    wait_until_told(system)
    heir.die()


def new_protocol(system: System, group: str, member: Applying) -> Consumer:
    """Join a group with the protocol of KIP-848 while its member goes on; return it when it owns something."""
    console = Consumer(
        {
            "bootstrap.servers": system.bootstrap,
            "group.id": group,
            "group.protocol": "consumer",
            "client.id": "console-consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    console.subscribe([system.topics["ledger"]])

    def owns() -> bool:
        member.apply()
        console.poll(0.1)
        return bool(console.assignment())

    wait_for("the stranger owns something", owns)
    return console


@pytest.mark.parametrize("stage", ["apply", "apply.kept"])
def test_member_of_the_new_protocol(system: System, stage: str) -> None:
    """A stranger of the new protocol (KIP-848), in the group or its copy, is named, skips no change, repeats none."""
    keywords(system, "STOP")
    member = owner(system)
    publish(member)
    keywords(system, "START", "STOP")
    console = new_protocol(system, f"{system.group}.{stage}", member)
    assert member.publish()  # what is still ours is told meanwhile
    found = members(system.client(), [f"{system.group}.{stage}"], 5.0)
    console.commit(
        offsets=[TopicPartition(place.topic, place.partition, 0) for place in console.assignment()], asynchronous=False
    )
    console.close()
    assert "console-consumer" in {one.client_id for one in found}
    turn(member, until=lambda: member.owned == {0, 1} and system.metas("applied") == system.ends("ledger"))
    member.publisher._looked = -1e9  # ten seconds later
    publish(member)
    each_once(system, 6)
    wait_until_told(system)
    member.die()


def test_worker_that_was_replaced_fails_with_its_copy_pending(system: System) -> None:
    """Who was replaced between the two groups is refused by the second, and nobody learns anything in between."""
    keywords(system, "STOP")
    heirs: list[Any] = []
    sent: list[int] = []

    def take_over() -> None:
        sent.append(1)
        if len(sent) == 2:
            former.inbox.close()
            heirs.append(owner(system))
            heirs[0].publish()

    outbox = Interrupted(system.client())
    former = owner(system, outbox=outbox)
    publish(former)
    keywords(system, "START", "STOP")
    turn(former, until=lambda: system.metas("applied") == system.ends("ledger"))
    outbox.before = {"send_offsets_to_transaction": take_over}
    former.publish()
    outbox.before = {}
    publish(heirs[0])
    each_once(system, 6)
    heirs[0].die()


@pytest.mark.parametrize("flushed", [False, True])
def test_upgrade_adopts_the_offset_once(system: System, flushed: bool) -> None:  # noqa: FBT001
    """Where there is no copy yet the group's offset of the version before is adopted; a stranger's later is not."""
    told_so_far(system, "STOP", "STOP")
    system.expire("apply")
    system.commit("apply", "ledger", {0: 2, 1: 2}, note="")
    if flushed:
        system.flush_redis()
    else:  # who only looks adopts nothing, and does not say so
        looked = system.run("check-config")
        assert "is adopted" not in looked.stdout + looked.stderr
    first = owner(system)
    publish(first)
    assert any("is adopted" in event for event in first.said())
    wait_until_told(system)
    first.die()
    keywords(system, "START")
    take(system, "apply", "ledger")
    heir = owner(system)
    publish(heir)
    assert not any("is adopted" in event for event in heir.said())
    each_once(system, 6)
    heir.die()


def test_offset_from_before_the_first_worker_is_not_adopted(system: System) -> None:
    """What a stranger commits before any change was told is not taken for the version before's: all are told."""
    keywords(system, "STOP")
    take(system, "apply", "ledger")
    first = owner(system)
    publish(first)
    each_once(system, 2)
    assert any("no change was ever told" in event for event in first.said())
    wait_until_told(system)
    first.die()


def test_bucket_that_a_stranger_holds_while_others_are_told(system: System) -> None:
    """What a stranger committed of a bucket that it held from before the first worker is never adopted: all are told.

    Also where changes of other buckets were told meanwhile, so that there is a version before by all that one can see.
    """
    keywords(system, "STOP")
    console = stranger(system, "apply", "ledger")
    console.commit(
        offsets=[TopicPartition(system.topics["ledger"], number, 1) for number in (0, 1)], asynchronous=False
    )
    keywords(system, "START")
    first = Applying(system)

    def shared() -> bool:
        first.apply()
        console.poll(0.1)
        return len(first.owned) == len(console.assignment()) == 1

    wait_for("each owns one", shared)
    publish(first)
    wait_for("the others are told", lambda: len(system.messages("changed")) == 2)
    console.close()
    turn(first, until=lambda: first.owned == {0, 1} and system.metas("applied") == system.ends("ledger"))
    publish(first)
    each_once(system, 4)
    wait_until_told(system)
    first.die()


def test_version_before_may_run_again(system: System) -> None:
    """After going back to the version before, which knows no copy, and forward again, each change is told once."""
    told_so_far(system, "STOP", "STOP")
    system.commit("apply.kept", "ledger", {0: 1, 1: 1})  # the last one was told by the version before
    system.commit("apply", "ledger", {0: 2, 1: 2}, note="")
    keywords(system, "START")
    member = owner(system)
    publish(member)
    each_once(system, 6)
    member.die()


@pytest.mark.parametrize("offset", [0, 1, 99])
def test_what_cannot_be_is_not_adopted(system: System, offset: int) -> None:
    """An offset below what was told or behind the ledger's end is nobody's: the worker ends, and names the command."""
    told_so_far(system, "STOP", "STOP")
    system.expire("apply")
    system.commit("apply", "ledger", {0: offset, 1: 2}, note="")
    heir = owner(system)
    with pytest.raises(LedgerFault, match=r"ledger \[0\] were told is not known: .*`optout offsets set apply --to 0:"):
        publish(heir)
    heir.die()


def test_what_stands_is_written_again_each_hour(system: System) -> None:
    """What is committed never expires while a worker runs, also where nothing moves."""
    told_so_far(system, "STOP")
    sent: list[str] = []
    outbox = Watched(Interrupted(system.client()), before={"publish": lambda: sent.append("sent")})
    member = owner(system, outbox=outbox)
    publish(member)
    member.publisher._looked = -1e9
    publish(member)
    sent.clear()
    member.publisher._looked = -1e9
    publish(member)
    assert not sent  # everything stands in both
    member.publisher._looked = member.publisher._written = -1e9  # an hour later
    publish(member)
    assert sent == ["sent"]
    each_once(system, 2)
    member.die()


def looks(
    system: System, stage: str, ops: Ops, logger: CapturingLogger
) -> tuple[CommittedReader, Callable[[], list[tuple[str, str]]]]:
    """Return who is named by one look after the other, as group and client id, and what is to be closed."""
    group = f"{system.group}.{stage}"
    reader = CommittedReader(system.client(), group, waits_for_transactions=False)
    known_by_note = reader if stage == "classify" else None
    looking = Strangers(system.client(), group, None, known_by_note, ops.metrics, cast("Any", logger))

    def named() -> list[tuple[str, str]]:
        logger.calls.clear()
        looking.look()
        return [(call.kwargs["group"], call.kwargs["client_id"]) for call in logger.calls]

    return reader, named


def test_strangers_are_named(system: System) -> None:
    """Whoever is in a group and is none of ours is named with client id and host; workers of before are not."""
    system.make_topics(inbound=1)
    member = Classifying(system)  # with the client id of the version before
    member.until(lambda: system.committed("classify", "inbound") == {0: 0})
    ops, group = Ops(member.logger), f"{system.group}.classify"
    looking, named = looks(system, "classify", ops, member.logger)
    assert named() == []
    member.die()
    ours = stranger(system, "classify", "inbound", **{"client.id": client_id("theirs")})
    assert named() == []
    ours.close()
    console = stranger(system, "classify", "inbound", **{"client.id": "console-consumer"})
    copy = stranger(system, "classify.kept", "inbound", **{"client.id": client_id(None)})
    assert named() == [(group, "console-consumer"), (f"{group}.kept", "sms-optout")]
    assert member.logger.calls[0].kwargs["host"].endswith("127.0.0.1")
    assert ops.value("optout_group_strangers", group=group) == 1
    assert named() == []  # once
    for consumer in (console, copy):
        consumer.close()
    wait_for("both have left", lambda: not members(system.client(), [group, f"{group}.kept"], 5.0))
    assert named() == []
    assert ops.value("optout_group_strangers", group=group) == 0
    looking.close()


def test_default_client_is_told_from_the_version_before(system: System) -> None:
    """Whoever has the client library's own id and commits without a note is named, and a worker of before never is."""
    system.make_topics(inbound=2)
    before = Classifying(system)
    before.until(lambda: system.committed("classify", "inbound") == {0: 0, 1: 0})
    ops, group = Ops(before.logger), f"{system.group}.classify"
    looking, named = looks(system, "classify", ops, before.logger)
    console = joining(system, "classify", "inbound")

    def shared() -> bool:
        before.classify()
        console.poll(0.1)
        return len(console.assignment()) == 1 and len(before.inbox.owned) == 1

    wait_for("each has one", shared)
    system.write("inbound", *((number, system.text(inbound(HERE, PATIENTS[0], "STOP"))) for number in (0, 1)))
    wait_for("a text was taken", lambda: console.poll(0.1) is not None)
    assert [named(), named()] == [[], []]  # it may be of the version before, and has not committed yet
    console.commit(asynchronous=False)
    assert [named(), named(), named()] == [[], [(group, "rdkafka")], []]
    assert ops.value("optout_group_strangers", group=group) == 1
    console.close()
    before.until(lambda: stands_in_group(system))
    assert [named(), named()] == [[], []]
    assert ops.value("optout_group_strangers", group=group) == 0
    before.die()
    looking.close()


def test_default_client_among_the_appliers_is_a_stranger(system: System) -> None:
    """No applier of the version before runs beside ours: whoever has the client library's own id is named at once."""
    keywords(system, "STOP")
    member = owner(system, properties={"client.id": client_id(None)})
    looking, named = looks(system, "apply", member.ops, member.logger)
    assert named() == []
    console = joining(system, "apply", "ledger")

    def shared() -> bool:
        member.apply()
        console.poll(0.1)
        return len(console.assignment()) == 1

    wait_for("it has one", shared)
    assert named() == [(f"{system.group}.apply", "rdkafka")]
    console.close()
    member.die()
    looking.close()


def test_operator_sets_offsets(system: System) -> None:
    """`optout offsets set` sets both groups while nobody is in them, says what is given up, and is written down."""
    system.make_topics(inbound=1, actions=1)
    system.write("inbound", *((0, system.text(inbound(HERE, PATIENTS[0], "STOP"))) for _ in range(3)))
    topic = system.topics["inbound"]
    reason = ("--by", "on-call", "--reason", "a load test")
    member = Classifying(system)
    member.until(lambda: system.committed("classify", "inbound") == {0: 3})
    refused = system.run("offsets", "set", "classify", "--to", f"{topic}:0:1", *reason, "--yes")
    assert refused.returncode == 1
    assert "somebody is in the group" in refused.stderr
    member.die()
    assert system.run("offsets", "set", "classify", "--to", f"{topic}:0:4", *reason, "--yes").returncode == 1
    assert system.run("offsets", "set", "classify", "--to", f"{topic}:0:3", *reason).returncode == 2  # nobody to ask
    assert system.committed("classify.kept", "inbound") == {0: -1001}
    for offset, said in ((1, "from 3 back to 1"), (3, "from 1 to 3 gives up as many as 2 texts; a STOP among them")):
        done = system.run("offsets", "set", "classify", "--to", f"{topic}:0:{offset}", *reason, "--yes")
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        assert both(system, "classify", "inbound") == {0: [(offset, system.note("classify", "inbound"))] * 2}
    actions = system.run("maintenance", "status").stdout
    assert f"OFFSETS_SET to {topic}:0:1 by on-call: a load test" in actions
    told_so_far(system, "STOP")
    refused = system.run("offsets", "set", "apply", "--to", "1:0", *reason, "--yes")
    assert "were told up to" in refused.stderr
    done = system.run("offsets", "set", "apply", "--to", f"1:{system.ends('ledger')[1]}", *reason, "--yes")
    assert done.returncode == 0, done.stderr
    wait_until_told(system)

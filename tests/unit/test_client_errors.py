"""Whatever a call of the Kafka client raises is judged in one place, also the SystemError that takes an error's place.

The client raises one where it calls back after a fatal error and before its call returns: which depends on what its
threads do meanwhile, so a stand-in raises it here, as the client does.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer.kafka import lookup, probe, producers, reader
from consumer.kafka.errors import KafkaGone, Triage, sentence, triage
from consumer.kafka.inbox import NO_TOKEN, Inbox, Partition, Token
from consumer.kafka.producers import LedgerProducer, NotPublished, Outgoing, PlainOutbox, TransactionalOutbox
from tests.parts.fake_kafka import Broker, Clock, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FENCED = KafkaError(KafkaError._FENCED, "as the test has it", fatal=True)
PASSING = KafkaError(KafkaError._TRANSPORT, "as the test has it", retriable=True)
MADE = frozenset({"Consumer", "Producer", "AdminClient"})
RAISES = frozenset(
    {
        *("poll", "flush", "consume", "commit", "committed", "position", "produce", "purge", "assign", "unassign"),
        *("seek", "close", "subscribe", "incremental_assign", "incremental_unassign", "get_watermark_offsets"),
        *("init_transactions", "begin_transaction", "send_offsets_to_transaction", "commit_transaction"),
        *("abort_transaction", "list_topics", "list_offsets", "describe_topics", "describe_configs", "create_topics"),
        "result",
    }
)
"""Calls of the client, and of its futures. Pausing is one, too, and is handed to a function that calls it."""
CLIENTS = frozenset(
    {"_consumer", "_producer", "_asking", "_admin", "consumer", "producer", "client", "admin", "future"}
)
JUDGED_BY_CALLER = {
    "_assigned": "a callback: see Inbox._kept",
    "_give_up": "a callback of the consumer, and a call of the producer that stands in a try",
    "_produce": "judged where records are published",
    "ask": "handed to topics._asked",
    "_answer": "of the process that may die of its question: see kafka/members.py",
}
TELLS = [Outgoing("told", b"k", b"v")]


def failing(hidden: KafkaError | None) -> Callable[..., Any]:
    """Return what raises as the client does where it was called back with an exception pending."""

    def call(*_: object, **__: object) -> None:
        cause = None if hidden is None else KafkaException(hidden)
        raise SystemError("a method of the client returned a result with an exception set") from cause

    return call


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker(Clock())
    for topic in ("told", "inbound"):
        broker.create_topic(topic)
    with installed(broker):
        yield broker


def told(broker: Broker) -> list[bytes | None]:
    return [record.value for record in broker.topics["told"][0].records if record.readable]


@pytest.mark.parametrize("hidden", [FENCED, None], ids=["fenced", "not known"])
@pytest.mark.parametrize("call", ["produce", "flush", "send_offsets_to_transaction", "commit_transaction"])
def test_transaction_is_taken_again(broker: Broker, call: str, hidden: KafkaError | None) -> None:
    """A transaction's client that fails anyhow is thrown away, and its successor tells what it had not told, once."""
    inbox = Inbox({"group.id": "g"}, lambda *_: None)
    outbox = TransactionalOutbox({})
    metadata = inbox._consumer.consumer_group_metadata()
    token = Token(frozenset(), metadata, metadata)
    thrown_away = cast("Any", outbox._ready())
    setattr(thrown_away, call, failing(hidden))
    with pytest.raises(NotPublished):
        outbox.publish(TELLS, {Partition("inbound", 0): 1}, token)
    assert told(broker) == []
    outbox.publish(TELLS, {Partition("inbound", 0): 1}, token)
    assert outbox._producer is not thrown_away
    assert told(broker) == [b"v"]
    outbox.close()


def test_other_clients_end_in_a_sentence(broker: Broker) -> None:
    """A ledger's producer and a group's member that fail say so in a sentence, which their process ends with."""
    calls: dict[str, Callable[[LedgerProducer], object]] = {
        "poll": LedgerProducer.waiting,
        "flush": lambda producer: producer.flush(1.0),
        "produce": lambda producer: producer.write(TELLS[0]),
    }
    for name, call in calls.items():
        producer = LedgerProducer({}, lambda *_: None)
        setattr(producer._producer, name, failing(FENCED))
        with pytest.raises(KafkaGone, match="cannot be written to: _FENCED"):
            call(producer)
    inbox = Inbox({"group.id": "g"}, lambda *_: None)
    for name, read in (("poll", inbox.read), ("consume", inbox.read_batch)):
        setattr(inbox._consumer, name, failing(FENCED))
        with pytest.raises(KafkaGone, match="cannot be read any more: _FENCED"):
            read(10, 0.0)
    setattr(inbox._consumer, "commit", failing(None))  # noqa: B010 - of a client that has no such type
    with pytest.raises(KafkaGone, match="offsets cannot be committed in the group g: SystemError"):
        inbox.commit({Partition("inbound", 0): 1})


def test_passing_error_is_waited_out(broker: Broker) -> None:
    """An error that passes is one that passes, also where a SystemError hides it."""
    assert triage(SystemError()) is Triage.FATAL
    complaints: list[str] = []
    inbox = Inbox({"group.id": "g"}, lambda name, _: complaints.append(name))
    setattr(inbox._consumer, "poll", failing(PASSING))  # noqa: B010
    assert inbox.read(10, 0.0).messages == []
    assert complaints == ["_TRANSPORT"]
    with pytest.raises(SystemError) as raised:
        failing(PASSING)()
    assert (triage(raised.value), sentence(raised.value)) == (Triage.RETRY, "_TRANSPORT: as the test has it")


def test_what_a_callback_raises_is_raised_by_the_call(broker: Broker) -> None:
    """What a listener raises from within the client comes out of the read as it is, and nothing is handed out."""

    class Refusing:
        def assigned(self, partitions: object) -> dict[Partition, int]:
            raise KafkaGone("the listener's own words")

        def revoked(self, partitions: object, *, lost: bool) -> None: ...

    inbox = Inbox({"group.id": "g"}, lambda *_: None)
    inbox.subscribe(["inbound"], Refusing())
    with pytest.raises(KafkaGone, match="the listener's own words"):
        inbox.read(10, 0.0)
    assert inbox.token is NO_TOKEN


def test_purged_records_fail_no_later_publishing(broker: Broker) -> None:
    """What is called back for records that were given up says nothing of those that are published after them."""
    inbox = Inbox({"group.id": "g"}, lambda *_: None)
    outbox = PlainOutbox({}, inbox)
    producer = cast("Any", outbox._producer)
    producer.stuck = True
    late: list[Callable[..., None]] = []

    def purge() -> None:
        late.extend(heard for *_, heard in producer._queue)
        producer._queue.clear()

    producer.purge = purge
    with pytest.raises(NotPublished, match="in time"):
        outbox.publish(TELLS, {}, NO_TOKEN)
    producer.stuck = False
    flush = producer.flush

    def flush_late(timeout: float) -> int:
        while late:
            late.pop()(KafkaError(KafkaError._PURGE_QUEUE), None)
        return int(flush(timeout))

    producer.flush = flush_late
    outbox.publish(TELLS, {}, NO_TOKEN)
    assert told(broker) == [b"v"]


def unjudged(module: Path) -> list[str]:
    """Return the calls of the client within a module that stand where nothing looks at what they raise."""
    found = []

    def look(node: ast.AST, function: str, *, judged: bool) -> None:
        if isinstance(node, ast.FunctionDef):
            function, judged = node.name, node.name in JUDGED_BY_CALLER
        elif isinstance(node, ast.With):
            judged = judged or any("CLIENT_ERRORS" in (on := ast.unparse(i)) or "or_gone(" in on for i in node.items)
        elif isinstance(node, ast.Call):
            called = node.func
            owner, _, name = ast.unparse(called).rpartition(".")
            judged = judged or name == "_asked"
            raises = name in RAISES and owner.rpartition(".")[2] in CLIENTS if owner else name in MADE
            if raises and not judged:
                found.append(f"{module.name}:{node.lineno} {function}: {ast.unparse(called)}")
        if isinstance(node, ast.Try):
            caught = " ".join(ast.unparse(handler.type) for handler in node.handlers if handler.type is not None)
            looks = "CLIENT_ERRORS" in caught or "BaseException" in caught
            for tried in node.body:
                look(tried, function, judged=judged or looks)
            for other in (*node.handlers, *node.orelse, *node.finalbody):
                look(other, function, judged=judged)
            return
        for child in ast.iter_child_nodes(node):
            look(child, function, judged=judged)

    look(ast.parse(module.read_text("utf-8")), "", judged=False)
    return found


def test_every_call_of_the_client_is_judged() -> None:
    """No call of the client stands where what it raises is not looked at, a SystemError included."""
    modules = sorted((Path(producers.__file__)).parent.glob("*.py"))
    assert [call for module in modules for call in unjudged(module)] == []


class Failing:
    """A client of which each call fails as soon as it is told to."""

    fails: tuple[str, ...] = ()

    def __init__(self, _config: object) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers = {"get_watermark_offsets": (0, 1), "consume": []}
        return failing(FENCED) if name in self.fails else lambda *_, **__: answers.get(name)


@pytest.mark.parametrize("call", ["poll", "consume", "assign", "get_watermark_offsets"])
def test_readers_outside_of_groups_end_in_a_sentence(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A reader that joins no group and fails says so in a sentence, and can be closed behind it."""
    for module in (lookup, probe, reader):
        monkeypatch.setattr(module, "Consumer", Failing)
    monkeypatch.setattr(Failing, "fails", (call, "close"))
    here = Partition("inbound", 0)

    def looked_up() -> object:
        return [*lookup.Lookup({}, patience=0.0).at(here, [0])]

    def probed() -> object:
        return probe.Probe({}, patience=0.1).find(here, 0)

    def read() -> object:
        with reader.Reader({}, [here], patience=0.0) as reading:
            return [*reading.read()]

    for use, calls in ((looked_up, {"consume", "assign", "get_watermark_offsets"}), (probed, {"poll", "assign"})):
        with pytest.raises(KafkaGone, match="_FENCED" if call in calls else "went silent"):
            use()
    with pytest.raises(KafkaGone, match="silent" if call == "poll" else "_FENCED"):
        read()
    lookup.Lookup({}).close()

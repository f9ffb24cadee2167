"""The composition root: of what the settings describe it makes a worker, and runs it."""

from __future__ import annotations

import errno
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from consumer import deployment, worker
from consumer.applier import Applier
from consumer.changes import Changes
from consumer.classifier import Classifier
from consumer.domain.bad_records import BadRecords
from consumer.domain.events import (
    ConfirmationRequested,
    KeywordRecord,
    ReviewRequested,
    SubscriptionChanged,
)
from consumer.domain.keywords import Keywords
from consumer.domain.skips import Skips
from consumer.facts import facts
from consumer.holding import HeldBack
from consumer.inbound import Inbound, unnamed
from consumer.intake import Intake, Topics
from consumer.kafka import sizes, topics
from consumer.kafka.committed import CommittedReader, KeptOffsets, KeptOffsetsPool
from consumer.kafka.inbox import Inbox
from consumer.kafka.offsets import Offsets
from consumer.kafka.producers import LedgerProducer, PlainOutbox, TransactionalOutbox
from consumer.keeper import Keeper
from consumer.ops import logs
from consumer.ops.complaints import Complaints
from consumer.ops.health import Health, application, listening
from consumer.ops.losses import Losses
from consumer.ops.metrics import Metrics
from consumer.passage import Passage
from consumer.preparing import Preparing
from consumer.published import Published
from consumer.publisher import Publisher
from consumer.putting_aside import PuttingAside
from consumer.settings import ConfigurationError
from consumer.skips import Allowed
from consumer.strangers import Strangers, client_id
from consumer.suppression.scripts import ViewRefused, ViewUnavailable
from consumer.suppression.view import View
from consumer.voucher import Voucher
from consumer.watch import Watch
from consumer.wire.errors import SchemaSourceUnavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.cluster import AdminClient
    from consumer.kafka.producers import Outgoing, Publishing
    from consumer.ledger import Ledger
    from consumer.settings import Settings
    from consumer.wire.codec import Codec
    from consumer.wire.lookups import Lookups

SESSION_MS = 10_000
"""How long a dead member keeps its partitions. The client's default of 45 s would be a long time without an owner."""
HEARTBEAT_MS = 1_000
"""How late a member may hear that its group is being joined anew. Whoever joins waits for all others to hear of it, and
where partitions move that comes twice, with the client's default of 3 s each time."""
REFRESH_MS = 10_000
"""How long inbound's new partitions may stay unknown to the group: they hold freshness back until they are read, and
the client's default of five minutes is as long as guards wait before they answer UNKNOWN."""

TOLD = (SubscriptionChanged, ConfirmationRequested)
CLASSIFIED = (KeywordRecord, ReviewRequested)
"""What each stage writes."""

IDS_WITHIN = 2.0
"""Seconds for which one question for inbound's ids may keep a loop waiting."""

READING_LEDGER = {
    "queued.min.messages": 2000,
    "queued.max.messages.kbytes": 8192,
    "fetch.message.max.bytes": 262_144,
    "fetch.max.bytes": 4_194_304,
    "fetch.wait.max.ms": 100,
}
"""What an applier fetches ahead: little, for in a replay a new STOP waits behind all of it, and it is memory. While one
bucket's part of the queue is full a fetch waits for the others, so it must not wait for long."""


def run_worker(settings: Settings, only: Literal["classify", "apply"] | None = None) -> int:
    """Run the worker until it is told to stop; return the exit code.

    Raises ConfigurationError, KafkaGone, TopicError, SchemaError or LedgerFault before anything has begun.
    """
    confirmations = settings.require_confirmations()
    ops = Ops(metrics := Metrics(), Health(metrics))
    if only != "classify":
        ops.health.expect("apply", "publish", "vouch")
    if only != "apply":
        ops.health.expect("classify")
    with ExitStack() as until:
        _listen(settings, ops, until)
        return _run(settings, only, confirmations, ops)


@dataclass(frozen=True, slots=True)
class Ops:
    """What the parts of a worker say of themselves, and to whom."""

    metrics: Metrics
    health: Health


class Wire(NamedTuple):
    """How a stage reads and writes records, and what asks a schema registry beside it, where there is one."""

    codec: Codec
    lookups: Lookups | None


def _look_for(codec: Codec, kinds: Sequence[type[Any]]) -> None:
    """Refuse to start where the registry lacks a schema of ours; one that is away is waited for by the stage itself."""
    with suppress(SchemaSourceUnavailable):
        codec.prepare(*kinds)


def _listen(settings: Settings, ops: Ops, until: ExitStack) -> None:
    """Answer probes and scrapers meanwhile, if that is wanted. Raises ConfigurationError."""
    if settings.ops_listen is None:
        return
    host, port = settings.ops_listen
    try:
        address = until.enter_context(listening(host, port, application(ops.metrics, ops.health)))
    except OSError as problem:
        taken = problem.errno == errno.EADDRINUSE
        raise ConfigurationError(
            f"OPTOUT_OPS_LISTEN: {host}:{port} cannot be listened on ({problem.strerror or problem}): "
            + ("name another port, one for each worker of a machine" if taken else "name an address of this machine")
        ) from None
    logs.logger("worker").info("answering /livez, /readyz and /metrics", host=address[0], port=address[1])


def _run(
    settings: Settings, only: Literal["classify", "apply"] | None, confirmations: Literal["ours", "provider"], ops: Ops
) -> int:
    admin = deployment.admin_client(settings)
    deployment.check_topics(settings, admin)
    decoding, lookups = deployment.codec_of_a_loop(settings)
    source = deployment.open_ledger(settings, admin, decoding)
    parts: dict[str, worker.Part] = {}
    if only != "classify":  # first: it looks whose view Redis holds before anything is written to the ledger
        _look_for(decoding, TOLD)
        parts["apply"] = _apply(settings, admin, Wire(decoding, lookups), source, confirmations, ops)
    if only != "apply":
        wire = Wire(*deployment.codec_of_a_loop(settings))
        _look_for(wire.codec, CLASSIFIED)
        parts["classify"] = _classify(settings, admin, wire, source, ops)
    _watch(settings, admin, only, ops.metrics)
    return worker.run(parts, shutdown_seconds=settings.shutdown_seconds, log=logs.logger("worker"))


def _watch(settings: Settings, admin: AdminClient, only: Literal["classify", "apply"] | None, metrics: Metrics) -> None:
    """Have all that can change while a worker runs looked at, now and each minute."""
    if settings.ledger_id:  # of a broker that knows no settings of topics
        return
    looked_at = facts(settings, admin)
    if only == "classify":  # it has no Redis
        del looked_at["redis"]
    Watch(looked_at, (*deployment.FAULTS, ConfigurationError), metrics, logs.logger("watch")).start()


def _consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    config = deployment.asking_config(settings)
    ours = {
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "topic.metadata.refresh.interval.ms": REFRESH_MS,
    }
    return {**ours, **config, "group.id": group, "client.id": client_id(config.get("client.id"))}


def _strangers(settings: Settings, group: str, ops: Ops) -> dict[str, worker.Part]:
    """Return the part that names who else is in a group; none for a broker that cannot tell, for trying out."""
    if settings.ledger_id is not None:
        return {}
    config = deployment.asking_config(settings)
    # Classifiers of the version before may be beside ours; its appliers have ended before ours begin.
    beside = group == settings.classifiers
    committed = CommittedReader(config, group, waits_for_transactions=False) if beside else None
    log = logs.logger("members")
    return {"members": Strangers(config, group, config.get("client.id"), committed, ops.metrics, log).run}


def _inbound(settings: Settings, admin: AdminClient, source: Ledger) -> Inbound:
    """Return inbound's topics; where a broker can tell no ids there are none."""
    ids = unnamed if settings.ledger_id else lambda names: topics.topic_ids(admin, names, IDS_WITHIN)
    return Inbound(settings.inbound, source.topic_id, ids)


def _classify(settings: Settings, admin: AdminClient, wire: Wire, source: Ledger, ops: Ops) -> worker.Part:
    log = logs.logger("classify")
    intake = Intake(
        codec=wire.codec,
        keywords=Keywords(),
        topics=Topics(
            ledger=settings.keyword_ledger_topic,
            reviews=settings.review_requested_topic,
            dead_letters=settings.dead_letter_topic,
            requests=settings.opt_out_requested_topic,
        ),
        buckets=settings.buckets,
        region=settings.region,
    )

    def kept() -> KeptOffsets:
        return KeptOffsets(deployment.asking_config(settings), settings.classifiers)

    def run(stop: threading.Event) -> None:
        prepare = Preparing("classify", stop, ops.health, log)
        prepare.ask(partial(wire.codec.prepare, *CLASSIFIED))
        outputs = (settings.keyword_ledger_topic, settings.review_requested_topic, settings.dead_letter_topic)
        taken = prepare.ask(partial(deployment.limits, settings, admin, *outputs))
        given = prepare.ask(partial(deployment.limits, settings, admin, *settings.inbound))
        skips = prepare.ask(partial(_of_inbound, settings, admin))
        producer = LedgerProducer(
            sizes.producing(deployment.asking_config(settings), taken),
            Complaints(log).kafka,
            may_be_missing=(settings.review_requested_topic, settings.dead_letter_topic),
            on_reduced=partial(_kept_in_part, ops.metrics, log),
        )
        config = sizes.consuming(_consumer_config(settings, settings.classifiers), given)
        passage = _passage(settings, config, skips, ops, log)
        classifier = Classifier(
            intake=intake,
            producer=producer,
            inbound=_inbound(settings, admin, source),
            kept=kept(),
            metrics=ops.metrics,
            health=ops.health,
            log=log,
            limits=BadRecords(settings.dead_letters_in_a_row, settings.dead_letters_share),
            held=HeldBack(wire.lookups, log),
            passage=passage,
        )
        inbox = Inbox(config, Complaints(log).kafka)
        inbox.subscribe(settings.inbound, classifier)
        keeper = Keeper(classifier, inbox.copy, kept(), log)
        strangers = _strangers(settings, settings.classifiers, ops)
        beside = worker.Parts({"keep": keeper.run, "pass": passage.run, **strangers}, stop, log)
        beside.start()
        try:
            classifier.run(inbox, stop)
        finally:
            stop.set()
            beside.join(time.monotonic() + settings.shutdown_seconds / 2)
            inbox.close()
        if beside.failed:
            raise worker.PartFailed("a part of this stage failed, see above")

    return run


def _apply(  # noqa: PLR0917 - what the root has at hand
    settings: Settings,
    admin: AdminClient,
    wire: Wire,
    source: Ledger,
    confirmations: Literal["ours", "provider"],
    ops: Ops,
) -> worker.Part:
    log = logs.logger("apply")
    view = View(
        deployment.redis_nodes(settings),
        buckets=settings.buckets,
        ledger=source.identity,
        timed=ops.metrics.time_script,
    )
    _look_at_view(view, settings.buckets)
    changes = Changes(
        source,
        wire.codec,
        changed=settings.subscription_changed_topic,
        confirmations=settings.confirmation_requested_topic if confirmations == "ours" else None,
    )

    losses = Losses(ops.metrics, logs.logger("losses"))

    def run(stop: threading.Event) -> None:
        prepare = Preparing("apply", stop, ops.health, log)
        prepare.ask(partial(wire.codec.prepare, *TOLD))
        given = prepare.ask(partial(deployment.limits, settings, admin, source.topic))
        taken = prepare.ask(partial(deployment.limits, settings, admin, *_told_in(settings)))
        config = sizes.consuming(READING_LEDGER | _consumer_config(settings, settings.appliers), given)
        inbox = Inbox(config, Complaints(log).kafka)
        publisher = Publisher(
            view=view,
            inbox=inbox,
            committed=Published(
                deployment.asking_config(settings),
                settings.appliers,
                source.topic_id,
                settings.subscription_changed_topic,
                logs.logger("publish"),
            ),
            outbox=PuttingAside(
                _publishing(settings, taken, inbox), settings.dead_letter_topic, ops.metrics, logs.logger("publish")
            ),
            render=changes.records,
            ledger=source.topic,
            metrics=ops.metrics,
            health=ops.health,
            losses=losses,
            log=logs.logger("publish"),
        )
        voucher = Voucher(
            view=view,
            inbox=inbox,
            offsets=Offsets(
                admin,
                KeptOffsetsPool(lambda: KeptOffsets(deployment.asking_config(settings), settings.classifiers)),
                describes=settings.ledger_id is None,
            ),
            ledger=source,
            inbound=_inbound(settings, admin, source),
            published=publisher.published,
            topic_id=None if settings.ledger_id else lambda: topics.topic_id(admin, source.topic),
            unsafe=lambda: deployment.ledger_faults(settings, admin),
            metrics=ops.metrics,
            health=ops.health,
            losses=losses,
            log=logs.logger("vouch"),
        )
        passage = _passage(settings, config, [Skips(source.topic, source.topic_id)], ops, log)
        applier = Applier(
            view=view,
            ledger=source,
            published=publisher.published,
            notice_publisher=publisher.notice,
            take_doubts=voucher.take_doubts,
            wake_voucher=voucher.wake,
            look_at_ledger=voucher.look_at_ledger,
            metrics=ops.metrics,
            health=ops.health,
            losses=losses,
            log=log,
            passage=passage,
            lookups=wire.lookups,
        )
        if not applier.await_view(range(settings.buckets), stop):
            return
        prepare.ask(passage.read)  # all skips are read before the first record
        inbox.subscribe([source.topic], applier)
        strangers = _strangers(settings, settings.appliers, ops)
        parts = {"publish": publisher.run, "vouch": voucher.run, "pass": passage.run, **strangers}
        beside = worker.Parts(parts, stop, log)
        beside.start()
        try:
            applier.run(inbox, stop)
        finally:
            stop.set()
            voucher.wake()
            # What the publisher took is sent under our membership, so the group is left last; it has half the time.
            if not beside.join(time.monotonic() + settings.shutdown_seconds / 2):
                log.warning("a part did not end in time: what it had begun is taken up by the next owner")
            inbox.close()
        if beside.failed:
            raise worker.PartFailed("a part of this stage failed, see above")

    return run


def _of_inbound(settings: Settings, admin: AdminClient) -> list[Skips]:
    if settings.ledger_id:
        return [Skips(name, "") for name in settings.inbound]  # a broker that tells no ids
    return [Skips(name, topic_id) for name, topic_id in topics.topic_ids(admin, settings.inbound).items()]


def _passage(
    settings: Settings, config: Mapping[str, Any], topics: Sequence[Skips], ops: Ops, log: FilteringBoundLogger
) -> Passage:
    """Return where the stage may go on whose inbox has this configuration."""
    goes_on = deployment.probing(config)
    return Passage(Allowed(topics, deployment.skip_log(settings)), goes_on, metrics=ops.metrics, log=log)


def _look_at_view(view: View, buckets: int) -> None:
    """Raise OtherLedger for a Redis that holds another ledger's view, ConfigurationError for one that refuses us."""
    try:
        view.metas(range(buckets))
    except ViewRefused as problem:
        raise ConfigurationError(str(problem)) from None
    except ViewUnavailable:
        return  # away: the applier waits for it, and looks again with every call


def _told_in(settings: Settings) -> list[str]:
    """Return the topics that changes are told in."""
    outputs = [settings.subscription_changed_topic, settings.dead_letter_topic]
    if settings.confirmations == "ours":
        outputs.append(settings.confirmation_requested_topic)
    return outputs


def _publishing(settings: Settings, limits: Mapping[str, int], inbox: Inbox) -> Publishing:
    config = sizes.producing(deployment.client_config(settings), limits)
    if settings.publish == "transactions":
        return TransactionalOutbox(config, ids=settings.transactional_ids)
    return PlainOutbox(config, inbox)


def _kept_in_part(metrics: Metrics, log: FilteringBoundLogger, record: Outgoing) -> None:
    metrics.reduced.inc()
    log.error(
        "a record is too large to be kept whole as a dead letter: its beginning is kept, and the whole stands where it "
        "came from until it is deleted there; a STOP in it is not in force",
        where=str(record.source),
    )

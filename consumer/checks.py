"""Everything that can be wrong with a deployment's settings, found before a worker stands on them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from consumer import deployment
from consumer.domain.events import ConfirmationRequested, KeywordRecord, ReviewRequested, SubscriptionChanged
from consumer.facts import clock_faults, kept_faults, missing_topics, redis_faults
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.errors import KafkaGone
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.kafka.reader import OpenTransaction
from consumer.ledger import LedgerFault, check_ledger
from consumer.open_transactions import open_for_long
from consumer.ops import logs
from consumer.published import Published
from consumer.settings import ConfigurationError, load
from consumer.size_checks import size_faults
from consumer.suppression.scripts import ViewAway
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.kafka.cluster import AdminClient
    from consumer.ledger import Ledger
    from consumer.settings import Settings
    from consumer.suppression.answers import Meta


def check_config() -> list[str]:
    """Return a sentence for everything that is wrong; an empty list where all is well."""
    try:
        settings = load()
    except ConfigurationError as wrong:
        return list(wrong.faults)
    faults = _missing(settings)
    for check in (redis_faults, _kafka_faults):
        faults += [fault for fault in _said(check(settings)) if fault not in faults]
    return faults


def _said(check: Iterable[str]) -> Iterator[str]:
    """Pass on what a check finds, and say what it meets on its way: what it found before is not to be lost with it."""
    try:
        yield from check
    except ConfigurationError as wrong:
        yield from wrong.faults
    except deployment.FAULTS as fault:
        yield str(fault)


def _missing(settings: Settings) -> list[str]:
    faults: list[str] = []
    for required in (settings.require_kafka, settings.require_redis, settings.require_confirmations):
        try:
            required()
        except ConfigurationError as wrong:
            faults += wrong.faults
    return faults


def _kafka_faults(settings: Settings) -> Iterator[str]:
    admin = deployment.admin_client(settings)
    known = partitions_by_topic(admin)
    yield from missing_topics(settings, known)
    if settings.ledger_id is None:  # else it is a broker that knows no settings of topics, for trying out
        yield from _said(clock_faults(settings, admin, known))
        yield from _said(deployment.inbound_faults(settings, admin))
        yield from _said(size_faults(settings, admin, known))
        yield from _said(_transaction_faults(settings, admin, known))
        yield from _said(kept_faults(settings, admin, known))
    if settings.keyword_ledger_topic in known:
        yield from _said(_ledger_faults(settings, admin))


def _ledger_faults(settings: Settings, admin: AdminClient) -> Iterator[str]:
    decoding = deployment.codec(settings)
    if settings.schema_registry_url is not None:
        decoding.prepare(KeywordRecord, ReviewRequested, SubscriptionChanged, ConfirmationRequested)
    try:
        source = deployment.open_ledger(settings, admin, decoding)
    except LedgerFault as fault:
        yield from str(fault).split("; ")
        return
    if settings.redis_url is None:
        return
    view = View(deployment.redis_nodes(settings), buckets=settings.buckets, ledger=source.identity)
    try:
        metas = {bucket: meta for bucket, meta in view.metas(range(settings.buckets)).items() if meta is not None}
    except ViewAway:
        return  # said already
    if settings.ledger_id is None:
        yield from _standing_faults(settings, admin, source, metas)


def _standing_faults(
    settings: Settings, admin: AdminClient, source: Ledger, metas: Mapping[int, Meta]
) -> Iterator[str]:
    """Tell each bucket whose ledger, or whose appliers, stand before what Redis was told. Raises KafkaGone."""
    partitions = [Partition(source.topic, bucket) for bucket in metas]
    published = {partition: metas[partition.number].published for partition in partitions}
    config = deployment.asking_config(settings)
    with (
        closing(KeptOffsets(config, settings.appliers)) as at_once,
        closing(
            Published(
                config, settings.appliers, source.topic_id, settings.subscription_changed_topic, logs.logger("checks")
            )
        ) as settled,
    ):
        offsets = Offsets(admin, at_once)
        try:
            kept = at_once.both(partitions, deployment.ASKED_WITHIN)
            starts, ends = offsets.starts(partitions), offsets.ends(partitions)
        except (OffsetsUnavailable, TimeoutError) as problem:
            raise KafkaGone(f"where {source.topic} ends, or how far it was told, is not known: {problem}") from None
        for partition in partitions:
            try:
                check_ledger(partition, starts[partition], ends[partition], metas[partition.number].applied)
                # Under load there is always a transaction to wait for. What is behind for now may be in one that was
                # committed, and is not seen yet; only that is worth waiting for.
                if (kept[partition].greatest(source.topic_id) or 0) < published[partition]:
                    _, unknown = settled.ask({partition: published[partition]}, deployment.ASKED_WITHIN)
                    for why in unknown.values():
                        raise KafkaGone(f"how far {source.topic} was told is not known: {why}")
            except LedgerFault as fault:
                yield str(fault)


def _transaction_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
    """Give a sentence for each partition of inbound and the ledger whose transaction stays open. Raises KafkaGone."""
    names = [name for name in (*settings.inbound, settings.keyword_ledger_topic) if name in known]
    partitions = [Partition(name, number) for name in names for number in range(known[name])]
    with closing(KeptOffsets(deployment.asking_config(settings), settings.classifiers)) as classified:
        try:
            held = open_for_long(Offsets(admin, classified), partitions)
        except OffsetsUnavailable as problem:
            raise KafkaGone(f"whether a transaction stays open is not known: {problem}") from None
    yield from (str(OpenTransaction(partition, at)) for partition, at in held.items())

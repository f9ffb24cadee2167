"""Whether each topic takes what is made from the records of another: along the path limits grow, and never shrink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer import deployment
from consumer.domain.evidence import LARGEST_RECORD
from consumer.kafka import sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumer.kafka.cluster import AdminClient
    from consumer.settings import Settings

ROOM_FOR_HEADERS = 4096
"""Bytes that the headers of a dead letter take at most, and a few to spare."""


def size_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
    """Give a sentence for each topic that takes less than is made for it. `known` are the topics that there are."""
    inbound, ledger, dead = settings.inbound, settings.keyword_ledger_topic, settings.dead_letter_topic
    told = [settings.subscription_changed_topic]
    if settings.confirmations == "ours":
        told.append(settings.confirmation_requested_topic)
    outputs = [ledger, settings.review_requested_topic, *told, dead]
    takes = sizes.limits(admin, [name for name in (*inbound, *outputs) if name in known])
    yield from _too_narrow_for_letters(inbound, dead, takes)
    for source, targets in [*((name, outputs[:2]) for name in inbound), (ledger, told)]:
        yield from (
            f"{source} takes records of {takes[source]} bytes, and {target} of {takes[target]}: set "
            f"max.message.bytes={takes[source]} there, for a topic is never narrower than what it is made from"
            for target in targets
            if source in takes and takes.get(target, takes[source]) < takes[source]
        )
    yield from (
        f"{name} takes records of {takes[name]} bytes, and the largest that workers write has {LARGEST_RECORD}: set "
        f"max.message.bytes={LARGEST_RECORD} there, or more"
        for name in outputs
        if takes.get(name, LARGEST_RECORD) < LARGEST_RECORD
    )
    yield from _too_wide_for_clients(settings, takes)


def _too_narrow_for_letters(inbound: tuple[str, ...], dead: str, takes: Mapping[str, int]) -> Iterator[str]:
    if dead not in takes:
        return
    for name in inbound:
        if name in takes and takes[name] > takes[dead] - ROOM_FOR_HEADERS:
            yield (
                f"{name} takes records of {takes[name]} bytes, and {dead} would not take each of them with our "
                f"headers: set max.message.bytes={takes[name] + ROOM_FOR_HEADERS} there, or of one that is too large "
                "and cannot be read only the beginning is kept, and nobody can replay it"
            )


def _too_wide_for_clients(settings: Settings, takes: Mapping[str, int]) -> Iterator[str]:
    """Workers follow the topics by themselves; the commands that look at them read as they are configured."""
    if not takes:
        return
    config = deployment.client_config(settings)
    needed = sizes.largest_answer(config, takes)
    if needed > int(config.get("receive.message.max.bytes", sizes.LARGEST_ANSWER)):
        widest = max(takes, key=lambda name: takes[name])
        yield (
            f"{widest} takes records of {takes[widest]} bytes, and a client of ours reads less at once: set "
            f"OPTOUT_KAFKA_RECEIVE_MESSAGE_MAX_BYTES={needed}, or `optout history`, `verify` and `dead-letters` cannot "
            "read one"
        )

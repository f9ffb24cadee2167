"""Who may write where records decide: said by `check-config`, and no reason to refuse anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer import deployment
from consumer.domain.words import printable
from consumer.kafka.acls import RightsUnknown, holders
from consumer.settings import ConfigurationError, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from consumer.settings import Settings


def remarks() -> list[str]:
    """Return what `check-config` says besides what is wrong; nothing where it has said why nothing can be asked."""
    try:
        return list(who_may_write(load()))
    except (ConfigurationError, *deployment.FAULTS):
        return []


def who_may_write(settings: Settings) -> Iterator[str]:
    """Say who may write to the ledger and to the topic of skips, and take records from them. Raises KafkaGone."""
    if settings.ledger_id is not None:  # a broker that knows no rights, for trying out
        return
    powers = {
        settings.keyword_ledger_topic: "opt anybody in",
        settings.skip_topic: "have an opt-out passed over that no worker can read",
    }
    admin = deployment.admin_client(settings)
    try:
        found = {topic: holders(admin, topic) for topic in powers}
    except RightsUnknown as problem:
        yield f"who may write to {' and '.join(powers)} is not known: {problem}"
        return
    if unnamed := [topic for topic, held in found.items() if held is None]:
        yield (
            f"no rule says who may write to {' and '.join(unnamed)}: unless the brokers refuse what no rule allows, "
            f"everybody who reaches Kafka may, and so {' or '.join(powers[topic] for topic in unnamed)}; `optout "
            "kafka-acl` prints the rights that each part needs"
        )
    for topic, held in found.items():
        if held is not None:
            harm = f"; deleted, shortened or changed by {_listed(held.harm)}" if held.harm else ""
            yield (
                f"{topic} may be written by {_listed(held.write) or 'nobody'}, and by Kafka's super users, who can "
                f"{powers[topic]}{harm}"
            )


def _listed(principals: Iterable[str]) -> str:
    return ", ".join("everybody" if one == "User:*" else printable(one) for one in sorted(principals))

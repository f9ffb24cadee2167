"""What outbound producers ask before each send. Needs redis and the phone library, and nothing of Kafka or Avro."""

from consumer.domain.content import content_faults
from consumer.domain.phone import NotANumber
from consumer.guard.aio import AsyncGuard
from consumer.guard.guard import DEFAULT_MAX_STALENESS, Guard
from consumer.guard.producer import AsyncGuardedProducer, GuardedProducer, Withheld
from consumer.guard.verdict import NotAllowed, Unknown, Verdict, VerdictKind

__all__ = [
    "DEFAULT_MAX_STALENESS",
    "AsyncGuard",
    "AsyncGuardedProducer",
    "Guard",
    "GuardedProducer",
    "NotANumber",
    "NotAllowed",
    "Unknown",
    "Verdict",
    "VerdictKind",
    "Withheld",
    "content_faults",
]

"""When a text counts as sent. Decided once, by the classifier, and written into the ledger.

Two clocks speak: the provider's (`received_at`) and Kafka's (the record's timestamp). The earlier one holds, and a
date that cannot be right may only ever suppress more: a START dated ahead would outrank the STOP that follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from consumer.domain.events import Action

IMPLAUSIBLE_AGE_MS = 7 * 24 * 60 * 60 * 1000
"""Two dates this far apart are taken for a broken clock, not for a late delivery."""

CLOCK_SKEW_MS = 5_000
"""By how much Kafka's clock may run ahead of the classifier's before an opt-in goes to review."""

BROKER_SKEW_MS = 60 * 60 * 1000
"""By how much a broker's clock may lag behind everybody else's before an opt-in that it appended counts as forged.

A classifier dates no opt-in later than it read it, so only a broker whose clock lags can make an honest one look dated
ahead, and a bucket that stops because of one stands until somebody looks. NTP keeps a clock within seconds, and its
daemon gives up at 1,000 s; a machine that was suspended lags by minutes until it is set. An hour is more than that,
and all that a forged date can gain: it beats a STOP for as long, and no longer.
"""


@dataclass(frozen=True, slots=True)
class EventTime:
    """When the text counts as sent, in ms; `corrected` where the provider's date was not believed."""

    at: int
    corrected: bool = False


def event_time(action: Action, received_at: int, kafka_timestamp: int, now: int) -> EventTime | None:
    """Return when this keyword counts as sent, or None for an opt-in whose date cannot be right (it goes to review).

    All three are milliseconds since the epoch; `now` is the classifier's own clock. A record without a Kafka
    timestamp has a negative one: the classifier's clock stands in for it, but not for an opt-in that the provider dates
    ahead. Nothing would say then that a STOP which was read before it was not sent after it.
    """
    if kafka_timestamp < 0:
        kafka_timestamp = max(now, received_at) if action is Action.OPT_IN else now
    late = kafka_timestamp - received_at > IMPLAUSIBLE_AGE_MS
    if action is Action.OPT_OUT:
        if late:
            return EventTime(kafka_timestamp, corrected=True)
        known = min(received_at, now)
        if known - kafka_timestamp > IMPLAUSIBLE_AGE_MS:
            return EventTime(known, corrected=True)  # Kafka took over a sender's clock that is years behind
        return EventTime(min(received_at, kafka_timestamp))
    if late or kafka_timestamp > now + CLOCK_SKEW_MS:
        return None
    # Within the allowed skew an opt-in still never counts as later than it was read.
    return EventTime(min(received_at, kafka_timestamp, now))


def requested_time(occurred_at: int, kafka_timestamp: int, now: int) -> EventTime:
    """Return when an imported opt-out or a provider's block counts as made: the earlier of the two dates.

    Past opt-outs are old by nature, so no age is implausible here.
    """
    return EventTime(min(occurred_at, kafka_timestamp if kafka_timestamp >= 0 else now))

"""What a patient is told of a change: how it is, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.domain.events import (
    CONFIRMATION_WINDOW_MS,
    ConfirmationRequested,
    PatientKeyword,
    Status,
)
from consumer.domain.evidence import LONGEST_NAME, cut

if TYPE_CHECKING:
    from consumer.domain.events import (
        KeywordRecord,
        SubscriptionChanged,
    )

OPTED_OUT_TEXT = (
    "You have opted out and will receive no further text messages from this practice. "
    "Reply START to receive them again."
)
OPTED_IN_TEXT = "You will receive text messages from this practice again. Reply STOP to opt out."
LATEST_MS = 2**63 - 1
"""The last time that a record can hold. A STOP may be dated as far ahead as that."""
CANCEL_TEXT = "Your appointment is not cancelled by this; please call the practice for that."


def confirmation_of(change: SubscriptionChanged, record: KeywordRecord) -> ConfirmationRequested | None:
    """Return the confirmation of a change that the patient asked for by text; None for one that came otherwise.

    An import or a provider's block was not a text of the patient's, so there is nothing to answer. A text is answered
    once, whatever spellings the number has.
    """
    if not isinstance(record.cause, PatientKeyword) or record.cause.is_repeated:
        return None
    text = OPTED_OUT_TEXT if change.status is Status.OPTED_OUT else OPTED_IN_TEXT
    if change.keyword == "CANCEL":  # patients answer appointment reminders with it
        text = f"{text} {CANCEL_TEXT}"
    return ConfirmationRequested(
        event_id=change.ledger.event_id("ConfirmationRequested"),
        change_event_id=change.event_id,
        location_id=change.location_id,
        location_number=cut(record.location_number, LONGEST_NAME),
        patient_number=change.patient_number,
        status=change.status,
        text=text,
        requested_at=change.recorded_at,
        expires_at=min(change.occurred_at + CONFIRMATION_WINDOW_MS, LATEST_MS),
        ledger=change.ledger,
    )

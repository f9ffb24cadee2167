"""What became of one told text, in words, by what was seen on the topics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.confirmation import CANCEL_TEXT
from consumer.domain.events import Action, InboundMessage, Status
from consumer.domain.keywords import RETIRED, Keywords

if TYPE_CHECKING:
    from consumer.demo.expectation import Subscription
    from consumer.demo.observation import Seen
    from consumer.demo.texts import Record
    from consumer.domain.events import SubscriptionChanged


class Outcome(NamedTuple):
    """What happened, as a word for its colour, and in a sentence."""

    kind: str
    why: str


@dataclass(slots=True)
class Outcomes:
    """Tells what became of texts, in the order in which they arrived."""

    keywords: Keywords = field(default_factory=Keywords)
    standing: dict[Subscription, SubscriptionChanged] = field(default_factory=dict)
    """The last change of each subscription that was told or passed over."""

    def of(self, record: Record, seen: Seen) -> Outcome:
        """Return what became of a record, by what was seen since it arrived."""
        for reason, lost in seen.dead_letters.values():
            if lost == record:
                return _dead_letter(reason)
        if not isinstance(record, InboundMessage):
            return Outcome("lost", "nothing came of it")
        who = (record.location_id, record.patient_number)
        change = next((c for c in seen.changes.values() if c.origin.message_id == record.message_id), None)
        if change is not None and self.standing.get(who) != change:
            self.standing[who] = change
            replies = [c.text for c in seen.confirmations.values() if c.change_event_id == change.event_id]
            return _changed(change, replies)
        review = next((r for r in seen.reviews.values() if r.origin.message_id == record.message_id), None)
        if review is not None:
            how = "is a word that has been retired" if review.keyword in RETIRED else f"reads like {review.keyword}"
            return Outcome("review", f"changes nothing: no keyword, but it {how}; to staff")
        return self._nothing(record, self.standing.get(who))

    def _nothing(self, text: InboundMessage, last: SubscriptionChanged | None) -> Outcome:
        keyword = self.keywords.recognise(text.body)
        if keyword is None:
            return Outcome("talk", "changes nothing: a keyword must be the whole text")
        if last is not None and text.received_at < last.occurred_at:
            return Outcome("talk", f"changes nothing: it was sent before the {last.keyword} that came first")
        stood = "is opted out already" if keyword.action is Action.OPT_OUT else "was not opted out"
        return Outcome("talk", f"changes nothing: the patient {stood}, and no reply is sent")


def _changed(change: SubscriptionChanged, replies: list[str]) -> Outcome:
    out = change.status is Status.OPTED_OUT
    said = f"{'opted out' if out else 'opted in again'} by {change.keyword}"
    if replies:
        note = ", which says that no appointment is cancelled" if CANCEL_TEXT in replies[0] else ""
        said += f"; {'one confirmation' if len(replies) == 1 else f'{len(replies)} confirmations'}{note}"
    return Outcome("out" if out else "in", said)


def _dead_letter(reason: str) -> Outcome:
    if reason.startswith("unattributable"):
        return Outcome("dead", "dead letter: a keyword of nobody, or for nowhere; somebody must look at it now")
    return Outcome("dead", f"dead letter, whole: nobody can read it ({reason})")

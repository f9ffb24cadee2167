"""The soak's checker finds what was planted, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.oracle import Written
from tests.soak.checker import Judgement, judge_letters, judge_records, judge_verdicts
from tests.soak.records import EPOCH, Probe, Text, Told

if TYPE_CHECKING:
    from tests.parts.oracle import Subscription

PATIENT: Subscription = ("loc-1", "+12025550101")
LIMIT = 20.0


def text(word: str, at: int, *, sent: float | None = None, acked: float | None = None, offset: int = 0) -> Text:
    """Return a text of the patient, dated `at` seconds and sent then."""
    sent = float(at) if sent is None else sent
    return Text(PATIENT, word == "STOP", at * 1000, sent, acked, ("inbound", 0, offset))


def probe(kind: str, began: float, *, limit: float | None = None) -> Probe:
    """Return a verdict that took a tenth of a second."""
    return Probe("kept", limit, PATIENT, kind, "", began, began + 0.1)


def test_a_stop_in_force_forbids_allowed() -> None:
    """ALLOWED after SUPPRESSED is found, where no START was sent meanwhile."""
    seen = [probe("SUPPRESSED", 2), probe("UNKNOWN", 3), probe("ALLOWED", 4)]
    (wrong,) = judge_verdicts([text("STOP", 1)], [], seen)
    assert wrong.probe is seen[2]


def test_a_published_stop_forbids_allowed() -> None:
    """ALLOWED after the change was told is found, even if no probe saw the STOP in force."""
    told = [Told(PATIENT, out=True, at=1000, seen=2.0)]
    assert judge_verdicts([text("STOP", 1)], told, [probe("ALLOWED", 3)])
    assert not judge_verdicts([text("STOP", 1)], told, [probe("ALLOWED", 1.5)])


def test_a_newer_start_explains_allowed() -> None:
    """A START that was sent before the verdict was there, and is dated later, makes ALLOWED right."""
    texts = [text("STOP", 1), text("START", 3)]
    assert not judge_verdicts(texts, [], [probe("SUPPRESSED", 2), probe("ALLOWED", 2.95)])
    assert judge_verdicts(texts, [], [probe("SUPPRESSED", 2), probe("ALLOWED", 2.5)])


def test_an_older_start_explains_nothing() -> None:
    """A START that is dated before the STOP does not make ALLOWED right, however late it was sent."""
    texts = [text("STOP", 5), text("START", 4, sent=8)]
    assert judge_verdicts(texts, [], [probe("SUPPRESSED", 7), probe("ALLOWED", 9)])


def test_a_start_of_the_same_time_explains_nothing() -> None:
    """At the same time the opt-out holds."""
    texts = [text("STOP", 5), text("START", 5)]
    assert judge_verdicts(texts, [], [probe("SUPPRESSED", 7), probe("ALLOWED", 9)])


def test_a_verdict_proves_only_the_oldest_stop_that_explains_it() -> None:
    """While a second STOP is on its way SUPPRESSED may be of the first, and ALLOWED by the START between is right."""
    texts = [text("STOP", 1), text("START", 2), text("STOP", 3)]
    assert not judge_verdicts(texts, [], [probe("SUPPRESSED", 4), probe("ALLOWED", 5)])
    first = probe("ALLOWED", 4.5)
    assert judge_verdicts(texts, [Told(PATIENT, out=True, at=3000, seen=4.4)], [probe("SUPPRESSED", 4), first])


def test_verdicts_at_the_same_time_prove_nothing_of_each_other() -> None:
    """A verdict counts as known only once it was there."""
    assert not judge_verdicts([text("STOP", 1)], [], [probe("SUPPRESSED", 2.0), probe("ALLOWED", 2.05)])


def test_a_guard_with_a_greatest_age_must_know_older_stops() -> None:
    """A STOP that Kafka has had for longer than the guard's age forbids ALLOWED, even if nobody ever applied it."""
    texts = [text("STOP", 1, acked=1.5)]
    assert judge_verdicts(texts, [], [probe("ALLOWED", 21.6, limit=LIMIT)])
    assert not judge_verdicts(texts, [], [probe("ALLOWED", 21.4, limit=LIMIT)])
    assert not judge_verdicts(texts, [], [probe("ALLOWED", 100)])


def test_suppressed_without_a_stop_is_found() -> None:
    """SUPPRESSED for a patient who never sent STOP, or after a newer START was told, is found."""
    assert judge_verdicts([text("START", 1)], [], [probe("SUPPRESSED", 2)])
    told = [Told(PATIENT, out=False, at=3000, seen=4.0)]
    assert judge_verdicts([text("STOP", 1), text("START", 3)], told, [probe("SUPPRESSED", 5)])


# The records: two patients' worth of ledger, told in full


def line(offset: int, word: str, at: int) -> Written:
    """Return the ledger's record of a text."""
    return Written(
        0,
        offset,
        0,
        {
            "location_id": PATIENT[0],
            "patient_number": PATIENT[1],
            "action": "OPT_OUT" if word == "STOP" else "OPT_IN",
            "event_time": EPOCH + timedelta(seconds=at),
            "origin": {"topic": "inbound", "partition": 0, "offset": offset},
        },
    )


def told(place: int, offset: int, status: str, version: int) -> Written:
    """Return the published change of a ledger record, at some place of its topic."""
    record: dict[str, Any] = {
        "location_id": PATIENT[0],
        "patient_number": PATIENT[1],
        "status": status,
        "version": version,
        "ledger": {"partition": 0, "offset": offset},
    }
    return Written(0, place, 0, record)


TEXTS = [text("STOP", 1, offset=0), text("START", 2, offset=1), text("STOP", 3, offset=2)]
LEDGER = [line(0, "STOP", 1), line(1, "START", 2), line(2, "STOP", 3)]
CHANGED = [told(0, 0, "OPTED_OUT", 1), told(1, 1, "OPTED_IN", 2), told(2, 2, "OPTED_OUT", 3)]


def judged(**other: Any) -> Judgement:
    """Judge the run above, with some of its records replaced."""
    records = {"texts": TEXTS, "ledger": LEDGER, "changed": CHANGED, "confirmations": CHANGED, "members": {PATIENT}}
    return judge_records(**{**records, **other})


def test_a_whole_run_is_found_whole() -> None:
    """Where everything was told once, nothing is found; a keyword that stands twice in the ledger is no fault."""
    assert judged() == Judgement()
    again = line(3, "STOP", 3)
    again.record["origin"]["offset"] = 2
    assert judged(ledger=[*LEDGER, again]) == Judgement()


@pytest.mark.parametrize("what", ["changed", "confirmations"])
def test_what_is_lost_or_doubled_is_found(what: str) -> None:
    """A change or a confirmation that is missing, stands twice, or is of nothing is found."""
    assert len(judged(**{what: CHANGED[:1] + CHANGED[2:]}).lost) == 1
    assert len(judged(**{what: [*CHANGED, told(3, 1, "OPTED_IN", 2)]}).doubled) == 1
    assert len(judged(**{what: [*CHANGED, told(3, 7, "OPTED_IN", 4)]}).doubled) == 1


def test_versions_out_of_order_are_found() -> None:
    """A reader who meets version 2 before version 1 is noticed."""
    swapped = [told(1, 0, "OPTED_OUT", 1), told(0, 1, "OPTED_IN", 2), told(2, 2, "OPTED_OUT", 3)]
    found = judged(changed=swapped)
    assert not found.lost
    assert len(found.other) == 1


def test_a_wrong_version_is_found() -> None:
    """A change under another version than its own counts as lost, and what was told in its place as doubled."""
    found = judged(changed=[*CHANGED[:2], told(2, 2, "OPTED_OUT", 4)])
    assert (len(found.lost), len(found.doubled)) == (1, 1)


def test_a_keyword_that_never_reached_the_ledger_is_found() -> None:
    """What Kafka has of inbound and the ledger has not is lost, though the changes agree with the ledger."""
    found = judged(ledger=LEDGER[:2], changed=CHANGED[:2], confirmations=CHANGED[:2], members=set())
    assert any("not in the ledger" in sentence for sentence in found.lost)


def test_a_ledger_that_says_something_else_is_found() -> None:
    """A record with another time or action than was sent is found, and so is one of nothing."""
    assert judged(ledger=[*LEDGER[:2], line(2, "STOP", 4)]).other
    assert judged(ledger=[*LEDGER, line(9, "STOP", 3)]).other


def test_a_wrong_suppression_set_is_found() -> None:
    """A patient missing in the set is lost; one too many is a fault."""
    assert judged(members=set()).lost
    assert judged(members={PATIENT, ("loc-2", PATIENT[1])}).other


def test_old_answer_of_one_who_is_opted_out() -> None:
    """SUPPRESSED may be older than a guard accepts, by as much as it says itself; ALLOWED may not."""
    texts = [text("STOP", 1), text("START", 3, acked=3)]
    seen = [probe("SUPPRESSED", 2), probe("SUPPRESSED", 30, limit=20)._replace(age=28)]
    assert not judge_verdicts(texts, [], seen)
    assert judge_verdicts(texts, [], [seen[0], seen[1]._replace(age=None)])
    assert judge_verdicts(texts, [], [seen[0], seen[1]._replace(age=22)])
    later = [text("START", 1), text("STOP", 3, acked=3)]
    assert judge_verdicts(later, [], [probe("ALLOWED", 30, limit=20)._replace(age=28)])


def test_poison_that_is_no_dead_letter_is_found() -> None:
    """A record that nobody can read must be a dead letter, also twice, and what can be read must not."""
    one, other = ("in", 0, 7), ("in", 1, 8)
    assert judge_letters([one], [one, one]) == []
    assert len(judge_letters([one], [])) == len(judge_letters([], [other])) == 1

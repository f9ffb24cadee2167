"""The time: it covers no text that is not in this ledger, whenever the text came and whoever read it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from consumer import inbound as topics
from consumer import voucher as module
from consumer.kafka.errors import KafkaGone
from consumer.ledger import LedgerFault
from tests.integration.test_voucher import HERE, OK, PATIENT, SUPPRESSED, offsets
from tests.parts.fake_kafka.installed import one_after_another
from tests.parts.system import Classifying, System, Watched, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.test_voucher import Bench

QUESTIONS = ("servers", "metas", "audit", "kept", "partitions", "starts", "ends")


def now() -> int:
    return time.time_ns() // 1_000_000


@one_after_another()
def test_no_text_comes_in_between_two_questions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in a pass a STOP comes in, the pass vouches for a time before it."""
    monkeypatch.setattr(module, "AUDIT_EVERY", 0.0)  # each pass asks the same
    pending: list[Callable[[], None]] = []
    left, sent = 0, 0

    def asked() -> None:
        nonlocal left
        left -= 1
        if left == 0 and pending:
            pending.pop()()

    def come_in() -> None:
        nonlocal sent
        time.sleep(0.002)
        sent = now()
        bench.text("STOP")

    questions = dict.fromkeys(QUESTIONS, asked)
    bench.view = Watched(bench.plain_view, after=questions)
    bench.offsets = Watched(offsets(bench.system), after=questions)
    bench.voucher = bench.new_voucher()
    assert bench.voucher.vouch() == OK
    left = 0  # the first pass asks for the partitions once more
    assert bench.voucher.vouch() == OK
    asked_in_all = -left
    for between in range(1, asked_in_all + 1):
        pending.append(come_in)
        left = between
        bench.voucher.vouch()
        assert not pending, f"nothing came after question {between}"
        assert bench.fresh() < sent, f"vouched for {bench.fresh()}, and a STOP of {sent} came after question {between}"
        bench.classify((PATIENT, "STOP"))
        bench.apply()
        assert bench.voucher.vouch() == OK
        assert bench.fresh() >= sent
        assert bench.verdict() == SUPPRESSED


@pytest.fixture
def elsewhere(bench: Bench, tmp_path: Path) -> Iterator[System]:
    """The same inbound and groups with another ledger: somebody's wrong setting."""
    ours = bench.system
    with System(ours.bootstrap, ours.redis_url, ours.prefix, tmp_path, buckets=1) as other:
        other.topics["ledger"] = f"{ours.prefix}another-ledger"
        other.make_topics(ledger=1)
        yield other


def test_texts_that_went_into_another_ledger(bench: Bench, elsewhere: System) -> None:
    """A STOP that stands in another ledger is never covered, and nobody goes on behind it in ours."""
    system = bench.system
    assert bench.voucher.vouch() == OK
    system.expire("classify")  # else the stranger would find ours, and refuse in its turn
    sent = now()
    bench.text("STOP")
    stranger = Classifying(elsewhere)
    stranger.until(lambda: system.committed("classify", "inbound") == {0: 1})
    stranger.die()
    assert (len(elsewhere.read("ledger")), len(system.read("ledger"))) == (1, 0)
    bench.voucher.vouch()
    assert bench.fresh() < sent
    classifier = Classifying(system)
    with pytest.raises(LedgerFault, match="into another ledger"):
        classifier.until(lambda: bench.voucher.vouch() == OK and bench.fresh() >= sent)
    bench.voucher.vouch()
    assert bench.fresh() < sent


@pytest.fixture
def note(bench: Bench) -> str:
    """What a classifier names in its commits of inbound as it is now; it has read two texts."""
    system = bench.system
    for _ in range(2):
        bench.text("hello")
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == {0: 2})
    classifier.die()
    return classifier.classifier._watch.notes[system.topics["inbound"]]


def made_anew(bench: Bench, note: str) -> int:
    """Let another topic take inbound's place with a STOP in it; commit what one does that did not notice."""
    system = bench.system
    system.make_anew("inbound")
    wait_for("inbound is there", lambda: system.ends("inbound") == {0: 0})
    sent = now()
    bench.text("STOP")
    bench.text("hello")
    system.commit("classify", "inbound", {0: 2}, note)
    return sent


def test_offset_of_an_inbound_that_is_gone(bench: Bench, note: str) -> None:
    """What was reached in an inbound topic that was deleted covers nothing of its successor, which is read whole."""
    system = bench.system
    assert bench.voucher.vouch() == OK
    sent = made_anew(bench, note)
    bench.voucher.vouch()
    assert bench.fresh() < sent
    successor = Classifying(system)
    successor.until(lambda: len(system.read("ledger")) == 1)
    bench.apply()
    wait_for("covered", lambda: bench.voucher.vouch() == OK and bench.fresh() >= sent)
    assert bench.verdict() == SUPPRESSED


def test_inbound_that_is_made_anew_while_a_pass_begins(bench: Bench, note: str) -> None:
    """Whose offsets count is asked behind the clock: what a successor holds is of a later time."""
    assert bench.voucher.vouch() == OK
    sent: list[int] = []

    def first() -> None:
        if not sent:
            sent.append(made_anew(bench, note))

    bench.view = Watched(bench.plain_view, before={"servers": first})
    bench.voucher = bench.new_voucher()
    bench.voucher.vouch()
    assert bench.fresh() < sent[0]


def test_classifier_whose_inbound_is_made_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier ends when it finds that its inbound is another topic."""
    system = bench.system
    monkeypatch.setattr(topics, "IDENTIFY_EVERY", 0.0)
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == {0: 0})
    system.make_anew("inbound")
    with pytest.raises(KafkaGone, match="is another topic than it was"):
        classifier.until(lambda: False)


def test_stop_behind_an_open_transaction(bench: Bench) -> None:
    """A STOP behind a transaction that is open is covered by no time before it is in force, however long that takes."""
    system = bench.system
    classifier = Classifying(system)
    classifier.until(lambda: bench.voucher.vouch() == OK)
    upstream = system.transaction("inbound", system.text(inbound(HERE, PATIENT, "START")))
    sent = bench.text("STOP")
    for _ in range(5):
        classifier.classify(3)
        assert system.committed("classify", "inbound") == {0: 0}
        bench.voucher.vouch()
        assert bench.fresh() < sent
    upstream.abort_transaction(10)
    classifier.until(lambda: system.committed("classify", "inbound") == system.ends("inbound") == {0: 3})
    bench.apply()
    wait_for("covered", lambda: bench.voucher.vouch() == OK and bench.fresh() >= sent)
    assert bench.verdict() == SUPPRESSED
    assert len(system.read("ledger")) == 1  # what was aborted opens nothing

"""A number with two spellings, from inbound to the sets: what a patient says under one holds under both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.parts.system import Applying, Classifying, System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE = "loc-1"
PATIENT = "+12025550143"
PAIRS = [
    ("+525512345678", "+5215512345678"),
    ("+5561999998888", "+556199998888"),
    ("+2290190011234", "+22990011234"),
    ("+5491123456789", "+541123456789"),
]
EVERYBODY = {number for pair in PAIRS for number in pair}
ONE_OF_EACH = [pair[place % 2] for place, pair in enumerate(PAIRS)]
THE_OTHERS = [pair[(place + 1) % 2] for place, pair in enumerate(PAIRS)]


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.create_topics()
        yield deployment


def deliver(system: System, classifier: Classifying, applier: Applying, *texts: tuple[str, str]) -> None:
    """Let these texts (number, body) come in, and have everything done that becomes of them."""
    system.write("inbound", *((0, system.text(inbound(HERE, number, body))) for number, body in texts))
    classifier.until(lambda: system.committed("classify", "inbound") == system.ends("inbound"))

    def applied() -> bool:
        applier.apply()
        return system.metas("applied") == system.ends("ledger")

    wait_for("it is applied", applied)
    wait_for("it is told", applier.publish)


def out(system: System) -> set[str]:
    """Return whom a reader finds in the set that asks for a number as it is given, as guards before did."""
    return {number for _, number in system.members()}


def test_a_text_under_one_spelling_holds_under_both(system: System) -> None:
    """A STOP is in force under either spelling, a START of the other opens both, and each is confirmed once."""
    classifier, applier = Classifying(system), Applying(system, confirms=True)
    deliver(system, classifier, applier, *[(number, "STOP") for number in ONE_OF_EACH])
    assert out(system) == EVERYBODY
    deliver(system, classifier, applier, *[(number, "START") for number in THE_OTHERS])
    assert out(system) == set()
    confirmed = [record.record for record in system.read("confirmations")]
    assert sorted(one["status"] for one in confirmed) == ["OPTED_IN"] * len(PAIRS) + ["OPTED_OUT"] * len(PAIRS)
    assert {today for today, _ in PAIRS} <= {one["patient_number"] for one in confirmed} <= {*ONE_OF_EACH, *THE_OTHERS}
    assert not {"+5215512345678", "+556199998888", "+22990011234"} & {one["patient_number"] for one in confirmed}
    told = [record.record for record in system.read("changed")]
    assert sorted((one["patient_number"], one["version"]) for one in told) == sorted(
        (number, version) for number in EVERYBODY for version in (1, 2)
    )
    assert classifier.ops.value("optout_inbound_outcomes_total", outcome="opt_out") == len(PAIRS)


def test_a_ledger_of_the_version_before(system: System) -> None:
    """What it holds under one spelling, or under what is no number today, stays so; a START opens both."""
    classifier, applier = Classifying(system), Applying(system)
    nobody = "+10000000000"
    system.append(*[(HERE, number, "STOP") for number in (*ONE_OF_EACH, PATIENT, nobody)])
    deliver(system, classifier, applier)
    assert out(system) == {*ONE_OF_EACH, PATIENT, nobody}
    deliver(system, classifier, applier, *[(number, "START") for number in THE_OTHERS])
    assert out(system) == {PATIENT, nobody}
    assert "2 buckets compared: 2 x bucket\n" in system.run("verify").stdout  # nobody vouches, and all else is right
    for number, status in ((nobody, "opted out"), (THE_OTHERS[0], "opted in")):
        told = system.run("history", HERE, number)
        assert told.returncode == 0, told.stderr
        assert f"{HERE}: {status}" in told.stdout.splitlines()[0]
    told = system.run("history", "--json", HERE, PAIRS[1][0])
    steps = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(step["patient_number"], step["decision"]) for step in steps] == [
        (PAIRS[1][1], "CHANGED"),
        (PAIRS[1][0], "UNCHANGED"),
        (PAIRS[1][1], "CHANGED"),
    ]


def test_a_number_that_is_none_opts_out_nobody(system: System) -> None:
    """A STOP whose number is no number is put aside as one that somebody must look at, and opts out no other number."""
    classifier, applier = Classifying(system), Applying(system)
    wrong = ["1202555O145", "0000000000", "CANARY13035550146", "202-555-0143 x12", "+11202555145", "+120255501430"]
    deliver(system, classifier, applier, *[(number, "STOP") for number in wrong], (f"WhatsApp:{PATIENT}", "STOP"))
    assert out(system) == {PATIENT}
    letters = [dict(letter.record["headers"]) for letter in system.read("dead")]
    assert [letter["optout.reason"] for letter in letters] == [b"unattributable-opt-out"] * len(wrong)
    assert any("nobody can be named for" in str(call.args[0]) for call in classifier.logger.calls)

"""What is believed of a ledger record: all that a released classifier can have written, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import phonenumbers
import pytest

from consumer.domain.event_time import BROKER_SKEW_MS
from consumer.domain.events import Action, KeywordRecord
from consumer.ledger import Ledger, StoppedBucket
from consumer.wire.codec import Codec
from consumer.wire.records import from_datum
from consumer.wire.schemas import Schemas, schemas_directory

if TYPE_CHECKING:
    from consumer.domain.bucket import Entry

CODEC = Codec(Schemas())
LEDGER = Ledger("ledger", "id", 1, "group", lambda value: CODEC.decode(KeywordRecord, value))
AT = 1_780_000_000_000


def record(action: Action = Action.OPT_OUT, **fields: Any) -> KeywordRecord:
    text = (schemas_directory() / "examples" / "KeywordRecord.json").read_text("utf-8")
    example = from_datum(KeywordRecord, json.loads(text)[0])
    return replace(example, cause=replace(example.cause, action=action), **fields)  # type: ignore[arg-type]


def entry(written: KeywordRecord, appended: int | None = None) -> Entry:
    return LEDGER.entry(CODEC.encode(written), 0, 7, appended)


NONE = (
    *("", "+", "+epoch", "epoch", "12025550143", "++12025550143", "+-1", "+" + "1" * 21),
    *("+1202555O143", "+1 2025550143", "+12025550143\n", "+12025550143:I", "+١٢٠٢"),
)


@pytest.mark.parametrize("number", NONE)
def test_what_is_no_number_stops_its_bucket(number: str) -> None:
    """A number that no classifier wrote is never a field in Redis, and the sentence does not quote it."""
    with pytest.raises(StoppedBucket, match=r"ledger \[0\] stops at offset 7: no classifier wrote it") as stopped:
        entry(record(patient_number=number))
    assert not number or number not in str(stopped.value)


@pytest.mark.parametrize("number", ["+10000000000", "+1", "+" + "9" * 20, "+11202555145", "+5215550100"])
def test_what_was_a_number_once_is_one(number: str) -> None:
    """A number that today's rules would refuse stays in force: some version took it for one."""
    assert entry(record(patient_number=number)).digits == number[1:]


def test_no_number_was_ever_longer() -> None:
    """The phone library knows no country whose numbers are longer than what is believed."""
    metadata = [phonenumbers.PhoneMetadata.metadata_for_region(code, None) for code in phonenumbers.SUPPORTED_REGIONS]
    lengths = [max(one.general_desc.possible_length) for one in metadata if one and one.general_desc]
    assert max(lengths) <= 17
    assert max(phonenumbers.COUNTRY_CODE_TO_REGION_CODE) <= 999


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("appended", [None, AT])
@pytest.mark.parametrize("ahead", [-(2**40), 0, 15 * 60_000, BROKER_SKEW_MS, BROKER_SKEW_MS + 1, 2**50])
def test_an_opt_in_from_the_future_stops_its_bucket(action: Action, appended: int | None, ahead: int) -> None:
    """An opt-in dated an hour and more ahead of its broker stops its bucket; a broker that lags by minutes does not."""
    written = record(action, event_time=AT + ahead)
    if action is Action.OPT_IN and appended is not None and ahead > BROKER_SKEW_MS:
        with pytest.raises(StoppedBucket, match="an opt-in of a later time"):
            entry(written, appended)
    else:
        assert entry(written, appended).event_time == AT + ahead


def test_lengths_are_no_reason_to_stop() -> None:
    """Evidence of any length, and none, is believed: it stands in ledgers already."""
    written = record()
    long = replace(written, origin=replace(written.origin, message_id="x" * 1_000_000, provider=""))
    assert len(entry(long).raw) > 1_000_000
    assert entry(replace(record(), location_id="x" * 300)).location_id == "x" * 300

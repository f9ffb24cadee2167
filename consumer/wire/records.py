"""Records as the flat values that Avro knows, and back. Where the rules that no schema can state are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from consumer.domain.events import (
    Action,
    ConfirmationRequested,
    InboundMessage,
    KeywordRecord,
    LedgerPosition,
    OperatorAction,
    OperatorActionKind,
    OptOutRequested,
    Origin,
    PatientKeyword,
    RequestedOptOut,
    ReviewReason,
    ReviewRequested,
    Skip,
    Source,
    Status,
    SubscriptionChanged,
)
from consumer.wire.errors import Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Record = (
    InboundMessage
    | OptOutRequested
    | KeywordRecord
    | SubscriptionChanged
    | ConfirmationRequested
    | ReviewRequested
    | OperatorAction
    | Skip
)
R = TypeVar("R", bound=Record)
Datum = dict[str, Any]
"""A record's fields by name, nested records as mappings."""

_REQUEST_SOURCES: Mapping[str, Literal[Source.IMPORT, Source.PROVIDER_BLOCK]] = {
    "IMPORT": Source.IMPORT,
    "PROVIDER_BLOCK": Source.PROVIDER_BLOCK,
}


def to_datum(record: Record) -> Datum:
    """Return the fields of a record as its schema names them."""
    datum = _fields(record)
    if isinstance(record, KeywordRecord):
        cause = datum.pop("cause")
        datum |= {"raw_body": None, "rule": None, "pack": None, "pack_version": None, **_fields(cause)}
        datum |= {"action": cause.action, "source": cause.source, "shared_with": list(record.shared_with)}
    if isinstance(record, OperatorAction):
        datum |= {"buckets": list(record.buckets), "places": list(record.places)}
    for nested in ("origin", "ledger"):
        if nested in datum:
            datum[nested] = _fields(datum[nested])
    return datum


def from_datum(kind: type[R], datum: Datum) -> R:
    """Return the record of these fields. Raises Unreadable for one that the rules of the product do not know."""
    try:
        return cast("R", _BUILDERS[kind](datum))
    except (KeyError, ValueError):  # an enum's value
        raise Unreadable(Reason.UNKNOWN_SYMBOL) from None


def _fields(value: Any) -> Datum:
    return {name: getattr(value, name) for name in value.__slots__}


def _opt_out_requested(datum: Datum) -> OptOutRequested:
    return OptOutRequested(**datum | {"source": _REQUEST_SOURCES[datum["source"]]})


def _keyword_record(datum: Datum) -> KeywordRecord:
    return KeywordRecord(
        location_id=datum["location_id"],
        patient_number=datum["patient_number"],
        location_number=datum["location_number"],
        cause=_cause(datum),
        event_time=datum["event_time"],
        recorded_at=datum["recorded_at"],
        origin=Origin(**datum["origin"]),
        shared_with=tuple(datum["shared_with"]),
    )


def _cause(datum: Datum) -> PatientKeyword | RequestedOptOut:
    action, source = Action(datum["action"]), Source(datum["source"])
    if source is Source.PATIENT_KEYWORD:
        evidence = {name: datum[name] for name in ("keyword", "raw_body", "rule", "pack", "pack_version")}
        if None in evidence.values():
            raise Unreadable(Reason.INCOMPLETE_KEYWORD)
        return PatientKeyword(action=action, **evidence)
    if action is not Action.OPT_OUT:
        raise Unreadable(Reason.OPT_IN_BY_OTHER)
    return RequestedOptOut(source=_REQUEST_SOURCES[source], keyword=datum["keyword"])


def _subscription_changed(datum: Datum) -> SubscriptionChanged:
    return SubscriptionChanged(
        **datum
        | {
            "status": Status(datum["status"]),
            "previous_status": Status(datum["previous_status"]),
            "source": Source(datum["source"]),
            "ledger": LedgerPosition(**datum["ledger"]),
            "origin": Origin(**datum["origin"]),
        }
    )


def _confirmation_requested(datum: Datum) -> ConfirmationRequested:
    return ConfirmationRequested(
        **datum | {"status": Status(datum["status"]), "ledger": LedgerPosition(**datum["ledger"])}
    )


def _review_requested(datum: Datum) -> ReviewRequested:
    return ReviewRequested(**datum | {"reason": ReviewReason(datum["reason"]), "origin": Origin(**datum["origin"])})


def _operator_action(datum: Datum) -> OperatorAction:
    lists = {name: tuple(datum[name]) for name in ("buckets", "places")}
    return OperatorAction(**datum | lists | {"action": OperatorActionKind(datum["action"])})


_BUILDERS: Mapping[type[Any], Callable[[Datum], Record]] = {
    InboundMessage: lambda datum: InboundMessage(**datum),
    OptOutRequested: _opt_out_requested,
    KeywordRecord: _keyword_record,
    SubscriptionChanged: _subscription_changed,
    ConfirmationRequested: _confirmation_requested,
    ReviewRequested: _review_requested,
    OperatorAction: _operator_action,
    Skip: lambda datum: Skip(**datum),
}

KINDS: tuple[type[Any], ...] = tuple(_BUILDERS)
"""The classes of all records."""

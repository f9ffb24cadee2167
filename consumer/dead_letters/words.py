"""Dead letters for a person and for a program. No key, body or number but where somebody asks for the content."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from consumer import letter
from consumer.domain.buckets import is_location
from consumer.domain.events import InboundMessage, OptOutRequested
from consumer.domain.phone import NotANumber, to_e164
from consumer.domain.words import at, printable
from consumer.letter import UNATTRIBUTABLE, UNATTRIBUTABLE_OPT_IN
from consumer.wire.codec import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from consumer.dead_letters.reading import Found
    from consumer.kafka.inbox import Message
    from consumer.letter import Letter, Place
    from consumer.wire.codec import Codec

LONGEST_DUMP = 1024
"""Bytes of what cannot be decoded that are shown."""
BYTES_A_LINE = 32


def as_dict(found: Letter, again: Place | None) -> dict[str, Any]:
    """Return a letter as JSON has it; times in ms since the epoch."""
    return {
        "letter": name(found.place),
        "recorded_at": found.recorded_at,
        "first_kafka_timestamp": found.first_kafka_timestamp,
        "reason": found.reason,
        "source": None if found.source is None else found.source._asdict(),
        "stage": found.stage,
        "exception": found.exception,
        "size": found.size,
        "whole": None if found.whole is None else found.whole._asdict(),
        "replay_of": None if found.replay_of is None else name(found.replay_of),
        "superseded_by": None if again is None else name(again),
    }


def table(found: Found) -> Iterator[str]:
    """Return a line for each letter, the newest last."""
    rows = [("letter", "put aside", "reason", "came from", "bytes", "")]
    for each in found.letters:
        again = found.again.get(each.place)
        rows.append(
            (
                name(each.place),
                at(each.recorded_at),
                printable(each.reason) or "(none given)",
                "(not said)" if each.source is None else printable(str(each.source)),
                str(each.size) if each.whole is None else f"{each.size} of {each.whole.value + each.whole.key}",
                "" if again is None else f"came back as {name(again)}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def summary(found: Found) -> Iterator[str]:
    """Return how many letters wait, by reason: first the opt-outs that nobody can be named for."""
    letters = found.open
    reasons = Counter(each.reason for each in letters)
    lost = reasons.pop(UNATTRIBUTABLE, 0)
    if lost:
        yield (
            f"{lost} opt-out{'s' * (lost != 1)} that nobody can be named for ({UNATTRIBUTABLE}): not in force, find "
            "out whose"
        )
    if reasons:
        listed = ", ".join(f"{printable(reason) or '(no reason)'} {count}" for reason, count in reasons.most_common())
        yield f"{reasons.total()} {'others' if lost else 'in all'}: {listed}"
    if in_part := sum(each.whole is not None for each in letters):
        yield f"{in_part} that hold only the beginning of a record: it was too large for this topic, see `show`"
    if came_back := len(found.letters) - len(letters):
        yield f"{came_back} that came back after a replay: a newer one stands for each"
    if left_out := found.matching - len(found.letters):
        yield f"{left_out} older ones are not shown"


def described(message: Message, codec: Codec | None, requests: str, region: str) -> Iterator[str]:
    """Return all that is known of one letter; with a codec what it holds, too.

    `requests` is the topic of requests, `region` that of numbers without a country code.
    """
    found = letter.read(message)
    key, value = message.key(), message.value()
    size = [f"{what} {'none' if part is None else len(part)}" for what, part in (("key", key), ("value", value))]
    first = found.first_kafka_timestamp
    rows = [
        ("letter", str(found.place)),
        ("reason", found.reason or "(none given)"),
        ("came from", "(not said)" if found.source is None else str(found.source)),
        ("first came in", at(first) if first >= 0 else "(no time)"),
        ("put aside", at(found.recorded_at)),
        ("dated", at(found.timestamp) if found.timestamp >= 0 else "(no time)"),
        ("failed in", f"{found.stage} {found.exception}".strip() or "(not said)"),
        ("bytes", ", ".join(size)),
    ]
    if found.whole is not None:
        rows.append(("in part, of", str(found.whole)))
    if found.replay_of is not None:
        rows.append(("replay of", name(found.replay_of)))
    yield from _aligned(rows)
    yield ""
    yield from _headers(message, shown=codec is not None)
    if codec is not None:
        yield ""
        yield from _content(message, codec, found, requests, region)


def _headers(message: Message, *, shown: bool) -> Iterator[str]:
    theirs, ours = letter.opened(letter.headers_of(message))
    yield "headers of the record" + ("" if theirs else ": none")
    hidden = [(key, value if shown else _length(value)) for key, value in theirs]
    yield from _indented(_aligned((key, value if isinstance(value, str) else _said(value)) for key, value in hidden))
    yield "headers of the letter" + ("" if ours else ": none")
    yield from _indented(_aligned((key, _said(value)) for key, value in ours))


def _content(message: Message, codec: Codec, found: Letter, requests: str, region: str) -> Iterator[str]:
    yield f"key: {_said(message.key())}"
    value = letter.as_bytes(message.value())
    if found.whole is not None:
        yield "value: its first bytes:"
        yield from _indented(_dump(value or b""))
        return
    of_requests = found.source is not None and found.source.topic == requests
    try:
        record: InboundMessage | OptOutRequested
        record = codec.decode(OptOutRequested, value) if of_requests else codec.decode(InboundMessage, value)
    except Unreadable as problem:
        yield f"value: it cannot be read ({problem})" + ("" if value is None else "; its bytes:")
        yield from _indented(_dump(value or b""))
        return
    yield f"value: {type(record).__name__}"
    yield from _indented(
        _aligned((field, "(none)" if said is None else str(said)) for field, said in asdict(record).items())
    )
    if found.reason in (UNATTRIBUTABLE, UNATTRIBUTABLE_OPT_IN):
        yield f"location and number: {_unattributable(record, region)}"


def _unattributable(record: InboundMessage | OptOutRequested, region: str) -> str:
    """Return why nobody can be named for a keyword, as this version reads it under this region."""
    if not is_location(record.location_id):
        return "the location is empty or too long"
    try:
        to_e164(record.patient_number, region)
    except NotANumber as problem:
        return str(problem)
    return "both are read now: replay it"


def _dump(value: bytes) -> Iterator[str]:
    shown = value[:LONGEST_DUMP]
    for start in range(0, len(shown), BYTES_A_LINE):
        yield shown[start : start + BYTES_A_LINE].hex(" ", 4)
    if len(value) > len(shown):
        yield f"and {len(value) - len(shown)} bytes more"


def name(place: Place) -> str:
    """Return a letter's name: its partition and offset."""
    return f"{place.partition}:{place.offset}"


def _length(value: str | bytes | None) -> str:
    return "(none)" if value is None else f"({len(value)} bytes: --content shows them)"


def _said(value: str | bytes | None) -> str:
    """Return what a key or header holds: text, or what is none in hexadecimal digits."""
    if value is None:
        return "(none)"
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        return f"0x{letter.as_bytes(value).hex()}"  # type: ignore[union-attr]


def _aligned(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    told: Sequence[tuple[str, str]] = [(printable(left), printable(right)) for left, right in rows]
    width = max((len(left) for left, _ in told), default=0)
    for left, right in told:
        yield f"{left.ljust(width)}  {right}".rstrip()


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"    {line}"

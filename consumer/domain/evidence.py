"""How much of what came in is kept as evidence and told to others.

What identifies a subscription, the location and the patient's number, is taken whole or refused. Everything else that
is copied from inbound is evidence: a megabyte in it must never keep a STOP from being in force, nor a change from being
told. So it is cut where it comes in, and once more where it is told, for a ledger keeps what older versions wrote. A
character takes up to four bytes of UTF-8, so each bound in bytes is four times the one in characters.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from consumer.domain.events import Origin

LONGEST_BODY = 4096
"""Characters of a text: a keyword among thousands of spaces is still seen as it was sent."""
LONGEST_ID = 512
"""Characters of a message's or a request's id. The longest that a provider gives has some dozens."""
LONGEST_NAME = 128
"""Characters of a number, and of what a provider calls itself or what it took a text for."""
LONGEST_WORD = 64
"""Characters of the word that a request brings."""
LONGEST_TOPIC = 249
"""Characters of a topic's name: Kafka's own limit."""
LARGEST_RECORD = 32 * 1024
"""Bytes that suffice for every record of ours, its key included, whatever came in. A test computes it."""


@overload
def cut(text: str, longest: int) -> str: ...
@overload
def cut(text: str | None, longest: int) -> str | None: ...
def cut(text: str | None, longest: int) -> str | None:
    """Return the text, or its beginning with a mark that tells how long it was and the digest of all of it.

    Both are at most `longest` characters long, and `longest` is at least LONGEST_WORD. What is cut is not cut again.
    """
    if text is None or len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    mark = f"…[cut: {len(text)}, sha256 {digest}]"
    return text[: longest - len(mark)] + mark


def bounded(origin: Origin) -> Origin:
    """Return the origin with each of its texts cut."""
    return replace(
        origin,
        topic=cut(origin.topic, LONGEST_TOPIC),
        message_id=cut(origin.message_id, LONGEST_ID),
        provider=cut(origin.provider, LONGEST_NAME),
        provider_opt_out_type=cut(origin.provider_opt_out_type, LONGEST_NAME),
    )

"""The confirmation of a change passes once: that of an opt-out is the one message to a patient who is opted out.

Each change that a patient's own text brings grants its confirmation a pass of five minutes, in the same step in which
it comes into force. The first one to ask takes it. Whatever becomes of Redis, none passes twice; one whose pass was
lost on the way is never sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from consumer.domain.buckets import bucket_of, bucket_prefix, meta_key, passes_key, set_key
from consumer.guard.answer import Garbled, taken_apart, why
from consumer.guard.checking import Checked, doubt
from consumer.guard.question import next_word, script
from consumer.guard.verdict import Unknown, Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.guard.answer import Rules
    from consumer.guard.checking import Doubted, Steps
    from consumer.nodes import Command

CONFIRM = script("confirm")
_EVENT_ID = re.compile(r"[0-9a-f]{32}")


def checked_event_id(event_id: object) -> str:
    """Return the id as it is. Raises ValueError for what is no `event_id` of a ConfirmationRequested."""
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
        raise ValueError("the event id of a confirmation is 32 hexadecimal digits, as its event has it")
    return str.__str__(event_id)


def question(location_id: str, members: Sequence[str], event_id: str, buckets: int, rules: Rules) -> tuple[str, ...]:
    """Return keys, then what is asked, behind the word. A number with two spellings has two members."""
    prefix = bucket_prefix(bucket_of(location_id, buckets), buckets)
    age = "" if rules.max_staleness_ms is None else str(int(rules.max_staleness_ms))
    member, *other = members
    keys = meta_key(prefix), set_key(prefix, location_id), passes_key(prefix)
    return (*keys, member, event_id, location_id, age, *other)


def command(asked: tuple[str, ...], word: str, *, with_source: bool = False) -> Command:
    """Return what to send: the only command of a guard that changes anything."""
    name, script = ("EVAL", CONFIRM.source) if with_source else ("EVALSHA", CONFIRM.digest)
    return (name, script, "3", *(key.encode() for key in asked[:3]), word, *(part.encode() for part in asked[3:]))


def claim(asked: tuple[str, ...], rules: Rules, doubted: Doubted) -> Steps:
    """Ask, and return the one verdict: see `checking`, whose steps it takes.

    Where the answer is lost it is not known whether the pass was taken. To ask again is safe: it finds none then.
    """
    word = next_word()
    (answer,) = yield [(asked[0], command(asked, word))]
    if isinstance(answer, NoScriptError):
        (answer,) = yield [(asked[0], command(asked, word, with_source=True))]
    found = verdict(answer, word, rules)
    doubt(asked[0], found.reason, doubted)
    return Checked([found], [(found.kind, found.reason, 1)])


def verdict(answer: Any, word: str, rules: Rules) -> Verdict:
    """Return what became of it: ALLOWED once, SUPPRESSED where there is no pass, UNKNOWN where nothing was taken."""
    if isinstance(answer, Exception):
        return Verdict(VerdictKind.UNKNOWN, why(answer))
    try:
        found = taken_apart(answer, word, 1)
        said = _SAID[found.records[0]]
    except (Garbled, KeyError, IndexError):
        return Verdict(VerdictKind.UNKNOWN, Unknown.GARBLED)
    standing = rules.standing(found)
    kind, reason = said if standing.reason is None else (VerdictKind.UNKNOWN, standing.reason)
    return Verdict(kind, reason, standing.now, standing.fresh)


_KINDS = {
    "PASSES": (VerdictKind.ALLOWED, None),
    "NONE": (VerdictKind.SUPPRESSED, None),
    "STALE": (VerdictKind.UNKNOWN, Unknown.STALE),
}
_SAID: dict[Any, tuple[VerdictKind, Unknown | None]] = _KINDS | {word.encode(): said for word, said in _KINDS.items()}

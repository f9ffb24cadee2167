"""What a guard asks Redis: which calls of the script answer for which numbers."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.buckets import bucket_of, bucket_prefix, digits_of, is_location, meta_key, set_key, state_key
from consumer.domain.phone import NotANumber, all_in_e164, to_e164
from consumer.domain.spellings import other_spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.nodes import Keyed

MOST_NUMBERS = 1000
"""Numbers in one call: a server answers nobody else meanwhile, and a script's stack is limited."""

_words = count(1)
_NONE: Mapping[int, str] = MappingProxyType({})


class Script(NamedTuple):
    """A Lua script of this package, and the digest by which Redis knows it."""

    source: str
    digest: str


def script(name: str) -> Script:
    """Return the script `name`.lua of this package."""
    source = files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


VERDICT = script("verdict")
VERDICTS = script("verdicts")
FEW = 8
"""Numbers of one location up to which the simple script is as fast as the other."""


class Call(NamedTuple):
    """One call: its keys, of one bucket, the marker's first; its argument, or several; and the places of its numbers.

    `spellings` says of each number under how many members it is asked about; None: each under one.

    It is asked under a word that no other call has, with which its answer must begin. A connection that was left with
    an answer unread (by an exception out of a signal, say) would else give it to the next question.
    """

    keys: tuple[str, ...]
    arguments: Sequence[str | bytes]
    places: Sequence[int]
    script: Script
    spellings: Sequence[int] | None = None

    @property
    def members(self) -> int:
        """Return how many members it asks about."""
        return len(self.places) if self.spellings is None else sum(self.spellings)

    def command(self, word: str, *, with_source: bool = False) -> Keyed:
        """Return what to send, and the key by which the server is found."""
        name, script = ("EVAL_RO", self.script.source) if with_source else ("EVALSHA_RO", self.script.digest)
        # A number as a text: where a signal comes while it packs a number, hiredis takes the process down. Keys as
        # bytes: a client that was told another encoding would ask for a set that nobody fills.
        keys = [key.encode() for key in self.keys]
        return self.keys[0], (name, script, str(len(keys)), *keys, word, *self.arguments)


def next_word() -> str:
    """Return a word that no other call of this process has."""
    return str(next(_words))


def checked_location(location_id: object) -> str:
    """Return a location id as it is. Raises ValueError for what can be none: nobody would be opted out there.

    Of an enumeration's member, which is a text and may be written as another one, the text itself.
    """
    if not isinstance(location_id, str):
        raise ValueError(f"the location must be a text, and is of type {type(location_id).__name__}")  # noqa: TRY004
    location_id = str.__str__(location_id)
    if not is_location(location_id):
        raise ValueError("the location is empty or too long")
    try:
        location_id.encode()
    except UnicodeEncodeError:
        raise ValueError("the location holds half a character: it cannot be written as UTF-8") from None
    return location_id


class Members(NamedTuple):
    """The members of a set that stand for some numbers; and, by their places, those of their other spellings."""

    members: list[str]
    others: Mapping[int, str]


def members_of(numbers: Sequence[str], region: str) -> Members:
    """Return the members that stand for these numbers. Raises NotANumber, saying which of them is none."""
    if isinstance(numbers, str):
        raise ValueError("the numbers must be a list of texts, and are one text")  # noqa: TRY004
    with suppress(TypeError):  # one of them is no text: below it is said which
        if len(numbers) > FEW and (lines := all_in_e164(numbers)) is not None:
            return Members(lines.replace("+", "").split("\n"), {})
    members = []
    others = {}
    for place, number in enumerate(numbers):
        if not isinstance(number, str):
            raise NotANumber(f"number {place + 1} of {len(numbers)} is no text: it is of type {type(number).__name__}")
        try:
            read = to_e164(str.__str__(number), region)
        except NotANumber as problem:
            if len(numbers) == 1:
                raise
            raise NotANumber(f"number {place + 1} of {len(numbers)}: {problem}") from None
        if other := other_spelling(read):
            others[place] = digits_of(other)
        members.append(digits_of(read))
    return Members(members, others)


def of_location(
    location_id: str, members: Sequence[str], buckets: int, *, why: bool, others: Mapping[int, str] = _NONE
) -> list[Call]:
    """Return the calls that ask about members of one location, and about the other spellings of some."""
    prefix = bucket_prefix(bucket_of(location_id, buckets), buckets)
    if len(members) + len(others) <= FEW:
        if not members:
            return []
        keys: tuple[str, ...] = (meta_key(prefix), set_key(prefix, location_id))
        if why:
            keys = (*keys, state_key(prefix, location_id))
        places = range(len(members))
        if not others:
            return [Call(keys, members, places, VERDICT)]
        return [Call(keys, _spelt(members, places, others), places, VERDICT, _spellings(places, others))]
    calls = []
    most = _most(others)
    for start in range(0, len(members), most):
        places = range(start, min(start + most, len(members)))
        calls.append(_call(prefix, members, {location_id: places}, places, others, why=why))
    return calls


def of_each(
    locations: Sequence[str], members: Sequence[str], buckets: int, *, why: bool, others: Mapping[int, str] = _NONE
) -> list[Call]:
    """Return the calls that ask about a member of a location each: one a bucket, as long as there is room in it."""
    by_bucket: dict[int, dict[str, list[int]]] = {}
    for place, location_id in enumerate(locations):
        by_location = by_bucket.setdefault(bucket_of(location_id, buckets), {})
        by_location.setdefault(location_id, []).append(place)
    calls: list[Call] = []
    for bucket, by_location in by_bucket.items():
        prefix = bucket_prefix(bucket, buckets)
        for share in _shared_out(by_location.items(), _most(others)):
            places = [place for places in share.values() for place in places]
            calls.append(_call(prefix, members, share, places, others, why=why))
    return calls


def _most(others: Mapping[int, str]) -> int:
    """Return how many numbers fit into a call, so that all spellings of one are asked about in the same."""
    return MOST_NUMBERS // 2 if others else MOST_NUMBERS


def _spelt(members: Sequence[str], places: Sequence[int], others: Mapping[int, str]) -> list[str]:
    """Return the members at these places, the other spelling of each behind it."""
    spelt = []
    for place in places:
        spelt.append(members[place])
        if place in others:
            spelt.append(others[place])
    return spelt


def _spellings(places: Sequence[int], others: Mapping[int, str]) -> list[int]:
    return [2 if place in others else 1 for place in places]


def _shared_out(by_location: Iterable[tuple[str, list[int]]], most: int) -> Iterable[dict[str, list[int]]]:
    """Yield locations and places so that no share holds more numbers than a call takes."""
    share: dict[str, list[int]] = {}
    room = most
    for location_id, places in by_location:
        left = places
        while left:
            share[location_id] = left[:room]
            left, room = left[room:], room - len(share[location_id])
            if not room:
                yield share
                share, room = {}, most
    if share:
        yield share


def _call(
    prefix: str,
    members: Sequence[str],
    share: Mapping[str, Sequence[int]],
    places: Sequence[int],
    others: Mapping[int, str],
    *,
    why: bool,
) -> Call:
    keys = [meta_key(prefix), *(set_key(prefix, location_id) for location_id in share)]
    if why:
        keys += [state_key(prefix, location_id) for location_id in share]
    if others:
        asked = [_packed(_spelt(members, own, others)) for own in share.values()]
    else:
        asked = [
            _packed(members[own.start : own.stop] if isinstance(own, range) else [members[place] for place in own])
            for own in share.values()
        ]
    packed = (_LIST[len(asked)] + "".join(asked)).encode("latin-1")
    return Call(tuple(keys), (packed,), places, VERDICTS, _spellings(places, others) if others else None)


# MessagePack: how a list of so many, and a text of so many characters, begin.
_LIST = [f"\xdc{chr(length >> 8)}{chr(length & 0xFF)}" for length in range(MOST_NUMBERS + 1)]
_TEXT = [chr(0xA0 + length) for length in range(32)]


def _packed(members: Sequence[str]) -> str:
    """Return a list of texts in MessagePack, as characters."""
    lengths = {*map(len, members)}
    if len(lengths) == 1:  # as those of one country are
        head = _TEXT[lengths.pop()]
        return f"{_LIST[len(members)]}{head}{head.join(members)}"
    return _LIST[len(members)] + "".join([_TEXT[len(member)] + member for member in members])

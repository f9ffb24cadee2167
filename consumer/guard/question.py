"""What a guard asks Redis: which calls of the script answer for which numbers."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.buckets import bucket_of, bucket_prefix, digits_of, is_location, meta_key, set_key, state_key
from consumer.domain.phone import NotANumber, all_in_e164, to_e164

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.nodes import Keyed

MOST_NUMBERS = 1000
"""Numbers in one call: a server answers nobody else meanwhile, and a script's stack is limited."""

_words = count(1)


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

    It is asked under a word that no other call has, with which its answer must begin. A connection that was left with
    an answer unread (by an exception out of a signal, say) would else give it to the next question.
    """

    keys: tuple[str, ...]
    arguments: Sequence[str | bytes]
    places: Sequence[int]
    script: Script

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


def members_of(numbers: Sequence[str], region: str) -> list[str]:
    """Return the members of a set that stand for these numbers. Raises NotANumber, saying which of them is none."""
    if isinstance(numbers, str):
        raise ValueError("the numbers must be a list of texts, and are one text")  # noqa: TRY004
    with suppress(TypeError):  # one of them is no text: below it is said which
        if len(numbers) > FEW and (lines := all_in_e164(numbers)) is not None:
            return lines.replace("+", "").split("\n")
    members = []
    for place, number in enumerate(numbers, 1):
        if not isinstance(number, str):
            raise NotANumber(f"number {place} of {len(numbers)} is no text: it is of type {type(number).__name__}")
        try:
            members.append(digits_of(to_e164(str.__str__(number), region)))
        except NotANumber as problem:
            if len(numbers) == 1:
                raise
            raise NotANumber(f"number {place} of {len(numbers)}: {problem}") from None
    return members


def of_location(location_id: str, members: Sequence[str], buckets: int, *, why: bool) -> list[Call]:
    """Return the calls that ask about members of one location."""
    prefix = bucket_prefix(bucket_of(location_id, buckets), buckets)
    if len(members) <= FEW:
        keys: tuple[str, ...] = (meta_key(prefix), set_key(prefix, location_id))
        if why:
            keys = (*keys, state_key(prefix, location_id))
        return [Call(keys, members, range(len(members)), VERDICT)] if members else []
    calls = []
    for start in range(0, len(members), MOST_NUMBERS):
        some = members[start : start + MOST_NUMBERS]
        calls.append(_call(prefix, {location_id: some}, range(start, start + len(some)), why=why))
    return calls


def of_each(locations: Sequence[str], members: Sequence[str], buckets: int, *, why: bool) -> list[Call]:
    """Return the calls that ask about a member of a location each: one a bucket, as long as there is room in it."""
    by_bucket: dict[int, dict[str, list[int]]] = {}
    for place, location_id in enumerate(locations):
        by_location = by_bucket.setdefault(bucket_of(location_id, buckets), {})
        by_location.setdefault(location_id, []).append(place)
    calls: list[Call] = []
    for bucket, by_location in by_bucket.items():
        prefix = bucket_prefix(bucket, buckets)
        for share in _shared_out(by_location.items()):
            asked = {location_id: [members[place] for place in places] for location_id, places in share.items()}
            calls.append(_call(prefix, asked, [place for places in share.values() for place in places], why=why))
    return calls


def _shared_out(by_location: Iterable[tuple[str, list[int]]]) -> Iterable[dict[str, list[int]]]:
    """Yield locations and places so that no share holds more numbers than a call takes."""
    share: dict[str, list[int]] = {}
    room = MOST_NUMBERS
    for location_id, places in by_location:
        left = places
        while left:
            share[location_id] = left[:room]
            left, room = left[room:], room - len(share[location_id])
            if not room:
                yield share
                share, room = {}, MOST_NUMBERS
    if share:
        yield share


def _call(prefix: str, asked: Mapping[str, Sequence[str]], places: Sequence[int], *, why: bool) -> Call:
    keys = [meta_key(prefix), *(set_key(prefix, location_id) for location_id in asked)]
    if why:
        keys += [state_key(prefix, location_id) for location_id in asked]
    packed = _LIST[len(asked)] + "".join([_packed(members) for members in asked.values()])
    return Call(tuple(keys), (packed.encode("latin-1"),), places, VERDICTS)


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

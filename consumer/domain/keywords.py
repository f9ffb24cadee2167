"""Which bodies are keywords. The whole body must be one; case and surrounding white space do not matter.

A body is compared in its normal form: NFKC, then case folding, then every format character (Unicode category Cf:
zero-width characters, bidirectional marks, the byte-order mark) removed wherever it stands, then leading and trailing
White_Space removed; then equality. `schemas/vectors/keywords.json` states it as test vectors for other languages.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from consumer.domain.events import Action

if TYPE_CHECKING:
    from collections.abc import Mapping


LONGEST_READ = 4096
"""Characters of which a normal form is made: many times those of the longest keyword."""


_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class WordPack:
    """A reviewed list of keywords, each with what it asks for. Packs are part of the product: nobody adds words."""

    name: str
    version: int
    words: Mapping[str, Action]


STANDARD = WordPack(
    name="standard",
    version=1,
    words=MappingProxyType(
        dict.fromkeys(("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"), Action.OPT_OUT)
        | dict.fromkeys(("START", "YES", "UNSTOP"), Action.OPT_IN)
    ),
)

RETIRED = ("UNSUB", "RECARE", "PAYMENT", "SURVEY")
"""Words that once opted out of one kind of message. They do nothing now, and read as an attempt to."""

WHOLE_BODY = "whole-body"
"""The name of the one rule that recognises a keyword: the body is it, and nothing else."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """A body recognised: the word as the pack writes it, and what it asks for."""

    action: Action
    word: str
    rule: str
    pack: str
    pack_version: int


# Unicode's White_Space property. str.strip() without an argument removes U+001C..U+001F besides, which are not in it.
_WHITE_SPACE = "".join(
    map(
        chr,
        [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000],
    )
)


@cache
def _format_category() -> str:
    """Return all format characters; found on first use, for it takes a tenth of a second."""
    return "".join(char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) == "Cf")


@cache
def _format_characters() -> re.Pattern[str]:
    """Return what matches a format character."""
    return re.compile("[" + "".join(map(re.escape, _format_category())) + "]")


def normal_form(body: str) -> str:
    """Return the body in the form in which keywords are compared."""
    if body.isascii():  # nothing to compose, fold otherwise or remove: two thirds of the cost of the long way
        return body.lower().strip(_WHITE_SPACE)
    folded = unicodedata.normalize("NFKC", body).casefold()
    return _format_characters().sub("", folded).strip(_WHITE_SPACE)


def _read(body: str) -> str | None:
    """Return of a body what its normal form is made from; None for one that is too long to be read as anything.

    A megabyte of combining marks takes NFKC an hour, and one text would stop every worker in turn. So what is long is
    looked at only without what the normal form removes: each character that is then left stays at least one.
    """
    if len(body) <= LONGEST_READ:
        return body
    body, left = body.strip(_WHITE_SPACE + _format_category()), ""
    for start in range(0, len(body), _AT_ONCE):
        left += _format_characters().sub("", body[start : start + _AT_ONCE])
        if len(left) > LONGEST_READ:
            return None
    return left


def as_shown(text: str) -> str:
    """Return a text as the normal form has it, but with its case and the white space around it: as a reader sees it."""
    return text if text.isascii() else _format_characters().sub("", unicodedata.normalize("NFKC", text))


class Keywords:
    """The keywords of one pack."""

    def __init__(self, pack: WordPack = STANDARD) -> None:
        self.pack = pack
        self._by_form = {
            normal_form(word): Keyword(
                action=action, word=word, rule=WHOLE_BODY, pack=pack.name, pack_version=pack.version
            )
            for word, action in pack.words.items()
        }
        opt_outs = [word for word, action in pack.words.items() if action is Action.OPT_OUT]
        self._alone = {normal_form(word): word for word in (*opt_outs, *RETIRED)}
        self._anywhere = {form: word for form, word in self._alone.items() if word in {*opt_outs, "UNSUB"} - _EVERYDAY}

    def recognise(self, body: str) -> Keyword | None:
        """Return the keyword that this body is, or None for talk."""
        said = _read(body)
        return None if said is None else self._by_form.get(normal_form(said))

    def near_miss(self, body: str) -> str | None:
        """Return the word that this body reads like without being a keyword, as in "Stop.", "stop messages", "UNSUB".

        A near miss changes nothing; it is what staff may want to see. None for talk: longer texts ("please stop by the
        pharmacy and pick up ..."), and the words that answer reminders every day ("yes please", "cancel my 3pm").
        """
        said = _read(body)
        if said is None:
            return None
        form = normal_form(said)
        if len(form) > _NEAR_MISS_LENGTH or form in self._by_form:
            return None
        words = _WORD.findall(form)
        if len(words) == 1:
            return self._alone.get(words[0])
        if len(words) > _NEAR_MISS_WORDS:
            return None
        return next((self._anywhere[word] for word in words if word in self._anywhere), None)


_NEAR_MISS_LENGTH = 40
_NEAR_MISS_WORDS = 4
_EVERYDAY = frozenset({"CANCEL", "END", "QUIT"})
_WORD = re.compile(r"\w+")

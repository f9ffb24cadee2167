"""What must be right with an automated message before it is sent: it tells the patient about STOP, and says no more.

Carriers block senders whose messages do not. Which words a text tells the patient to text, `told` says; what may be
wrong with them is decided here. `schemas/vectors/content.json` states it as test vectors.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.keywords import RETIRED, STANDARD, Keywords, normal_form
from consumer.domain.told import EVERYDAY, OPT_OUT, told, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.domain.told import Told


class ContentFaultCode(StrEnum):
    """What is wrong with a text. The values are what programs compare."""

    STOP_NOT_TOLD = "stop-not-told"
    """It does not tell the patient how to opt out by one of our keywords."""
    RETIRED_WORD = "retired-word"
    """It names a word that once opted out and does nothing now."""
    NOT_A_KEYWORD = "not-a-keyword"
    """It tells the patient to opt out by a word that does not."""
    KEYWORD_MISUSED = "keyword-misused"
    """It asks for one of our keywords to mean something else: whoever answers it has opted out."""
    IS_A_KEYWORD = "is-a-keyword"
    """It is nothing but a keyword, which the system on the other side may obey."""


class ContentFault(NamedTuple):
    """A fault: its code, a sentence on it that quotes at most `word`, and the word where there is one."""

    code: ContentFaultCode
    sentence: str
    word: str | None = None


_KEYWORDS = Keywords()
_RETIRED = {normal_form(word): word for word in RETIRED}
_NEVER_TALK = frozenset({"unsub", "recare"})
"""Retired words that nobody uses otherwise: a text does not hold them at all."""
_ELSEWHERE = frozenset({"remove", "optout", "opt out", "revoke", "arret", "baja", "stop all"})
"""Words by which others let people opt out; told at all, they are told for that."""
_HELP = frozenset({"help", "info"})


def content_faults(text: str, *, confirms_opt_out: bool = False) -> tuple[ContentFault, ...]:
    """Return what is wrong with an automated message or a template of one, each once; nothing where it may be sent.

    The text that confirms an opt-out need not tell the way out again: say so by `confirms_opt_out`. Placeholders as in
    `{first_name}`, `{{ name }}`, `%s` and `${name}` count as no word: what they stand for is not looked at. Raises
    TypeError for what is no text.
    """
    if not isinstance(text, str):
        raise TypeError("what is looked at is a text, as str")
    keyword = _KEYWORDS.recognise(text)
    if keyword is not None:
        sentence = f"the whole text is the keyword {keyword.word}: a system that receives it may obey it"
        return (ContentFault(ContentFaultCode.IS_A_KEYWORD, sentence, keyword.word),)
    asked = list(told(text))
    faults = list(_retired(text, asked))
    faults.extend(fault for each in asked if (fault := _wrong(each)) is not None)
    if not (confirms_opt_out or any(map(_tells_stop, asked))):
        faults.append(
            ContentFault(
                ContentFaultCode.STOP_NOT_TOLD,
                'it does not tell the patient how to opt out, as in "Reply STOP to opt out"',
            )
        )
    return tuple(dict.fromkeys(faults))


def _tells_stop(each: Told) -> bool:
    return each.form in OPT_OUT and (each.out or each.form not in EVERYDAY) and not each.misused


def _retired(text: str, asked: list[Told]) -> Iterator[ContentFault]:
    """Return a fault for each retired word that is told, or is the whole text, or that nobody uses in talk."""
    words = words_of(text)
    found = {form for form in words if form in _NEVER_TALK}
    found |= {form for each in asked if each.sure for form in each.form.split()} & _RETIRED.keys()
    found |= _RETIRED.keys() & set(words[:1]) if len(words) == 1 else set()
    for form, word in _RETIRED.items():
        if form in found:
            sentence = f"it names {word}, which opts nobody out any more: the word is STOP"
            yield ContentFault(ContentFaultCode.RETIRED_WORD, sentence, word)


def _wrong(each: Told) -> ContentFault | None:
    everyday = each.form in EVERYDAY and each.sure and not each.out
    if everyday or (each.misused and each.form in OPT_OUT):
        word = next(word for word in STANDARD.words if normal_form(word) == each.form)
        sentence = f"it asks for {word} without saying that it ends all messages: whoever texts it has opted out"
        return ContentFault(ContentFaultCode.KEYWORD_MISUSED, sentence, word)
    if each.form in OPT_OUT | _HELP or set(each.form.split()) & _RETIRED.keys():
        return None
    if each.form in _ELSEWHERE or (each.marked and (each.out or _is_mixed(each.word))):
        word = each.word.encode("ascii", "backslashreplace").decode("ascii")  # or it could look the same as STOP
        sentence = (
            f'it tells the patient to opt out by "{word}", which opts nobody out: the whole answer must be a keyword'
        )
        return ContentFault(ContentFaultCode.NOT_A_KEYWORD, sentence, word)
    return None


def _is_mixed(word: str) -> bool:
    """Return whether a word has letters of Latin and of another script: it looks like a word that it is not."""
    scripts = {unicodedata.name(c, "").startswith("LATIN ") for c in word if c.isalpha()}
    return len(scripts) > 1

"""Which words a text tells a patient to text, as in "Reply STOP to opt out".

A word is told where one of these holds. Capitals say nothing in a text that is all capitals.

- It is asked for: "reply", "text", "send" or the like stands before it, with at most small words between: "Text us the
  word STOP". Not after "do not". What is quoted is taken whole, and so is a word with its scope: "STOP ALL".
- It is listed beside one that is asked for, and written like it: "Reply Y, N or STOP".
- It stands later in the sentence of one that is asked for, in capitals or quotes, after "or" or a comma:
  "Reply Y to confirm or STOP".
- What it is for stands beside it, and is the end of messages: "STOP to opt out", "STOP=end", "Opt out: STOP".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.events import Action
from consumer.domain.keywords import RETIRED, STANDARD, as_shown, normal_form

if TYPE_CHECKING:
    from collections.abc import Iterator

OPT_OUT = frozenset(normal_form(word) for word, action in STANDARD.words.items() if action is Action.OPT_OUT)
RETIRED_FORMS = frozenset(map(normal_form, RETIRED))
EVERYDAY = frozenset({"cancel", "end", "quit"})
"""Opt-out keywords that a text about something else holds, too: "reply CANCEL to cancel your appointment"."""


@dataclass(frozen=True, slots=True)
class Told:
    """A word, or a few, that a patient is told to text.

    `word` is as written and `form` its normal form. `out` says that it is told as the end of messages. `marked` says
    that it is in capitals, in quotes, or a figure. `sure` is False where everyday talk may be meant: "please send
    payment". `misused` says that it is told as something else: "to cancel your appointment".
    """

    word: str
    form: str
    out: bool
    marked: bool
    sure: bool
    misused: bool = False


class _Word(NamedTuple):
    raw: str
    form: str
    gap: str  # what stands before it
    sentence: int


class _Phrase(NamedTuple):
    end: int  # the index behind its last word
    word: str
    form: str
    marked: bool


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A placeholder is no word, and what stands on either side of it does not belong together.
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|%\(\w+\)[a-z]|%[a-z]\b", re.IGNORECASE)
_HOLE = "\ufffc"
_WORD = re.compile(r"[^\W_]+(?:['\u2019_]+[^\W_]+)*")
_FUSED = re.compile(r"\b([A-Za-z]{3,})([24])([A-Za-z]*)\b")  # STOP2end, HELP4info
_SENTENCE_ENDS = re.compile(rf"[.!?;{_HOLE}]|\n\s*\n")

_REPLIES = _set("reply replying respond responding responda responde")
_SENDS = _set(
    "answer answering text texting txt txting send sending type typing message messaging msg sms write writing envie "
    "env\u00ede enviar mande manda"
)
_NOT = _set("not don't don\u2019t dont cannot can't can\u2019t never")
_SMALL = _set(
    "with the a an word words keyword back us in just only simply saying containing of text texting message con la "
    "palabra"
)
_NAMES_A_WORD = frozenset({"word", "words", "keyword", "palabra"})
_TO_THIS = re.compile(r"to (?:this|these|our|the|any) (?:text|message|msg|number|sms)s?\b")
_MOST_SMALL = 6
_SCOPE = _set("all sms text texts msg msgs message messages alert alerts reminder reminders please")

_QUOTES = "\"'*`\u201c\u201d\u2018\u2019\u00ab\u00bb<>[]()_"
_BESIDE = re.compile(rf"[\s:={re.escape(_QUOTES)}]*")
_LISTED = re.compile(r"[,/|&]")
_AND = frozenset({"or", "and", "o", "y"})
_MOST_QUOTED = 3
_LONGEST = 24

_MESSAGES = (
    r"(?:messages|texts|msgs|txts|sms|alerts|reminders|notifications|surveys|updates|communications|subscription|mensajes"
    r"|receiv\w+|getting|hearing)"
)
_CLEARLY_OUT = (
    r"(?:be )?(?:opt(?:ed)? ?out|opting out|unsubscribed?|unsub|removed?"
    rf"|(?:stop|end|quit|halt|cancel|discontinue|block|not|no longer)(?: [^\s,]+){{0,4}}? {_MESSAGES})\b"
)
_OUT = re.compile(
    rf"{_CLEARLY_OUT}|(?:stop|end|quit|halt)(?: ,|$| or\b| and\b| all\b| any ?time\b| at any)|no more\b|no longer\b"
)
_CLEARLY = re.compile(_CLEARLY_OUT)
_OUT_BEFORE = re.compile(rf"\b(?:to|2) (?:{_OUT.pattern})")
_MAYBE_OUT = re.compile(r"(?:stop|end|quit|cancel|halt|leave)\b(?!.*\b(?:appointment|appt|visit|booking|order)\b)")
_SOMETHING_ELSE = re.compile(
    r"(?:cancel|confirm|change|move|reschedule|decline|skip|delete) (?:(?:the|your|this|that|my|an|our|next) )*"
    r"(?:(?!or\b|and\b)\w+ )?(?:appointment|appt|visit|booking|order|prescription|refill)s?\b"
    r"(?! (?:reminder|text|message|msg|alert|notification|update|confirmation|survey|email|call)s?\b| sms\b)"
)
_FIRST = re.compile(r"^(?:to \d[\d ]*\b ?)?(?:(?:at any ?time|any ?time|now) )?")
_TO_A_NUMBER = re.compile(r"to \d[\d ]{4,}(?:$|,|(?:to|for|2|and|or|if|at)\b)")  # and not to 12345 Main Street
_CONNECTORS = re.compile(r"(?:to|2|for|4|para) ")
_SIGN = re.compile(r"\s*['\"\u201d\u2019*>)\]]?\s*(?:=|:|->|=>|\u2192|-|\u2013)")
_LOOKED_AHEAD = 14


def told(text: str) -> Iterator[Told]:
    """Return each word that a text tells a patient to text, in their order."""
    return _Reading(text).told()


def words_of(text: str) -> list[str]:
    """Return the normal form of each word of a text, without its placeholders."""
    return [word.form for word in _Reading(text).words]


class _Reading:
    def __init__(self, text: str) -> None:
        shown = _FUSED.sub(r"\1 \2 \3", _PLACEHOLDER.sub(_HOLE, as_shown(text)))
        self._telling_case = any(c.islower() for c in shown)
        self.words: list[_Word] = []
        end = sentence = 0
        for found in _WORD.finditer(shown):
            gap = shown[end : found.start()]
            sentence += _SENTENCE_ENDS.search(gap) is not None
            self.words.append(_Word(found[0], normal_form(found[0]), gap, sentence))
            end = found.end()
        self._rest = shown[end:]

    def told(self) -> Iterator[Told]:
        at, since, led = 0, 0, False
        while at < len(self.words):
            if at and self.words[at].sentence != self.words[at - 1].sentence:
                since, led = at, False
            first = self._asked_for(at)
            if first is not None:
                out_before = _OUT_BEFORE.search(self._between(since, at, at)) is not None
                items = self._list_from(first)
                yield from self._of_list(at, first, items, out_before=out_before)
                at = since = items[-1].end
                led = True
                continue
            phrase = self._phrase(at)
            if self._stands_alone(at, phrase, led=led):
                out = self._is_out(phrase.end) or self._out_stands_before(at)
                misused = not out and self._is_something_else(phrase.end)
                yield Told(phrase.word, phrase.form, out=out, marked=phrase.marked, sure=True, misused=misused)
                at = since = phrase.end
                continue
            at += 1

    def _asked_for(self, at: int) -> int | None:
        """Return the index of the word that is asked for by the one at an index, or None."""
        verb = self.words[at].form
        if verb not in _REPLIES | _SENDS or (at and self.words[at - 1].form in _NOT):
            return None
        place = at + 1
        addressed = _TO_THIS.match(self._between(place, place + 3, at))
        place += len(addressed[0].split()) if addressed else 0
        for _ in range(_MOST_SMALL):
            if place >= len(self.words) or _BESIDE.fullmatch(self.words[place].gap) is None:
                return None
            form = self.words[place].form
            if form not in _SMALL and not (form.isdigit() and len(form) >= len("12345")):
                by_the_way = self._form(place + 1) == "by" and not self._phrase(place).marked  # "text us, stop by"
                return None if by_the_way else place
            place += 1
        return None

    def _phrase(self, at: int) -> _Phrase:
        """Return what is to be texted: what the quotes hold, a word with its scope, or a word."""
        word = self.words[at]
        if self._quoted(at):
            for end in range(at + 1, min(at + _MOST_QUOTED, len(self.words)) + 1):
                if self._gap(end)[:1] in tuple(_QUOTES):
                    return self._as_phrase(at, end, marked=True)
        end = at + 1
        if end < len(self.words) and not self._gap(end).strip(" -"):
            following = self.words[end]
            scoped = word.form in OPT_OUT and following.form in _SCOPE | RETIRED_FORMS
            written_alike = self._telling_case and following.raw[:1].isupper()
            end += (scoped and written_alike) or (word.form, following.form) == ("opt", "out")
        figure = word.raw.isdigit() and len(word.raw) == 1
        return self._as_phrase(at, end, marked=figure or (self._telling_case and word.raw.isupper()))

    def _as_phrase(self, at: int, end: int, *, marked: bool) -> _Phrase:
        words = self.words[at:end]
        return _Phrase(end, " ".join(w.raw for w in words)[:_LONGEST], " ".join(w.form for w in words), marked)

    def _list_from(self, first: int) -> list[_Phrase]:
        items = [self._phrase(first)]
        while True:
            place = items[-1].end
            joined = _LISTED.search(self._gap(place)) is not None
            if self._form(place) in _AND and not _SENTENCE_ENDS.search(self._gap(place)):
                place, joined = place + 1, True
            if not joined or place >= len(self.words) or _SENTENCE_ENDS.search(self._gap(place)):
                return items
            item = self._phrase(place)
            alike = item.marked or (not items[0].marked and item.form in OPT_OUT | RETIRED_FORMS)
            if not alike or (self._form(item.end) == "by" and not item.marked):
                return items
            items.append(item)

    def _of_list(self, verb: int, first: int, items: list[_Phrase], *, out_before: bool) -> Iterator[Told]:
        end = items[-1].end
        out_behind = self._is_out(end)
        named = any(word.form in _NAMES_A_WORD for word in self.words[verb + 1 : first])
        to_a_number = _TO_A_NUMBER.match(self._between(end, end + _LOOKED_AHEAD, end - 1)) is not None
        for number, item in enumerate(items):
            # "Reply YES, NO or STOP to quit" says nothing of YES and NO.
            out = (out_behind and (item.end == end or item.form in OPT_OUT)) or (out_before and number == 0)
            sure = item.marked or out_behind or out or named or to_a_number or self.words[verb].form in _REPLIES
            misused = item.end == end and not out and self._is_something_else(end)
            yield Told(item.word, item.form, out=out, marked=item.marked, sure=sure, misused=misused)

    def _stands_alone(self, at: int, phrase: _Phrase, *, led: bool) -> bool:
        """Return whether a word that nothing asks for directly is told by what stands beside it."""
        ours = phrase.form in OPT_OUT
        if not (ours or phrase.marked):
            return False
        if led and phrase.marked and (self._form(at - 1) in _AND or _LISTED.search(self._gap(at))):
            return True
        behind = self._purpose(phrase.end) or ""
        meant = phrase.marked or led
        begins = at == 0 or self.words[at].sentence != self.words[at - 1].sentence
        if _CLEARLY.match(behind) or (_OUT.match(behind) and (meant or begins)):
            return ours or led or phrase.form in RETIRED_FORMS
        if not ours:
            return False
        return self._out_stands_before(at) or (phrase.form not in EVERYDAY and meant and bool(_MAYBE_OUT.match(behind)))

    def _is_out(self, at: int) -> bool:
        behind = self._purpose(at)
        return behind is not None and _OUT.match(behind) is not None

    def _is_something_else(self, at: int) -> bool:
        return _SOMETHING_ELSE.match(self._purpose(at) or "") is not None

    def _out_stands_before(self, at: int) -> bool:
        """Return whether this is the answer in "Opt out: STOP"."""
        before = self._between(max(0, at - 2), at, at)
        return _SIGN.match(self._gap(at)) is not None and re.search(r"(?:opt ?out|unsubscribe)$", before) is not None

    def _purpose(self, at: int) -> str | None:
        """Return what stands behind a "to", "for" or "=" at an index; None where there is none of them."""
        behind = _FIRST.sub("", self._between(at, at + _LOOKED_AHEAD, at - 1))
        connected = _CONNECTORS.match(behind)
        if connected:
            return behind[connected.end() :]
        return behind if behind and _SIGN.match(self._gap(at)) else None

    def _between(self, start: int, end: int, beside: int) -> str:
        """Return the normal forms of the words that stand in one sentence with the word `beside`, with their commas."""
        parts: list[str] = []
        for word in self.words[start:end]:
            if word.sentence != self.words[beside].sentence:
                continue
            if parts and _LISTED.search(word.gap):
                parts.append(",")
            parts.append(word.form)
        return " ".join(parts)

    def _quoted(self, at: int) -> bool:
        return self._gap(at)[-1:] in tuple(_QUOTES)

    def _gap(self, at: int) -> str:
        return self.words[at].gap if at < len(self.words) else self._rest

    def _form(self, at: int) -> str:
        return self.words[at].form if 0 <= at < len(self.words) else ""

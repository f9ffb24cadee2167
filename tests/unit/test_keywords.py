"""Which bodies are keywords: the words of the product, whole, in their normal form, and nothing else."""

from __future__ import annotations

import json
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.events import Action
from consumer.domain.keywords import RETIRED, STANDARD, WHOLE_BODY, Keyword, Keywords, normal_form
from consumer.wire.schemas import schemas_directory

OPT_OUT = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}
OPT_IN = {"START", "YES", "UNSTOP"}

FILE: dict[str, Any] = json.loads((schemas_directory() / "vectors" / "keywords.json").read_text("utf-8"))
VECTORS: list[dict[str, Any]] = FILE["vectors"]
KEYWORDS = Keywords()

# Derived otherwise than the product does: Python calls more characters space than Unicode's White_Space has.
WHITE_SPACE = [c for c in map(chr, range(0x110000)) if c.isspace() and not "\x1c" <= c <= "\x1f"]
FORMAT = {c for c in map(chr, range(0x110000)) if unicodedata.category(c) == "Cf"}

words = st.sampled_from(sorted(OPT_OUT | OPT_IN))
spaces = st.text(st.sampled_from(WHITE_SPACE), max_size=40)
invisible = st.text(st.sampled_from(sorted(FORMAT)), max_size=3)
# Pieces from which hypothesis builds bodies that are nearly keywords.
pieces = st.one_of(
    words,
    st.sampled_from([*RETIRED, *"\x1c\x1f.!\u017f\u212a\u0130\u0131\ufb06\u0385\xdf"]),
    st.sampled_from(WHITE_SPACE),
    st.sampled_from(sorted(FORMAT)),
    st.characters(),
)
bodies = st.text(max_size=12) | st.lists(pieces, max_size=6).map("".join)


def fullwidth(word: str) -> str:
    return "".join(chr(ord(c) - 0x21 + 0xFF01) for c in word)


def in_words(body: str) -> str:
    """Return the normal form by the letter of its definition, one step after the other."""
    text = unicodedata.normalize("NFKC", body)
    text = text.casefold()
    text = "".join(c for c in text if c not in FORMAT)
    while text and text[0] in WHITE_SPACE:
        text = text[1:]
    while text and text[-1] in WHITE_SPACE:
        text = text[:-1]
    return text


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{ascii(vector['body'])[1:41]}" for vector in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    """Each published vector is what the code decides, so that another language can be held to the same."""
    keyword = KEYWORDS.recognise(vector["body"])
    decided = (keyword.action, keyword.word) if keyword else (None, None)
    assert decided == (vector["action"], vector["keyword"]), vector["why"]


def test_vectors_are_of_the_standard_pack_and_leave_no_word_out() -> None:
    """The vectors name the pack that they are true of, and show each of its words and each retired one."""
    assert (FILE["pack"], FILE["pack_version"]) == (STANDARD.name, STANDARD.version)
    shown = {vector["body"]: vector["action"] for vector in VECTORS}
    assert {word: shown.get(word) for word in STANDARD.words} == STANDARD.words
    assert [shown.get(word, "not shown") for word in RETIRED] == [None] * len(RETIRED)


def test_the_words_of_the_product() -> None:
    """The standard pack is exactly the six opt-outs and three opt-ins of the product, and nobody can add to it."""
    assert {word for word, action in STANDARD.words.items() if action is Action.OPT_OUT} == OPT_OUT
    assert {word for word, action in STANDARD.words.items() if action is Action.OPT_IN} == OPT_IN
    with pytest.raises(TypeError):
        STANDARD.words["NO"] = Action.OPT_OUT  # type: ignore[index]


def test_a_keyword_says_by_which_rule_and_pack() -> None:
    """What is recognised carries what the ledger needs as evidence: the pack's own writing, the rule and the pack."""
    assert KEYWORDS.recognise(" stop ") == Keyword(Action.OPT_OUT, "STOP", WHOLE_BODY, "standard", STANDARD.version)


@given(words, st.data())
def test_case_width_and_what_cannot_be_seen_do_not_matter(word: str, data: st.DataObject) -> None:
    """A keyword in any case and width, among format characters and within white space, is that keyword."""
    letters = [data.draw(st.sampled_from([c, c.lower(), fullwidth(c), fullwidth(c).lower()])) for c in word]
    inside = "".join(letter + data.draw(invisible) for letter in letters)
    keyword = KEYWORDS.recognise(data.draw(spaces) + data.draw(invisible) + inside + data.draw(spaces))
    assert keyword is not None
    assert (keyword.word, keyword.action) == (word, STANDARD.words[word])


@given(words, st.characters(exclude_characters=[*WHITE_SPACE, *FORMAT]), st.integers(0, 11))
def test_one_more_character_is_another_body(word: str, character: str, at: int) -> None:
    """A keyword with any other character before it, in it or after it is not that keyword any more."""
    keyword = KEYWORDS.recognise(word[:at] + character + word[at:])
    assert keyword is None or keyword.word != word


@given(bodies)
def test_normal_form_is_its_definition(body: str) -> None:
    """The normal form is NFKC, case folding, no format characters, no White_Space around: on every path to it."""
    assert normal_form(body) == in_words(body)


def test_normal_form_of_every_character() -> None:
    """Each character of the Basic Multilingual Plane, alone and beside a letter, has the normal form as defined."""
    characters = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    assert [c for c in characters if normal_form(c) != in_words(c)] == []
    assert [c for c in characters if normal_form(f"S{c}T") != in_words(f"S{c}T")] == []


@given(st.text(st.characters(max_codepoint=0x7F), max_size=12))
def test_normal_form_of_ascii(body: str) -> None:
    """The short way for ASCII leads where the long one does, control characters included."""
    assert normal_form(body) == in_words(body)


@given(bodies)
def test_talk_is_nothing(body: str) -> None:
    """A body is recognised exactly when its normal form is a keyword's, whatever else stands in it."""
    by_form = {word.lower(): word for word in OPT_OUT | OPT_IN}
    keyword = KEYWORDS.recognise(body)
    assert (keyword.word if keyword else None) == by_form.get(in_words(body))


@pytest.mark.parametrize("character", [*"\x1c\x1d\x1e\x1f"], ids=ascii)
def test_separators_of_information_are_not_white_space(character: str) -> None:
    """U+001C to U+001F, which Python's own strip() removes, are not White_Space: beside a keyword they are talk."""
    assert KEYWORDS.recognise(f"{character}STOP") is None
    assert KEYWORDS.recognise(f"STOP{character}") is None
    assert KEYWORDS.recognise(f"{character}\u00a0STOP") is None  # on the long way, too


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("stop messages", "STOP"),
        ("Stop.", "STOP"),
        ("please unsubscribe me", "UNSUBSCRIBE"),
        ("UNSUB", "UNSUB"),
        ("payment", "PAYMENT"),
        (fullwidth("STOP") + "!", "STOP"),
        ("\x1cSTOP", "STOP"),
        ("STOP STOP", "STOP"),
        ("Cancel!", "CANCEL"),
        ("unsub please", "UNSUB"),
    ],
)
def test_near_misses(body: str, word: str) -> None:
    """What reads like a keyword or a retired word, and is none, is shown to staff and changes nothing."""
    assert KEYWORDS.near_miss(body) == word
    assert KEYWORDS.recognise(body) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\U0001f44d",
        "nonstop",
        "see you tomorrow",
        "please stop by the pharmacy and pick up the order",
        "stop " + "x" * 40,
        "at the end of the day",
        "Yes \U0001f44d",
        "yes please",
        "START.",
        "cancel my 3pm",
        "quit smoking",
        "payment is due",
    ],
)
def test_talk_is_no_near_miss(body: str) -> None:
    """Longer texts, those without one of our words, and everyday answers are talk: staff are not asked to read them."""
    assert KEYWORDS.near_miss(body) is None


@given(words, spaces)
def test_a_keyword_is_no_near_miss(word: str, around: str) -> None:
    """What is recognised is never shown to staff besides."""
    assert KEYWORDS.near_miss(around + word + around) is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (" " * 9_000 + "stop" + "\u2003" * 9_000, "STOP"),
        ("\u200b \u2003" * 9_000 + "S" + "\u200d" * 99_000 + "top" + "\ufeff \u200b" * 9_000, "STOP"),
        ("stop" + " " * 9_000 + "stop", None),
        ("stop" * 9_000, None),
        ("a" + "\u0301\u0316" * 200_000, None),  # NFKC sorts them: a quarter of an hour
        ("\ufdfa" * 99_000, None),  # eighteen characters each, in NFKC
    ],
    ids=["space", "format characters", "two words", "long", "combining marks", "ligatures"],
)
def test_a_long_body_is_read_as_any_other_and_keeps_nobody_waiting(body: str, word: str | None) -> None:
    """Length alone makes no keyword of a body, and none of a keyword; no body takes longer than its length asks for."""
    began = time.process_time()
    found = Keywords().recognise(body)
    assert (found and found.word) == word
    assert Keywords().near_miss(body) is None
    assert time.process_time() - began < 10


def test_the_normal_form_leaves_something_of_each_character() -> None:
    """Only format characters and white space vanish: what is long without them is no keyword, however it folds."""
    removed = {*WHITE_SPACE, *FORMAT}
    changed = [char for char in map(chr, range(0x110000)) if not unicodedata.is_normalized("NFKC", char)]
    assert all(char in removed or normal_form(char) for char in changed)

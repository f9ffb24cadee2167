"""What is sent: a message that tells the patient about STOP passes; each other gets a finding that quotes a word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.confirmation import CANCEL_TEXT, OPTED_IN_TEXT, OPTED_OUT_TEXT
from consumer.domain.content import ContentFaultCode, content_faults
from consumer.domain.events import Action
from consumer.domain.keywords import RETIRED, STANDARD, as_shown, normal_form
from consumer.wire.schemas import schemas_directory

FILE: dict[str, Any] = json.loads((schemas_directory() / "vectors" / "content.json").read_text("utf-8"))
VECTORS: list[dict[str, Any]] = FILE["vectors"]
OPT_OUTS = sorted(word for word, action in STANDARD.words.items() if action is Action.OPT_OUT)


def codes(text: str, *, confirms_opt_out: bool = False) -> list[str]:
    return sorted(fault.code for fault in content_faults(text, confirms_opt_out=confirms_opt_out))


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{ascii(vector['text'])[1:61]}" for vector in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    """Each published vector is what the code decides."""
    assert codes(vector["text"]) == vector["faults"], vector["why"]


def test_vectors_show_each_fault() -> None:
    """The vectors are of the standard pack, and show each code."""
    assert (FILE["pack"], FILE["pack_version"]) == (STANDARD.name, STANDARD.version)
    assert {code for vector in VECTORS for code in vector["faults"]} == {*ContentFaultCode}


# What senders write, found in real templates' manner: none of it may be held up.
TELLING = [
    'Text "STOP" to end',
    "reply with stop to end these messages",
    "Reply STOP to Opt-Out",
    "*Reply STOP*",
    "[Reply STOP to opt out]",
    "_STOP_ to opt out",
    "Reply STOP2 end",
    "Send us a text message saying STOP to opt out",
    "Reply to this message with STOP to unsubscribe",
    "text 12345 with STOP to opt out",
    "Text STOP to 12345 to opt out",
    "Opt out at any time by texting STOP",
    "If you no longer want these, reply STOP",
    "To stop texts: reply STOP",
    "To stop receiving messages reply STOP, for help reply HELP",
    "To opt out reply STOP or HELP for help",
    "Reply HELP for help, STOP to cancel.",
    "Reply 1 to confirm, 2 to cancel, STOP to opt out",
    "Reply STOP or UNSUBSCRIBE to opt out",
    "Reply STOP to opt out of appointment reminders",
    "To cancel reminders reply CANCEL",
    "Do not reply to this message. STOP to opt out",
    "Do not reply here; text STOP",
    "REPLY 1 TO CONFIRM OR 2 TO CANCEL. STOP TO END",
    "Please confirm: reply YES, NO or STOP to quit",
    "Reply STOP, END, CANCEL, UNSUBSCRIBE or QUIT to stop receiving messages.",
    "Reply 1=CONFIRM, 2=CANCEL, STOP=opt out",
    "Call us to reschedule or cancel. Reply STOP to opt out.",
    "Answer the survey: {link}. Reply STOP to end",
    "Send a payment to 12345 Main Street. Reply STOP",
    "Text Payment Reminder: due {date}. Reply STOP to end",
    "See acme.com/text/end or x.co/reply/CANCEL. Reply STOP",
    "Not you? Text STOP.",
    "Responda S\u00cd para confirmar. Responda STOP",
    "{Reply|Text} STOP to opt out",
    "{{#if x}}Reply STOP{{/if}} to opt out",
    "{unsub} and {{ recare }}: Reply STOP",
    "Take 100%s off! Text STOP at any time.",
    "HI ANN, YOUR VISIT IS AT 3. REPLY STOP TO OPT OUT",
    "REPLY HELP FOR HELP, STOP TO CANCEL",
    "Text STOP\nPlease bring your payment",
]


@pytest.mark.parametrize("text", TELLING, ids=ascii)
def test_what_tells_about_stop(text: str) -> None:
    """The ways in which senders tell about STOP are recognised."""
    assert codes(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Please text us, stop by, or call",
        "Please reply, or stop in anytime",
        "Stop at the desk to opt out",
        "STOP! Your visit is at 3",
        "nonstop fun",
        "A bus will stop to end",
        "See acme.com/stop to end",
        "Thanks, quit worrying. We end at 5",
        "Reply by end of day",
        "Your visit will end at 3. Please stop smoking. Don't quit.",
        "Don't text STOP",
        "IF YOU WANT TO OPT OUT CALL US",
        "Reply to this message to opt out",
        "Reply {stop} to opt out",
        "Reply {{ STOP }} to opt out",
        "{unsub_link} {{payment}} {stop}",
    ],
    ids=ascii,
)
def test_what_does_not_tell_about_stop(text: str) -> None:
    """Everyday talk around our words tells nobody the way out, and is no other fault."""
    assert codes(text) == ["stop-not-told"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("To opt out, reply REMOVE. Reply STOP", "REMOVE"),
        ("Reply remove. Reply STOP", "remove"),
        ("Reply OPT-OUT to end. Reply STOP", "OPT OUT"),
        ("Reply Q to quit. Reply STOP", "Q"),
        ("Reply 9 to stop. Reply STOP", "9"),
        ("Reply NO to cancel reminders. Reply STOP", "NO"),
        ("TEXT SURVEY TO STOP SURVEYS, STOP TO OPT OUT", "SURVEY"),
        ("Reply STOP to opt out, PAYMENT to stop payment texts", "PAYMENT"),
        ("SURVEY to opt out of surveys. Reply STOP", "SURVEY"),
        ("unsub? Reply STOP", "UNSUB"),
        ("Reply ST\u041eP, or reply STOP", "ST\\u041eP"),
        ("Reply SURVEY to start the survey. STOP to end", "SURVEY"),
        ("Please reply yes or cancel. STOP to end", "CANCEL"),
        ("To cancel your appointment reply CANCEL. Reply STOP", "CANCEL"),
        ("If you no longer need the visit, reply CANCEL. Reply STOP", "CANCEL"),
        ("Text CANCEL to 55555 to cancel your ride. Reply STOP", "CANCEL"),
    ],
    ids=ascii,
)
def test_a_word_that_does_not_do_what_is_said(text: str, word: str) -> None:
    """A word that is told and opts nobody out, or is retired, or opts out unasked, is named by its finding."""
    (fault,) = content_faults(text)
    assert fault.word == word
    assert word in fault.sentence


def test_what_we_send_ourselves() -> None:
    """Our confirmations pass, that of an opt-out as what it is: it tells the way back, and needs no way out."""
    assert codes(OPTED_IN_TEXT) == []
    for text in (OPTED_OUT_TEXT, f"{OPTED_OUT_TEXT} {CANCEL_TEXT}"):
        assert codes(text) == ["stop-not-told"]
        assert codes(text, confirms_opt_out=True) == []


@pytest.mark.parametrize("word", RETIRED)
def test_a_confirmation_has_its_other_faults(word: str) -> None:
    """That a text confirms an opt-out excuses from nothing else."""
    assert codes(f"You have opted out. Reply {word}", confirms_opt_out=True) == ["retired-word"]


OURS = "reply text send do not stop by us or to opt out YES CANCEL payment"
talk = st.text(st.characters(), max_size=60) | st.lists(
    st.sampled_from([*OURS.split(), *",.!\n{}'2\u200b", "%s"]),
    max_size=12,
).map(" ".join)
"""Any text, and such as is made of the words that matter."""


@given(talk)
def test_a_sentence_about_stop_is_found_behind_any_text(text: str) -> None:
    """Whatever stands before it, " Reply STOP to opt out." tells the patient about STOP."""
    assert "stop-not-told" not in codes(f"{text} Reply STOP to opt out.")


@given(talk, st.sampled_from(["UNSUB", "RECARE"]))
def test_a_word_that_nobody_uses_otherwise_is_found_behind_any_text(text: str, word: str) -> None:
    """UNSUB and RECARE are found wherever they stand as a word."""
    assert "retired-word" in codes(f"{text} Hello {word}")


@given(talk)
def test_case_and_what_cannot_be_seen_keep_a_whole_keyword(text: str) -> None:
    """A text is nothing but a keyword exactly where the classifier would read it as one."""
    is_one = normal_form(text) in map(normal_form, STANDARD.words)
    assert (codes(text) == ["is-a-keyword"]) == is_one
    assert normal_form(as_shown(text)) == normal_form(text)


@given(st.sampled_from(OPT_OUTS), st.sampled_from(["Reply {} to opt out", "Txt {} 2 stop texts", "{} to unsubscribe"]))
def test_each_keyword_that_opts_out_will_do(word: str, way: str) -> None:
    """Each opt-out keyword tells the way out where it is said to be it, in either case."""
    assert codes(way.format(word)) == codes(way.format(word.lower())) == []


@given(talk.map("\u2603 {} private".format))
def test_no_finding_quotes_a_text(text: str) -> None:
    """A sentence quotes one of our words, or the few that the patient is told to text, and nothing else."""
    for fault in content_faults(text):
        assert "private" not in fault.sentence
        assert "\u2603" not in fault.sentence


@pytest.mark.parametrize("piece", ["{", "reply ", "text STOP, ", "<a_", "\n", "to ", "stop a b c ", "'", "a_", "%(a"])
def test_a_long_text_takes_no_time(piece: str) -> None:
    """A text of any kind is judged in time that grows with its length only: no file hangs the tool."""
    content_faults(piece * (100_000 // len(piece)))

"""Whether what became of the demo's texts is what must become of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.domain.phone import masked
from consumer.guard import VerdictKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from consumer.demo.expectation import Expectation, Subscription
    from consumer.demo.observation import Observation


def differences(expected: Expectation, found: Observation) -> list[str]:
    """Return a sentence for each thing that is not as it must be; none quotes a body or a full number."""
    not_asked = expected.took_part - found.verdicts.keys()
    return [
        *_differ("the changes on the topic", expected.changes, found.changes),
        *_differ("the confirmations on the topic", expected.changes, found.confirmations),
        *_differ("the suppression sets in Redis", dict.fromkeys(expected.opted_out), dict.fromkeys(found.members)),
        *wrong_verdicts("the guard's verdicts", expected.opted_out, found.verdicts),
        *_differ("those whom the guard was asked about", dict.fromkeys(not_asked), {}),
        *(["the dead letters are not those expected"] if expected.dead_letters != found.dead_letters else []),
        *(["the texts for staff are not those expected"] if expected.reviews != found.reviews else []),
    ]


def wrong_verdicts(
    what: str, opted_out: Collection[Subscription], found: Mapping[Subscription, VerdictKind]
) -> Iterator[str]:
    """Give a sentence if these verdicts are not those that must be given while these patients are opted out."""
    wanted = {who: VerdictKind.SUPPRESSED if who in opted_out else VerdictKind.ALLOWED for who in found}
    yield from _differ(what, wanted, found)


_ABSENT = object()


def _differ(what: str, expected: Mapping[Subscription, object], found: Mapping[Subscription, object]) -> Iterator[str]:
    everybody = sorted(expected.keys() | found.keys())
    wrong = [who for who in everybody if expected.get(who, _ABSENT) != found.get(who, _ABSENT)]
    if wrong:
        location, number = wrong[0]
        others = f" and of {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield f"{what} are not those expected of {masked(number)} at {location}{others}"

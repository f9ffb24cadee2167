"""What stands in bodies: questions, answers, and why there is none. The OpenAPI document is made of these."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from consumer.guard import Unknown

MOST_QUESTIONS = 1000
LONGEST_CATCH_UP_S = 30.0


class _Said(BaseModel):
    """A field that is not known is refused: what a typing error meant must not be left out in silence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Why = Annotated[bool, Field(description="Say of a SUPPRESSED one since when, and by which keyword.")]
CatchUp = Annotated[
    float | None,
    Field(
        ge=0,
        le=LONGEST_CATCH_UP_S,
        allow_inf_nan=False,
        description="Wait at most so many seconds until the view holds all that Kafka held when it was asked: else the "
        "verdict is UNKNOWN, because it is `behind`. Without it, an answer may be some seconds old, see `age`.",
    ),
]


class Question(_Said):
    """Whether this location may text this patient now."""

    location_id: str = Field(description="Not blank, and at most 256 characters.", examples=["loc-1"])
    number: str = Field(
        description="The patient's number in any usual writing; one without a country code is of OPTOUT_REGION.",
        examples=["+12025550143"],
    )


class SingleQuestion(Question):
    """Whether this location may text this patient now."""

    why: Why = False
    catch_up: CatchUp = None


class ManyQuestions(_Said):
    """Many questions at once. They are answered in their order."""

    questions: list[Question] = Field(max_length=MOST_QUESTIONS)
    why: Why = False
    catch_up: CatchUp = None


class Invalid(StrEnum):
    """Why there is no verdict on one of many questions."""

    NO_LOCATION = "not a location"
    NO_NUMBER = "not a number"


class Answer(_Said):
    """A verdict. Only ALLOWED may send."""

    verdict: str
    reason: Unknown | Invalid | None = Field(None, description="Why it is UNKNOWN or INVALID.")
    at: int | None = Field(None, description="When it was asked, in ms by Redis's clock.")
    fresh: int | None = Field(None, description="Up to when all that Kafka held was known then, in ms by that clock.")
    age: float | None = Field(None, description="How old what the verdict stands on was, in seconds.")
    in_maintenance: bool = Field(
        default=False, description="It is ALLOWED only because an operator opened a maintenance window."
    )
    since: int | None = Field(None, description="When the patient's text was sent, in ms; where it was asked why.")
    keyword: str | None = Field(None, description="The keyword that it was; where it was asked why.")


class Allowed(Answer):
    """The patient may be texted."""

    verdict: Literal["ALLOWED"]


class Suppressed(Answer):
    """The patient has opted out of this location's texts."""

    verdict: Literal["SUPPRESSED"]


class NotKnown(Answer):
    """It cannot be known now: hold the message, and ask again."""

    verdict: Literal["UNKNOWN"]


class Entry(Answer):
    """The answer to one of many questions. INVALID: it names no number or no location. Only ALLOWED may send."""

    verdict: Literal["ALLOWED", "SUPPRESSED", "UNKNOWN", "INVALID"]


class Entries(_Said):
    """The answers, in the order of the questions."""

    verdicts: list[Entry]


class Problem(_Said):
    """Why there is no answer (RFC 9457)."""

    title: str
    status: int
    detail: str = Field(description="One sentence. It quotes nothing of what was sent.")


class Live(_Said):
    """The process answers."""

    live: Literal[True] = True


class Ready(_Said):
    """Whether Redis can be asked, and how many buckets are vouched for; or else why not."""

    ready: bool
    parts: dict[str, list[str]] = Field(description="What is wrong, by part. Empty where it is ready.")
    buckets: dict[str, int] = Field(description="Buckets that are `vouched` for, and the others by reason.")

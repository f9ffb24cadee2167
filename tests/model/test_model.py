"""The protocol's rules, searched exhaustively: with all of them nothing goes wrong, and each of them is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.model import rules
from tests.model.configurations import HARMLESS, OPEN, REMOVED, SMALL

if TYPE_CHECKING:
    from tests.model.configurations import Configuration


def _name(configuration: Configuration) -> str:
    return configuration.name


@pytest.mark.parametrize("configuration", SMALL, ids=_name)
def test_all_rules(configuration: Configuration) -> None:
    """With all rules there is no wrong answer, no lost or doubled change, and a way to finish, whatever fails."""
    surprise = configuration.surprise(configuration.run())
    assert surprise is None, surprise


@pytest.mark.parametrize("configuration", REMOVED, ids=_name)
def test_without_a_rule(configuration: Configuration) -> None:
    """Without this rule there is a way to the harm that it prevents."""
    surprise = configuration.surprise(configuration.run())
    assert surprise is None, surprise


@pytest.mark.parametrize("configuration", HARMLESS, ids=_name)
def test_without_a_rule_that_is_not_needed(configuration: Configuration) -> None:
    """Without this rule nothing goes wrong: a change of it needs no other reason than its own."""
    surprise = configuration.surprise(configuration.run())
    assert surprise is None, surprise


@pytest.mark.parametrize("configuration", OPEN, ids=_name)
def test_what_is_open(configuration: Configuration) -> None:
    """What is known to go wrong with all rules goes wrong in no other way than README.md says."""
    surprise = configuration.surprise(configuration.run())
    assert surprise is None, surprise


def test_every_rule_is_taken_away_once() -> None:
    """Every rule of the model is shown to be needed, or not to be."""
    assert {configuration.removed for configuration in (*REMOVED, *HARMLESS)} == set(rules.names())

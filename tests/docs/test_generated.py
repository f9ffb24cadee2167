"""The documents' tables of commands, settings and topics are those of the code."""

from __future__ import annotations

import click
import pytest

from consumer.cli import optout
from consumer.settings import Settings
from tests.docs import generated


@pytest.mark.parametrize("document", generated.REGIONS)
def test_documents_are_what_the_code_gives(document: str) -> None:
    """No command, setting or topic is missing from the documents, and none stands there as it was before."""
    text = (generated.ROOT / document).read_text("utf-8")
    assert generated.written_anew(document) == text, f"{document} has fallen behind the code: run `make docs`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_described(name: str) -> None:
    """A setting says in a sentence what it sets."""
    description = Settings.model_fields[name].description
    assert description, f"consumer/settings.py: give `{name}` a description"
    assert description.endswith(".")


def test_each_command_is_described() -> None:
    """A command and each of its options say what they do."""
    left: list[click.Command] = [optout]
    while left:
        command = left.pop()
        assert command.help, f"`{command.name}` has no help"
        undescribed = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
        assert not undescribed, f"`{command.name}` has options without help"
        left += command.commands.values() if isinstance(command, click.Group) else []

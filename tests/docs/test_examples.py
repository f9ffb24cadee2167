"""Every example of every document is of a kind that is run or checked; what is not run is at least not wrong."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml
from confluent_kafka import KafkaException, Producer

from consumer.guard.question import VERDICT
from consumer.settings import KAFKA_PREFIX, PREFIX, REGISTRY_PREFIX, Settings
from tests.docs import shell
from tests.docs.console import can_run, steps
from tests.docs.documents import ROOT, anchors, blocks, documents, links, spans
from tests.parts import available, chance

if TYPE_CHECKING:
    from tests.docs.documents import Block

VARIABLE = re.compile(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]")


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_each_example_is_run_or_checked(block: Block) -> None:
    """An example is of a kind that is known, and is run (test_run.py, test_contract.py) or at least not wrong."""
    assert block.kind, f"{block}: nobody can tell what this is; name one of tests/docs/documents.py's LANGUAGES"
    wrong = CHECKS[block.kind](block) if block.kind in CHECKS else []
    assert not wrong, f"{block}: {'; '.join(wrong)}"


def _console(block: Block) -> list[str]:
    return [] if can_run(block) else shell.faults("\n".join(step.command for step in steps(block.text)))


def _json(block: Block) -> list[str]:
    json.loads(block.text)
    return []


def _lua(block: Block) -> list[str]:
    code = [line for line in VERDICT.source.splitlines() if line and not line.startswith("--")]
    same = [line for line in block.text.splitlines() if line] == code
    return [] if same else ["this is not consumer/guard/verdict.lua without its comments"]


def _tree(block: Block) -> list[str]:
    """Look for the files of a drawn tree: names at growing indentation, folders with a slash behind them."""
    faults, folders = [], {-1: ROOT if block.text.startswith("consumer/") else (ROOT / block.document).parent}
    for found in re.finditer(r"^( *)(\.?\w[\w.-]*(?:/|\.(?:py|lua|yaml|md)))(?: |$)", block.text, re.MULTILINE):
        depth, name = len(found[1]), found[2]
        path = folders[max(above for above in folders if above < depth)] / name
        folders = {above: folder for above, folder in folders.items() if above < depth} | {depth: path}
        faults += [] if path.exists() else [f"there is no {path.relative_to(ROOT)}"]
    return faults


def _toml(block: Block) -> list[str]:
    unknown = tomllib.loads(block.text).keys() - Settings.model_fields.keys()
    return [f"{name} is no setting" for name in unknown]


def _yaml(block: Block) -> list[str]:
    list(yaml.safe_load_all(block.text))
    return []


CHECKS = {
    "console": _console,
    "json": _json,
    "lua": _lua,
    "picture": _tree,
    "shell": lambda block: shell.faults(block.text),
    "toml": _toml,
    "yaml": _yaml,
}


@pytest.mark.parametrize(("document", "span"), [s for s in spans() if s[1].startswith(("optout ", "make "))])
def test_commands_in_running_text_exist(document: str, span: str) -> None:
    """A command that a sentence names is there, with the options that stand beside it."""
    words = span.split()
    if words[0] == "make":
        assert not shell.make_faults(words[1:2]), f"{document}: `{span}`"
        return
    command, name, left = shell.named(words[1:])
    assert name != "optout" or not left or left[0].startswith("-"), f"{document}: `{span}` is no command"
    known = {option for param in command.params for option in param.opts} | {"--help", "--version"}
    assert set(re.findall(r"--[a-z-]+", span)) <= known, f"{document}: `{span}`"


@pytest.mark.parametrize("document", documents())
def test_variables_are_settings(document: str) -> None:
    """A variable that a document names means something."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {REGISTRY_PREFIX[:-1], f"{PREFIX}TEST"}
    known |= set(VARIABLE.findall(f"{available.__doc__}{chance.__doc__}"))
    unknown = set(VARIABLE.findall(documents()[document])) - known
    assert not {name for name in unknown if not name.startswith((KAFKA_PREFIX, REGISTRY_PREFIX))}
    assert not {name for name in unknown if name.startswith(KAFKA_PREFIX) and not _is_property(name)}


@pytest.mark.parametrize(("document", "target"), links())
def test_links_lead_somewhere(document: str, target: str) -> None:
    """A link to a file of the repository leads to one, and to a heading that is there."""
    name, _, anchor = target.partition("#")
    file = (ROOT / document).parent / name if name else ROOT / document
    assert file.exists()
    assert not anchor or anchor in anchors(file.read_text("utf-8"))


def _is_property(name: str) -> bool:
    try:
        Producer({name.removeprefix(KAFKA_PREFIX).lower().replace("_", "."): ""})
    except KafkaException as problem:
        return "No such configuration property" not in str(problem)
    except (TypeError, ValueError):  # it takes something else than a text
        return True
    return True

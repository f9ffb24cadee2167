"""The documents and what stands in them: blocks, code spans, links. A new document or block is found by itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from tests.docs import shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
FOLDERS = ("bench", "docs", "deploy", "examples", "schemas", "tests")
OTHERS = "node_modules"
"""A folder whose documents are somebody else's."""

LANGUAGES = {
    "bash": "shell",
    "console": "console",
    "json": "json",
    "lua": "lua",
    "python": "python",
    "redis": "redis",
    "sh": "shell",
    "text": "picture",
    "toml": "toml",
    "yaml": "yaml",
}
_PICTURE = re.compile(r"[\u2500-\u25ff]|\S {2,}\S")
"""What a drawing or a list in columns looks like: box drawing and arrows, or two spaces and more within a line."""


@dataclass(frozen=True)
class Block:
    """One example: where it stands, and what it is. `kind` is empty where nobody can tell."""

    document: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@cache
def documents() -> dict[str, str]:
    """Return the text of each document by its path in the repository."""
    files = [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))]
    ours = [file for file in sorted(files) if OTHERS not in file.parts]
    return {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in ours}


def blocks(*kinds: str) -> list[Block]:
    """Return the blocks of these kinds, or of every kind."""
    return [block for block in _blocks() if not kinds or block.kind in kinds]


def block_with(document: str, kind: str, text: str = "") -> Block:
    """Return the one block of that kind in a document that has this text."""
    (block,) = (b for b in blocks(kind) if b.document == document and text in b.text)
    return block


def spans() -> list[tuple[str, str]]:
    """Return each code span in running text, with its document."""
    return [
        (document, child.content)
        for document, token in _tokens()
        for child in token.children or ()
        if child.type == "code_inline"
    ]


def links() -> list[tuple[str, str]]:
    """Return each link that stays within the repository, with its document."""
    targets = [
        (document, str(child.attrGet("href")))
        for document, token in _tokens()
        for child in token.children or ()
        if child.type == "link_open"
    ]
    return [(document, target) for document, target in targets if not re.match(r"\w+:", target)]


def anchors(text: str) -> set[str]:
    """Return what a link into this document may name: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _tokens() -> Iterator[tuple[str, Token]]:
    markdown = MarkdownIt("commonmark").enable("table")
    for document, text in documents().items():
        for token in markdown.parse(text):
            yield document, token


@cache
def _blocks() -> list[Block]:
    return [
        Block(document, (token.map or [0])[0] + 1, _kind(token), token.content)
        for document, token in _tokens()
        if token.type in ("fence", "code_block")
    ]


def _kind(token: Token) -> str:
    language = token.info.strip().partition(" ")[0]
    if language:
        return LANGUAGES.get(language, "")
    lines = [line for line in token.content.splitlines() if line.strip()]
    if any(line.startswith("$ ") for line in lines):
        return "console"
    if lines and shell.is_command(lines[0]):
        return "shell"
    if any(map(_PICTURE.search, lines)):
        return "picture"
    return "json" if _is_json(token.content) else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

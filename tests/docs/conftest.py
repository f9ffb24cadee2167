"""The world in which the documents' examples are true: a worker, and one patient of loc-1 who sent STOP."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.docs.documents import ROOT, block_with
from tests.docs.world import BUCKETS, WHO_STOPPED, World
from tests.parts.redis import flush
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents tell a reader to have: our schemas, and the script."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "schemas").symlink_to(ROOT / "schemas")
    (folder / "verdict.lua").write_text(block_with("docs/CONTRACT.md", "lua").text)
    return folder


@pytest.fixture(scope="module")
def world(kafka: Kafka, redis_server: str, folder: Path) -> Iterator[World]:
    """A worker that vouches, and a STOP that is in force."""
    flush(redis_server)
    with System(kafka.bootstrap, redis_server, f"t{secrets.token_hex(4)}.", folder, buckets=BUCKETS) as system:
        system.create_topics()
        system.start_worker()
        system.send([inbound("loc-1", WHO_STOPPED, "STOP")])
        wait_for("SUPPRESSED", lambda: system.verdict("loc-1", WHO_STOPPED) == "SUPPRESSED")
        wait_for("told", system.settled)
        yield World(system, folder)

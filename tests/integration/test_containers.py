"""The path on the images of docker-compose.yml, through testcontainers: what stands there works with what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts import oracle
from tests.parts.containers import started
from tests.parts.redis import flush
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.containers import Containers

PATIENT = "+12025550143"


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    """Both, for the tests of this file."""
    with started() as parts:
        yield parts


@pytest.fixture
def system(containers: Containers, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Topics of its own and an empty database in the containers; no worker runs yet."""
    flush(containers.redis_url)
    with System(containers.kafka.bootstrap, containers.redis_url, topic_prefix, tmp_path) as deployment:
        deployment.create_topics()
        yield deployment


def test_a_stop_is_kept_and_told(system: System) -> None:
    """A STOP is in force, its change is told once, and a START lifts it, with a worker on the images' servers."""
    worker = system.start_worker(OPTOUT_KAFKA_SESSION_TIMEOUT_MS="6000")  # a broker's own lower bound
    for body, verdict in (("STOP", "SUPPRESSED"), ("START", "ALLOWED")):
        system.send([inbound("loc-1", PATIENT, body)])
        wait_for(verdict, lambda verdict=verdict: system.verdict("loc-1", PATIENT) == verdict)  # type: ignore[misc]
        wait_for("settled", system.settled)
    wait_for("both are told", lambda: len(system.read("changed")) == 2)
    assert oracle.told(system.read("changed")) == oracle.changes_of(system.read("ledger"))
    assert worker.stop() == 0


def test_check_config_finds_nothing_wrong(system: System) -> None:
    """The settings that the images are run with are those that the product asks for."""
    checked = system.run("check-config")
    assert (checked.returncode, checked.stdout.strip()) == (0, "the settings are sound; Kafka and Redis answer")

"""Somebody deletes the topics that a worker writes to, but for the ledger: opt-outs come into force all the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.parts import oracle
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.kafka import Kafka

HERE = "loc-1"
BEFORE, MEANWHILE, LATER = (f"+1202555014{number}" for number in range(3))
LONGER_THAN_THE_CLIENT_WAITS_S = 45.0
"""It takes a missing topic for one that is still on its way for half a minute, and gives its records up then."""


@pytest.mark.timeout(300)
def test_deleted_output_topics(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    """What is for a topic that was deleted waits until it is there again; what is for the others does not."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as system:
        system.create_topics()
        worker = system.start_worker()

        def opted_out(number: str) -> bool:
            assert worker.process.poll() is None, worker.log_file.read_text()[-500:]
            return (HERE, number) in system.members()

        system.send([inbound(HERE, BEFORE, "STOP")])
        wait_for("settled", system.settled, 60)
        gone = [system.topics[role] for role in ("reviews", "dead", "changed", "confirmations")]
        for deleted in system.admin.delete_topics(gone).values():
            deleted.result(15)
        began = time.monotonic()
        system.send([inbound(HERE, MEANWHILE, "STOP"), inbound(HERE, LATER, "Stop please")], raw=[b"no record"])
        wait_for("it is in force", lambda: opted_out(MEANWHILE))
        while time.monotonic() - began < LONGER_THAN_THE_CLIENT_WAITS_S:
            assert opted_out(MEANWHILE)
            time.sleep(1)
        system.send([inbound(HERE, LATER, "STOP")])
        wait_for("later ones come into force, too", lambda: opted_out(LATER))
        system.create_topics()
        wait_for("all is written", lambda: len(system.read("reviews")) == len(system.read("dead")) == 1, 60)
        wait_for("all is told", lambda: len(system.read("changed")) == len(system.read("confirmations")) == 2, 60)
        told = [(change.location, change.number) for change in oracle.told(system.read("changed"))]
        assert sorted(told) == [(HERE, MEANWHILE), (HERE, LATER)]
        assert worker.stop() == 0

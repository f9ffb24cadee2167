"""The deployments of the traces: two buckets for what is told, one for what is vouched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.test_publisher import BUCKETS
from tests.integration.test_voucher import bench, own
from tests.parts.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

__all__ = ["bench", "own", "system"]


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets, and where their changes are told."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=2)
        yield deployment

"""A deployment for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Topics of its own on the shared cluster; no worker runs yet."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path) as deployment:
        deployment.create_topics()
        yield deployment

"""The soak, in small: a deployment is broken in every lane for some seconds, and all its promises hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts import available
from tests.soak.soak import Soak

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.kafka import KafkaCluster

SEED, DURATION_S = 1, 40


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("own_redis", "javascript")
def test_a_short_soak(
    breakable_kafka: KafkaCluster,
    redis_kind: str,
    tmp_path: Path,
) -> None:
    """With workers, brokers and Redis broken side by side nothing is lost, doubled or allowed."""
    executable = available.redis_executable(redis_kind)
    outcome = Soak(breakable_kafka, executable, tmp_path, seed=SEED, duration=DURATION_S).run()
    print("\n".join([*outcome.lines, *outcome.timeline, outcome.last_line()]))  # noqa: T201 - read where it fails
    assert not outcome.problems
    assert outcome.is_good

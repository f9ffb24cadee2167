"""Three Redis servers of the machine's own, for all of its tests in a module."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.machine.servers import Servers
from tests.parts.fake_kafka import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.redis import MakeRedis


@pytest.fixture
def servers(own_redis: MakeRedis) -> Iterator[Servers]:
    """Three servers behind Unix sockets."""
    folder = tempfile.mkdtemp(prefix="optout-")
    try:
        urls = []
        for number in range(3):
            path = Path(folder, f"{number}.sock")
            own_redis(settings={"unixsocket": str(path), "appendonly": "no", "enable-debug-command": "yes"})
            urls.append(f"unix://{path}")
        yield Servers(urls, Clock())
    finally:
        shutil.rmtree(folder)

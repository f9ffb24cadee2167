"""What a program that sends has to load in order to ask."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "aiohttp",
    "click",
    "confluent_kafka",
    "fastavro",
    "httpx",
    "pydantic",
    "pydantic_settings",
    "structlog",
    "yaml",
}
OURS = {"consumer", "consumer.domain", "consumer.guard", "consumer.nodes"}


def test_the_guard_is_light() -> None:
    """Importing consumer.guard loads redis and the phone library, and of this package the domain and the nodes only."""
    code = "import json, sys, consumer.guard; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert not HEAVY & {name.partition(".")[0] for name in modules}
    ours = {".".join(name.split(".")[:2]) for name in modules if name.partition(".")[0] == "consumer"}
    assert ours == OURS

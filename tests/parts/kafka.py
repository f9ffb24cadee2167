"""A Kafka cluster of one's own on the loopback interface."""

import base64
import logging
import os
import shutil
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # public all the same

from tests.parts.broker import Broker, Installation, Node, OtherSettings
from tests.parts.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

START_DEADLINE_S = 120.0
START_ATTEMPTS = 3
REQUEST_TIMEOUT_S = 5.0
CREATE_DEADLINE_S = 30.0
# `optout simulate` writes into a cluster only if this topic says that it may.
SIMULATION_ALLOWED = "optout.simulation-allowed"

_silent = logging.getLogger("tests.parts.kafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class KafkaNotStarted(Exception):
    """The cluster did not come up: which broker, and the end of its log."""


class Kafka:
    """Some cluster: where it is, and topics on it."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    @property
    def bootstrap(self) -> str:
        """The addresses of the brokers, as `bootstrap.servers` takes them."""
        return self._bootstrap

    def admin(self) -> AdminClient:
        # The client would print each refused connection, and a test that kills a broker has many.
        return AdminClient({"bootstrap.servers": self.bootstrap, "socket.timeout.ms": 5000}, logger=_silent)

    def create_topic(self, name: str, partitions: int = 1, settings: "Mapping[str, str] | None" = None) -> None:
        """Create a topic with the cluster's default replication and wait until each partition has a leader."""
        admin = self.admin()
        new = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(settings or {}))
        admin.create_topics([new])[name].result(CREATE_DEADLINE_S)

        def has_leaders() -> bool:
            topic = admin.list_topics(name, timeout=REQUEST_TIMEOUT_S).topics[name]
            return len(topic.partitions) == partitions and all(p.leader >= 0 for p in topic.partitions.values())

        wait_until(has_leaders, f"topic {name} has leaders", CREATE_DEADLINE_S)


class KafkaCluster(Kafka):
    """A KRaft cluster of `size` brokers, numbered from 0, whose data are gone when it stops."""

    def __init__(self, installation: Installation, size: int = 3, others: OtherSettings = lambda _: {}) -> None:
        super().__init__("")
        self._others = others
        self.size = size
        self._installation = installation
        self._folder: Path | None = None
        self._brokers: list[Broker] = []

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self._brokers)

    @property
    def nodes(self) -> "Sequence[Node]":
        """Where each broker listens."""
        return [broker.node for broker in self._brokers]

    def start(self) -> None:
        """Start all brokers and wait until the cluster answers. Raises KafkaNotStarted with the end of a log."""
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_once()
            except KafkaNotStarted as failure:
                self.stop()
                # Another program may have taken a port meanwhile: then other ports are tried.
                if attempt == START_ATTEMPTS or "already in use" not in str(failure):
                    raise
            except BaseException:  # Ctrl-C while waiting, too: nobody else knows the processes
                self.stop()
                raise
            else:
                return

    def stop(self) -> None:
        """End the brokers and remove their data.

        Killed, not asked: brokers that end together wait for each other's votes, and nobody will read what they save.
        """
        for broker in self._brokers:
            broker.kill()
        self._brokers = []
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def kill_broker(self, index: int) -> None:
        """End a broker as a crash would (SIGKILL)."""
        self._brokers[index].kill()

    def stop_broker(self, index: int) -> None:
        """End a broker in order (SIGTERM)."""
        self._brokers[index].stop()

    def start_broker(self, index: int) -> None:
        """Start a stopped or killed broker on its old port and data, and wait until the cluster counts it in."""
        self._brokers[index].start()
        self._wait_for([broker for broker in self._brokers if broker.is_started])

    def pause_broker(self, index: int) -> None:
        """Stop a broker's clock (SIGSTOP): its connections stay open and nothing answers."""
        self._brokers[index].pause()

    def resume_broker(self, index: int) -> None:
        """Let a paused broker go on."""
        self._brokers[index].resume()

    def heal(self) -> None:
        """Resume and start whatever a test left paused or dead, and wait until every partition has all its replicas."""
        for broker in self._brokers:
            if broker.is_started and broker.exit_code is None:
                broker.resume()
            else:
                broker.kill()
                broker.start()
        self._wait_for(self._brokers)
        admin = self.admin()

        def is_whole() -> bool:
            topics = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics.values()
            partitions = [partition for topic in topics for partition in topic.partitions.values()]
            return all(
                partition.leader >= 0 and len(partition.isrs) == len(partition.replicas) for partition in partitions
            )

        wait_until(is_whole, "every partition has all its replicas", START_DEADLINE_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_once(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="optout-kafka-"))
        ports = iter(free_ports(4 * self.size))
        nodes = [Node(number + 1, *islice(ports, 4)) for number in range(self.size)]
        self._brokers = [
            Broker(self._installation, self._folder / f"broker-{node.number}", node, nodes, self._others)
            for node in nodes
        ]
        cluster_id = base64.urlsafe_b64encode(b"optout" + os.urandom(10)).decode().rstrip("=")
        first, *others = self._brokers
        first.format(cluster_id)
        for broker in others:
            broker.format(cluster_id, like=first)
        for broker in self._brokers:
            broker.start()
        self._wait_for(self._brokers)
        self.create_topic(SIMULATION_ALLOWED)

    def _wait_for(self, brokers: "Sequence[Broker]") -> None:
        """Wait until each of these brokers answers and says that all of them are registered."""
        expected = {broker.node.number for broker in brokers}
        for broker in brokers:
            admin = Kafka(broker.address).admin()

            def knows_all(admin: AdminClient = admin) -> bool:
                for each in brokers:
                    if each.exit_code is not None:
                        raise KafkaNotStarted(f"broker {each.node.number} ended:\n{each.last_words()}")
                return expected <= set(admin.list_topics(timeout=REQUEST_TIMEOUT_S).brokers)

            try:
                wait_until(knows_all, f"broker {broker.node.number} knows all brokers", START_DEADLINE_S)
            except TimeoutError as error:
                raise KafkaNotStarted(f"{error}; the end of its log:\n{broker.last_words()}") from error


def wait_until(holds: "Callable[[], bool]", what: str, deadline_s: float) -> None:
    """Ask again and again, a cluster that does not answer included. Raises TimeoutError."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except (KafkaException, TimeoutError):
            pass
        time.sleep(0.05)
    raise TimeoutError(f"not within {deadline_s:.0f} s: {what}")

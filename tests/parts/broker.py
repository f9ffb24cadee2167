"""One Kafka broker, which is a KRaft controller too: its settings, its folder, its process."""

import base64
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.embedded.process import end, spawn
from tests.parts.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT_DEADLINE_S = 60
STOP_DEADLINE_S = 30.0
LOG_LINES = 15
META = "meta.properties"
"""The file in a broker's folder that says which broker's it is, and of which cluster."""
# A test's broker lives for a minute or two: quick to start counts, peak speed does not.
JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")
LOGGING = """\
log4j.rootLogger=WARN, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %m (%c)%n
"""


def directory_id() -> str:
    """Return an id for a folder of a broker, as Kafka's tool draws it: none begins with a hyphen."""
    return base64.urlsafe_b64encode(b"d" + os.urandom(15)).decode().rstrip("=")


@dataclass(frozen=True)
class Installation:
    """A Java and the jars of a broker."""

    java: Path
    jars: tuple[Path, ...]
    jvm_options: tuple[str, ...] = JVM_OPTIONS

    def command(self, main: str, *arguments: str, options: "Sequence[str]" = ()) -> list[str]:
        class_path = os.pathsep.join(str(jar) for jar in self.jars)
        return [str(self.java), *self.jvm_options, *options, "-cp", class_path, main, *arguments]


@dataclass(frozen=True)
class Node:
    """Where one broker of a cluster listens."""

    number: int
    port: int
    controller_port: int
    near_port: int
    """Where it listens once more, for clients far away: they come by a line (`slow_kafka.py`)."""
    far_port: int
    """Where that line begins, which is what such clients are told."""


OtherSettings = Callable[[dict[str, str | int]], dict[str, str | int]]
"""What brokers are to have besides, or instead: of the settings that they would have."""


class Broker:
    """A broker that can be started, stopped, killed and paused; its data stay in its folder."""

    def __init__(
        self, installation: Installation, folder: Path, node: Node, nodes: "Sequence[Node]", others: OtherSettings
    ) -> None:
        self._others = others
        self.node = node
        self.address = f"{HOST}:{node.port}"
        self._installation = installation
        self._folder = folder
        self._nodes = nodes
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, cluster_id: str, like: "Broker | None" = None) -> None:
        """Make the folder of a new broker, where there is one after the pattern of another broker of its cluster.

        Kafka's own tool makes the first, and a start of Java for each further one takes longer than all else here.
        """
        self._folder.mkdir(parents=True)
        ours = self._settings()
        ours |= self._others(ours)
        settings = "".join(f"{name}={value}\n" for name, value in ours.items())
        self._settings_file.write_text(settings, encoding="utf-8")
        self._logging_file.write_text(LOGGING, encoding="utf-8")
        if like is not None:
            shutil.copytree(like._data, self._data)
            own = {"node.id": str(self.node.number), "directory.id": directory_id()}
            facts = (self._data / META).read_text(encoding="utf-8").splitlines()
            named = (fact.partition("=")[::2] for fact in facts if not fact.startswith("#"))
            (self._data / META).write_text("".join(f"{name}={own.get(name, value)}\n" for name, value in named))
            return
        command = self._installation.command(
            "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._settings_file)
        )
        with self._log.open("wb") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True, timeout=FORMAT_DEADLINE_S)

    def start(self) -> None:
        """Start the process; it is the cluster that knows when it is of use."""
        assert self._process is None, f"broker {self.node.number} is already running"
        logging = f"-Dlog4j.configuration={self._logging_file.as_uri()}"
        command = self._installation.command("kafka.Kafka", str(self._settings_file), options=[logging])
        self._process = spawn(command, folder=self._folder, output=self._log)

    def stop(self) -> None:
        """End it in order: it hands its leaderships over first."""
        if self._process is not None:
            end([self._process], STOP_DEADLINE_S)
            self._process = None

    def kill(self) -> None:
        """End it as a crash would; a paused one too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop its clock: its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped or killed by us; it may have died by itself."""
        return self._process is not None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _settings_file(self) -> Path:
        return self._folder / "broker.properties"

    @property
    def _logging_file(self) -> Path:
        return self._folder / "log4j.properties"

    @property
    def _log(self) -> Path:
        return self._folder / "broker.log"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"broker {self.node.number} is not running"
        self._process.send_signal(number)

    def _settings(self) -> dict[str, str | int]:
        copies = min(3, len(self._nodes))
        in_sync = min(2, copies)
        internal_topics: dict[str, str | int] = {}
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            internal_topics |= {f"{topic}.num.partitions": 4, f"{topic}.replication.factor": copies}
            if topic != "offsets.topic":  # that one takes min.insync.replicas
                internal_topics |= {f"{topic}.min.isr": in_sync}
        return {
            "process.roles": "broker,controller",
            "node.id": self.node.number,
            "controller.quorum.voters": ",".join(f"{n.number}@{HOST}:{n.controller_port}" for n in self._nodes),
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self.node.controller_port},"
            f"FAR://{HOST}:{self.node.near_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address},FAR://{HOST}:{self.node.far_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT",
            "log.dirs": str(self._data),
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            **internal_topics,
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            # A dead member, broker or transaction is noticed in seconds, so that a test can wait for it.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "group.consumer.min.session.timeout.ms": 1000,
            "group.consumer.min.heartbeat.interval.ms": 100,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 3000,
            # Three brokers share a small machine.
            "log.cleaner.dedupe.buffer.size": 10_485_760,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }

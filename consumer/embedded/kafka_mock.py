"""librdkafka's mock cluster, hosted in this process: real sockets and the real protocol, but not a real Kafka."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import confluent_kafka

from consumer.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The mock API is experimental and outside librdkafka's promises of a stable API: each minor version is tried first.
TRIED_VERSION: Final = "2.16."
ALL_BROKERS: Final = -1

_HEARTBEAT_INTERVAL_MS: Final = 300
_PRODUCER: Final = 0  # rd_kafka_type_t
_ERROR_TEXT_BYTES: Final = 512


def library_path() -> Path:
    """Find the shared library that the installed confluent_kafka wheel brings and uses.

    Raises EmbeddedError if it brings none (built against a system library, say).
    """
    package = Path(confluent_kafka.__file__).parent
    folder, pattern = (
        (package / ".dylibs", "librdkafka*.dylib")
        if sys.platform == "darwin"
        else (package.parent / "confluent_kafka.libs", "librdkafka*.so*")
    )
    for path in sorted(folder.glob(pattern)):
        return path
    raise EmbeddedError(f"no {pattern} in {folder}: the embedded Kafka needs confluent-kafka installed from its wheel")


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path()))  # the same file as confluent_kafka's: the loader gives the same library
    library.rd_kafka_version_str.restype = ctypes.c_char_p
    version = library.rd_kafka_version_str().decode()
    if not version.startswith(TRIED_VERSION):
        raise EmbeddedError(
            f"the embedded Kafka was tried with librdkafka {TRIED_VERSION}x only, and this is {version}: "
            f"install confluent-kafka {TRIED_VERSION}x"
        )
    pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, size]),
        ("rd_kafka_new", pointer, [number, pointer, text, size]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_err2str", text, [number]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_set_group_consumer_session_timeout_ms", None, [pointer, number]),
        ("rd_kafka_mock_set_group_consumer_heartbeat_interval_ms", None, [pointer, number]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        (
            "rd_kafka_mock_push_request_errors_array",
            None,
            [pointer, ctypes.c_int16, size, ctypes.POINTER(number)],
        ),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class MockKafka:
    """A cluster of some brokers (ids from 1) on loopback ports; other processes join by its address.

    It ends with this process, and with it every record and offset. What it does not do as a real one does:

    - Exactly once. Transactions run, but read_committed shows open and aborted records, offsets sent to a transaction
      are not stored, and zombies are not fenced.
    - Keeping data. Each partition holds about 5 MiB of batches, as they came over the wire, and at most 100,000 of
      them; the oldest go silently. No setting changes that.
    - Administration. Topics are made by `create_topic`, or with 4 partitions by a producer or an admin client that
      asks for an unknown one by name. Creating and describing topics, their settings or groups fails or times out.
    - Rebalances, with the classic protocol: what a real broker settles at once takes up to `session.timeout.ms` less
      one second, twice for a cooperative join (2 s in all at 2,000 ms), and commits fail with REBALANCE_IN_PROGRESS
      meanwhile. Members that name different assignors first end this process by an assertion of librdkafka's. KIP-848
      (`group.protocol=consumer`) settles within a heartbeat of 0.3 s; its session timeout is the cluster's own.
    """

    def __init__(self, *, brokers: int = 1, session_timeout_ms: int = 6000) -> None:
        """Prepare a cluster; `session_timeout_ms` is when a silent member of a KIP-848 group is given up."""
        self._broker_count = brokers
        self._session_timeout_ms = session_timeout_ms
        self._library: ctypes.CDLL | None = None
        self._client: int | None = None
        self._cluster: int | None = None

    @property
    def bootstrap(self) -> str:
        """The addresses, as `bootstrap.servers` takes them. Raises EmbeddedError while not running."""
        library, cluster = self._running()
        addresses: bytes = library.rd_kafka_mock_cluster_bootstraps(cluster)
        return addresses.decode()

    def start(self) -> None:
        """Start the brokers; they accept connections at once.

        Raises EmbeddedError if the library is missing, of an untried version, or refuses.
        """
        if self._cluster is not None:
            raise EmbeddedError(f"the embedded Kafka is already running at {self.bootstrap}")
        library = _load()
        text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        configuration = library.rd_kafka_conf_new()
        # The hosting client connects to nothing and would complain about that on stderr.
        library.rd_kafka_conf_set(configuration, b"log_level", b"0", text, _ERROR_TEXT_BYTES)
        client = library.rd_kafka_new(_PRODUCER, configuration, text, _ERROR_TEXT_BYTES)
        if not client:
            raise EmbeddedError(f"librdkafka refused to host the embedded Kafka: {text.value.decode()}")
        cluster = library.rd_kafka_mock_cluster_new(client, self._broker_count)
        if not cluster:
            library.rd_kafka_destroy(client)
            raise EmbeddedError(f"librdkafka refused an embedded Kafka of {self._broker_count} brokers: use 1 or 3")
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
        library.rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(cluster, _HEARTBEAT_INTERVAL_MS)
        library.rd_kafka_mock_set_group_consumer_session_timeout_ms(cluster, self._session_timeout_ms)
        self._library, self._client, self._cluster = library, client, cluster

    def stop(self) -> None:
        """Stop the brokers and forget everything. Does nothing if it is not running."""
        if self._library is not None and self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._client = self._cluster = None

    def create_topic(self, name: str, partitions: int, replication: int = 1) -> None:
        """Create a topic. Raises EmbeddedError if it exists or wants more replicas than there are brokers."""
        library, cluster = self._running()
        what = f"cannot create the topic {name} with {partitions} partitions and {replication} replicas"
        if replication > self._broker_count:  # the library would quietly make fewer
            raise EmbeddedError(
                f"{what}: the embedded Kafka has {self._broker_count} brokers, ask for no more replicas"
            )
        _check(library, library.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, replication), what)

    def set_broker_down(self, broker: int = ALL_BROKERS) -> None:
        """Disconnect a broker's clients and refuse new ones; its partitions keep their leader."""
        library, cluster = self._running()
        _check(library, library.rd_kafka_mock_broker_set_down(cluster, broker), f"cannot take broker {broker} down")

    def set_broker_up(self, broker: int = ALL_BROKERS) -> None:
        """Have a broker accept connections again."""
        library, cluster = self._running()
        _check(library, library.rd_kafka_mock_broker_set_up(cluster, broker), f"cannot take broker {broker} up")

    def push_request_errors(self, api_key: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind (0 Produce, 1 Fetch, 8 OffsetCommit...) with these error codes, in order.

        `KafkaError._TRANSPORT` cuts the connection instead.
        """
        library, cluster = self._running()
        codes = (ctypes.c_int * len(errors))(*errors)
        library.rd_kafka_mock_push_request_errors_array(cluster, api_key, len(errors), codes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> tuple[ctypes.CDLL, int]:
        if self._library is None or self._cluster is None:
            raise EmbeddedError("the embedded Kafka is not running: call start() first")
        return self._library, self._cluster


def _check(library: ctypes.CDLL, code: int, what: str) -> None:
    if code:
        raise EmbeddedError(f"{what} on the embedded Kafka: {library.rd_kafka_err2str(code).decode()}")

"""The real parts of the tests: a Kafka and a Redis that they share, and others of their own, provided when needed."""

import faulthandler
import gc
import os
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from consumer.embedded.redis_server import RedisServer
from tests.parts import available, chance, selection
from tests.parts.kafka import Kafka, KafkaCluster
from tests.parts.redis import flush, require_empty
from tests.parts.redis_cluster import RedisCluster
from tests.parts.sentinels import Sentinels

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from xdist.workermanage import WorkerController

    from tests.parts.javascript import JavaScript
    from tests.parts.redis import MakeRedis


CLEARED_UP_WITHIN_S = 180

chance.load_profile()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Tests start commands and workers by the thousand: without this, a good part of each start would be compiling.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if chance.exploring() and config.getoption("hypothesis_seed", None) is None:  # before Hypothesis looks at it
        config.option.hypothesis_seed = str(chance.base_seed())


def pytest_report_header() -> str:
    return chance.report()


@pytest.fixture(scope="session", autouse=True)
def nobodys_stack(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[None]":
    """Commands find the stack that `optout dev` keeps running, and that of whoever runs the tests is none of ours."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def kafka() -> "Iterator[Kafka]":
    """The Kafka that tests share; each keeps to topics and groups of its own, see `topic_prefix`.

    One broker, unless OPTOUT_TEST_BROKERS asks for more: three cost three times the processor, and most tests see no
    difference. Those that do have `replicated_kafka`, or `breakable_kafka`.
    """
    if bootstrap := available.external_kafka():
        yield Kafka(bootstrap)
    else:
        parts = available.kafka_parts()
        with KafkaCluster(parts.installation, available.brokers()) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def kafka_cluster() -> "Iterator[KafkaCluster]":
    """Brokers enough to lose one, our own even where somebody else's Kafka was given; gone with the module."""
    parts = available.kafka_parts()
    with KafkaCluster(parts.installation, parts.size) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def replicated_kafka(request: pytest.FixtureRequest) -> Kafka:
    """A Kafka that keeps each record on several brokers, for a test that only looks on."""
    if bootstrap := available.external_kafka():
        return Kafka(bootstrap)
    cluster: KafkaCluster = request.getfixturevalue("kafka_cluster")
    return cluster


@pytest.fixture
def breakable_kafka(kafka_cluster: KafkaCluster) -> "Iterator[KafkaCluster]":
    """The module's cluster, for a test that kills or pauses its brokers; whole again for the next test."""
    yield kafka_cluster
    kafka_cluster.heal()


@pytest.fixture
def topic_prefix() -> str:
    """The start of every topic, group and transactional id of a test."""
    return f"t{secrets.token_hex(4)}."


@pytest.fixture(scope="session")
def redis_kind(request: pytest.FixtureRequest) -> str:
    """The server that the test runs with: redis, valkey, or somebody's."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def redis_server(redis_kind: str, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[str]":
    """The URL of the server that tests share."""
    if url := available.external_redis():
        require_empty(url)
        yield url
        flush(url)
    else:
        with RedisServer(available.redis_executable(redis_kind), tmp_path_factory.mktemp(redis_kind)) as server:
            yield server.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty database."""
    flush(redis_server)
    return redis_server


@pytest.fixture
def own_redis(redis_kind: str, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[MakeRedis]":
    """Make servers that the test may kill, restart and roll back."""
    with ExitStack() as servers:

        def make(*, port: int | None = None, settings: "Mapping[str, str] | None" = None) -> RedisServer:
            folder = tmp_path_factory.mktemp(f"own-{redis_kind}")
            server = RedisServer(available.redis_executable(redis_kind), folder, port=port, settings=settings or {})
            return servers.enter_context(server)

        yield make


@pytest.fixture(scope="session")
def javascript() -> "JavaScript":
    """The example sender of examples/javascript, with its modules, and a Node to run it with."""
    return available.javascript()


@pytest.fixture
def redis_cluster(redis_kind: str, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RedisCluster]":
    """A Redis Cluster that the test may break: three shards, each with a replica."""
    with RedisCluster(
        available.redis_executable(redis_kind), tmp_path_factory.mktemp(f"cluster-{redis_kind}")
    ) as cluster:
        yield cluster


@pytest.fixture
def make_sentinels(redis_kind: str, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Callable[..., Sentinels]]":
    """Make a primary with a replica, and Sentinels that watch over them, for a test to break."""
    with ExitStack() as made:

        def make(*, password: str = "") -> Sentinels:
            executable, folder = available.redis_executable(redis_kind), tmp_path_factory.mktemp("sentinels")
            return made.enter_context(Sentinels(executable, folder, password=password))

        yield make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "redis_kind" in metafunc.fixturenames:
        server_decides = metafunc.definition.get_closest_marker("every_server") is not None
        kinds = available.redis_kinds(server_decides=server_decides)
        # What concerns Redis alone may be tried on every kind, the path on one.
        if selection.KAFKA_FIXTURES.intersection(metafunc.fixturenames):
            kinds = kinds[:1]
        metafunc.parametrize("redis_kind", kinds, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> "Generator[None]":
    selection.mark(items)  # before `-m` looks at the marks
    yield
    if not config.getoption("collectonly"):
        selection.leave_out(config, items)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what stays for the whole run: thousands of tests, and their modules."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact() -> None:
    """Bound what comes behind a test that failed: its own limits are over, and a client may hang while it is closed."""
    faulthandler.dump_traceback_later(CLEARED_UP_WITHIN_S, exit=True, file=2)


def pytest_sessionfinish(session: pytest.Session) -> None:
    selection.tell(session.config)
    selection.verdict(session)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: "WorkerController") -> None:
    selection.hear(node.config, getattr(node, "workeroutput", {}))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if reporter := config.pluginmanager.get_plugin("terminalreporter"):
        for line in selection.report(config):
            reporter.write_line(line)

"""A Kafka and a Redis in containers, of the images and with the settings of docker-compose.yml."""

import gc
import warnings
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import docker
import redis
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.parts.composition import services
from tests.parts.downloads import require_downloads
from tests.parts.errors import PartMissing
from tests.parts.kafka import Kafka, wait_until
from tests.parts.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

START_DEADLINE_S = 60.0
KAFKA_PORT, REDIS_PORT = 9092, 6379


class Containers(NamedTuple):
    """Where they are."""

    kafka: Kafka
    redis_url: str


def require_images() -> None:
    """Make the images available, pulling what is not here. Raises PartMissing, also where no engine answers."""
    images = [services()[name]["image"] for name in ("kafka", "redis")]
    if not testcontainers_config.ryuk_disabled:  # what removes the containers of a run that was killed
        images.append(testcontainers_config.ryuk_image)
    client = _engine()
    if client is None:
        raise PartMissing("no Docker engine answers")
    with closing(client):
        for image in images:
            _require(client, image)


def _engine() -> docker.DockerClient | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the client leaves a socket open where nobody listens
        try:
            return docker.from_env()
        except DockerException:
            pass
        gc.collect()
    return None


def _require(client: docker.DockerClient, image: str) -> None:
    try:
        client.images.get(image)
    except ImageNotFound:
        require_downloads()
        try:
            client.images.pull(image)
        except DockerException as problem:
            raise PartMissing(f"the image {image} is not here and cannot be pulled") from problem


@contextmanager
def started() -> "Iterator[Containers]":
    """Start both and wait until they answer; they are removed at the end."""
    kafka_port, redis_port = free_ports(2)
    ours = services(KAFKA_HOST_PORT=kafka_port)
    with ExitStack() as stack:
        kafka = DockerContainer(ours["kafka"]["image"]).with_kwargs(hostname="kafka")  # the broker calls itself so
        kafka.env = {name: str(value) for name, value in ours["kafka"]["environment"].items()}
        stack.enter_context(_published(kafka, KAFKA_PORT, kafka_port))
        server = DockerContainer(ours["redis"]["image"]).with_kwargs(user=ours["redis"]["user"])
        stack.enter_context(_published(server.with_command(ours["redis"]["command"]), REDIS_PORT, redis_port))
        parts = Containers(Kafka(f"{HOST}:{kafka_port}"), f"redis://{HOST}:{redis_port}/0")
        wait_until(lambda: bool(parts.kafka.admin().list_topics(timeout=5).brokers), "Kafka answers", START_DEADLINE_S)
        wait_until(lambda: _answers(parts.redis_url), "Redis answers", START_DEADLINE_S)
        yield parts


def _published(container: DockerContainer, inner: int, outer: int) -> DockerContainer:
    container.ports[f"{inner}/tcp"] = (HOST, outer)  # type: ignore[assignment] # the engine's client takes an address too
    return container


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False

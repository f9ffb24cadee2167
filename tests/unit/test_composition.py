"""docker-compose.yml and deploy/Dockerfile as they are written: what can be held without an engine."""

from __future__ import annotations

import re
from typing import Any

import pytest

from consumer.settings import OURS, load
from tests.parts.composition import services
from tests.parts.downloads import ROOT
from tests.parts.kafka_jars import KAFKA_VERSION

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")
SERVICES = services()
OWN = [name for name, service in SERVICES.items() if service["image"].startswith("sms-optout")]


def environment(name: str) -> dict[str, str]:
    """Return the variables that a service is given, without those that only a shell can set."""
    return {key: str(value) for key, value in SERVICES[name]["environment"].items() if value is not None}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_images_are_pinned() -> None:
    """Each image that others make has an exact version: a build of next year runs what was tested."""
    theirs = [service["image"] for name, service in SERVICES.items() if name not in OWN]
    bases = re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(theirs) == 3
    assert len(bases) == 1
    assert [image for image in [*theirs, *bases] if not PINNED.fullmatch(image)] == []
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON}"}


def test_kafka_is_the_tested_one() -> None:
    """The composition runs the Kafka that the tests run on."""
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("name", OWN)
def test_settings_are_known_and_say_that_the_ledger_is_unsafe(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every OPTOUT_* variable is a setting with a value that is accepted, and one broker is called unsafe."""
    for key, value in environment(name).items():
        monkeypatch.setenv(key, value)
    settings = load()
    assert settings.unsafe_ledger
    assert settings.kafka.keys().isdisjoint(OURS)
    assert settings.require_kafka()
    assert settings.require_redis()
    assert settings.require_confirmations()
    assert settings.allow_simulation == (name == "optout")  # and nowhere else


@pytest.mark.parametrize("name", OWN)
def test_our_containers_are_confined(name: str) -> None:
    """What we run writes to no file system, has no capability, cannot win one, and is not root."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE.split("FROM")[-1], re.MULTILINE)


def test_workers_can_be_many_and_end_in_time() -> None:
    """A worker has nothing that only one container can have, and is killed only after its own deadline."""
    worker = SERVICES["worker"]
    assert {"container_name", "hostname", "ports"}.isdisjoint(worker)
    assert seconds(worker["stop_grace_period"]) > float(environment("worker")["OPTOUT_SHUTDOWN_SECONDS"])
    assert worker["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_ports_are_this_machines_alone() -> None:
    """Kafka and Redis ask for no password, so they are published on the loopback interface only."""
    ports = [str(port) for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_redis_keeps_what_it_is_told() -> None:
    """Redis evicts nothing and has its append-only file on a volume."""
    command: list[Any] = SERVICES["redis"]["command"]
    settings = dict(zip(command[1::2], command[2::2], strict=True))
    assert settings["--maxmemory-policy"] == "noeviction"
    assert settings["--appendonly"] == "yes"
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    """All is ignored but what the Dockerfile copies: no secret, cache or history gets into an image."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert lines[0] == "*"
    assert sorted(line.removeprefix("!") for line in lines if line.startswith("!")) == sorted(" ".join(copied).split())
    assert "--require-hashes" in DOCKERFILE

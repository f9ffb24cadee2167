"""Which tests can run with the parts that there are, and what is said about the others."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.parts import available, containers
from tests.parts.errors import PartMissing, PartRefused

if TYPE_CHECKING:
    from collections.abc import Callable

LEFT_OUT = pytest.StashKey[Counter[str]]()
WITHOUT_DOCKER = pytest.StashKey[Counter[str]]()

KAFKA_FIXTURES = frozenset({"kafka", "kafka_cluster"})
REDIS_FIXTURES = frozenset({"redis_server", "own_redis", "redis_cluster"})
DOCKER_FIXTURES = frozenset({"containers"})
DOCKER = "Docker"
"""The one part that may be absent everywhere, for the same paths are tested on local servers."""


def mark(items: list[pytest.Item]) -> None:
    """Give the tests that use real parts, directly or through a fixture, the marks `kafka`, `redis` and `docker`."""
    for item in items:
        if _fixtures(item) & KAFKA_FIXTURES:
            item.add_marker("kafka")
        if _fixtures(item) & REDIS_FIXTURES:
            item.add_marker("redis")
        if _fixtures(item) & DOCKER_FIXTURES:
            item.add_marker("docker")


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Try to provide what the tests need and deselect those whose parts are missing; UsageError for a refused part."""
    config.stash[LEFT_OUT], config.stash[WITHOUT_DOCKER] = Counter(), Counter()
    verdicts: dict[str, str | None] = {}  # each part is looked for once, however many tests need it
    selected, left_out = [], []
    for item in items:
        reasons = []
        for part, provide in _needs(item).items():
            if part not in verdicts:
                verdicts[part] = _why_missing(provide)
            if reason := verdicts[part]:
                reasons.append((WITHOUT_DOCKER if part == DOCKER else LEFT_OUT, f"{part}: {reason}"))
        if reasons:
            left_out.append(item)
            for kind, reason in reasons:
                config.stash[kind][reason] += 1
        else:
            selected.append(item)
    if left_out:
        items[:] = selected
        config.hook.pytest_deselected(items=left_out)


def verdict(session: pytest.Session) -> None:
    """Set the exit status: what is left out is in order on a laptop, and in CI for want of Docker alone.

    Nor is a skipped test in order there.
    """
    if session.exitstatus not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        return
    left_out = bool(session.config.stash.get(LEFT_OUT, None))
    if available.in_ci() and (left_out or _skipped(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif left_out or session.config.stash.get(WITHOUT_DOCKER, None):
        session.exitstatus = pytest.ExitCode.OK


def report(config: pytest.Config) -> list[str]:
    """Return the last lines of the run."""
    in_ci = " (with CI=true this is a failure)" if available.in_ci() else ""
    lines = [f"Left out: {count} x {reason}." for reason, count in config.stash.get(WITHOUT_DOCKER, Counter()).items()]
    lines += [
        f"Left out{in_ci}: {count} x {reason}." for reason, count in config.stash.get(LEFT_OUT, Counter()).items()
    ]
    if in_ci and (skipped := _skipped(config)):
        lines.append(f"Skipped{in_ci}: {skipped} x, for the reasons above.")
    return lines


def _needs(item: pytest.Item) -> dict[str, "Callable[[], object]"]:
    fixtures = _fixtures(item)
    needs: dict[str, Callable[[], object]] = {}
    if fixtures & DOCKER_FIXTURES:
        needs[DOCKER] = containers.require_images
    if "kafka_cluster" in fixtures or ("kafka" in fixtures and not available.external_kafka()):
        needs["Kafka"] = available.kafka_parts
    if isinstance(item, pytest.Function) and fixtures & REDIS_FIXTURES:
        kind = str(item.callspec.params["redis_kind"])
        if kind != available.EXTERNAL or "own_redis" in fixtures:
            needs[available.KINDS.get(kind, "Redis")] = lambda: available.redis_executable(kind)
    return needs


def _why_missing(provide: "Callable[[], object]") -> str | None:
    try:
        provide()
    except PartMissing as missing:
        return str(missing)
    except PartRefused as refused:
        raise pytest.UsageError(str(refused)) from refused
    return None


def _fixtures(item: pytest.Item) -> frozenset[str]:
    return frozenset(item.fixturenames) if isinstance(item, pytest.Function) else frozenset()


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0

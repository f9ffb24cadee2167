"""Which tests can run with the parts that there are, and what is said about the others."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.parts import available, containers
from tests.parts.errors import PartMissing, PartRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WITHOUT_DOCKER, LEFT_OUT, REFUSED = "without Docker", "left out", "refused"
"""Why a test does not run: always in order, in order on a laptop, never in order."""
ABSENT = pytest.StashKey[dict[str, Counter[str]]]()
"""For each of the three: how many tests for which reason."""

OWN_KAFKA = frozenset({"kafka_cluster", "locked_kafka"})
SHARED_KAFKA = frozenset({"kafka", "replicated_kafka"})
KAFKA_FIXTURES = OWN_KAFKA | SHARED_KAFKA
REDIS_FIXTURES = frozenset({"redis_server", "own_redis", "redis_cluster", "make_sentinels"})
DOCKER_FIXTURES = frozenset({"containers"})
JAVASCRIPT_FIXTURES = frozenset({"javascript"})
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
    """Try to provide what the tests need and deselect those whose parts are missing or refused."""
    absent: dict[str, Counter[str]] = {WITHOUT_DOCKER: Counter(), LEFT_OUT: Counter(), REFUSED: Counter()}
    config.stash[ABSENT] = absent
    verdicts: dict[str, tuple[str, str] | None] = {}  # each part is looked for once, however many tests need it
    selected, left_out = [], []
    for item in items:
        reasons = []
        for part, provide in _needs(item).items():
            if part not in verdicts:
                verdicts[part] = _why_absent(part, provide)
            if reason := verdicts[part]:
                reasons.append(reason)
        if reasons:
            left_out.append(item)
            for kind, why in reasons:
                absent[kind][why] += 1
        else:
            selected.append(item)
    if left_out:
        items[:] = selected
        config.hook.pytest_deselected(items=left_out)


def tell(config: pytest.Config) -> None:
    """Give what this process of several left out to the one that reports."""
    if hasattr(config, "workeroutput"):
        config.workeroutput["absent"] = {kind: dict(reasons) for kind, reasons in _absent(config).items()}


def hear(config: pytest.Config, output: "Mapping[str, Mapping[str, Mapping[str, int]]]") -> None:
    """Take what one of several processes left out: each has looked at all tests, so all say the same."""
    config.stash[ABSENT] = {kind: Counter(reasons) for kind, reasons in output.get("absent", {}).items()}


def verdict(session: pytest.Session) -> None:
    """Set the exit status: what is left out is in order on a laptop, and in CI for want of Docker alone.

    Nor is a skipped test in order there, nor a refused part anywhere.
    """
    if session.exitstatus not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        return
    absent = _absent(session.config)
    wrong_in_ci = bool(absent.get(LEFT_OUT)) or _skipped(session.config) > 0
    if absent.get(REFUSED) or (available.in_ci() and wrong_in_ci):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif absent.get(LEFT_OUT) or absent.get(WITHOUT_DOCKER):
        session.exitstatus = pytest.ExitCode.OK


def report(config: pytest.Config) -> list[str]:
    """Return the last lines of the run."""
    in_ci = " (with CI=true this is a failure)" if available.in_ci() else ""
    said = {WITHOUT_DOCKER: "Left out", LEFT_OUT: f"Left out{in_ci}", REFUSED: "Refused"}
    absent = _absent(config)
    lines = [f"{said[kind]}: {count} x {why}." for kind in said for why, count in absent.get(kind, {}).items()]
    if in_ci and (skipped := _skipped(config)):
        lines.append(f"Skipped{in_ci}: {skipped} x, for the reasons above.")
    return lines


def _absent(config: pytest.Config) -> dict[str, Counter[str]]:
    return config.stash.get(ABSENT, {})


def _needs(item: pytest.Item) -> dict[str, "Callable[[], object]"]:
    fixtures = _fixtures(item)
    needs: dict[str, Callable[[], object]] = {}
    if fixtures & DOCKER_FIXTURES:
        needs[DOCKER] = containers.require_images
    if fixtures & OWN_KAFKA or (fixtures & SHARED_KAFKA and not available.external_kafka()):
        needs["Kafka"] = available.kafka_parts
    if fixtures & JAVASCRIPT_FIXTURES:
        needs["Node"] = available.javascript
    if isinstance(item, pytest.Function) and fixtures & REDIS_FIXTURES:
        kind = str(item.callspec.params["redis_kind"])
        if kind != available.EXTERNAL or "own_redis" in fixtures:
            needs[available.KINDS.get(kind, "Redis")] = lambda: available.redis_executable(kind)
    return needs


def _why_absent(part: str, provide: "Callable[[], object]") -> tuple[str, str] | None:
    try:
        provide()
    except PartMissing as missing:
        return WITHOUT_DOCKER if part == DOCKER else LEFT_OUT, f"{part}: {missing}"
    except PartRefused as refused:
        return REFUSED, f"{part}: {refused}"
    return None


def _fixtures(item: pytest.Item) -> frozenset[str]:
    return frozenset(item.fixturenames) if isinstance(item, pytest.Function) else frozenset()


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0

"""What a worker says of itself over HTTP: metrics, whether it lives, whether it is ready and why not."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import CapturingLogger

from consumer.domain.losses import Loss
from consumer.ops.health import Health, application, listening
from consumer.ops.losses import Fall, Losses
from consumer.ops.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger


class Probed:
    """A worker's health behind a real listener."""

    def __init__(self, late: float = 120.0) -> None:
        self.metrics = Metrics()
        self.health = Health(self.metrics, late=late)
        self.address = ("", 0)

    def get(self, path: str) -> tuple[int, str]:
        """Ask as a probe does."""
        host, port = self.address
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def parts(self, path: str) -> Any:
        return json.loads(self.get(path)[1])["parts"]


@pytest.fixture
def probed() -> Iterator[Probed]:
    one = Probed()
    with listening("127.0.0.1", 0, application(one.metrics, one.health)) as one.address:
        yield one


def test_not_ready_before_it_has_begun(probed: Probed) -> None:
    """A worker that starts lives, and is ready only when each of its loops turns."""
    probed.health.expect("apply", "vouch")
    probed.health.beat("apply")
    assert probed.get("/livez")[0] == 200
    assert probed.get("/readyz")[0] == 503
    assert probed.parts("/readyz") == {"vouch": ["it has not begun"]}
    probed.health.beat("vouch")
    assert probed.get("/readyz")[0] == 200


def test_trouble_makes_it_unready_and_not_dead(probed: Probed) -> None:
    """While Redis is away a worker lives and is not ready, and says why; then it is ready again."""
    probed.health.trouble("apply", "redis", "Redis cannot answer: TimeoutError")
    assert probed.get("/livez")[0] == 200
    assert probed.get("/readyz")[0] == 503
    assert probed.parts("/readyz") == {"apply": ["Redis cannot answer: TimeoutError"]}
    assert 'optout_trouble{kind="redis",part="apply"} 1.0' in probed.get("/metrics")[1]
    probed.health.clear("apply", "redis")
    assert probed.get("/readyz")[0] == 200
    assert 'optout_trouble{kind="redis",part="apply"} 0.0' in probed.get("/metrics")[1]


def test_loop_that_does_not_turn_is_not_alive() -> None:
    """A loop that has not turned for too long makes a worker neither alive nor ready, and turning heals it."""
    one = Probed(late=0.2)
    with listening("127.0.0.1", 0, application(one.metrics, one.health)) as one.address:
        one.health.beat("publish")
        assert one.get("/livez")[0] == 200
        time.sleep(0.3)
        assert one.get("/livez")[0] == 503
        assert one.get("/readyz")[0] == 503
        assert list(one.parts("/livez")) == ["publish"]
        one.health.beat("publish")
        assert one.get("/livez")[0] == 200


def test_every_loss_is_exported_before_it_happens(probed: Probed) -> None:
    """An alert on a loss can be written on the first day: each kind is there as 0, and so are the reasons that page."""
    metrics = probed.get("/metrics")[1]
    for kind in set(Loss) - {Loss.REBUILT}:
        assert f'optout_losses_total{{kind="{kind}"}} 0.0' in metrics
    assert 'optout_dead_letters_total{reason="unattributable_opt_out"} 0.0' in metrics


def test_a_silent_client_holds_nobody_up(probed: Probed) -> None:
    """A client that connects and says nothing, or goes away, does not keep a probe from its answer."""
    with socket.create_connection(probed.address):
        assert probed.get("/livez")[0] == 200
    assert probed.get("/nothing")[0] == 404


def test_what_the_intake_counts_is_exported() -> None:
    """Everything that became of inbound records is a metric by its name, dead letters by their reason."""
    metrics = Metrics()
    counts = {"inbound": 9, "opt_out": 3, "implausible_time": 1, "dead_lettered": 2, "dead_letter_not_avro": 2}
    metrics.count_intake(counts)
    metrics.count_intake({"inbound": 1})
    value = metrics.registry.get_sample_value
    assert value("optout_inbound_records_total") == 10
    assert value("optout_inbound_outcomes_total", {"outcome": "opt_out"}) == 3
    assert value("optout_inbound_outcomes_total", {"outcome": "implausible_time"}) == 1
    assert value("optout_dead_letters_total", {"reason": "not_avro"}) == 2


class Lost:
    """Losses, and what was logged of them."""

    def __init__(self) -> None:
        self.logger = CapturingLogger()
        self.metrics = Metrics()
        self.losses = Losses(self.metrics, cast("FilteringBoundLogger", self.logger))

    def lines(self) -> list[dict[str, Any]]:
        return [{"level": call.method_name, **call.kwargs} for call in self.logger.calls]


def test_a_loss_of_many_buckets_is_one_line_and_so_is_its_healing() -> None:
    """A loss names ten buckets and counts the rest, and is healed when the last of them is vouched for again."""
    lost = Lost()
    lost.losses.fell(Loss.VIEW_MISSING, {bucket: Fall(100 + bucket, 0) for bucket in range(64)})
    line = lost.lines()[0]
    assert line["buckets"] == list(range(10))
    assert line["of_buckets"] == 64
    assert line["records_to_replay"] == sum(range(100, 164))
    assert (line["from_offset"], line["to_offset"]) == (163, 0)
    lost.losses.vouched(dict.fromkeys(range(63), 170))
    assert len(lost.lines()) == 1
    assert lost.losses.replaying == 1
    lost.losses.vouched({63: 200})
    assert lost.lines()[1]["records_replayed"] == 63 * 170 + 200
    assert lost.losses.replaying == 0


def test_a_state_is_named_once_while_it_lasts() -> None:
    """A policy that evicts, or a replica, is named once, and again only after it was healed."""
    lost = Lost()
    for _ in range(3):
        lost.losses.found(Loss.EVICTING, [1, 2])
    assert len(lost.lines()) == 1
    lost.losses.vouched({1: 5, 2: 5})
    lost.losses.found(Loss.EVICTING, [1, 2])
    assert [line["level"] for line in lost.lines()] == ["error", "info", "error"]


def test_a_first_start_is_no_loss() -> None:
    """Buckets of which nothing was ever told are begun without a warning; those that were told of are missing."""
    lost = Lost()
    lost.losses.took_over({0: 0, 1: 0, 2: 40, 3: 50}, begun=[0, 1])
    lost.losses.learned({0: 0, 1: 30, 2: 45, 3: 50})
    assert [(line["level"], line.get("loss"), line["buckets"]) for line in lost.lines()] == [
        ("error", "view-missing", [1]),
        ("error", "view-fell-back", [2]),
        ("info", None, [0]),
    ]


def test_buckets_of_another_worker_heal_nothing_here() -> None:
    """A loss whose buckets were given up is no longer this worker's: nothing is said of it any more."""
    lost = Lost()
    lost.losses.fell(Loss.OTHER_SERVER, {0: Fall(9, 4)})
    lost.losses.given_up([0])
    lost.losses.vouched({0: 9})
    assert len(lost.lines()) == 1
    assert lost.losses.replaying == 0

"""How a worker ends: what its parts raise is said as what it is."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import CapturingLogger

from consumer.deployment import FAULTS
from consumer.worker import SPOKEN, Parts

if TYPE_CHECKING:
    from typing import NoReturn

HERE_IT_IS_WAITED = {"ViewUnavailable"}
"""No part raises this: each waits for Redis."""


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.__name__ not in HERE_IT_IS_WAITED])
def test_what_a_deployment_lacks_is_no_unforeseen_fault(fault: type[Exception]) -> None:
    """A worker that ends for its deployment says what is wrong there, and never asks to be reported for it."""
    log = CapturingLogger()

    def asks(_stop: threading.Event) -> NoReturn:
        raise fault("Kafka could not be asked")

    parts = Parts({"classify": asks}, threading.Event(), log)
    parts.start()
    assert parts.join(time.monotonic() + 5.0)
    assert [call.args[0] for call in log.calls] == ["Kafka could not be asked"]
    assert fault in SPOKEN

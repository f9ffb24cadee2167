"""A Redis that Sentinels watch over: guards and views find who is the primary, and are never wrong meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from consumer import checks, deployment, guarding
from consumer.cli import run
from consumer.domain.events import Action
from consumer.guard import Unknown
from consumer.nodes import sentinel_at
from consumer.settings import load
from consumer.suppression.scripts import ViewUnavailable
from consumer.suppression.view import View
from tests.parts.guards import OnALoop
from tests.parts.sentinels import SERVICE
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    LOG,
    META,
    MUCH,
    STOPPED,
    SUPPRESSED,
    TIMEOUT,
    answers,
    connect,
    set_up,
    unknown,
    wait_for,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.nodes import SentinelNodes
    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.sentinels import Sentinels
    from tests.parts.view import Owner


def nodes_of(sentinels: Sentinels, service: str = SERVICE) -> SentinelNodes:
    own = f"redis://:{sentinels.password}@sentinel" if sentinels.password else ""
    return sentinel_at(sentinels.url, service, connect, sentinel_url=own)


def asked(sentinels: Sentinels, make_guard: MakeGuard, service: str = SERVICE, **options: object) -> AnyGuard:
    return make_guard(sentinels.url, mode="sentinel", service=service, **options)


def vouched(owner: Owner) -> bool:
    """Apply what the primary lacks and vouch, as a worker does again and again; False while it cannot be reached."""
    try:
        owner.catch_up()
        owner.vouch()
    except (ViewUnavailable, AssertionError):
        return False
    return True


@pytest.mark.parametrize("how", ["killed", "by an operator"])
def test_a_failover_is_followed(make_sentinels: Callable[..., Sentinels], make_guard: MakeGuard, how: str) -> None:
    """Around a failover nobody is wrongly ALLOWED, and guard and view find the new primary by themselves."""
    sentinels = make_sentinels()
    owner = set_up(nodes_of(sentinels))
    guard = asked(sentinels, make_guard)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    if how == "killed":
        sentinels.servers[0].kill()
    else:
        sentinels.fail_over()
    seen: Counter[object] = Counter()
    deadline = time.monotonic() + 90  # Sentinels that were kept waiting by the machine do nothing for 30 seconds
    while seen[unknown(Unknown.OTHER_SERVER)] < 5:
        with within(TIMEOUT + MUCH):
            stopped, fine = answers(guard)
        assert stopped[0] != "ALLOWED"
        seen[fine] += 1
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    sentinels.wait_for_primary(1)
    wait_for(lambda: vouched(owner))
    wait_for(lambda: answers(guard) == [SUPPRESSED, ALLOWED])
    owner.write(Action.OPT_OUT, HERE, FINE)
    assert answers(guard) == [SUPPRESSED, SUPPRESSED]
    with sentinels.client(sentinels.servers[1].port) as new:
        assert new.info("replication")["role"] == "master"


def test_a_hung_sentinel_keeps_nobody(make_sentinels: Callable[..., Sentinels], make_guard: MakeGuard) -> None:
    """While one Sentinel hangs, and another is gone, the third is asked within the same question."""
    sentinels = make_sentinels()
    set_up(nodes_of(sentinels))
    os.kill(sentinels.processes[0].pid, signal.SIGSTOP)
    try:
        sentinels.processes[1].kill()
        guard = asked(sentinels, make_guard)
        with within(TIMEOUT + MUCH):
            assert answers(guard) == [SUPPRESSED, ALLOWED]
    finally:
        os.kill(sentinels.processes[0].pid, signal.SIGCONT)


def test_no_sentinel_reachable(make_sentinels: Callable[..., Sentinels], make_guard: MakeGuard) -> None:
    """Without any Sentinel who knew the primary goes on; who did not is UNKNOWN, in time, until one is back."""
    sentinels = make_sentinels()
    set_up(nodes_of(sentinels))
    before = asked(sentinels, make_guard)
    assert answers(before) == [SUPPRESSED, ALLOWED]
    for process in sentinels.processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        assert answers(before) == [SUPPRESSED, ALLOWED]
        guard = asked(sentinels, make_guard)
        for _ in range(2):
            with within(TIMEOUT + MUCH):
                assert {kind for kind, _ in answers(guard)} == {"UNKNOWN"}
    finally:
        for process in sentinels.processes:
            os.kill(process.pid, signal.SIGCONT)
    wait_for(lambda: answers(guard) == [SUPPRESSED, ALLOWED])
    for process in sentinels.processes:
        process.kill()
    with within(TIMEOUT + MUCH):
        assert answers(asked(sentinels, make_guard)) == [unknown(Unknown.UNREACHABLE)] * 2


def test_a_primary_that_is_well_is_asked_while_all_sentinels_hang(
    make_sentinels: Callable[..., Sentinels], make_guard: MakeGuard
) -> None:
    """Sentinels that hang take a part of a question's time, and leave enough to ask the primary that is known."""
    sentinels = make_sentinels()
    owner = set_up(nodes_of(sentinels))
    guard = asked(sentinels, make_guard)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    for process in sentinels.processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        with sentinels.client(sentinels.servers[0].port) as primary:
            primary.hset(META, "run", "0" * 40)
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2  # from here on the Sentinels are to be asked
        owner.vouch()
        for _ in range(8):
            with within(TIMEOUT):
                assert answers(guard) == [SUPPRESSED, ALLOWED]
            time.sleep(0.2)
    finally:
        for process in sentinels.processes:
            os.kill(process.pid, signal.SIGCONT)


def test_what_is_set_up_wrongly(make_sentinels: Callable[..., Sentinels], make_guard: MakeGuard) -> None:
    """A service that no Sentinel knows, and a Redis that is no Sentinel, are UNKNOWN (wrong mode)."""
    sentinels = make_sentinels()
    wrong = asked(sentinels, make_guard, service="mymaster")
    assert answers(wrong) == [unknown(Unknown.WRONG_MODE)] * 2
    plain = make_guard(sentinels.servers[0].url, mode="sentinel", service=SERVICE)
    assert answers(plain) == [unknown(Unknown.WRONG_MODE)] * 2
    no_sentinel = make_guard(f"redis://127.0.0.1:{sentinels.ports[0]}/0")
    assert {kind for kind, _ in answers(no_sentinel)} == {"UNKNOWN"}


def test_sentinels_with_a_password(make_sentinels: Callable[..., Sentinels], make_guard: MakeGuard) -> None:
    """Sentinels have a user and a password of their own; without them, or with wrong ones, they refuse."""
    sentinels = make_sentinels(password="secret")
    set_up(nodes_of(sentinels))
    assert answers(asked(sentinels, make_guard, sentinel_url="redis://:secret@sentinel")) == [SUPPRESSED, ALLOWED]
    for sentinel_url in ("", "redis://:wrong@sentinel"):
        refused = asked(sentinels, make_guard, sentinel_url=sentinel_url)
        assert answers(refused) == [unknown(Unknown.REFUSED)] * 2


# By the settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what Redis is to be reached by, and nothing else."""

    def set_them(url: str, service: str = SERVICE, sentinel_url: str = "", mode: str = "sentinel") -> None:
        monkeypatch.setenv("OPTOUT_REDIS_URL", url)
        monkeypatch.setenv("OPTOUT_REDIS_MODE", mode)
        monkeypatch.setenv("OPTOUT_REDIS_SERVICE", service)
        monkeypatch.setenv("OPTOUT_REDIS_TIMEOUT", "1")
        monkeypatch.setenv("OPTOUT_BUCKETS", str(BUCKETS))
        if sentinel_url:
            monkeypatch.setenv("OPTOUT_REDIS_SENTINEL_URL", sentinel_url)
        else:
            monkeypatch.delenv("OPTOUT_REDIS_SENTINEL_URL", raising=False)

    return set_them


def redis_faults() -> list[str]:
    return [fault for fault in checks.check_config() if "_KAFKA_" not in fault and "_CONFIRMATIONS" not in fault]


def test_settings_name_sentinels(make_sentinels: Callable[..., Sentinels], settings: Callable[..., None]) -> None:
    """The settings of a Redis behind Sentinels give a view, both guards, and a clean check."""
    sentinels = make_sentinels(password="secret")
    settings(sentinels.url, sentinel_url="redis://:secret@sentinel")
    set_up(deployment.redis_nodes(load()))
    with guarding.guard(load()) as guard:
        assert answers(guard) == [SUPPRESSED, ALLOWED]
    with OnALoop(guarding.async_guard(load())) as guard:
        assert answers(guard) == [SUPPRESSED, ALLOWED]
    assert View(deployment.redis_nodes(load()), buckets=BUCKETS, ledger=LOG).metas([0])[0] is not None
    assert redis_faults() == []
    assert run(["check", HERE, STOPPED]) == 3


def test_wrong_settings_are_told_in_a_sentence(
    make_sentinels: Callable[..., Sentinels], settings: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with the settings of Sentinels is one clear sentence, of check-config and of check."""
    sentinels = make_sentinels(password="secret")
    secret = "redis://:secret@sentinel"
    plain = sentinels.servers[0].url
    one = f"redis://:secret@127.0.0.1:{sentinels.ports[0]}/0"
    for url, options, told in (
        (sentinels.url, {"service": "mymaster", "sentinel_url": secret}, "OPTOUT_REDIS_SERVICE"),
        (sentinels.url, {}, "OPTOUT_REDIS_SENTINEL_URL"),
        (sentinels.url, {"sentinel_url": "redis://:wrong@sentinel"}, "OPTOUT_REDIS_SENTINEL_URL"),
        (plain, {}, "OPTOUT_REDIS_MODE"),
        ("redis://127.0.0.1:1,127.0.0.1:2/0", {}, "Sentinel"),
        (one, {"mode": "standalone"}, "OPTOUT_REDIS_MODE"),
    ):
        settings(url, **options)
        (fault,) = redis_faults()
        assert told in fault, fault
        assert "secret" not in fault
        assert "\n" not in fault
    for url, options in ((sentinels.url, {"service": "mymaster", "sentinel_url": secret}), (plain, {})):
        settings(url, **options)
        assert run(["check", HERE, STOPPED]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "OPTOUT_REDIS_MODE is sentinel" in line

"""Three Redis servers, one of which answers: every loss of Redis's memory, between any two round trips of a worker."""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from unittest import mock

import redis
from redis.client import Pipeline

from consumer.guard import question
from consumer.suppression import view
from consumer.suppression.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.parts.fake_kafka import Clock

CLOCK = "test:clock"
Snapshot = dict[bytes, bytes]


class Servers:
    """Real servers of the test's own. `current` is the one that workers and guards reach.

    Redis's clock is the test's: the scripts are given it where they ask for the time.
    """

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        self.clock = clock
        self.before: Callable[[str], None] = lambda _what: None
        self.away = False
        self.loses_answer = False
        self.touched = True
        """Whether anybody but the test has asked something since the test last looked."""
        self._told = [0] * len(urls)
        self.raw: list[Any] = [redis.Redis.from_url(url) for url in urls]
        for client in self.raw:
            client.set_response_callback("TIME", lambda *_, **__: self.time())
        self.current = 0

    def begin(self, clock: Clock) -> None:
        """Begin a run: empty, and there."""
        self.clock, self.away, self.loses_answer, self.current = clock, False, False, 0
        self.before = lambda _what: None
        self.flush()

    def time(self) -> tuple[int, int]:
        """Return what TIME answers."""
        seconds, milliseconds = divmod(self.clock.now_ms, 1000)
        return seconds, milliseconds * 1000

    @property
    def here(self) -> Any:
        """The server that answers, for the test's own eyes: it is never away."""
        return self.raw[self.current]

    def ask(self, commands: Sequence[tuple[Any, ...]], *, transaction: bool = False) -> list[Any]:
        """Run these commands on the server that answers, in one round trip, by the clock of now; errors are answers."""
        with self.here.pipeline(transaction=transaction) as pipeline:
            untold = self._told[self.current] != self.clock.now_ms
            if untold:
                self._told[self.current] = self.clock.now_ms
                seconds, microseconds = self.time()
                pipeline.hset(CLOCK, mapping={"s": seconds, "us": microseconds})
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers[untold:]

    def ask_for_worker(self, commands: Sequence[tuple[Any, ...]], *, transaction: bool) -> list[Any]:
        """Run a worker's commands, unless Redis is away."""
        self.before("redis")
        if self.away:
            raise redis.ConnectionError("away")
        self.touched = True
        answer = self.ask(commands, transaction=transaction)
        if self.loses_answer:
            self.loses_answer = False
            raise redis.TimeoutError("the answer was lost")
        return answer

    # Losses

    def flush(self) -> None:
        """FLUSHDB: run id and replication id stay."""
        self.here.flushdb()
        self._told[self.current] = 0
        self.touched = True

    def snapshot(self) -> Snapshot:
        """Return all that is there now."""
        keys = self.here.keys("optout:*")
        return dict(zip(keys, self.ask([("DUMP", key) for key in keys]), strict=True))

    def fail_over(self, snapshot: Snapshot) -> None:
        """Let another server answer, with what was there when the snapshot was made.

        A run id comes back with the third failover; the replication id never does, as with real promotions.
        """
        self.current = (self.current + 1) % len(self.raw)
        self.flush()
        restore = [("RESTORE", key, 0, value) for key, value in snapshot.items()]
        assert set(self.ask([("DEBUG", "CHANGE-REPL-ID"), *restore])) <= {True, b"OK"}


class Client(redis.Redis):
    """A worker's client: it talks to whichever server answers now, and tries once."""

    def __init__(self, servers: Servers) -> None:
        super().__init__()
        self._servers = servers

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        (answer,) = self._servers.ask_for_worker([arguments], transaction=False)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:  # noqa: FBT001, FBT002 - redis-py's
        return _Pipeline(self._servers, transaction=transaction)


class _Pipeline(Pipeline):
    def __init__(self, servers: Servers, *, transaction: bool) -> None:
        super().__init__(servers.here.connection_pool, servers.here.response_callbacks, transaction, None)
        self._servers = servers
        self._whole = transaction

    def execute(self, raise_on_error: bool = True) -> Any:  # noqa: FBT001, FBT002 - redis-py's
        commands: list[Any] = [command for command, _ in self.command_stack]
        self.reset()
        answers = self._servers.ask_for_worker(commands, transaction=self._whole)
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        if failed and raise_on_error:
            raise failed[0]
        return answers


@contextmanager
def scripts(change: Callable[[str, str], str] = lambda _name, source: source) -> Iterator[None]:
    """Give the scripts the test's clock, and change them as a test wants them changed, by name."""

    def rewritten(name: str, source: str) -> tuple[str, str]:
        source = change(name, source).replace("redis.call('TIME')", f"redis.call('HMGET', '{CLOCK}', 's', 'us')")
        return source, sha1(source.encode(), usedforsecurity=False).hexdigest()

    ours = {name: value for name, value in vars(view).items() if isinstance(value, Script)}
    changed: dict[str, Any] = {n: Script(one.name, *rewritten(one.name, one.source)) for n, one in ours.items()}
    verdict = question.Script(*rewritten("verdict", question.VERDICT.source))
    with mock.patch.multiple(view, **changed), mock.patch.object(question, "VERDICT", verdict):
        yield

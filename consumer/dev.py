"""`optout dev`: the embedded stack and its workers, kept running to try things out from other terminals."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import click
import redis

from consumer.embedded import running
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.stack import EmbeddedStack, product_topics

if TYPE_CHECKING:
    from pathlib import Path

LOOK_EVERY_S = 0.5


def dev(workers: int) -> int:
    """Run the stack with so many workers until Ctrl-C or SIGTERM; return 0. Raises EmbeddedError."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # ended by another program, or with its terminal
        signal.signal(number, signal.default_int_handler)
    topics = {spec.name: spec.partitions for spec in product_topics().values()}
    try:
        with EmbeddedStack(topics) as stack, running.announced(stack.environment) as file:
            click.echo("Kafka and Redis are up; the workers take some seconds to share the partitions out.")
            for _ in range(workers):
                stack.start_worker((), {"OPTOUT_CONFIRMATIONS": "ours"})
            with redis.Redis.from_url(stack.environment["OPTOUT_REDIS_URL"]) as client:
                stack.await_ready(client)
            _tell(stack, file, workers)
            while True:
                stack.check_workers()
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo("\nEnded; nothing was kept.")
        return 0
    except redis.RedisError as problem:
        raise EmbeddedError(f"Redis did not answer ({type(problem).__name__}): is it still there?") from None


def _tell(stack: EmbeddedStack, file: Path, workers: int) -> None:
    settings = stack.environment
    click.echo(f"""Ready.

  Kafka    {settings["OPTOUT_KAFKA_BOOTSTRAP_SERVERS"]}  (embedded, for trying out: not exactly-once, keeps little)
  Redis    {settings["OPTOUT_REDIS_URL"].rpartition("@")[2].removeprefix("redis://")}
  workers  {workers}; their logs are in {stack.folder}

In another terminal, these find it by themselves:

  optout check oak-street +12025550143
  optout simulate oak-street +12025550143 STOP
  optout check oak-street +12025550143
  optout history oak-street +12025550143

Other programs: OPTOUT_CONFIG_FILE={file}
Ctrl-C ends all of it.""")

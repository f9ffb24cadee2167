"""`optout dev`: the embedded stack and its workers, kept running to try things out from other terminals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import redis

from consumer.embedded import running
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.given_redis import where
from consumer.embedded.stack import EmbeddedStack, product_topics

if TYPE_CHECKING:
    from pathlib import Path

LOOK_EVERY_S = 0.5


def dev(workers: int) -> int:
    """Run the stack with so many workers until Ctrl-C; return 0. Raises EmbeddedError."""
    topics = {spec.name: spec.partitions for spec in product_topics().values()}
    kept = "nothing was kept"
    try:
        with running.announced() as announce, EmbeddedStack(topics) as stack, stack.redis_client() as client:
            if stack.redis is None:
                kept = f"what the workers wrote stays in the Redis that you named ({where(client)})"
            click.echo("Kafka and Redis are up; the workers take some seconds to share the partitions out.")
            for _ in range(workers):
                stack.start_worker((), {"OPTOUT_CONFIRMATIONS": "ours"})
            stack.await_ready(client)
            _tell(stack, where(client), announce(stack.environment), workers)
            while True:
                stack.check_workers()
                client.ping()
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        click.echo(f"\nEnded; {kept}.")
        return 0
    except redis.RedisError as problem:
        raise EmbeddedError(f"Redis did not answer ({type(problem).__name__}), so all of it was ended") from None


def _tell(stack: EmbeddedStack, redis_at: str, file: Path, workers: int) -> None:
    click.echo(f"""Ready.

  Kafka    {stack.kafka.bootstrap}  (embedded, for trying out: not exactly-once, keeps little)
  Redis    {redis_at}
  workers  {workers}; their logs are in {stack.folder}

In another terminal, these find it by themselves, as long as neither a Kafka nor a Redis is set:

  optout check oak-street +12025550143
  optout simulate oak-street +12025550143 STOP
  optout check oak-street +12025550143
  optout history oak-street +12025550143

Other programs: OPTOUT_CONFIG_FILE={file}
Ctrl-C ends all of it.""")

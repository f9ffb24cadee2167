"""The commands `optout redis-acl` and `optout kafka-acl`: what each takes and prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from consumer.rights import kafka, redis
from consumer.rights.kafka import Kind, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from consumer.rights.kafka import KafkaUser, Right
    from consumer.settings import Settings


@click.command("redis-acl")
@click.argument("user", required=False, type=click.Choice([user.name for user in redis.USERS]))
def redis_acl(user: str | None) -> None:
    """Print the Redis users that the parts need, as ACL commands: pipe them into redis-cli, on every server.

    They keep a user's passwords. A new one has none and cannot log in: ACL SETUSER optout-guard on >PASSWORD. When all
    of them can, switch the default user off, who may do everything without one: ACL SETUSER default off. Then write
    them down: ACL SAVE where Redis has an aclfile, CONFIG REWRITE where it has not, or its next start knows none of
    them. Operators may read the configuration, and with it a `requirepass`.
    """
    for one in redis.USERS:
        if user in (None, one.name):
            click.echo(one.command)


def _named(_context: click.Context, _parameter: click.Parameter, given: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Return users with the principals that were given for them, as in optout-worker=User:CN=worker."""
    names = [user.name for user in kafka.USERS]
    pairs = []
    for one in given:
        name, _, principal = one.partition("=")
        if name not in names:
            raise click.BadParameter(f"{one}: say USER=PRINCIPAL, with one of the users {', '.join(names)}")
        if ":" not in principal:
            raise click.BadParameter(f"{one}: a principal is Kafka's name of somebody, as in {name}=User:CN=someone")
        pairs.append((name, principal))
    return pairs


@click.command("kafka-acl")
@click.argument("user", required=False, type=click.Choice([user.name for user in kafka.USERS]))
@click.option(
    "--principal",
    "principals",
    metavar="USER=PRINCIPAL",
    multiple=True,
    callback=_named,
    help="What Kafka calls a user, as in optout-worker=User:CN=worker; else User: and its name.",
)
@click.option("--table", "as_table", is_flag=True, help="In words, for reading.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, a line for each right.")
@click.pass_obj
def kafka_acl(
    settings: Callable[[], Settings],
    /,
    *,
    user: str | None,
    principals: Sequence[tuple[str, str]],
    as_table: bool,
    as_json: bool,
) -> None:
    """Print the rights in Kafka that each part needs under these settings, as calls of kafka-acls.sh.

    Pipe them into a shell: optout kafka-acl | sh -s -- --bootstrap-server HOST:PORT --command-config FILE. KAFKA_ACLS
    names the tool where it is called otherwise. They only add rights: what was given before stays, so look at
    `optout check-config`, which says who may write to the ledger and to the topic of skips. Brokers must refuse what no
    rule allows (allow.everyone.if.no.acl.found=false). Who reads a topic does so in consumer groups whose names begin
    with that of the user.
    """
    if as_table and as_json:
        raise click.UsageError("give either --table or --json")
    loaded, called = settings(), kafka.principals(principals)
    for one in kafka.USERS:
        if user in (None, one.name):
            given = kafka.rights(loaded, one)
            for line in _lines(one, given, called[one.name], as_table=as_table, as_json=as_json):
                click.echo(line)


def _lines(user: KafkaUser, given: Sequence[Right], principal: str, *, as_table: bool, as_json: bool) -> Iterator[str]:
    if as_json:
        yield from (json.dumps(_as_dict(user, right, principal)) for right in given)
    elif as_table:
        yield f"{user.name} ({principal}): {user.purpose}"
        yield from (f"  {what}: {', '.join(names)}" for what, names in in_words(given).items())
    else:
        yield from (kafka.command(rule, principal) for rule in kafka.rules(given))


def _as_dict(user: KafkaUser, right: Right, principal: str) -> dict[str, Any]:
    """Return a right as JSON has it, by the names of Kafka's own clients."""
    return {
        "user": user.name,
        "principal": principal,
        "host": "*",
        "permission": "ALLOW",
        "operation": right.operation.name,
        "resource_type": right.kind.upper().replace("-", "_"),
        "resource_name": right.name,
        "pattern_type": "PREFIXED" if right.prefixed else "LITERAL",
    }


WORDS = {
    (Kind.TOPIC, Operation.WRITE): "writes",
    (Kind.TOPIC, Operation.READ): "reads",
    (Kind.TOPIC, Operation.CREATE): "creates",
    (Kind.TOPIC, Operation.DESCRIBE): "sees",
    (Kind.TOPIC, Operation.DESCRIBE_CONFIGS): "sees the settings of",
    (Kind.GROUP, Operation.READ): "joins, and commits to, the groups",
    (Kind.GROUP, Operation.DESCRIBE): "sees the group",
    (Kind.TRANSACTIONAL_ID, Operation.WRITE): "has transactions under",
    (Kind.CLUSTER, Operation.DESCRIBE): "sees who has which rights in",
}
"""What a right is called for a person, in the order in which they are read."""


def in_words(given: Iterable[Right]) -> dict[str, list[str]]:
    """Return what rights allow, and to what, for a person."""
    found: dict[str, list[str]] = {what: [] for what in WORDS.values()}
    for right in given:
        found[WORDS[right.kind, right.operation]].append(f"{right.name}*" if right.prefixed else right.name)
    return {what: names for what, names in found.items() if names} or {"needs": ["nothing of ours"]}

"""The settings of every command: from the environment (`OPTOUT_*`) and an optional TOML file (`OPTOUT_CONFIG_FILE`).

`OPTOUT_KAFKA_*` passes any property on to the Kafka client: OPTOUT_KAFKA_BOOTSTRAP_SERVERS is bootstrap.servers. The
prefix keeps clear of what Kubernetes injects for a service that is named kafka.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from consumer import values
from consumer.domain.bad_records import IN_A_ROW, SHARE
from consumer.domain.buckets import DEFAULT_BUCKETS
from consumer.guard import DEFAULT_MAX_STALENESS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX = "OPTOUT_"
KAFKA_PREFIX = "OPTOUT_KAFKA_"
REGISTRY_PREFIX = "OPTOUT_SCHEMA_REGISTRY_"

OURS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.protocol",
        "isolation.level",
        "partition.assignment.strategy",
        "transactional.id",
    }
)
"""Properties that the promise stands on: they are set by the product and cannot be configured."""


class ConfigurationError(Exception):
    """One sentence for each thing that is wrong with the settings."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(values.listed)]


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_parse_none_str="none")

    config_file: Path | None = Field(None, description="A TOML file with these settings; the environment wins.")
    kafka: dict[str, str] = Field(
        default_factory=dict,
        description="Any property of librdkafka: `OPTOUT_KAFKA_BOOTSTRAP_SERVERS` is `bootstrap.servers`. Those that "
        "the promise stands on cannot be set.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="The Redis that holds the suppression sets: `redis://user:password@host:port/0`, `rediss://` or `unix://`.",
    )
    redis_mode: Literal["standalone", "sentinel", "cluster"] = Field(
        "standalone",
        description="`cluster` for a Redis Cluster: `OPTOUT_REDIS_URL` then names some of its nodes, "
        "`redis://user:password@n1:6379,n2:6379`: any that answers knows the others. "
        "`sentinel`: it names the Sentinels, `redis://user:password@s1:26379,s2:26379/0`, with the user and password "
        "of the Redis.",
    )
    redis_service: str = Field(
        "mymaster", min_length=1, description="The name under which Sentinels watch over the Redis."
    )
    redis_sentinel_url: SecretStr | None = Field(
        None,
        description="User and password of the Sentinels themselves, where they have any: `redis://user:password@sentinel`.",
    )
    redis_timeout: float = Field(2.0, gt=0, le=3600, description="Seconds to wait for Redis to connect or to answer.")
    confirmations: Literal["ours", "provider"] | None = Field(
        None,
        description="`ours` or `provider`: who confirms a change to the patient. A worker must be told: a patient must "
        "get one confirmation, not two or none.",
    )
    inbound_topics: Names = Field(
        ("sms.inbound",), min_length=1, description="Topics of inbound texts, with commas; the same for all workers."
    )
    opt_out_requested_topic: str = Field(
        "sms.opt-out-requested", description="Topic of opt-outs made elsewhere: imports and providers' blocks."
    )
    keyword_ledger_topic: str = Field("sms.keyword-ledger", description="Topic of the ledger.")
    subscription_changed_topic: str = Field("sms.subscription-changed", description="Topic of the changes.")
    confirmation_requested_topic: str = Field(
        "sms.confirmation-requested", description="Topic of the confirmations, where they are ours."
    )
    review_requested_topic: str = Field("sms.review-requested", description="Topic of the texts that staff should see.")
    dead_letter_topic: str = Field(
        "sms.inbound.dead-letter", description="Topic of the inbound records that cannot be read or attributed."
    )
    operator_action_topic: str = Field(
        "sms.operator-action", description="Topic of what operators did: maintenance windows, rebuilds."
    )
    skip_topic: str = Field("sms.skip", description="Topic of the places that operators had passed over.")
    dead_letters_in_a_row: int | None = Field(
        IN_A_ROW,
        ge=1,
        description="The worker stops at so many records in a row that cannot be read; under schema ids that nobody "
        "knows, at so many under one id. `none` lifts the limit.",
    )
    dead_letters_share: float | None = Field(
        SHARE,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="The worker stops where more than this share of the last 1,000 records cannot be read; under "
        "schema ids that nobody knows, under one id. `none` lifts the limit.",
    )
    buckets: int = Field(
        DEFAULT_BUCKETS, ge=1, le=4096, description="Partitions of the ledger; never changed afterwards."
    )
    group: str = Field("sms-optout", min_length=1, description="Prefix of the two consumer groups.")
    max_staleness: float | None = Field(
        DEFAULT_MAX_STALENESS,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which what nobody refreshed is UNKNOWN; `none` accepts any age.",
    )
    region: Annotated[str, AfterValidator(values.region)] = Field(
        "US", description="Country of numbers that are written without its code."
    )
    publish: Literal["transactions", "at-least-once"] = Field(
        "transactions", description="How changes are published; `at-least-once` is for brokers without transactions."
    )
    unsafe_ledger: bool = Field(
        default=False, description="1 accepts a ledger without replicas: one broker, for trying out."
    )
    ledger_id: str | None = Field(
        None, description="Name of the ledger, where a broker cannot tell a topic's id (the embedded one)."
    )
    schema_registry_url: str | None = Field(
        None, description="A schema registry; without one, ids come from `schemas/`."
    )
    schema_registry: dict[str, str] = Field(
        default_factory=dict, description="Further properties of the registry's client."
    )
    ops_listen: Annotated[tuple[str, int] | None, NoDecode, BeforeValidator(values.address)] = Field(
        None,
        description="Where to answer `/livez`, `/readyz` and `/metrics`: `host:port`, or a port alone for this machine "
        "only. Not set, a worker listens nowhere.",
    )
    serve_listen: Annotated[tuple[str, int], NoDecode, BeforeValidator(values.serve_address)] = Field(
        values.SERVE_LISTEN,
        validate_default=True,
        description="Where `optout serve` answers: `host:port`, or a port alone for this machine only.",
    )
    serve_token: Annotated[SecretStr | None, AfterValidator(values.token)] = Field(
        None,
        description="What clients of `optout serve` show as `Authorization: Bearer ...`, at least "
        f"{values.SHORTEST_TOKEN} characters. It must be set where other machines can ask.",
    )
    shutdown_seconds: float = Field(
        15.0,
        gt=0,
        le=86_400,
        description="Deadline in seconds for a clean end after SIGTERM. More than a session: a group that waits for a "
        "member that died lets nobody leave before that one's session is over.",
    )
    allow_simulation: bool = Field(
        default=False, description="1 lets `simulate` write to a cluster that is not for trying out."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then the file that it names."""
        return init_settings, env_settings, _Properties(settings_cls), _File(settings_cls)

    @property
    def classifiers(self) -> str:
        """Return the consumer group of the classifiers."""
        return f"{self.group}.classify"

    @property
    def appliers(self) -> str:
        """Return the consumer group of the appliers."""
        return f"{self.group}.apply"

    @property
    def transactional_ids(self) -> str:
        """Return what the transactional ids of this deployment's workers begin with."""
        return f"optout-{self.group}-"

    @property
    def inbound(self) -> tuple[str, ...]:
        """Return every topic that classifiers read."""
        return (*self.inbound_topics, self.opt_out_requested_topic)

    def require_kafka(self) -> dict[str, str]:
        """Return the client's properties. Raises ConfigurationError where there is no cluster in them."""
        if not self.kafka.get("bootstrap.servers"):
            raise ConfigurationError(
                "OPTOUT_KAFKA_BOOTSTRAP_SERVERS is not set: name the Kafka brokers, as host:port,... (to try things "
                "out, `optout dev` in another terminal brings a Kafka and a Redis)"
            )
        return dict(self.kafka)

    def require_redis(self) -> str:
        """Return the URL of Redis. Raises ConfigurationError where there is none."""
        if self.redis_url is None:
            raise ConfigurationError(
                "OPTOUT_REDIS_URL is not set: name the Redis with the suppression sets, as redis://host:port/0 (to try "
                "things out, `optout dev` in another terminal brings a Kafka and a Redis)"
            )
        # A bare # would begin a fragment: the rest of a password be dropped, and its beginning taken for a host.
        return self.redis_url.get_secret_value().replace("#", "%23")

    def require_confirmations(self) -> Literal["ours", "provider"]:
        """Return who confirms. Raises ConfigurationError where nobody has decided."""
        if self.confirmations is None:
            raise ConfigurationError(
                "OPTOUT_CONFIRMATIONS is not set: say `provider` if your SMS provider answers STOP and START itself, "
                "`ours` if it does not; a patient must get one confirmation, not two or none"
            )
        return self.confirmations


class _Alone(Settings):
    """The settings of a file, whatever the environment says: those of workers that do not see this environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base's, as all that follow
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but what is handed in."""
        return (init_settings,)


def load(*, alone: Path | None = None) -> Settings:
    """Return the settings. Raises ConfigurationError with a sentence for everything that is wrong.

    With `alone` they are those of this file and of nothing else.
    """
    faults = _unknown_variables()
    try:
        settings = Settings() if alone is None else _Alone(**_read(alone))
    except ValidationError as problem:
        raise ConfigurationError(*faults, *map(_sentence, problem.errors())) from None
    except SettingsError:
        faults.append(
            "OPTOUT_KAFKA and OPTOUT_SCHEMA_REGISTRY are prefixes: set OPTOUT_KAFKA_BOOTSTRAP_SERVERS and so on"
        )
        raise ConfigurationError(*faults) from None
    if settings.ledger_id is not None and not settings.unsafe_ledger:
        faults.append(
            "OPTOUT_LEDGER_ID leaves the ledger unchecked: set OPTOUT_UNSAFE_LEDGER=1 with it, or leave it out"
        )
    faults += _shared_topics(settings)
    faults += [
        f"{_variable('kafka', name)} cannot be set: the promise stands on it" for name in settings.kafka.keys() & OURS
    ]
    if faults:
        raise ConfigurationError(*faults)
    return settings


def _shared_topics(settings: Settings) -> list[str]:
    """Return a sentence for each topic that is named for two things: dead letters in inbound would be read as texts."""
    roles: dict[str, list[str]] = {}
    for role in (name for name in Settings.model_fields if name.endswith(("_topic", "_topics"))):
        named = getattr(settings, role)
        for topic in {named} if isinstance(named, str) else set(named):
            roles.setdefault(topic, []).append(_variable(role))
    return [
        f"{' and '.join(names)} name the same topic, {topic}: give each its own"
        for topic, names in roles.items()
        if len(names) > 1
    ]


def _unknown_variables() -> list[str]:
    """Return a sentence for each variable of ours that means nothing: most often a typing error."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    prefixes = (KAFKA_PREFIX, REGISTRY_PREFIX, f"{PREFIX}TEST_")
    return [
        f"{name} is not a setting; `optout --help` names where they are listed"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known and not name.startswith(prefixes)
    ]


class _Properties(PydanticBaseSettingsSource):
    """The prefixes whose variables are handed on: OPTOUT_KAFKA_SASL_USERNAME is sasl.username."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base's
        prefix = f"{PREFIX}{field_name.upper()}_"
        own = {f"{PREFIX}{name.upper()}" for name in self.settings_cls.model_fields}
        given = {name: value for name, value in os.environ.items() if name.startswith(prefix) and name not in own}
        properties = {name.removeprefix(prefix).lower().replace("_", "."): value for name, value in given.items()}
        return properties, field_name, True

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        return {name: self.get_field_value(fields[name], name)[0] for name in ("kafka", "schema_registry")}


class _File(PydanticBaseSettingsSource):
    """The TOML file, which anything else wins over."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base's
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        name = self.current_state.get("config_file")
        return _read(name) if name else {}


def _read(name: str | Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationError(
            f"OPTOUT_CONFIG_FILE {name} cannot be read: {getattr(problem, 'strerror', problem)}"
        ) from None
    except tomllib.TOMLDecodeError as problem:
        raise ConfigurationError(f"OPTOUT_CONFIG_FILE {name} is not TOML: {problem}") from None
    for table in ("kafka", "schema_registry"):
        if isinstance(values.get(table), dict):
            values[table] = _flat(values[table])
    unknown = sorted(values.keys() - Settings.model_fields.keys())
    if unknown:
        raise ConfigurationError(*(f"OPTOUT_CONFIG_FILE {name}: there is no setting `{key}`" for key in unknown))
    return values


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a TOML table's dotted keys: `bootstrap.servers = ...` is a table within a table."""
    flat: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return flat


def _variable(*path: object) -> str:
    return PREFIX + "_".join(str(part) for part in path).upper().replace(".", "_")


def _sentence(error: Mapping[str, Any]) -> str:
    name = _variable(*error["loc"][:1])
    field = Settings.model_fields.get("".join(map(str, error["loc"][:1])))
    is_secret = field is not None and "SecretStr" in str(field.annotation)
    value = "" if is_secret else f" (it is {error['input']!r})"
    return f"{name}{value}: {str(error['msg']).removeprefix('Value error, ')}"

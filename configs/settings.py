"""All settings, built once at each process's entry point and handed down; nobody else reads the environment.

``launch`` writes the resolved settings of a running platform to ``<data dir>/run/settings.json`` (mode 0600) and
points ``SUGAR_SETTINGS`` at it, so that every Ray process of the platform loads exactly what ``launch`` resolved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from configs.contracts.errors import ConfigurationError
from configs.groups.accounts import Apple, Assurance, Auth, Google, Mail, Oidc, Provider, Push
from configs.groups.media import Media
from configs.groups.payments import HostedForm, Payments
from configs.groups.running import Kafka, Log, Plan, Tracing, Writing
from configs.groups.serving import Content, Limits, Ranking, Realtime
from configs.production import lacks, refusals

__all__ = [
    "PROFILES",
    "SETTINGS_VARIABLE",
    "Apple",
    "Assurance",
    "Auth",
    "Content",
    "Google",
    "HostedForm",
    "Kafka",
    "Limits",
    "Log",
    "Mail",
    "Media",
    "Oidc",
    "Payments",
    "Plan",
    "Provider",
    "Push",
    "Ranking",
    "Realtime",
    "Settings",
    "Tracing",
    "Writing",
    "load_settings",
    "read_settings",
    "secret_variables",
]

SETTINGS_VARIABLE = "SUGAR_SETTINGS"
PROFILES = Path(__file__).parent


class Environment(EnvSettingsSource):
    """The environment; of a secret, ``NAME_FILE`` may name a file that holds it. Raises ValueError: both are set."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = dict(super()._load_env_vars())
        for name in map(str.lower, secret_variables(self.settings_cls)):
            path = found.pop(f"{name}_file", "")
            if path and found.get(name):
                raise ValueError(f"{name.upper()} and {name.upper()}_FILE are both set")
            if path:
                found[name] = Path(path).read_text().rstrip("\r\n")
        return found


def secret_variables(model: type[BaseModel], prefix: str = "SUGAR_") -> list[str]:
    """The variables of every setting that is a secret, or a list of them."""
    found = []
    for name, field in model.model_fields.items():
        variable = str(field.validation_alias or f"{prefix}{name.upper()}")
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += secret_variables(kind, f"{variable}__")
        elif kind is SecretStr or SecretStr in get_args(kind):
            found.append(variable)
    return found


class Settings(BaseSettings):
    """The whole configuration. Precedence: arguments, environment, profile file, defaults."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix="SUGAR_", env_nested_delimiter="__"
    )

    profile: Literal["local", "test", "production"] = Field("local", description="which configs/*.yaml applies")
    data_dir: Path = Field(Path(".sugar"), description="directory of embedded servers, keys, logs and run state")
    port: int = Field(8000, ge=1, le=65_535, description="port of the HTTP API")
    bind: str = Field("127.0.0.1", description="address that the API binds")
    dashboard_port: int = Field(0, ge=0, le=65_535, description="port of the Ray dashboard; 0: 8265 or the next free")
    database_url: SecretStr = Field(SecretStr(""), validation_alias="DATABASE_URL", description="PostgreSQL primary; empty: embedded")
    database_replica_urls: tuple[SecretStr, ...] = Field((), validation_alias="DATABASE_REPLICA_URLS", description="PostgreSQL replicas for loading and reconciling (JSON list)")
    redis_url: SecretStr = Field(SecretStr(""), validation_alias="REDIS_URL", description="Redis or Valkey, redis://…; a cluster by any of its nodes: redis+cluster://user:password@host:port,host:port (rediss+cluster with TLS); empty: embedded")
    kafka_brokers: str = Field("", validation_alias="KAFKA_BROKERS", description="host:port,…; empty: embedded")
    broker: Literal["memory", "kafka"] = Field("memory", description="broker that is started when KAFKA_BROKERS names none: one in memory, or Apache Kafka (three brokers, logs on disk; needs Java and Maven)")
    redis: Literal["single", "cluster"] = Field("single", description="what is started when REDIS_URL names nothing: one Valkey server, or a cluster of six (three primaries, three replicas)")
    redis_memory_mib: int = Field(1_024, ge=64, description="memory of the embedded Redis past which it takes no more and writes wait or answer 503; a person takes 2.4 KB or more")
    smtp_url: SecretStr = Field(SecretStr(""), validation_alias="SMTP_URL", description="mail server, smtp://user:password@host:587 or smtps://…; empty: an embedded mailbox (`sugar mail`)")
    ray_address: str = Field("", description="GCS address of the running cluster; set by launch")
    trusted_proxies: tuple[str, ...] = Field((), description="networks whose X-Forwarded-For is believed (JSON list)")
    allow_plaintext: bool = Field(False, description="production may speak to PostgreSQL, Redis, Kafka and the trace collector without TLS: for a network that is encrypted itself")
    log_level: str = Field("INFO", description="least level that is logged")
    trace_sample_ratio: float = Field(0.01, ge=0, le=1, description="share of requests without traceparent that start a sampled trace")
    tracing: Tracing = Tracing()
    plan: Plan = Plan()
    log: Log = Log()
    kafka: Kafka = Kafka()
    limits: Limits = Limits()
    auth: Auth = Auth()
    oidc: Oidc = Oidc()
    mail: Mail = Mail()
    writing: Writing = Writing()
    realtime: Realtime = Realtime()
    ranking: Ranking = Ranking()
    push: Push = Push()
    payments: Payments = Payments()
    assurance: Assurance = Assurance()
    media: Media = Media()
    content: Content = Content()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, Environment(settings_cls)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.log.partitions & (self.log.partitions - 1):
            raise ValueError("log.partitions must be a power of two")
        if self.realtime.ports and len(self.realtime.ports) < self.plan.gateways:
            raise ValueError("realtime.ports must name a port for each of plan.gateways")
        if self.profile == "production":
            if missing := lacks(self):
                raise ValueError(f"production needs {', '.join(missing)}")
            if refused := refusals(self):
                raise ValueError(f"production does not start with {'; '.join(refused)}")
        return self

    def dump(self) -> str:
        """The settings with their secrets as JSON, for the 0600 run file only."""
        def reveal(value: object) -> object:
            if isinstance(value, SecretStr):
                return value.get_secret_value()
            if isinstance(value, BaseModel):
                return {name: reveal(getattr(value, name)) for name in type(value).model_fields}
            if isinstance(value, tuple):
                return [reveal(item) for item in value]
            if isinstance(value, Path):
                return str(value)
            return value

        import json

        return json.dumps(reveal(self), indent=1)


def _merge(base: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    merged = dict(base)
    for name, value in over.items():
        known = merged.get(name)
        merged[name] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def load_settings(profile: str | None = None, **overrides: object) -> Settings:
    """The settings of this process.

    With ``SUGAR_SETTINGS`` set (inside a running platform) exactly that file; else profile file < environment < overrides.
    Raises ConfigurationError: what is wrong and where.
    """
    path = os.environ.get(SETTINGS_VARIABLE)
    try:
        if path and profile is None and not overrides:
            return read_settings(Path(path))
        name = profile or os.environ.get("SUGAR_PROFILE", "local")
        file = PROFILES / f"{name}.yaml"
        if not file.exists():
            raise ConfigurationError("no such profile", profile=name, known=sorted(p.stem for p in PROFILES.glob("*.yaml")))
        from_file = yaml.safe_load(file.read_text()) or {}
        environment = Settings(profile="local").model_dump(exclude_unset=True)
        environment.pop("profile", None)
        values = _merge(_merge({"profile": name, **from_file}, environment), dict(overrides))
        return _frozen(values)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"settings cannot be used: {error}") from error


def read_settings(path: Path) -> Settings:
    """The settings that ``launch`` wrote, untouched by the environment."""
    return _frozen(yaml.safe_load(path.read_text()))


class _FrozenSettings(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _frozen(values: dict[str, object]) -> Settings:
    aliases = {
        name: str(field.validation_alias)
        for name, field in Settings.model_fields.items()
        if field.validation_alias is not None
    }
    return _FrozenSettings(**{aliases.get(name, name): value for name, value in values.items()})  # type: ignore[arg-type]

"""Where settings come from, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
import yaml
from confluent_kafka import KafkaException
from pydantic import BaseModel, SecretStr

from cluster.connections import kafka, topics
from cluster.launch.secrets import with_keys
from configs.contracts.errors import ConfigurationError
from configs.settings import (
    PROFILES,
    SETTINGS_VARIABLE,
    Settings,
    load_settings,
    read_settings,
    secret_variables,
)

NAMED_BY_OTHERS = ("DATABASE_URL", "DATABASE_REPLICA_URLS", "REDIS_URL", "KAFKA_BROKERS")


def key_of(purpose: str) -> str:
    """A key like a random one, the same in each run."""
    return hashlib.sha256(purpose.encode()).hexdigest()


PRODUCTION = {
    "DATABASE_URL": "postgresql://db/sugar?sslmode=verify-full",
    "REDIS_URL": "rediss://cache",
    "KAFKA_BROKERS": "one:9092,two:9092",
    "SUGAR_KAFKA__SECURITY": "SASL_SSL", "SUGAR_KAFKA__USER": "sugar", "SUGAR_KAFKA__PASSWORD": "password",
    "SUGAR_AUTH__SIGNING_KEY_PEM": "pem",
    "SUGAR_AUTH__REFRESH_KEY": key_of("refresh"),
    "SUGAR_AUTH__IMPRESSION_KEY": key_of("impression"),
    "SUGAR_AUTH__ACCOUNT_KEY": key_of("account"),
    "SUGAR_RANKING__ARTIFACTS": "s3://models/sugar",
    "SUGAR_MEDIA__S3_ENDPOINT": "https://account.r2.example.com",
    "SUGAR_MEDIA__S3_ACCESS_KEY_ID": "id",
    "SUGAR_MEDIA__S3_SECRET_ACCESS_KEY": "secret",
    "SUGAR_MEDIA__URL_KEY": key_of("url"),
    "SUGAR_PAYMENTS__STRIPE_KEY": "sk_live_0",
    "SUGAR_PAYMENTS__STRIPE_WEBHOOK_SECRETS": '["whsec_0"]',
    "SUGAR_ASSURANCE__URL": "https://age.example.com", "SUGAR_ASSURANCE__CALLBACK_KEY": key_of("callback"),
    "SUGAR_ASSURANCE__CALLBACK_BASE": "https://api.example.com",
    "SMTP_URL": "smtps://mail.example.com", "SUGAR_MAIL__SENDER": "Sugar <no-reply@example.com>",
    "SUGAR_TRUSTED_PROXIES": '["10.0.0.0/8"]',
    "SUGAR_REALTIME__URL": "wss://rt.example.com/api/v1/messaging/ws",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SUGAR_") or name in NAMED_BY_OTHERS:
            monkeypatch.delenv(name)


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None]]:
    """(dotted name, description) of every leaf."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", field.description


@pytest.mark.parametrize(("name", "description"), list(fields(Settings)))
def test_every_setting_says_what_it_is(name: str, description: str | None) -> None:
    assert description, f"setting {name} has no description"


def test_every_profile_loads_by_its_name_and_names_only_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    profiles = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    assert profiles == ["local", "production", "test"]
    known = set(Settings.model_fields)
    for profile in profiles:
        assert load_settings(profile).profile == profile
        assert set(yaml.safe_load((PROFILES / f"{profile}.yaml").read_text()) or {}) <= known


def test_arguments_win_over_environment_over_profile_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings("test").plan.swipe_actors == 2, "the profile wins over the default of 1"
    monkeypatch.setenv("SUGAR_PLAN__SWIPE_ACTORS", "3")
    monkeypatch.setenv("SUGAR_PORT", "9000")
    settings = load_settings("test", port=9100)
    assert settings.plan.swipe_actors == 3, "the environment wins over the profile"
    assert settings.port == 9100, "an argument wins over the environment"
    assert settings.plan.identity_actors == 2, "one variable leaves the profile's other values alone"
    assert settings.log.replication_factor == Settings.model_fields["log"].default.replication_factor
    assert load_settings("test", plan={"swipe_actors": 5}).plan.identity_actors == 2


def test_the_profile_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().profile == "local"
    monkeypatch.setenv("SUGAR_PROFILE", "test")
    assert load_settings().profile == "test"


def test_servers_are_replaced_by_their_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db")
    monkeypatch.setenv("DATABASE_REPLICA_URLS", '["postgresql://one", "postgresql://two"]')
    monkeypatch.setenv("REDIS_URL", "redis://cache")
    monkeypatch.setenv("KAFKA_BROKERS", "one:9092")
    settings = load_settings("local")
    assert settings.database_url.get_secret_value() == "postgresql://db"
    assert [url.get_secret_value() for url in settings.database_replica_urls] == ["postgresql://one", "postgresql://two"]
    assert settings.redis_url.get_secret_value() == "redis://cache"
    assert settings.kafka_brokers == "one:9092"


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a complete production platform, to change."""
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(("name", "value", "why"), [
    ("DATABASE_URL", "postgresql://db/sugar", "plain text to PostgreSQL"),
    ("DATABASE_URL", "postgresql://db/sugar?sslmode=prefer", "plain text to PostgreSQL"),
    ("DATABASE_URL", "host=db sslmode=disable", "plain text to PostgreSQL"),
    ("DATABASE_REPLICA_URLS", '["postgresql://replica/sugar"]', "plain text to PostgreSQL: DATABASE_REPLICA_URLS"),
    ("REDIS_URL", "redis://cache", "plain text to Redis"),
    ("SUGAR_KAFKA__SECURITY", "PLAINTEXT", "plain text to Kafka"),
    ("SUGAR_TRACING__ENDPOINT", "http://collector:4318/v1/traces", "plain text to the trace collector"),
    ("SUGAR_KAFKA__SECURITY", "SASL_PLAINTEXT", "plain text to Kafka"),
])
def test_production_speaks_no_plain_text_unless_told_so(production: pytest.MonkeyPatch, name: str, value: str, why: str) -> None:
    production.setenv(name, value)
    with pytest.raises(ConfigurationError, match=why):
        load_settings("production")
    production.setenv("SUGAR_ALLOW_PLAINTEXT", "true")
    assert load_settings("production").allow_plaintext


@pytest.mark.parametrize("value", ["00" * 32, "changeme", "ab" * 16, "secret" * 11, "0123456789abcdef" * 4])
def test_production_refuses_keys_of_a_developer(production: pytest.MonkeyPatch, value: str) -> None:
    production.setenv("SUGAR_AUTH__REFRESH_KEY", value)
    with pytest.raises(ConfigurationError, match="SUGAR_AUTH__REFRESH_KEY, which is not 32 random bytes"):
        load_settings("production")


def test_production_uses_no_key_twice(production: pytest.MonkeyPatch) -> None:
    production.setenv("SUGAR_MEDIA__URL_KEY", key_of("account"))
    with pytest.raises(ConfigurationError, match="one key for two purposes"):
        load_settings("production")


@pytest.mark.parametrize("sender", ["", "Sugar", "Sugar <no-reply@sugar.example>", "a@EXAMPLE", "a@sugar.example."])
def test_production_sends_no_mail_from_a_domain_that_cannot_exist(production: pytest.MonkeyPatch, sender: str) -> None:
    production.setenv("SUGAR_MAIL__SENDER", sender)
    with pytest.raises(ConfigurationError, match="SUGAR_MAIL__SENDER"):
        load_settings("production")


def test_production_takes_no_payments_on_a_form_that_leads_payers_nowhere(production: pytest.MonkeyPatch) -> None:
    form = {
        "URL": "https://form.example/pay", "ACCOUNT": "a-1", "FORM_KEY": "key", "POSTBACK_KEYS": '["key"]',
        "RETURN_URL": "https://app.example/back", "PAYER_PAGES_URL": "https://form.example/support",
    }
    production.setenv("SUGAR_PAYMENTS__PROCESSOR", "hosted_form")
    for name, value in form.items():
        with pytest.raises(ConfigurationError, match="SUGAR_PAYMENTS__HOSTED_FORM"):
            load_settings("production")
        production.setenv(f"SUGAR_PAYMENTS__HOSTED_FORM__{name}", value)
    assert load_settings("production").payments.hosted_form.account == "a-1"


def test_a_secret_may_come_from_a_file(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("DATABASE_URL", "postgresql://u:p@db/sugar?sslmode=verify-full\n"), ("SUGAR_KAFKA__PASSWORD", "from a file"),
                       ("SUGAR_PAYMENTS__STRIPE_WEBHOOK_SECRETS", '["whsec_1", "whsec_0"]')):
        (tmp_path / name).write_text(text)
        production.delenv(name)
        production.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = load_settings("production")
    assert settings.database_url.get_secret_value() == "postgresql://u:p@db/sugar?sslmode=verify-full"
    assert settings.kafka.password.get_secret_value() == "from a file"
    assert settings.kafka.user == "sugar", "the group's other settings stay"
    assert [secret.get_secret_value() for secret in settings.payments.stripe_webhook_secrets] == ["whsec_1", "whsec_0"]
    production.setenv("DATABASE_URL", "postgresql://elsewhere/sugar?sslmode=verify-full")
    with pytest.raises(ConfigurationError, match="both set"):
        load_settings("production")
    production.delenv("DATABASE_URL")
    production.setenv("DATABASE_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match="missing"):
        load_settings("production")


def test_only_secrets_come_from_files() -> None:
    """A setting that is itself the name of a file keeps its meaning."""
    variables = secret_variables(Settings)
    assert {"DATABASE_URL", "REDIS_URL", "SUGAR_AUTH__SIGNING_KEY_PEM", "SUGAR_KAFKA__PASSWORD", "SUGAR_PAYMENTS__HOSTED_FORM__POSTBACK_KEYS"} <= set(variables)
    assert not {"SUGAR_KAFKA__CA", "SUGAR_PUSH__CA", "KAFKA_BROKERS"} & set(variables)


def test_kafka_is_told_how_to_sign_in_and_whom_to_trust(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    production.setenv("SUGAR_KAFKA__CA_FILE", certifi.where())
    settings = load_settings("production")
    secured = kafka.client_properties(settings, "test")
    assert {name: secured[name] for name in ("security.protocol", "sasl.mechanism", "sasl.username", "sasl.password")} == {
        "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "sugar", "sasl.password": "password",
    }
    topics.admin(settings)
    production.setenv("SUGAR_KAFKA__CA_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(KafkaException, match=r"ssl\.ca\.location"):
        topics.admin(load_settings("production"))
    production.setenv("SUGAR_KAFKA__USER", "")
    with pytest.raises(ConfigurationError, match=r"needs kafka\.user"):
        load_settings("production")


@pytest.mark.parametrize("missing", sorted(set(PRODUCTION) - {name for name in PRODUCTION if name.startswith("SUGAR_KAFKA")}))
def test_production_does_not_start_without(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=missing):
        load_settings("production")


@pytest.mark.parametrize(("name", "value"), [
    ("SUGAR_PAYMENTS__STRIPE_KEY", "sk_test_0"), ("SUGAR_PAYMENTS__SANDBOX", "true"), ("SUGAR_PAYMENTS__STRIPE_URL", "http://127.0.0.1:9"),
])
def test_production_takes_no_payments_in_test_mode(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for known, wanted in (PRODUCTION | {name: value}).items():
        monkeypatch.setenv(known, wanted)
    with pytest.raises(ConfigurationError, match="test mode"):
        load_settings("production")


def test_only_a_platform_without_keys_of_a_processor_gets_the_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = with_keys(load_settings("local", data_dir=tmp_path)).payments
    assert (made.sandbox, made.in_test_mode) == (True, True)
    assert with_keys(load_settings("local", data_dir=tmp_path)).payments == made, "found again"
    monkeypatch.setenv("SUGAR_PAYMENTS__STRIPE_KEY", "sk_live_0")
    own = with_keys(load_settings("local", data_dir=tmp_path)).payments
    assert (own.sandbox, own.in_test_mode) == (False, False)


def test_a_provider_needs_only_its_audiences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise turning it on would forget whose tokens they are."""
    monkeypatch.setenv("SUGAR_OIDC__GOOGLE__AUDIENCES", '["app"]')
    google = load_settings("local").oidc.google
    assert (google.audiences, "https://accounts.google.com" in google.issuers) == (("app",), True)
    assert google.jwks_url.startswith("https://")


def test_production_does_not_start_where_registration_tells_who_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (PRODUCTION | {"SUGAR_AUTH__CONFIRM_ADDRESS": "false"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="SUGAR_AUTH__CONFIRM_ADDRESS"):
        load_settings("production")


@pytest.mark.parametrize(
    "overrides",
    [
        {"log": {"partitions": 12}}, {"log": {"partitions": 0}}, {"port": 0}, {"auth": {"access_ttl_s": 901}},
        {"plan": {"unheard_of": 1}}, {"trace_sample_ratio": 1.5}, {"bind": None},
        {"plan": {"gateways": 2}, "realtime": {"ports": (8101,)}},
    ],
)
def test_what_cannot_be_used_is_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        load_settings("local", **overrides)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings("nowhere")
    assert caught.value.details["known"] == ["local", "production", "test"]


def test_a_running_platform_reads_exactly_what_launch_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process must agree, whatever environment it was started from."""
    written = load_settings(
        "test", data_dir=tmp_path, database_url="postgresql://db", database_replica_urls=("postgresql://one",),
        log={"generations": {"matching.swipe": 3}}, auth={"refresh_key": "00" * 32, "previous_public_keys_pem": ("a", "b")},
    )
    file = tmp_path / "settings.json"
    file.write_text(written.dump())
    monkeypatch.setenv(SETTINGS_VARIABLE, str(file))
    monkeypatch.setenv("SUGAR_PORT", "9999")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere")
    assert load_settings() == written == read_settings(file)


def test_secrets_are_in_the_run_file_and_in_no_other_text() -> None:
    settings = load_settings("local", auth={"refresh_key": "refresh-secret"}, database_url="postgresql://u:password@db")
    shown = f"{settings!r} {settings} {settings.model_dump()!r} {settings.model_dump_json()}"
    assert "refresh-secret" not in shown
    assert "password@" not in shown
    assert json.loads(settings.dump())["auth"]["refresh_key"] == "refresh-secret"


def test_secret_settings_are_of_the_type_that_hides_them() -> None:
    for name, field in Settings.model_fields["auth"].annotation.model_fields.items():  # type: ignore[union-attr]
        if name.endswith("_key") or name == "signing_key_pem":
            assert field.annotation is SecretStr, name


def test_settings_do_not_change() -> None:
    settings = load_settings("local")
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.log.partitions = 1  # type: ignore[misc]

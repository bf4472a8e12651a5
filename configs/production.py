"""What a platform of the production profile needs before it starts, and what it refuses."""

from __future__ import annotations

import re
from email.utils import parseaddr
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

if TYPE_CHECKING:
    from configs.settings import Settings

KEYS: Final = (
    ("auth", "account_key"), ("auth", "refresh_key"), ("auth", "impression_key"), ("media", "url_key"),
    ("assurance", "callback_key"),
)
"""Symmetric keys: 32 random bytes each, none used twice."""
ENCRYPTED: Final = ("require", "verify-ca", "verify-full")
"""Values of libpq's sslmode with which nothing travels in plain text."""
LEAST_DISTINCT: Final = 12
"""Bytes that differ in a key; of 32 random ones fewer do once in 10^10."""


def lacks(settings: Settings) -> list[str]:
    """Variables that production needs and that are empty."""
    needed: tuple[tuple[str, object], ...] = (
        ("DATABASE_URL", settings.database_url),
        ("REDIS_URL", settings.redis_url),
        ("KAFKA_BROKERS", settings.kafka_brokers),
        ("SMTP_URL", settings.smtp_url),
        ("SUGAR_AUTH__CONFIRM_ADDRESS", settings.auth.confirm_address),
        ("SUGAR_AUTH__ACCOUNT_KEY", settings.auth.account_key),
        ("SUGAR_AUTH__SIGNING_KEY_PEM", settings.auth.signing_key_pem),
        ("SUGAR_AUTH__REFRESH_KEY", settings.auth.refresh_key),
        ("SUGAR_AUTH__IMPRESSION_KEY", settings.auth.impression_key),
        ("SUGAR_ASSURANCE__URL", settings.assurance.url),
        ("SUGAR_ASSURANCE__CALLBACK_KEY", settings.assurance.callback_key),
        ("SUGAR_ASSURANCE__CALLBACK_BASE", settings.assurance.callback_base),
        ("SUGAR_MEDIA__S3_ENDPOINT", settings.media.s3_endpoint),
        ("SUGAR_MEDIA__S3_ACCESS_KEY_ID", settings.media.s3_access_key_id),
        ("SUGAR_MEDIA__S3_SECRET_ACCESS_KEY", settings.media.s3_secret_access_key),
        ("SUGAR_MEDIA__URL_KEY", settings.media.url_key),
        # A directory is another one on each node.
        ("SUGAR_RANKING__ARTIFACTS", settings.ranking.artifacts),
        ("SUGAR_REALTIME__URL", settings.realtime.url),
        ("SUGAR_TRUSTED_PROXIES", settings.trusted_proxies),
    )
    empty = [name for name, value in needed if not (value.get_secret_value() if isinstance(value, SecretStr) else value)]
    return empty + settings.payments.production_lacks


def refusals(settings: Settings) -> list[str]:
    """Why a complete configuration may not run: development secrets, test mode, a sender that is nobody, plain text."""
    found = []
    if settings.payments.in_test_mode:
        found.append("payments in test mode: neither the sandbox nor a test key of Stripe")
    keys = {f"SUGAR_{group.upper()}__{name.upper()}": _text(settings, group, name) for group, name in KEYS}
    found += [f"{name}, which is not 32 random bytes in hex (openssl rand -hex 32)" for name, key in keys.items() if not _random(key)]
    if len(set(keys.values())) < len(keys):
        found.append("one key for two purposes")
    if _belongs_to_nobody(settings.mail.sender):
        found.append(f"mails from {settings.mail.sender!r}: SUGAR_MAIL__SENDER needs an address of a domain of one's own")
    if not settings.allow_plaintext:
        found += plaintext(settings)
    return found


def plaintext(settings: Settings) -> list[str]:
    """Connections that anybody on the way could read."""
    found = []
    for name, url in (("DATABASE_URL", settings.database_url), *(("DATABASE_REPLICA_URLS", url) for url in settings.database_replica_urls)):
        if _sslmode(url.get_secret_value()) not in ENCRYPTED:
            found.append(f"plain text to PostgreSQL: {name} needs sslmode=verify-full")
    if not settings.redis_url.get_secret_value().startswith(("rediss://", "rediss+cluster://")):
        found.append("plain text to Redis: REDIS_URL must begin with rediss:// or rediss+cluster://")
    if settings.kafka.security not in ("SSL", "SASL_SSL"):
        found.append("plain text to Kafka: SUGAR_KAFKA__SECURITY must be SASL_SSL or SSL")
    if settings.tracing.endpoint and not settings.tracing.endpoint.startswith("https://"):
        found.append("plain text to the trace collector: SUGAR_TRACING__ENDPOINT must begin with https://")
    return found and [*found, "SUGAR_ALLOW_PLAINTEXT=true where the network itself is encrypted"]


def _text(settings: Settings, group: str, name: str) -> str:
    value: SecretStr = getattr(getattr(settings, group), name)
    return value.get_secret_value()


def _belongs_to_nobody(sender: str) -> bool:
    """Whether a From names no address, or one below ``example``, the default's, from which no receiver takes a mail (RFC 2606)."""
    name, _, domain = parseaddr(sender)[1].rpartition("@")
    return not name or not domain or f".{domain}".lower().rstrip(".").endswith(".example")


def _random(key: str) -> bool:
    return bool(re.fullmatch("[0-9a-fA-F]{64,}", key)) and len(set(bytes.fromhex(key[:64]))) >= LEAST_DISTINCT


def _sslmode(url: str) -> str:
    """What a libpq URL or a ``name=value`` string asks for; libpq's default encrypts only if the server likes to."""
    if "://" in url:
        return parse_qs(urlsplit(url).query).get("sslmode", ["prefer"])[-1]
    found: list[str] = re.findall(r"(?:^|\s)sslmode\s*=\s*'?([\w-]+)", url)
    return found[-1] if found else "prefer"

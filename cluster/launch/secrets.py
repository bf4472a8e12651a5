"""Keys that the local profiles make for themselves, once a data directory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from configs.contracts.errors import ConfigurationError
from configs.settings import Payments, Settings


def _signing_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _symmetric_key() -> str:
    return secrets.token_hex(32)


MAKERS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("auth", "signing_key_pem", _signing_key),
    ("auth", "refresh_key", _symmetric_key),
    ("auth", "impression_key", _symmetric_key),
    ("auth", "account_key", _symmetric_key),
    ("media", "url_key", _symmetric_key),
    ("assurance", "callback_key", _symmetric_key),
)
"""(group of settings, key, what makes one); a key's file has its name."""


def write_private(path: Path, text: str) -> None:
    """Replaces a file readable by its owner only; a reader sees the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def with_keys(settings: Settings) -> Settings:
    """The settings with every key filled: configured, found in ``<data dir>/secrets``, or made there now.

    Raises ConfigurationError: a production profile lacks one.
    """
    groups: dict[str, dict[str, SecretStr]] = {}
    for group, name, make in MAKERS:
        configured: SecretStr = getattr(getattr(settings, group), name)
        if configured.get_secret_value():
            continue
        if settings.profile == "production":
            raise ConfigurationError("production makes no keys of its own", setting=f"{group}.{name}")
        path = settings.data_dir / "secrets" / name
        if not path.exists():
            write_private(path, make())
        groups.setdefault(group, {})[name] = SecretStr(path.read_text())
    return settings.model_copy(update={
        group: getattr(settings, group).model_copy(update=keys) for group, keys in groups.items()
    } | {"payments": _sandboxed(settings)})


def _sandboxed(settings: Settings) -> Payments:
    """The payments with the sandbox's keys, where nobody configured a processor's. Raises ConfigurationError: in production."""
    payments = settings.payments
    if payments.stripe_key.get_secret_value():
        return payments
    if settings.profile == "production":
        if payments.processor == "stripe":
            raise ConfigurationError("production takes no payments in test mode", setting="payments.stripe_key")
        return payments
    made: dict[str, str] = {}
    for name, prefix in (("sandbox_key", "sk_test_"), ("sandbox_webhook_secret", "whsec_")):
        path = settings.data_dir / "secrets" / name
        if not path.exists():
            write_private(path, prefix + _symmetric_key())
        made[name] = path.read_text()
    return payments.model_copy(update={
        "stripe_key": SecretStr(made["sandbox_key"]), "stripe_webhook_secrets": (SecretStr(made["sandbox_webhook_secret"]),),
        "sandbox": True,
    })

"""Signing in, who is an adult, and how people are reached."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from configs.groups.base import Group


class Auth(Group):
    """Tokens and passwords."""

    issuer: str = Field("sugar", description="iss claim")
    audience: str = Field("sugar-api", description="aud claim of people's tokens; service tokens have 'internal'")
    access_ttl_s: int = Field(900, ge=30, le=900, description="seconds an access token lives")
    refresh_ttl_s: int = Field(30 * 86_400, ge=60, description="seconds a token family lives without use")
    refresh_grace_s: float = Field(10.0, ge=0, description="seconds in which the predecessor of a refresh token works")
    argon2_memory_kib: int = Field(19_456, ge=8, description="Argon2id memory (OWASP 2023: 19 MiB, 2 passes, 1 lane)")
    argon2_passes: int = Field(2, ge=1, description="Argon2id passes")
    hashing_threads: int = Field(2, ge=1, description="threads that hash passwords in one replica")
    hashing_queue: int = Field(64, ge=1, description="passwords waiting to be hashed in one replica; past it 503")
    signing_key_pem: SecretStr = Field(SecretStr(""), description="Ed25519 private key; empty: made by launch (local)")
    account_key: SecretStr = Field(SecretStr(""), description="key of mailed tokens and of what is sealed in accounts, 32 bytes hex; empty: made by launch")
    previous_account_keys: tuple[SecretStr, ...] = Field((), max_length=2, description="account keys before that one, which still open what they sealed (JSON list)")
    confirm_address: bool = Field(False, description="a new person confirms the address before signing in, and registration answers alike for every address; production: always")
    verify_ttl_s: int = Field(86_400, ge=60, description="seconds a token that confirms an address lives")
    reset_ttl_s: int = Field(3_600, ge=60, description="seconds a token that sets a new password lives")
    passkey_domain: str = Field("localhost", description="domain that passkeys are for (WebAuthn rp id)")
    passkey_name: str = Field("Sugar", description="what authenticators call the platform")
    passkey_origins: tuple[str, ...] = Field(("http://localhost:8000",), description="origins of web and apps whose passkey ceremonies count (JSON list)")
    previous_public_keys_pem: tuple[str, ...] = Field((), description="public keys still accepted during rotation")
    refresh_key: SecretStr = Field(SecretStr(""), description="key of refresh tokens, 32 bytes hex; empty: made by launch")
    impression_key: SecretStr = Field(SecretStr(""), description="key of impression ids and cursors, 32 bytes hex")


class Provider(Group):
    """One OpenID Connect provider; off while it has no audience."""

    issuers: tuple[str, ...] = Field((), description="iss claims that are the provider's")
    jwks_url: str = Field("", description="where its public keys are")
    audiences: tuple[str, ...] = Field((), description="client ids of one's own apps (JSON list); empty: the provider is off")


class Google(Provider):
    issuers: tuple[str, ...] = Field(("https://accounts.google.com", "accounts.google.com"), description="iss claims that are Google's")
    jwks_url: str = Field("https://www.googleapis.com/oauth2/v3/certs", description="where Google's public keys are")


class Apple(Provider):
    issuers: tuple[str, ...] = Field(("https://appleid.apple.com",), description="iss claims that are Apple's")
    jwks_url: str = Field("https://appleid.apple.com/auth/keys", description="where Apple's public keys are")


class Oidc(Group):
    """Providers whose id tokens sign in."""

    google: Google = Google()
    apple: Apple = Apple()
    token_age_s: int = Field(600, ge=30, description="seconds after its issue in which an id token is taken; nonces are remembered for as long")
    fetch_timeout_s: float = Field(3.0, gt=0, description="seconds a provider has to answer with its keys")


class Assurance(Group):
    """Who checks that people are adults; only its results are kept."""

    url: str = Field("", description="base URL of the service; empty: an embedded stand-in (production refuses to start)")
    provider: str = Field("local", description="what its results are recorded under")
    callback_key: SecretStr = Field(SecretStr(""), description="bearer token for it and key of its signed results; empty: made by launch")
    callback_base: str = Field("", description="URL under which it reaches the API; empty: the API's own port on loopback")
    timeout_s: float = Field(5.0, gt=0, le=10, description="seconds it has to answer")


class Mail(Group):
    """What mails look like; where they go is ``SMTP_URL``."""

    sender: str = Field("Sugar <no-reply@sugar.example>", description="From of every mail")
    domain: str = Field("sugar.example", description="right side of every Message-ID")
    link: str = Field("", description="what a mail shows for a token: a URL with {purpose} and {token}; empty: the token itself")


class Push(Group):
    """Push notifications. A platform without keys is off, or kept in the outbox."""

    delay_s: float = Field(5.0, ge=0, le=60, description="seconds that a connected device has to acknowledge before a push is sent")
    outbox: bool = Field(False, description="keep what would be pushed to platforms without keys in a list for `sugar push`")
    fcm_service_account: SecretStr = Field(SecretStr(""), description="Firebase service account as JSON text; empty: FCM is off")
    fcm_url: str = Field("https://fcm.googleapis.com", description="base URL of FCM HTTP v1")
    apns_key_pem: SecretStr = Field(SecretStr(""), description="APNs token signing key (.p8 text); empty: APNs is off")
    apns_key_id: str = Field("", description="key id of the APNs key")
    apns_team_id: str = Field("", description="Apple team id")
    apns_topic: str = Field("", description="bundle id of the app")
    apns_url: str = Field("https://api.push.apple.com", description="base URL of APNs; api.sandbox.push.apple.com for development builds")
    vapid_key_pem: SecretStr = Field(SecretStr(""), description="VAPID private key (P-256, PEM); empty: Web Push is off")
    vapid_subject: str = Field("", description="mailto: or https: address that push services may contact")
    webpush_hosts: tuple[str, ...] = Field(
        ("fcm.googleapis.com", "updates.push.services.mozilla.com", ".push.apple.com", ".notify.windows.com"),
        description="hosts that subscriptions may name (leading dot: and below it); this platform posts to no other (JSON list)",
    )
    ca_file: str = Field("", description="PEM file of the only authorities trusted for providers; empty: the system's")

    @property
    def providers(self) -> tuple[str, ...]:
        """The platforms that have keys."""
        keys = {"fcm": self.fcm_service_account, "apns": self.apns_key_pem, "webpush": self.vapid_key_pem}
        return tuple(name for name, key in keys.items() if key.get_secret_value())

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if "apns" in self.providers and not (self.apns_key_id and self.apns_team_id and self.apns_topic):
            raise ValueError("push.apns_key_pem needs apns_key_id, apns_team_id and apns_topic")
        if "webpush" in self.providers and not self.vapid_subject.startswith(("mailto:", "https://")):
            raise ValueError("push.vapid_key_pem needs vapid_subject, a mailto: or https: address")
        return self

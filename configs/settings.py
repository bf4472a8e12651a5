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
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from configs.contracts.errors import ConfigurationError
from configs.production import lacks, refusals

SETTINGS_VARIABLE = "SUGAR_SETTINGS"
PROFILES = Path(__file__).parent


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plan(_Group):
    """How much of each process a deployment runs; the code is the same for all."""

    serve_replicas: int = Field(1, ge=1, description="API replicas of each Serve application")
    serve_replicas_max: int = Field(0, ge=0, description="replicas up to which load adds some; not above serve_replicas: their number is fixed")
    serve_target_ongoing_requests: int = Field(64, ge=1, description="requests in flight a replica past which replicas are added")
    serve_cpus: float = Field(0.0, ge=0, description="cores of its node that each replica reserves")
    serve_max_ongoing_requests: int = Field(512, ge=1, description="requests one replica works on at once")
    serve_max_queued_requests: int = Field(1024, ge=1, description="requests waiting for a replica; past it 503")
    swipe_actors: int = Field(1, ge=1, description="actors that host the swipe shards")
    card_actors: int = Field(1, ge=1, description="actors that host the card shards")
    identity_actors: int = Field(1, ge=1, description="actors that host account, session and user shards")
    message_actors: int = Field(0, ge=0, description="actors that host the conversation shards; 0: the identity actors do")
    commerce_actors: int = Field(
        0, ge=0, description="actors that host the shards of tiers, subscriptions, payments and content; 0: the identity actors do"
    )
    writer_actors: int = Field(1, ge=1, description="actors that drain the log into PostgreSQL")
    gateways: int = Field(1, ge=1, le=64, description="actors that hold realtime sockets, each on a port of its own")
    actor_cpus: float = Field(0.05, gt=0, description="cores of its node that each actor reserves in a cluster of others (`sugar cluster deploy`)")
    actor_max_pending: int = Field(4096, ge=1, description="commands queued for one actor in one client; past it 503")
    call_interval_ms: float = Field(10.0, ge=0, description="ms between the starts of two calls of one client to one actor")
    swipe_interval_ms: float = Field(10.0, ge=0, description="the same for swipes: each call is a turn, and a turn appends a batch to every partition that it touches")
    keys_in_memory: int = Field(1_000_000, ge=1, description="keys one kind of shard remembers in one actor; past it the least recently used are forgotten")


class Log(_Group):
    """The Kafka-protocol broker and the topics."""

    partitions: int = Field(16, ge=1, description="partitions of every topic; fixed at creation, a power of two")
    replication_factor: int = Field(1, ge=1, description="copies of every partition")
    min_insync_replicas: int = Field(1, ge=1, description="copies that must acknowledge")
    append_deadline_ms: int = Field(2_000, ge=50, description="ms an append may wait before the answer is 503")
    delivery_timeout_ms: int = Field(120_000, ge=1_000, description="ms after which a pending append is unknown")
    linger_ms: float = Field(1.0, ge=0, description="ms the producer waits to fill a batch")
    read_interval_ms: int = Field(
        100, ge=1, description="ms between two reads of a follower; one fetch carries what came meanwhile"
    )
    busy_read_interval_ms: int = Field(
        100, ge=1, description="ms to which that grows for a partition with 10 records a second or more"
    )
    own_read_interval_ms: int = Field(
        100, ge=1, description="the same for a swipe shard's own partitions, in which there is seldom anything that it did not append itself"
    )
    max_memory_bytes: int = Field(2 << 30, description="memory of the embedded broker past which appends answer 503")
    generations: dict[str, int] = Field(default_factory=dict, description="generation of each topic; set by launch")


class Kafka(_Group):
    """How brokers are spoken to; where they are is ``KAFKA_BROKERS``."""

    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field("PLAINTEXT", description="protocol of the brokers' listener")
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field("SCRAM-SHA-512", description="how a SASL listener authenticates")
    user: str = Field("", description="SASL user")
    password: SecretStr = Field(SecretStr(""), description="the user's password")
    ca_file: str = Field("", description="PEM file of the authorities that brokers' certificates are checked against; empty: the system's")
    certificate_file: str = Field("", description="PEM file of this client's certificate, where brokers ask for one")
    key_file: str = Field("", description="PEM file of that certificate's private key")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security.startswith("SASL") and not (self.user and self.password.get_secret_value()):
            raise ValueError("kafka.security with SASL needs kafka.user and kafka.password")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("kafka.certificate_file and kafka.key_file go together")
        return self


class Limits(_Group):
    """Product and safety limits; past each the answer is 429 with Retry-After."""

    likes_a_day: int = Field(200, ge=0, description="likes one person may give in a UTC day")
    super_likes_a_day: int = Field(5, ge=0, description="super likes one person may give in a UTC day")
    undo_window_s: int = Field(300, ge=0, description="seconds in which the last swipe can be undone")
    location_changes_an_hour: int = Field(12, ge=1, description="location changes of one person in an hour")
    logins_per_account_a_minute: int = Field(10, ge=1, description="sign-in attempts on one address in a minute")
    logins_per_address_a_minute: int = Field(300, ge=1, description="sign-in attempts from one client address")
    registrations_per_address_an_hour: int = Field(1_000, ge=1, description="registrations from one client address")
    mails_per_account_an_hour: int = Field(5, ge=1, description="mails that one address can be made to get by requests without a token")
    mails_per_address_an_hour: int = Field(60, ge=1, description="such requests from one client address")
    codes_per_account_a_minute: int = Field(5, ge=1, description="second-factor codes tried for one account in a minute")
    tokens_per_address_a_minute: int = Field(60, ge=1, description="mailed tokens presented from one client address")
    removal_requests_per_address_an_hour: int = Field(20, ge=1, description="requests to remove an intimate image from one client address")
    removal_requests_a_minute: int = Field(300, ge=1, description="such requests from everywhere; past it 429")
    requests_per_user_a_second: int = Field(50, ge=1, description="requests of one person in a second, per replica")
    messages_per_conversation_a_minute: int = Field(60, ge=1, description="messages of one person in one conversation in a minute")
    messages_per_user_a_minute: int = Field(120, ge=1, description="messages of one person in a minute, over all conversations and shards")
    checkouts_per_user_an_hour: int = Field(30, ge=1, description="checkouts and changes of tier that one person may begin in an hour: stolen cards are tried in numbers")
    tip_units: int = Field(500, ge=1, description="largest tip, in whole units of its currency")
    payout_units: int = Field(10, ge=1, description="smallest payout, in whole units of its currency")
    payouts_per_user_a_day: int = Field(5, ge=1, description="payouts that one creator may ask for in a day")
    statements_per_user_an_hour: int = Field(60, ge=1, description="monthly statements that one person may read in an hour")
    cards_per_user_an_hour: int = Field(20, ge=1, description="payment methods that one person may begin to save in an hour")
    undo_hold_s: int = Field(15, ge=1, description="seconds for which a conversation without messages accepts none while its match is being undone")
    body_bytes: int = Field(65_536, ge=1_024, description="size of a JSON body")
    rows_pending: int = Field(5_000_000, ge=1, description="appended records not yet in rows; past it writes answer 503")


class Content(_Group):
    """Posts and feeds."""

    fanout_followers: int = Field(100_000, ge=0, description="followers up to which a post is added to their feeds when it is published; feeds of more ask for it")


class Auth(_Group):
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


class Provider(_Group):
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


class Oidc(_Group):
    """Providers whose id tokens sign in."""

    google: Google = Google()
    apple: Apple = Apple()
    token_age_s: int = Field(600, ge=30, description="seconds after its issue in which an id token is taken; nonces are remembered for as long")
    fetch_timeout_s: float = Field(3.0, gt=0, description="seconds a provider has to answer with its keys")


class Mail(_Group):
    """What mails look like; where they go is ``SMTP_URL``."""

    sender: str = Field("Sugar <no-reply@sugar.example>", description="From of every mail")
    domain: str = Field("sugar.example", description="right side of every Message-ID")
    link: str = Field("", description="what a mail shows for a token: a URL with {purpose} and {token}; empty: the token itself")


class Writing(_Group):
    """The row writers."""

    batch_rows: int = Field(5_000, ge=1, description="records in one commit at most")
    dead_letter_limit: int = Field(100, ge=1, description="dead letters in one minute past which the worker stops")
    connections: int = Field(4, ge=1, description="PostgreSQL connections of the loader")
    replica_wait_s: float = Field(2.0, ge=0, description="seconds that rebuilds, reconciling and exports wait for a replica to replay what the primary held when they began; past it they read the primary")


class Realtime(_Group):
    """Sockets of the realtime gateways."""

    ports: tuple[int, ...] = Field((), description="port of each gateway (JSON list); empty: launch chooses free ones")
    url: str = Field("", description="ws(s) URL under which clients reach the gateways; empty: each gateway's own port")
    node_resource: str = Field("", description="Ray resource of which each gateway takes one, so that only nodes that offer it hold gateways; empty: any node")
    sockets: int = Field(30_000, ge=1, description="sockets that one gateway holds; past it 503")
    ping_interval_s: float = Field(20.0, gt=0, description="seconds between two pings of a socket")
    ping_timeout_s: float = Field(20.0, gt=0, description="seconds without an answer after which a socket is closed")
    authenticate_s: float = Field(5.0, gt=0, description="seconds in which a new socket must say who it is")
    frames_a_second: int = Field(20, ge=1, description="frames of one socket in a second, twice as many at once")
    outbox_frames: int = Field(256, ge=1, description="frames that wait for a slow socket; past it it is closed")
    outbox_bytes: int = Field(524_288, ge=65_536, description="bytes that wait for a slow socket; past it it is closed")
    drain_s: float = Field(5.0, ge=0, description="seconds over which clients of a leaving gateway are told to spread")


class Ranking(_Group):
    """Models, what is logged about the cards that they rank, and how long it is kept."""

    artifacts: str = Field("", description="where artifacts are: a directory, or s3://bucket/prefix; empty: <data dir>/artifacts")
    s3_endpoint: str = Field("", description="URL of the S3 service, when artifacts are there; empty: AWS. Credentials: AWS_* variables")
    feature_sample_ratio: float = Field(0.01, ge=0, le=1, description="share of decks whose feature values are logged with what was served")
    impressions_days: int = Field(30, ge=1, description="days for which served and seen cards are kept in rows")
    scored: int = Field(4_000, ge=200, description="people a card actor scores for one deck at most; of more a first stage keeps the most promising, which costs as much as scoring 3,000 of them by the baseline (measured)")
    refresh_period_s: int = Field(0, ge=0, description="seconds between two people tables (history, exposure prices); 0: only by `sugar ranking refresh`")


class Push(_Group):
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


class Assurance(_Group):
    """Who checks that people are adults; only its results are kept."""

    url: str = Field("", description="base URL of the service; empty: an embedded stand-in (production refuses to start)")
    provider: str = Field("local", description="what its results are recorded under")
    callback_key: SecretStr = Field(SecretStr(""), description="bearer token for it and key of its signed results; empty: made by launch")
    callback_base: str = Field("", description="URL under which it reaches the API; empty: the API's own port on loopback")
    timeout_s: float = Field(5.0, gt=0, le=10, description="seconds it has to answer")


class Media(_Group):
    """Uploads, where they are stored, and how they are processed."""

    s3_endpoint: str = Field("", description="URL of the S3 or R2 service; empty: the embedded store")
    s3_bucket: str = Field("sugar-media", description="bucket of all media; private")
    s3_region: str = Field("auto", description="region that requests are signed for; R2: auto")
    s3_access_key_id: str = Field("", description="access key of the bucket")
    s3_secret_access_key: SecretStr = Field(SecretStr(""), description="secret of the access key")
    local_url: str = Field("", description="URL under which clients reach the embedded store; set by launch")
    url_key: SecretStr = Field(SecretStr(""), description="key of playlist URLs and of the embedded store's, 32 bytes hex; empty: made by launch")
    url_ttl_s: int = Field(600, ge=60, le=600, description="seconds a signed URL lives at most; at least half of it")
    watermark: bool = Field(False, description="draw the viewer's id into pictures of posts and messages; each is then made by the API for each viewer")
    upload_ttl_s: int = Field(3_600, ge=60, le=86_400, description="seconds in which an upload must be complete")
    multipart_bytes: int = Field(16 << 20, ge=5 << 20, description="bytes of an upload past which it is made in parts of this size")
    image_bytes: int = Field(30 << 20, ge=1, description="bytes of an uploaded image")
    video_bytes: int = Field(1 << 30, ge=1, description="bytes of an uploaded video")
    items_per_user: int = Field(2_000, ge=1, description="media of one person that are not removed")
    bytes_per_user: int = Field(50 << 30, ge=1, description="bytes of all of them")
    open_uploads_per_user: int = Field(20, ge=1, description="uploads of one person that are not complete yet")
    image_pixels: int = Field(50_000_000, ge=1, description="pixels of an image, all frames together")
    video_seconds: int = Field(600, ge=1, description="seconds of a video; longer ones outlive the URLs of their segments")
    process_memory_bytes: int = Field(2 << 30, ge=256 << 20, description="memory of the process that decodes one media")
    image_timeout_s: float = Field(30.0, gt=0, description="CPU seconds in which an image is processed")
    video_timeout_s: float = Field(1_800.0, gt=0, description="CPU seconds in which a video is processed")
    at_once: int = Field(2, ge=1, description="media that each writer has processed at once, images and videos each")
    classifier_url: str = Field("", description="service that scores pictures; empty: everything waits for a person's review")
    classifier_token: SecretStr = Field(SecretStr(""), description="bearer token of the classifier")
    classifier_timeout_s: float = Field(10.0, gt=0, description="seconds the classifier has to answer")
    approve_below: float = Field(0.0, ge=0, le=1, description="highest score with which media is approved without a person; 0: never")
    reject_above: float = Field(1.0, ge=0, le=1, description="lowest score with which it is rejected without a person; 1: never")


class HostedForm(_Group):
    """A processor of the hosted-form kind; off while it has no address."""

    url: str = Field("", description="where payers pay; empty: off")
    account: str = Field("", description="our account there")
    form_key: SecretStr = Field(SecretStr(""), description="signs what the form is told")
    postback_keys: tuple[SecretStr, ...] = Field((), max_length=2, description="keys whose postbacks are believed, the present one first (JSON list)")
    form_ttl_s: int = Field(1_800, ge=60, description="seconds for which a form's address counts")


class Payments(_Group):
    """Payment processors. Without a Stripe key the sandbox runs (never in production)."""

    processor: Literal["stripe", "hosted_form"] = Field("stripe", description="who takes new payments; both are listened to")
    stripe_key: SecretStr = Field(SecretStr(""), description="Stripe's secret or restricted key; empty: the local sandbox, in test mode")
    stripe_webhook_secrets: tuple[SecretStr, ...] = Field((), max_length=2, description="secrets whose signatures are believed, the present one first (JSON list)")
    stripe_url: str = Field("", description="another address than Stripe's own; set by launch for the sandbox")
    sandbox: bool = Field(False, description="the key is that of the local sandbox; set by launch")
    timeout_s: float = Field(10.0, gt=0, le=80, description="seconds a call to a processor may take")
    retries: int = Field(1, ge=0, le=5, description="repetitions of a call that failed, with the same idempotency key")
    webhook_tolerance_s: int = Field(300, ge=30, description="age of a signature, in seconds, past which a webhook is a replay")
    webhook_bytes: int = Field(524_288, ge=65_536, description="size of a webhook's body")
    poll_s: float = Field(30.0, gt=0, description="seconds between two looks at the processor's own list, for webhooks that did not come")
    reconcile_days: int = Field(3, ge=1, le=29, description="days that the nightly look goes back, creators' accounts included")
    hosted_form: HostedForm = HostedForm()

    @property
    def in_test_mode(self) -> bool:
        """Whether no real money moves."""
        return self.sandbox or bool(self.stripe_url) or self.stripe_key.get_secret_value().startswith(("sk_test_", "rk_test_"))

    @property
    def production_lacks(self) -> list[str]:
        """What a platform with real money needs and does not have."""
        missing = []
        if self.processor == "hosted_form":
            form = self.hosted_form
            if not (form.url and form.account and form.form_key.get_secret_value() and form.postback_keys):
                missing.append("SUGAR_PAYMENTS__HOSTED_FORM")
        elif not self.stripe_key.get_secret_value():
            missing.append("SUGAR_PAYMENTS__STRIPE_KEY")
        if self.stripe_key.get_secret_value() and not self.stripe_webhook_secrets:
            missing.append("SUGAR_PAYMENTS__STRIPE_WEBHOOK_SECRETS")
        return missing


class Tracing(_Group):
    """Spans of sampled requests for an OpenTelemetry collector."""

    endpoint: str = Field("", description="OTLP over HTTP address for traces, http://collector:4318/v1/traces; empty: no spans are made")
    authorization: SecretStr = Field(SecretStr(""), description="Authorization header for it; empty: none")
    timeout_s: float = Field(5.0, gt=0, description="seconds that the collector has to take a batch")
    requests_a_second: int = Field(50, ge=1, description="requests that one replica traces in a second at most")


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

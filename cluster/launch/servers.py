"""The embedded servers of one platform: which of them run, where, and the settings that name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from cluster.connections.media.local import media_dir
from cluster.embedded.assurance import EmbeddedAssurance
from cluster.embedded.broker import EmbeddedBroker
from cluster.embedded.mailbox import EmbeddedMailbox
from cluster.embedded.media_store import EmbeddedMediaStore
from cluster.embedded.ports import LOOPBACK
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.sandbox_provider import EmbeddedSandboxProvider
from cluster.embedded.valkey import EmbeddedValkey
from cluster.engines.kafka import KafkaCluster
from cluster.engines.valkey import PRIMARIES, ValkeyCluster
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings

WEBHOOKS = "/api/v1/payments/webhooks/stripe"
Server = (
    EmbeddedPostgres | EmbeddedValkey | ValkeyCluster | EmbeddedBroker | KafkaCluster | EmbeddedMailbox | EmbeddedMediaStore
    | EmbeddedSandboxProvider | EmbeddedAssurance
)


class EmbeddedServers:
    """The servers that the settings do not name an address for; start them from the main thread.

    ``ports`` (server name -> port) keeps addresses the same over restarts; 0 or missing: a free one.
    """

    def __init__(self, settings: Settings, ports: dict[str, int] | None = None) -> None:
        data, run, ports = settings.data_dir.resolve(), settings.data_dir.resolve() / "run", ports or {}
        self._configured = settings
        self.postgres: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | ValkeyCluster | None = None
        self.broker: EmbeddedBroker | KafkaCluster | None = None
        self.mailbox: EmbeddedMailbox | None = None
        self.media_store: EmbeddedMediaStore | None = None
        self.payments: EmbeddedSandboxProvider | None = None
        self.assurance: EmbeddedAssurance | None = None
        if not settings.database_url.get_secret_value():
            self.postgres = EmbeddedPostgres(data / "postgres", run, port=ports.get("postgres", 0))
        # Before what asks for any free port: brokers want those that they had.
        if not settings.kafka_brokers:
            self.broker = (
                KafkaCluster(data / "kafka", run) if settings.broker == "kafka"
                else EmbeddedBroker(run, port=ports.get("broker", 0))
            )
        if not settings.redis_url.get_secret_value():
            self.valkey = (
                ValkeyCluster(data / "valkey", run, max_memory_bytes=(settings.redis_memory_mib << 20) // PRIMARIES) if settings.redis == "cluster"
                else EmbeddedValkey(run, port=ports.get("valkey", 0), max_memory_bytes=settings.redis_memory_mib << 20)
            )
        if not settings.smtp_url.get_secret_value():
            self.mailbox = EmbeddedMailbox(mail_dir(settings.data_dir), run, port=ports.get("mailbox", 0))
        if not settings.media.s3_endpoint:
            self.media_store = EmbeddedMediaStore(
                media_dir(settings.data_dir), run, settings.media.url_key.get_secret_value(),
                port=ports.get("media_store", 0),
            )
        if settings.payments.sandbox:
            if settings.profile == "production":
                raise ConfigurationError("production takes no payments in test mode", setting="payments.stripe_key")
            self.payments = EmbeddedSandboxProvider(
                data / "payments", run, key=settings.payments.stripe_key.get_secret_value(),
                secret=settings.payments.stripe_webhook_secrets[0].get_secret_value(),
                webhook_url=f"http://{LOOPBACK}:{settings.port}{WEBHOOKS}", port=ports.get("payments", 0),
            )
        if not settings.assurance.url:
            self.assurance = EmbeddedAssurance(
                run, settings.assurance.callback_key.get_secret_value(), port=ports.get("assurance", 0)
            )

    def __iter__(self) -> Iterator[tuple[str, Server]]:
        """(name, server) in order of starting."""
        for name, server in (
            ("postgres", self.postgres), ("valkey", self.valkey), ("broker", self.broker), ("mailbox", self.mailbox),
            ("media_store", self.media_store),
            ("payments", self.payments),
            ("assurance", self.assurance),
        ):
            if server is not None:
                yield name, server

    def ports(self) -> dict[str, int]:
        return {name: server.port for name, server in self}

    def pids(self) -> dict[str, int]:
        """Every server's pid; of one that consists of several also the others', as broker-2. 0: it does not run."""
        found: dict[str, int] = {}
        for name, server in self:
            each = server.pids if isinstance(server, (KafkaCluster, ValkeyCluster)) else [server.pid]
            found |= {f"{name}-{number}" if number > 1 else name: pid or 0 for number, pid in enumerate(each, 1)}
        return found

    def start(self) -> None:
        """Starts each that does not run. Raises DependencyUnavailable: which one did not, and its log's end."""
        for _, server in self:
            server.start()

    def stop(self) -> None:
        """Stops all, the one with the facts last."""
        for _, server in reversed(list(self)):
            server.stop()

    def settings(self) -> Settings:
        """The configured settings with the addresses of the running servers."""
        updates: dict[str, object] = {}
        if self.postgres is not None:
            updates["database_url"] = SecretStr(self.postgres.url)
        if self.valkey is not None:
            updates["redis_url"] = SecretStr(self.valkey.url)
        if self.broker is not None:
            updates["kafka_brokers"] = self.broker.url
        if isinstance(self.broker, KafkaCluster):
            updates["log"] = self._configured.log.model_copy(update={
                "replication_factor": len(self.broker.brokers), "min_insync_replicas": len(self.broker.brokers) - 1,
            })
        if self.mailbox is not None:
            updates["smtp_url"] = SecretStr(self.mailbox.url)
        if self.media_store is not None:
            updates["media"] = self._configured.media.model_copy(update={"local_url": self.media_store.url})
        if self.payments is not None:
            updates["payments"] = self._configured.payments.model_copy(update={"stripe_url": self.payments.url})
        if self.assurance is not None:
            updates["assurance"] = self._configured.assurance.model_copy(update={"url": self.assurance.url})
        return self._configured.model_copy(update=updates)


def mail_dir(data_dir: Path) -> Path:
    """Where the embedded mailbox of a platform keeps what was sent."""
    return data_dir.resolve() / "mail"


def run_dir(settings: Settings) -> Path:
    """Where a platform records what it runs: addresses, pids, logs."""
    return settings.data_dir.resolve() / "run"

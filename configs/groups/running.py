"""How much of everything runs, the log, and what is told of it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from configs.groups.base import Group


class Plan(Group):
    """How much of each process a deployment runs; the code is the same for all."""

    serve_replicas: int = Field(1, ge=1, description="API replicas of each Serve application")
    serve_replicas_max: int = Field(0, ge=0, description="replicas up to which load adds some; not above serve_replicas: their number is fixed")
    serve_target_ongoing_requests: int = Field(64, ge=1, description="requests in flight a replica past which replicas are added")
    serve_cpus: float = Field(
        0.05, gt=0, description="cores of its node that each replica reserves; above 0, so that none lands on a head that offers none"
    )
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


class Log(Group):
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
    fetch_wait_ms: int = Field(
        500, ge=1, description="ms for which a follower's fetch waits for records; the embedded broker looks for them at half of it"
    )
    max_memory_bytes: int = Field(2 << 30, description="memory of the embedded broker past which appends answer 503")
    generations: dict[str, int] = Field(default_factory=dict, description="generation of each topic; set by launch")


class Kafka(Group):
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


class Writing(Group):
    """The row writers."""

    batch_rows: int = Field(2_000, ge=1, description="records in one commit at most")
    batch_bytes: int = Field(1 << 20, ge=1, description="bytes of records from which on a commit takes no more")
    dead_letter_limit: int = Field(100, ge=1, description="dead letters in one minute past which the worker stops")
    connections: int = Field(4, ge=1, description="PostgreSQL connections of the loader")
    replica_wait_s: float = Field(2.0, ge=0, description="seconds that rebuilds, reconciling and exports wait for a replica to replay what the primary held when they began; past it they read the primary")


class Tracing(Group):
    """Spans of sampled requests for an OpenTelemetry collector."""

    endpoint: str = Field("", description="OTLP over HTTP address for traces, http://collector:4318/v1/traces; empty: no spans are made")
    authorization: SecretStr = Field(SecretStr(""), description="Authorization header for it; empty: none")
    timeout_s: float = Field(5.0, gt=0, description="seconds that the collector has to take a batch")
    requests_a_second: int = Field(50, ge=1, description="requests that one replica traces in a second at most")

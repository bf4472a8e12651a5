"""Brokers that show a certificate and ask for a password: the platform's clients sign in, trust nobody else, and say why not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from certificates import certify
from running import eventually

from cluster.connections.kafka import LogAppender, Record, assign, consume, reader
from cluster.connections.topics import ensure_topics
from cluster.engines.kafka import KafkaCluster
from configs.contracts.errors import LogUnavailable
from configs.contracts.events import Event, NotificationRead, encode
from configs.contracts.ids import new_id
from configs.contracts.topics import NOTIFICATION_SEND
from configs.groups.running import Kafka
from configs.settings import Settings, load_settings

pytestmark = pytest.mark.timeout(180)

USER, PASSWORD, MECHANISM = "sugar", "a password", "SCRAM-SHA-512"


@dataclass(frozen=True)
class Secured:
    brokers: str
    ca_file: Path

    def settings(self, **changed: object) -> Settings:
        told = {"security": "SASL_SSL", "mechanism": MECHANISM, "user": USER, "password": PASSWORD, "ca_file": str(self.ca_file)}
        return load_settings("test").model_copy(update={"kafka_brokers": self.brokers, "kafka": Kafka.model_validate(told | changed)})


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    certificate, key = certify(directory, "broker")
    both = directory / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    broker = KafkaCluster(
        directory / "kafka", directory, brokers=1, protocol="SASL_SSL", users={USER: PASSWORD},
        listener={
            "ssl.keystore.type": "PEM", "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM", "ssl.truststore.location": str(certificate),
            "sasl.enabled.mechanisms": MECHANISM, "sasl.mechanism.inter.broker.protocol": MECHANISM,
            "listener.name.clients.scram-sha-512.sasl.jaas.config":
                "org.apache.kafka.common.security.scram.ScramLoginModule required " f'username="{USER}" password="{PASSWORD}";',
        },
    )
    broker.start()
    yield Secured(broker.url, certificate)
    broker.kill()


async def test_what_is_appended_by_one_client_is_read_by_another(secured: Secured) -> None:
    settings = secured.settings()
    topic = NOTIFICATION_SEND.name
    # It accepts connections before it knows its users.
    eventually(lambda: _known(settings), 60)
    appender = LogAppender(settings, "encrypted")
    value = encode(Event(new_id(), datetime.now(UTC), "u", NotificationRead(notification_id="n", user_id="u")))
    assert await asyncio.wait_for(appender.submit([Record(topic, 0, "u", value)]), 60) == [0]
    assert appender.close() == 0
    consumer = reader(settings, "encrypted")
    assign(settings, consumer, {topic: {0: 0}})
    taken = eventually(lambda: consume(consumer, 10, 1.0, lambda error: None), 30)
    consumer.close()
    assert [message.value() for message in taken] == [value]


def _known(settings: Settings) -> bool:
    try:
        return bool(ensure_topics(settings, [NOTIFICATION_SEND], timeout_s=10))
    except LogUnavailable:
        return False


@pytest.mark.parametrize(("changed", "reason"), [
    ({"password": "another"}, "(?i)authentication failed"),
    ({"user": "nobody"}, "(?i)authentication failed"),
    ({"ca_file": "other"}, "certificate verify failed|certificate could not be verified"),
    ({"security": "SSL"}, ""),
    ({"security": "PLAINTEXT"}, ""),
])
def test_who_is_not_known_or_does_not_trust_the_broker_gets_nowhere(
    secured: Secured, changed: dict[str, str], reason: str, tmp_path: Path
) -> None:
    if "ca_file" in changed:
        changed = {"ca_file": str(certify(tmp_path, "other")[0])}
    with pytest.raises(LogUnavailable) as caught:
        ensure_topics(secured.settings(**changed), [NOTIFICATION_SEND], timeout_s=4)
    if reason:
        assert "do not accept each other" in str(caught.value)
        assert re.search(reason, str(caught.value.details["reason"]))
    assert PASSWORD not in f"{caught.value!r} {caught.value.details}"

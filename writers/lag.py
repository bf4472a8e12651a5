"""How far each consumer of the writers is behind the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from cluster.connections.kafka import reader
from cluster.connections.postgres import translated
from configs.contracts.errors import LogUnavailable
from configs.contracts.topics import TOPICS, Topic
from configs.settings import Settings
from writers.catching_up import DERIVE, LIKES
from writers.connections import open_rows
from writers.consumers.derive import TOPICS as DERIVED_FROM
from writers.consumers.feeds import TOPICS as FEEDS_FROM
from writers.consumers.feeds import Feeds
from writers.consumers.likes import TOPICS as LIKES_FROM
from writers.consumers.mail import TOPICS as MAILED
from writers.consumers.media import KINDS, consumer_of
from writers.consumers.media import TOPICS as MEDIA_FROM
from writers.consumers.payments import TOPICS as WEBHOOKS
from writers.loads.log import ROWS, positions
from writers.push.consumer import TOPICS as PUSHED_FROM
from writers.push.consumer import consumers_of

DEADLINE_S: Final = 5.0
FOLLOWED: Final = {
    ROWS: TOPICS, DERIVE: DERIVED_FROM, LIKES: LIKES_FROM, Feeds.consumer: FEEDS_FROM, "mail": MAILED, "payments": WEBHOOKS,
    **{consumer_of(kind): MEDIA_FROM for kind in KINDS},
}


@dataclass(frozen=True, slots=True)
class Lag:
    """One consumer in one partition.

    ``end`` is what the broker reports; the embedded one's is one past the *first* record of the last batch, so that 0
    does not prove that nothing is left (``catching_up.catch_up`` does).
    """

    consumer: str
    topic: str
    partition: int
    next_offset: int
    end: int

    @property
    def records(self) -> int:
        """Appended and not yet taken in (compaction and aborted transactions leave gaps, so at most)."""
        return max(0, self.end - self.next_offset)


def lag(settings: Settings) -> list[Lag]:
    """Every consumer's lag in every partition it follows.

    Raises LogUnavailable: the broker does not answer; DependencyUnavailable: PostgreSQL does not.
    """
    ends = _ends(settings)
    with open_rows(settings, "lag") as conn, translated():
        reached = {
            consumer: positions(conn, settings, [topic.name for topic in topics], consumer)
            for consumer, topics in followed(settings).items()
        }
    return [
        Lag(consumer, topic, partition, next_offset, ends[topic, partition])
        for consumer, topics in reached.items()
        for topic, offsets in topics.items()
        for partition, next_offset in offsets.items()
    ]


def followed(settings: Settings) -> dict[str, Sequence[Topic]]:
    """Consumer -> the topics whose records it takes in."""
    return {**FOLLOWED, **{f"push_{provider}": PUSHED_FROM for provider in consumers_of(settings)}}


def _ends(settings: Settings) -> dict[tuple[str, int], int]:
    """By a consumer, not ``AdminClient.list_offsets``, which leaks memory and was seen to end its process by SIGSEGV."""
    wanted = [
        TopicPartition(topic.name, partition, OFFSET_END) for topic in TOPICS for partition in range(settings.log.partitions)
    ]
    consumer = reader(settings, "lag")
    try:
        found = consumer.offsets_for_times(wanted, timeout=DEADLINE_S)
    except KafkaException as error:
        raise LogUnavailable("broker does not answer", brokers=settings.kafka_brokers) from error
    finally:
        consumer.close()
    for place in found:
        if place.error is not None:
            raise LogUnavailable("broker does not know a partition's end", topic=place.topic, reason=place.error.name())
    return {(place.topic, place.partition): place.offset for place in found}

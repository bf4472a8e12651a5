"""`sugar reshard`: another number of partitions for every topic, and so of shards of every kind, while nothing runs.

Topics are deleted and made again, so each begins a generation: consumers and shards start at its beginning, the read model
is rebuilt, and shards load what they need from rows. Therefore every record must have been taken in before. It may be cut off
anywhere and run again.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from rich.console import Console

from actors.swipes.delivered import GROUP, group_of
from cluster.connections.kafka import assign, consume, reader, watermarks
from cluster.connections.postgres import translated
from cluster.connections.topics import admin, ensure_topics, partition_counts
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from cluster.launch.state import read_state
from configs.contracts.errors import ConfigurationError, InvalidEvent, LogUnavailable, RecordsWaiting
from configs.contracts.events import Barrier, decode
from configs.contracts.topics import MATCHING_SWIPE, TOPICS
from configs.settings import Settings, load_settings
from writers.buckets import rewrite
from writers.connections import open_rows
from writers.generations import present, record
from writers.lag import followed
from writers.loads.log import positions
from writers.migrations import migrate

ADMIN_S: Final = 60.0
POLL_S: Final = 0.2
SILENCE_S: Final = 10.0
"""A broker that hands out nothing for this long, though a partition's end was not reached, does not answer."""
WORKING: Final = """
SELECT DISTINCT application_name FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name ~ '^(writer|loader)-' ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Resharded:
    """How many topics were made anew, and how many rows tell another bucket now."""

    topics: int
    rows: int


def reshard(settings: Settings, announce: Callable[[str], None]) -> Resharded:
    """Gives every topic ``settings.log.partitions`` partitions.

    Raises ConfigurationError: writers or loaders are connected. RecordsWaiting: a consumer has not taken in everything;
    nothing was changed. DependencyUnavailable: a server does not answer.
    """
    migrate(settings)
    with open_rows(settings, "reshard") as conn, translated():
        if working := [name for (name,) in conn.execute(WORKING).fetchall()]:
            raise ConfigurationError("the platform runs; stop it first, which drains it", connected=", ".join(working))
    counts = partition_counts(settings, TOPICS)
    wrong = [name for name, count in counts.items() if count != settings.log.partitions]
    if wrong:
        for count in sorted({counts[name] for name in wrong}):
            of_count = [name for name in wrong if counts[name] == count]
            announce(f"looking for records of {len(of_count)} topics with {count} partitions that nobody has taken in")
            check_taken(_as_it_was(settings, count), of_count)
        announce(f"deleting {len(wrong)} topics")
        _delete(settings, wrong)
    announce(f"topics with {settings.log.partitions} partitions")
    record(settings, ensure_topics(settings, TOPICS, timeout_s=ADMIN_S))
    rows = rewrite(settings, lambda done: announce(f"rows of swipes: {done:,} looked at"))
    return Resharded(len(wrong), rows)


def _as_it_was(settings: Settings, partitions: int) -> Settings:
    return settings.model_copy(update={
        "log": settings.log.model_copy(update={"partitions": partitions, "generations": present(settings)})
    })


def check_taken(settings: Settings, topics: Sequence[str]) -> None:
    """Whether every consumer has every record of these topics. Raises RecordsWaiting, DependencyUnavailable."""
    starts: dict[str, Mapping[str, Mapping[int, int]]] = {}
    with open_rows(settings, "reshard") as conn, translated():
        for consumer, read in followed(settings).items():
            names = [topic.name for topic in read if topic.name in topics]
            starts[consumer] = positions(conn, settings, names, consumer) if names else {}
    if MATCHING_SWIPE.name in topics:
        starts[GROUP] = {MATCHING_SWIPE.name: _delivered(settings)}
    for consumer, offsets in starts.items():
        if waiting := _waiting(settings, offsets):
            raise RecordsWaiting(
                "records wait; start the platform with the old count and stop it again, which drains it",
                consumer=consumer, records=waiting, partitions=settings.log.partitions,
            )


def _delivered(settings: Settings) -> dict[int, int]:
    """By partition of matching.swipe how far pairs' authorities have heard of everything."""
    consumer = reader(settings, group_of(settings))
    try:
        stored = consumer.committed(
            [TopicPartition(MATCHING_SWIPE.name, number) for number in range(settings.log.partitions)], SILENCE_S
        )
    except KafkaException as error:
        raise LogUnavailable("delivery positions cannot be read") from error
    finally:
        consumer.close()
    return {place.partition: max(place.offset, 0) for place in stored}


def _waiting(settings: Settings, starts: Mapping[str, Mapping[int, int]]) -> dict[str, int]:
    """Topic -> records from these offsets to the ends, barriers aside: those are waited for, and mean nothing later."""
    found: Counter[str] = Counter()
    ends: dict[tuple[str, int], int] = {}
    begins: dict[str, dict[int, int]] = {}
    consumer = reader(settings, "reshard")
    try:
        for topic, offsets in starts.items():
            for partition, start in offsets.items():
                low, high = watermarks(consumer, topic, partition)
                if max(start, low) < high:
                    begins.setdefault(topic, {})[partition] = max(start, low)
                    ends[topic, partition] = high
        if begins:
            assign(settings, consumer, begins)
        heard = time.monotonic()
        while ends:
            messages = consume(consumer, 1_000, POLL_S, _transport_error)
            for message in messages:
                place, value = (str(message.topic()), int(message.partition() or 0)), message.value()
                if not _is_barrier(value):
                    found[place[0]] += 1
                if (message.offset() or 0) + 1 >= ends.get(place, 0):
                    ends.pop(place, None)
            heard = time.monotonic() if messages else heard
            if time.monotonic() - heard > SILENCE_S:
                raise LogUnavailable("broker does not hand out what it has", places=sorted(ends)[:10])
    finally:
        consumer.close()
    return dict(found)


def _is_barrier(value: bytes | None) -> bool:
    try:
        return value is not None and isinstance(decode(value).payload, Barrier)
    except InvalidEvent:
        return False


def _transport_error(error: KafkaError) -> None:
    """The client tries again by itself; silence ends the wait."""


def _delete(settings: Settings, topics: Sequence[str]) -> None:
    """Returns once no broker lists them. Raises LogUnavailable."""
    client = admin(settings)
    try:
        for future in client.delete_topics(list(topics), operation_timeout=ADMIN_S).values():
            try:
                future.result(ADMIN_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        deadline = time.monotonic() + ADMIN_S
        while left := set(topics) & set(client.list_topics(timeout=ADMIN_S).topics):
            if time.monotonic() > deadline:
                raise LogUnavailable("topics are still there", topics=", ".join(sorted(left)))
            time.sleep(0.2)
    except KafkaException as error:
        raise LogUnavailable("topics could not be deleted", reason=str(error)[:200]) from error


def command(
    partitions: Annotated[int, typer.Option(help="Partitions of each topic from now on; a power of two.", min=1, max=4_096)],
    data_dir: Annotated[
        Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform, where `sugar up` runs it.")
    ] = Path(".sugar"),
    profile: Annotated[str, typer.Option(help="Settings profile of the platform.")] = "local",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Change the number of partitions, and of shards, of a platform that was stopped. The records that Kafka still keeps go.

    Stop it (`sugar down`, `sugar cluster remove`: both drain), reshard, and start it with SUGAR_LOG__PARTITIONS set to
    the new number. Cut off, it is run again.
    """
    if read_state(data_dir).running():
        raise ConfigurationError("a platform runs on this directory; stop it first (`sugar down`), which drains it", data_dir=str(data_dir))
    os.environ["SUGAR_LOG__PARTITIONS"] = str(partitions)
    console, began = Console(highlight=False), time.monotonic()
    if not yes:
        typer.confirm(f"Every topic gets {partitions} partitions, and loses the records that it keeps. Go on?", abort=True)

    def announce(step: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {step}")

    servers = EmbeddedServers(with_keys(load_settings(profile, data_dir=data_dir)))
    if any(True for _ in servers):
        announce(f"starting {', '.join(name for name, _ in servers)}")
    try:
        servers.start()
        done = reshard(servers.settings(), announce)
    finally:
        servers.stop()
    console.print(
        f"{done.topics} topics were made anew, {done.rows:,} rows rewritten. Start the platform with SUGAR_LOG__PARTITIONS={partitions}."
    )

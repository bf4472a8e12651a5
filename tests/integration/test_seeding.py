"""A made-up population enters through the log exactly as people do."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.progress import Progress

from cluster.connections.kafka import assign, consume, reader
from cluster.launch import seeding
from configs.contracts import topics
from configs.contracts.events import AccountRegistered, LocationChanged, decode
from configs.contracts.ids import derived_id, email_hash, partition_of
from configs.contracts.people import snap
from configs.settings import Settings, load_settings
from recommender.population import generate

pytestmark = pytest.mark.servers


def test_each_person_registers_once_and_stands_in_the_right_partitions(servers: Settings) -> None:
    now = datetime.now(UTC)
    population = generate(30, "Berlin", 77, today=now.date())
    user_ids = [derived_id("demo:77", str(index)) for index in range(30)]
    with Progress(disable=True) as progress:
        asyncio.run(seeding._append(servers, population, user_ids, 77, now, progress, progress.add_task("", total=30)))

    wanted = set(user_ids)
    keys = wanted | {email_hash(f"demo-77-{index}@example.com") for index in range(30)}
    registered, located = set(), set()
    consumer = reader(servers, "seeding-test", follows=False)
    parts = dict.fromkeys(range(servers.log.partitions), 0)
    assign(servers, consumer, {topics.AUTH_ACCOUNTS.name: parts, topics.USER_UPDATED.name: parts})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for message in consume(consumer, 1_000, 0.2, lambda error: None):
            if message.key() is None or message.key().decode(errors="replace") not in keys:
                continue  # other tests share the broker, some with poison
            event = decode(message.value())
            if event.payload.__class__ is AccountRegistered and event.payload.user_id in wanted:
                registered.add(event.payload.user_id)
            elif event.payload.__class__ is LocationChanged and event.payload.user_id in wanted:
                located.add(event.payload.user_id)
                where = (event.payload.latitude, event.payload.longitude, event.payload.cell)
                assert snap(where[0], where[1]) == where, "only cell centres may enter the log"
            else:
                continue
            assert message.partition() == partition_of(event.key, servers.log.partitions)
        if registered == located == wanted:
            break
    consumer.close()
    assert registered == wanted
    assert located == wanted


def test_production_gets_no_made_up_people() -> None:
    settings = load_settings("test").model_copy(update={"profile": "production"})
    with pytest.raises(seeding.ConfigurationError, match="production"):
        seeding.load_population(settings, users=1, near=None, seed=1, console=Console(quiet=True))


def test_an_unknown_city_is_named(servers: Settings) -> None:
    with pytest.raises(seeding.ConfigurationError, match="Atlantis"):
        seeding.load_population(servers, users=1, near="Atlantis", seed=1, console=Console(quiet=True))

"""The primary dies and a replica that lags behind takes its place: writers go back with it, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from test_writers_faults import SLOTS, World, eventually

from cluster.engines.postgres import PostgresReplica
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers

pytestmark = pytest.mark.servers


def dsn(*urls: str) -> SecretStr:
    """One address of several servers, of which clients take the one that writes."""
    first = urlsplit(urls[0])
    hosts = ",".join(f"{part.hostname}:{part.port}" for part in map(urlsplit, urls))
    return SecretStr(f"postgresql://{first.username}:{first.password}@{hosts}{first.path}")


@pytest.fixture
def replicated(fresh_servers, tmp_path: Path) -> Iterator[tuple[World, list[PostgresReplica]]]:
    servers: EmbeddedServers = fresh_servers()
    assert servers.postgres is not None
    prepared = prepare(servers.settings())
    replicas = [PostgresReplica(servers.postgres, tmp_path / f"replica-{number}", tmp_path) for number in (1, 2)]
    for replica in replicas:
        replica.start()
    world = World(servers, prepared.model_copy(update={
        "database_url": dsn(servers.postgres.url, *(replica.url for replica in replicas)),
        "plan": prepared.plan.model_copy(update={"writer_actors": SLOTS}),
    }))
    for slot in range(SLOTS):
        world.start(slot)
    yield world, replicas
    world.stopping = True
    for writer in world.writers.values():
        writer.stop()
    for replica in replicas:
        replica.stop()


async def test_a_lagging_replica_is_promoted_under_load_and_nothing_acknowledged_is_lost(
    replicated: tuple[World, list[PostgresReplica]]
) -> None:
    world, (heir, other) = replicated
    assert world.servers.postgres is not None
    loading = asyncio.create_task(world.load())
    await asyncio.sleep(2)
    for replica in (heir, other):
        await asyncio.to_thread(replica.fall_behind)
    await asyncio.sleep(2)
    await eventually(lambda: heir.behind_bytes() > 10_000)
    lost = await asyncio.to_thread(heir.behind_bytes)
    await asyncio.to_thread(world.servers.postgres.kill)
    await asyncio.to_thread(heir.promote)
    await asyncio.to_thread(other.follow, heir.url)
    await asyncio.sleep(2)
    world.stopping = True
    await loading
    assert lost > 10_000, "the replica was as far as the primary, so nothing was tested"
    await eventually(world.stored)
    await eventually(world.shown)
    assert world.fenced == []

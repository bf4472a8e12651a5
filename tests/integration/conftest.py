"""The API in this process over the session's servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio
from api_world import NoRows, Shards, World
from payments_world import SandboxDriver
from safety_world import SafetyWorld

from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.settings import Settings, load_settings


@pytest_asyncio.fixture(scope="session")
async def shards(servers: Settings) -> AsyncIterator[Shards]:
    """Every shard, restored from the log alone."""
    made = Shards(servers, NoRows())
    await made.ready()
    yield made
    await made.close()
    assert made.died == []


@pytest_asyncio.fixture
async def make_world(servers: Settings, shards: Shards) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Makes replicas of the API over the same shards; keyword arguments replace settings."""
    worlds: list[World] = []

    async def make(**changed: object) -> World:
        worlds.append(World(servers.model_copy(update=changed), shards))
        await worlds[-1].start()
        return worlds[-1]

    yield make
    for world in worlds:
        await world.close()


@pytest_asyncio.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    return await make_world()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDriver]:
    """A payment processor of the module's own: others do not see its clock."""
    driver = SandboxDriver(tmp_path_factory.mktemp("sandbox"))
    yield driver
    driver.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def safety(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SafetyWorld]:
    """The API with shards, a writer and rows, on servers of its own; one world a module."""
    servers = EmbeddedServers(with_keys(load_settings("test", data_dir=tmp_path_factory.mktemp("safety"))))
    await asyncio.to_thread(servers.start)
    world = await SafetyWorld.start(servers)
    yield world
    await world.close()
    await asyncio.to_thread(servers.stop)

"""The API in this process over the session's servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from api_world import NoRows, Shards, World, patient, unhurried
from payments_world import SandboxDriver, paying
from realtime_world import Device, RunningGateway, announced, match
from safety_world import SafetyWorld

from actors.sharding.client import ActorPool
from cluster.connections.payments.stripe import StripeProvider
from cluster.connections.redis import sync_client
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.contracts.ids import new_id
from configs.contracts.read_model import GENERATION
from configs.settings import Realtime, Settings, load_settings
from writers.rebuild import server_run
from writers.worker import Writer


@pytest_asyncio.fixture(scope="session")
async def shards(servers: Settings) -> AsyncIterator[Shards]:
    """Every shard, restored from the log alone."""
    made = Shards(unhurried(servers), NoRows())
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

    with patient():
        yield make
        for world in worlds:
            await world.close()


@pytest_asyncio.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    return await make_world()


@pytest.fixture
def one_writer(servers: Settings) -> Iterator[Writer]:
    """A running writer of everything on the session's servers, after its first rebuild."""
    settings = servers.model_copy(update={"plan": servers.plan.model_copy(update={"writer_actors": 1})})
    fenced: list[str] = []
    running = Writer(settings, 0, fenced=fenced.append)
    running.start()
    # Whoever is in the log before the first rebuild ends, and nobody's row, would not be rebuilt.
    with sync_client(settings) as client:
        while (client.get(GENERATION) or b"").rpartition(b":")[2].decode() != server_run(client):
            time.sleep(0.05)
    yield running
    running.stop()
    assert not fenced


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDriver]:
    """A payment processor of the module's own: others do not see its clock."""
    driver = SandboxDriver(tmp_path_factory.mktemp("sandbox"))
    yield driver
    driver.stop()


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[SandboxDriver]:
    """A test's own, whose clock it may set forward: what others saw of theirs would lie in the future."""
    driver = SandboxDriver(tmp_path)
    yield driver
    driver.stop()


@pytest_asyncio.fixture(scope="module")
async def stripe_provider(sandbox: SandboxDriver) -> AsyncIterator[StripeProvider]:
    provider = sandbox.provider()
    yield provider
    await provider.close()


@pytest_asyncio.fixture
async def shop_world(
    make_world: Callable[..., Awaitable[World]], servers: Settings, sandbox: SandboxDriver
) -> AsyncIterator[World]:
    """The API with the sandbox as payment processor."""
    yield await make_world(payments=paying(servers, sandbox))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def safety(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SafetyWorld]:
    """The API with shards, a writer and rows, on servers of its own; one world a module."""
    servers = EmbeddedServers(with_keys(load_settings("test", data_dir=tmp_path_factory.mktemp("safety"))))
    await asyncio.to_thread(servers.start)
    with patient():
        world = await SafetyWorld.start(servers)
        yield world
        await world.close()
    await asyncio.to_thread(servers.stop)


@pytest_asyncio.fixture
async def make_gateway(servers: Settings, shards: Shards) -> AsyncIterator[Any]:
    """Starts gateways; keyword arguments replace realtime settings."""
    died: list[str] = []
    pool = ActorPool(servers, resolve=shards.handle)
    made: list[RunningGateway] = []

    async def make(realtime: Realtime = servers.realtime) -> RunningGateway:
        settings = servers.model_copy(update={"realtime": realtime})
        made.append(await RunningGateway(settings, f"gateway-{new_id()[-6:]}", pool, died).start())
        return made[-1]

    yield make
    for gateway in made:
        await gateway.close()
    assert died == []


@pytest_asyncio.fixture(scope="session")
async def lasting_gateways(servers: Settings, shards: Shards) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    died: list[str] = []
    pool = ActorPool(servers, resolve=shards.handle)
    made = [await RunningGateway(servers, f"gateway-{slot}", pool, died).start() for slot in range(2)]
    yield made[0], made[1]
    for gateway in made:
        await gateway.close()
    assert died == []


@pytest_asyncio.fixture
async def gateways(lasting_gateways: tuple[RunningGateway, RunningGateway]) -> tuple[RunningGateway, RunningGateway]:
    """Two gateways that every test may use and none may end."""
    one, other = lasting_gateways
    return await one.fresh(), await other.fresh()


@pytest_asyncio.fixture
async def pair(gateways: tuple[RunningGateway, RunningGateway], world: World) -> AsyncIterator[Any]:
    """Two people in conversation, each on a gateway of their own."""
    one, other = gateways
    await announced(world)
    ada, ben, conversation = await match(world)
    hers, his = await Device.open(ada, one.url), await Device.open(ben, other.url)
    yield hers, his, conversation, one, other
    await hers.close()
    await his.close()

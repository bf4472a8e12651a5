"""A gateway's actor over the life of several runtimes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.realtime.actor import GatewayHost
from cluster.embedded.ports import free_port
from cluster.embedded.process import accepts
from configs.settings import Settings

pytestmark = pytest.mark.servers

SLOT = 9
"""No gateway of another test has this name."""


async def ready(host: GatewayHost) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not (found := await host.ping())["ready"]:
            await asyncio.sleep(0.05)
        return found


async def test_a_drained_gateway_takes_sockets_again_for_the_runtime_that_finds_it(servers: Settings) -> None:
    port = free_port()
    settings = servers.model_copy(update={"realtime": servers.realtime.model_copy(update={"ports": (port,) * (SLOT + 1)})})
    host = GatewayHost(f"gateway-{SLOT}", settings)
    await ready(host)
    assert accepts(port)
    assert await host.drain() == 0, "nobody was there"
    assert not accepts(port)
    found = await ready(host)
    assert accepts(port)
    assert found["gateway"]["sockets"] == 0
    await host.drain()
    assert not accepts(port)

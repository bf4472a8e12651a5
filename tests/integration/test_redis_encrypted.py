"""Every client of Redis speaks TLS and checks whom it speaks to; the server is the embedded one behind a TLS front."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from certificates import certify
from pydantic import SecretStr

from cluster.connections.reading import RedisLane
from cluster.connections.redis import async_client, sync_client
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings


@dataclass(frozen=True)
class Front:
    url: str
    ca_file: Path

    @property
    def trusted(self) -> str:
        return f"{self.url}?ssl_ca_certs={self.ca_file}"


@pytest.fixture
async def front(servers: Settings, tmp_path: Path) -> AsyncIterator[Front]:
    certificate, key = certify(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    behind = urlsplit(servers.redis_url.get_secret_value())

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        inner_reader, inner_writer = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield Front(f"rediss://:{behind.password}@127.0.0.1:{port}/0", certificate)
    server.close()
    await asyncio.gather(*serving)


def told(servers: Settings, url: str) -> Settings:
    return servers.model_copy(update={"redis_url": SecretStr(url)})


async def test_all_three_clients_speak_tls_with_a_server_they_trust(servers: Settings, front: Front) -> None:
    settings = told(servers, front.trusted)
    lane = RedisLane(front.trusted, timeout_s=30.0)
    assert await lane.ask([("PING",)]) == [b"PONG"]
    await lane.close()
    client = async_client(settings, timeout_s=30.0)
    assert await client.ping()
    await client.aclose()
    await client.connection_pool.disconnect()
    synchronous = sync_client(settings)
    assert await asyncio.to_thread(synchronous.ping)
    synchronous.close()


async def test_none_speaks_to_a_server_that_nobody_vouches_for(servers: Settings, front: Front) -> None:
    with pytest.raises(DependencyUnavailable):
        await RedisLane(front.url).ask([("PING",)])
    client = async_client(told(servers, front.url), timeout_s=30.0)
    with pytest.raises(Exception, match="certificate verify failed"):
        await client.ping()
    await client.aclose()
    await client.connection_pool.disconnect()
    synchronous = sync_client(told(servers, front.url))
    with pytest.raises(Exception, match="certificate verify failed"):
        await asyncio.to_thread(synchronous.ping)
    synchronous.close()

"""Every client of Redis speaks TLS and checks whom it speaks to; the server is the embedded one behind a TLS front."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
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


def certify(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "front.pem", directory / "front.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


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
    client = async_client(settings)
    assert await client.ping()
    await client.aclose()
    await client.connection_pool.disconnect()
    synchronous = sync_client(settings)
    assert await asyncio.to_thread(synchronous.ping)
    synchronous.close()


async def test_none_speaks_to_a_server_that_nobody_vouches_for(servers: Settings, front: Front) -> None:
    with pytest.raises(DependencyUnavailable):
        await RedisLane(front.url).ask([("PING",)])
    client = async_client(told(servers, front.url))
    with pytest.raises(Exception, match="certificate verify failed"):
        await client.ping()
    await client.aclose()
    await client.connection_pool.disconnect()
    synchronous = sync_client(told(servers, front.url))
    with pytest.raises(Exception, match="certificate verify failed"):
        await asyncio.to_thread(synchronous.ping)
    synchronous.close()

"""PostgreSQL shows a certificate: with sslmode=verify-full the writers speak with it, and with nobody who cannot prove who he is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from certificates import certify

from cluster.connections.postgres import connect
from cluster.embedded.credentials import unprivileged_ids
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.launch.bench.geo_sides import DEBIAN_POSTGRES
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings, load_settings

pytestmark = pytest.mark.skipif(
    not (DEBIAN_POSTGRES / "postgres").exists() and not os.environ.get("CI"), reason="the embedded server is built without TLS, Debian's is not; CI has it"
)


@dataclass(frozen=True)
class Secured:
    url: str
    ca_file: Path

    def settings(self, *, ca_file: Path | None = None, host: str = "127.0.0.1") -> Settings:
        url = self.url.replace("127.0.0.1", host)
        return load_settings("test", database_url=f"{url}?sslmode=verify-full&sslrootcert={ca_file or self.ca_file}")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("encrypted")
    certificate, key = certify(directory, "server")
    os.chown(key, *unprivileged_ids())
    key.chmod(0o600)
    server = EmbeddedPostgres(directory / "postgres", directory, binaries=DEBIAN_POSTGRES)
    directory.chmod(0o755)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as conn:
        for name, value in {"ssl_cert_file": certificate, "ssl_key_file": key, "ssl": "on"}.items():
            conn.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.stop()
    yield Secured(server.start(), certificate)
    server.stop()


def test_writers_connect_encrypted(secured: Secured) -> None:
    with connect(secured.settings(), "encrypted") as conn:
        assert conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


def test_another_authority_and_another_name_are_refused_with_the_reason(secured: Secured, tmp_path: Path) -> None:
    with pytest.raises(DependencyUnavailable) as caught:
        connect(secured.settings(ca_file=certify(tmp_path, "other")[0]), "encrypted")
    assert "certificate verify failed" in str(caught.value.__cause__)
    with pytest.raises(DependencyUnavailable) as caught:
        connect(secured.settings(host="localhost"), "encrypted")
    assert 'does not match host name "localhost"' in str(caught.value.__cause__)

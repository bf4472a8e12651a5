"""Where the server has PostGIS, people have a place that it can search; a large live table is not rewritten for it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cluster.embedded.postgres import EmbeddedPostgres
from cluster.launch.bench.geo_sides import DEBIAN_POSTGRES, PostGIS
from configs.settings import Settings, load_settings
from writers import migrations
from writers.migrations import SMALL_ROWS, migrate

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not PostGIS.installed() and not os.environ.get("CI"), reason="PostGIS is optional on a developer's machine; CI has it"),
]

PEOPLE = "INSERT INTO users (id, latitude, longitude) SELECT gen_random_uuid(), 48.85 + n * 0.0001, 2.35 FROM generate_series(0, %s - 1) n"
NEAR = "SELECT count(*) FROM users WHERE ST_DWithin(location, ST_MakePoint(2.35, 48.85)::geography, 1000)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    directory = tmp_path_factory.mktemp("postgis")
    directory.chmod(0o755)
    running = EmbeddedPostgres(directory / "postgres", directory, binaries=DEBIAN_POSTGRES)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def settings(server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Settings:
    """Of an empty database of the test's own."""
    name = f"d{zlib.crc32(request.node.name.encode())}"
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    return load_settings("test", database_url=make_conninfo(server.url, dbname=name))


def ask(settings: Settings, statement: str) -> object:
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as conn:
        return (conn.execute(statement).fetchone() or (None,))[0]


def run(settings: Settings, statement: str, *parameters: object) -> None:
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as conn:
        conn.execute(statement, parameters)


def fill(settings: Settings, people: int) -> None:
    run(settings, PEOPLE, people)
    run(settings, "ANALYZE users")


def has_column(settings: Settings) -> bool:
    return bool(ask(settings, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'location'"))


def test_a_new_platform_has_the_column_and_its_index_from_the_first_run(settings: Settings) -> None:
    assert migrate(settings)[-1] == "postgis_location"
    fill(settings, SMALL_ROWS + 1)
    assert ask(settings, NEAR) == 90, "11.12 m a step of latitude"
    assert "users_by_location" in str(ask(settings, f"EXPLAIN (FORMAT JSON) {NEAR}"))
    assert migrate(settings, rewrite=True) == [], "once, however large the table has become"


def test_a_large_live_table_waits_for_the_operator(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr(migrations, "EXTENSIONS", {})
        migrate(settings)
    fill(settings, SMALL_ROWS + 1)
    before = ask(settings, "SELECT relfilenode FROM pg_class WHERE relname = 'users'")
    assert migrate(settings) == []
    assert not has_column(settings)
    assert ask(settings, "SELECT relfilenode FROM pg_class WHERE relname = 'users'") == before
    assert migrate(settings, rewrite=True) == ["postgis_location"]
    assert ask(settings, NEAR) == 90


def test_a_small_table_is_caught_up_with_and_a_user_without_the_right_starts_all_the_same(
    server: EmbeddedPostgres, settings: Settings,
) -> None:
    """Operators' tooling gives the platform a user that owns its database but is no superuser."""
    name = str(ask(settings, "SELECT current_database()"))
    with psycopg.connect(server.url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'plain'")
        conn.execute(f"ALTER DATABASE {name} OWNER TO {name}")
    url = make_conninfo(settings.database_url.get_secret_value(), user=name, password="plain")
    plain = load_settings("test", database_url=url)
    assert "postgis_location" not in migrate(plain)
    fill(plain, 100)
    assert migrate(plain) == [], "tried again, and left out again"
    run(settings, "CREATE EXTENSION postgis")
    assert migrate(plain) == ["postgis_location"]
    assert ask(plain, NEAR) == 90

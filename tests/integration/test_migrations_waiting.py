"""A migration that finds its table locked lets others pass and tries again; an index is built beside those who write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from cluster.connections.postgres import connect
from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings
from writers import migrations

pytestmark = pytest.mark.servers


@pytest.fixture
def table(servers: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A table of one's own; waiting is short."""
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "ATTEMPTS", 3)
    monkeypatch.setattr(migrations, "PAUSE_S", 0.01)
    with connect(servers, "test") as conn:
        conn.execute("CREATE TABLE waited_for (a int)")
        yield "waited_for"
        conn.execute("DROP TABLE waited_for")
        conn.execute("DELETE FROM schema_migrations WHERE name LIKE '9%'")


def columns(conn: psycopg.Connection[tuple[object, ...]], table: str) -> set[object]:
    return {name for (name,) in conn.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,))}


def test_a_locked_table_is_waited_for_briefly_and_nobody_behind_it_for_long(servers: Settings, table: str) -> None:
    with connect(servers, "migrate") as migrating, connect(servers, "holder") as holder:
        with holder.transaction():
            holder.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
            with pytest.raises(DependencyUnavailable, match="no lock"):
                migrations._apply(migrating, "9001_test", f"ALTER TABLE {table} ADD COLUMN b int", "sum")
            assert columns(migrating, table) == {"a"}
        migrations._apply(migrating, "9001_test", f"ALTER TABLE {table} ADD COLUMN b int", "sum")
        assert columns(migrating, table) == {"a", "b"}
        assert migrating.execute("SHOW lock_timeout").fetchone() == ("0",), "only migrations are this impatient"


def test_an_index_is_built_outside_a_transaction_and_again_after_it_broke_off(servers: Settings, table: str) -> None:
    text = f"DROP INDEX CONCURRENTLY IF EXISTS waited_for_a;\nCREATE UNIQUE INDEX CONCURRENTLY waited_for_a ON {table} (a);\n"
    with connect(servers, "migrate") as migrating:
        migrating.execute(f"INSERT INTO {table} VALUES (1), (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            migrations._apply(migrating, "9002_index_concurrently", text, "sum")
        assert migrating.execute("SELECT count(*) FROM schema_migrations WHERE name LIKE '9002%'").fetchone() == (0,)
        migrating.execute(f"TRUNCATE {table}")
        migrations._apply(migrating, "9002_index_concurrently", text, "sum")
        valid = migrating.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'waited_for_a'::regclass").fetchone()
        assert valid == (True,), "the invalid index of the first attempt is gone"


def test_who_waits_for_his_turn_is_in_nobodys_way(servers: Settings, table: str) -> None:
    """Otherwise an index that is built concurrently would wait for the one who waits for it."""
    text = f"CREATE INDEX CONCURRENTLY waited_for_a ON {table} (a)"
    with connect(servers, "first") as first:
        first.execute("SELECT pg_advisory_lock(%s)", (migrations.LOCK,))
        second = threading.Thread(target=migrations.migrate, args=(servers,))
        second.start()
        try:
            time.sleep(0.3)
            assert second.is_alive()
            first.execute("SET statement_timeout = '60s'")
            migrations._apply(first, "9003_index_concurrently", text, "sum")
        finally:
            first.execute("SELECT pg_advisory_unlock(%s)", (migrations.LOCK,))
            second.join(60)
    assert not second.is_alive()

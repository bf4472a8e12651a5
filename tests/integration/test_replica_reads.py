"""Rows are read on a replica while it is as recent as the reading needs, and on the primary otherwise."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from running import start_servers

from cluster.engines.postgres import PostgresReplica
from cluster.launch.prepare import prepare
from cluster.launch.servers import EmbeddedServers
from configs.contracts.ids import new_id
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.export import export
from writers.loads.reader import RowReader, open_recent
from writers.rebuild import rebuild, write_everything
from writers.reconcile import reconcile

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, PostgresReplica]]:
    directory = tmp_path_factory.mktemp("replicated")
    servers: EmbeddedServers = start_servers(directory)
    assert servers.postgres is not None
    prepared = prepare(servers.settings())
    replica = PostgresReplica(servers.postgres, directory / "replica", directory)
    replica.start()
    yield prepared.model_copy(update={
        "database_replica_urls": (SecretStr(replica.url),),
        "writing": prepared.writing.model_copy(update={"replica_wait_s": 0.5}),
    }), replica
    replica.stop()
    servers.stop()


def on_replica(replica: PostgresReplica, statement: str) -> None:
    with psycopg.connect(replica.url, autocommit=True) as conn:
        conn.execute(statement)


@pytest.fixture
def paused(replicated: tuple[Settings, PostgresReplica]) -> Iterator[Settings]:
    """Settings whose replica replays nothing until the test ends."""
    settings, replica = replicated
    on_replica(replica, "SELECT pg_wal_replay_pause()")
    yield settings
    on_replica(replica, "SELECT pg_wal_replay_resume()")


def add_tombstone(settings: Settings) -> str:
    """Commits a row on the primary."""
    name = new_id()
    with open_rows(settings, "test") as conn:
        conn.execute("INSERT INTO erasures (user_id, erased_at, version) VALUES (%s, now(), 0)", (name,))
    return name


def place(name: str) -> Callable[[Connection], tuple[bool, bool]]:
    """(whether it is read on a replica, whether the row is there)."""
    def look(conn: Connection) -> tuple[bool, bool]:
        row = conn.execute("SELECT pg_is_in_recovery()").fetchone()
        there = conn.execute("SELECT 1 FROM erasures WHERE user_id = %s", (name,)).fetchone()
        return bool(row and row[0]), there is not None

    return look


def test_a_long_read_waits_for_the_replica(replicated: tuple[Settings, PostgresReplica]) -> None:
    settings = replicated[0].model_copy(update={
        "writing": replicated[0].writing.model_copy(update={"replica_wait_s": 60.0})
    })
    for _ in range(5):
        name = add_tombstone(settings)
        with open_recent(settings, "test") as conn:
            assert place(name)(conn) == (True, True)


def test_a_long_read_takes_the_primary_past_its_bound(paused: Settings) -> None:
    name = add_tombstone(paused)
    began = time.monotonic()
    with open_recent(paused, "test") as conn:
        assert place(name)(conn) == (False, True)
    assert time.monotonic() - began < 10


async def test_the_loader_never_reads_rows_older_than_the_positions_that_it_told(
    replicated: tuple[Settings, PostgresReplica]
) -> None:
    settings, replica = replicated
    reader = RowReader(settings, "test")
    name = add_tombstone(settings)
    assert (await reader.fresh(place(name))) == (False, True)
    deadline = time.monotonic() + 40
    while (await reader.rows(place(name))) != (True, True):
        assert time.monotonic() < deadline
    on_replica(replica, "SELECT pg_wal_replay_pause()")
    try:
        later = add_tombstone(settings)
        assert (await reader.rows(place(name))) == (True, True), "nothing newer was told, so the replica is recent enough"
        assert (await reader.fresh(place(later))) == (False, True)
        assert (await reader.rows(place(later))) == (False, True)
    finally:
        on_replica(replica, "SELECT pg_wal_replay_resume()")
    while (await reader.rows(place(later))) != (True, True):
        assert time.monotonic() < deadline + 40
    await reader.close()


async def test_a_replica_that_stands_still_delays_a_read_and_fails_none(replicated: tuple[Settings, PostgresReplica]) -> None:
    settings, replica = replicated
    reader = RowReader(settings, "test")
    name = add_tombstone(settings)
    await reader.fresh(place(name))
    await reader.rows(place(name))
    postmaster = psutil.Process(replica.pid)
    family = [postmaster, *postmaster.children()]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(20):
            assert (await reader.rows(place(name))) == (False, True)
        assert time.monotonic() - began < 20, "it is asked again for each read"
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)
    await reader.close()


def test_what_is_exported_and_reconciled_beside_a_lagging_replica_is_of_now(paused: Settings, tmp_path: Path) -> None:
    write_everything(paused)
    name = new_id()
    with open_rows(paused, "test") as conn:
        columns = {"id": name, "role": "sugar_baby", "display_name": "Mia", "birth_date": "1990-01-01"}
        conn.execute(
            f"INSERT INTO users ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})", list(columns.values())
        )
    counts = export(paused, tmp_path / "out", datetime.now(UTC) - timedelta(days=1))
    assert counts["people"] == 1
    assert pq.read_table(tmp_path / "out" / "people.parquet").num_rows == 1
    rebuild(paused)
    report = reconcile(paused, pause_s=0.01)
    assert report.people == 1
    assert report.agrees, report

"""A streaming replica of a PostgreSQL server on loopback, which can fall behind and be promoted."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
from psycopg import sql

from cluster.embedded.ports import LOOPBACK
from cluster.embedded.postgres import USER, EmbeddedPostgres

PROMOTION_S = 30


class PostgresReplica(EmbeddedPostgres):
    """A hot standby of ``primary``, which must run when this starts for the first time."""

    def __init__(self, primary: EmbeddedPostgres, data_dir: Path, run_dir: Path, *, port: int = 0) -> None:
        super().__init__(data_dir, run_dir, port=port, name=data_dir.name)
        self._primary = primary

    def _initialise(self) -> None:
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._own(self.data_dir)
        self._run(
            ["pg_basebackup", "-D", str(self.data_dir), "-h", LOOPBACK, "-p", str(self._primary.port), "-U", USER, "-R",
             "-X", "stream", "-c", "fast"],
            env={"PGPASSWORD": self._primary.password_path.read_text().strip()},
        )
        shutil.copy(self._primary.password_path, self.password_path)

    def fall_behind(self) -> None:
        """Receives nothing more of what the primary commits, until ``follow``."""
        self._alter("primary_conninfo", "")

    def follow(self, url: str) -> None:
        """Receives from this server from now on."""
        self._alter("primary_conninfo", url)

    def promote(self) -> None:
        """Makes this the primary, with what it has received. Raises psycopg.Error."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("SELECT pg_promote(true, %s)", (PROMOTION_S,))

    def behind_bytes(self) -> int:
        """Bytes of the primary's log that this server has not received yet. Raises psycopg.Error."""
        with psycopg.connect(self._primary.url, autocommit=True) as primary, psycopg.connect(self.url, autocommit=True) as own:
            (received,) = own.execute("SELECT coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())").fetchone() or (None,)
            (behind,) = primary.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", (received,)).fetchone() or (0,)
        return int(behind)

    def _alter(self, name: str, value: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            conn.execute("SELECT pg_reload_conf()")

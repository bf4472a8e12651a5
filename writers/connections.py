"""PostgreSQL connections as the writers use them: autocommit, UTC, able to send columns."""

from __future__ import annotations

from typing import Any

import psycopg

from cluster.connections.postgres import connect, translated
from configs.settings import Settings
from writers import columns

Connection = psycopg.Connection[Any]


def open_rows(settings: Settings, name: str, *, replica: bool = False) -> Connection:
    """A connection to the primary (``replica``: to a replica when one answers). Raises DependencyUnavailable."""
    conn = connect(settings, name, replica=replica)
    with translated():
        conn.execute("SET timezone TO 'UTC'")
    columns.register(conn)
    return conn

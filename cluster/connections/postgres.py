"""PostgreSQL connections for the writers; nobody else opens one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from configs.contracts.errors import DependencyUnavailable
from configs.settings import Settings

OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

REPLICA_CONNECT_TIMEOUT_S = 2
"""Shorter, since the next address is tried then; libpq knows no less."""


def connect(settings: Settings, name: str, *, replica: bool = False) -> psycopg.Connection[TupleRow]:
    """An autocommit connection to the primary, or to the first replica that answers (else the primary).

    Raises DependencyUnavailable: nobody answers.
    """
    urls = [settings.database_url.get_secret_value()]
    if replica:
        urls = [url.get_secret_value() for url in settings.database_replica_urls] + urls
    for index, url in enumerate(urls):
        try:
            return psycopg.connect(
                url, autocommit=True, application_name=name, target_session_attrs="any" if replica else "read-write",
                **OPTIONS | ({"connect_timeout": REPLICA_CONNECT_TIMEOUT_S} if index < len(urls) - 1 else {}),
            )
        except psycopg.OperationalError as error:
            if index == len(urls) - 1:
                raise DependencyUnavailable("PostgreSQL does not answer", name=name) from error
    raise DependencyUnavailable("no PostgreSQL address is configured", name=name)


@contextmanager
def translated() -> Iterator[None]:
    """Turns a lost connection into DependencyUnavailable; errors of statements pass through."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DependencyUnavailable("PostgreSQL connection failed", kind=type(error).__name__) from error

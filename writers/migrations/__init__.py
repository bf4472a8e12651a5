"""The schema: forward-only SQL files, applied once each, in order, by whoever comes first, while the platform runs.

A statement that waits for a table's lock makes everybody behind it wait, so it gives up after ``LOCK_TIMEOUT`` and its file is
tried again. A file whose name ends in ``_concurrently`` is run statement by statement outside a transaction (CREATE INDEX
CONCURRENTLY), and again from its beginning when it did not end. tests/unit/test_migrations.py names what no file may do; what
needs an extension of the server may rewrite one table, and waits for the operator's word once that table is large.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg import sql

from cluster.connections.postgres import connect, translated
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.settings import Settings

log = structlog.get_logger(__name__)

DIRECTORY = Path(__file__).parent
MIGRATIONS = (
    "0001_people",
    "0002_identity",
    "0003_matching",
    "0004_log",
    "0005_ranking",
    "0006_messages",
    "0007_notifications",
    "0008_signin",
    "0009_identities",
    "0010_provider_facts",
    "0011_media",
    "0012_content",
    "0013_message_requests",
    "0014_subscriptions",
    "0015_safety",
    "0016_webhooks_applied",
    "0017_tier_owners",
    "0018_device_sessions",
    "0019_unsettled",
    "0020_exports",
    "0021_ledger",
    "0022_single_payments",
    "0023_payers_forgotten",
    "0024_effective_purchases",
    "0025_refunds",
    "0026_payouts",
    "0027_reminded_concurrently",
    "0028_restored_posts",
    "0029_paid_messages",
    "0030_buyers_of_posts_concurrently",
    "0031_attachments",
    "0032_reversed_decisions",
    "0033_withheld_media_concurrently",
    "0034_pending_payments_concurrently",
    "0035_posts_removed_twice",
    "0036_released_redemptions_concurrently",
    "0037_refunds_told_concurrently",
)


@dataclass(frozen=True, slots=True)
class Extending:
    """A migration that is left out while the server lacks the extension ``needs``; a later run adds it.

    It may rewrite the table ``rewrites``, nobody else's.
    """

    needs: str
    rewrites: str


EXTENSIONS = {"postgis_location": Extending("postgis", rewrites="users")}
SMALL_ROWS = 10_000
"""A table up to here is rewritten and indexed while people use it: 0.3 s for 10,000 people, 12 s for 100,000, measured with PostGIS 3.3."""
LOCK_TIMEOUT = "2s"
"""Longer than a commit of the writers takes, shorter than clients wait."""
ATTEMPTS = 30
PAUSE_S = 1.0
TURN_S = 600.0
"""As long as building an index may take."""
LOCK = 0x5375676172
"""Advisory lock ("Sugar"): two processes that migrate at once apply each file once."""


def migrate(settings: Settings, *, rewrite: bool = False) -> list[str]:
    """Applies what is missing and returns the names of what it applied.

    ``rewrite``: also what rewrites a table that is no longer small, and stops everybody who uses it meanwhile.

    Raises DependencyUnavailable; ConfigurationError: an applied file was changed since.
    """
    with connect(settings, "migrate") as conn, translated():
        # Asked again and again: an index that is built concurrently waits for every statement that began before it, one
        # that waits for this lock included.
        deadline = time.monotonic() + TURN_S
        while conn.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise DependencyUnavailable("another process is migrating for too long", waited_s=TURN_S)
            time.sleep(0.1)
        try:
            return _migrate(conn, rewrite)
        finally:
            conn.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _migrate(conn: psycopg.Connection[Any], rewrite: bool) -> list[str]:
    conn.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    conn.execute("COMMENT ON TABLE schema_migrations IS 'distribution key: none (reference table)'")
    known = dict(conn.execute("SELECT name, checksum FROM schema_migrations").fetchall())
    applied: list[str] = []
    for name in chain(MIGRATIONS, _extending(conn, known, rewrite)):
        text = (DIRECTORY / f"{name}.sql").read_bytes()
        checksum = hashlib.sha256(text).hexdigest()
        if name in known:
            if known[name] != checksum:
                raise ConfigurationError("an applied migration was changed; add a new file instead", migration=name)
            continue
        try:
            _apply(conn, name, text.decode(), checksum)
        except psycopg.errors.InsufficientPrivilege:
            if name not in EXTENSIONS:
                raise
            log.warning("migration_left_out", migration=name, reason="only a superuser may create its extension")
            continue
        log.info("migrated", migration=name)
        applied.append(name)
    return applied


def _extending(conn: psycopg.Connection[Any], known: dict[str, str], rewrite: bool) -> Iterator[str]:
    """Those of ``EXTENSIONS`` for which the time has come; asked once all others are applied."""
    available = {name for (name,) in conn.execute("SELECT name FROM pg_available_extensions").fetchall()}
    for name, extending in EXTENSIONS.items():
        if name in known:
            yield name
        elif extending.needs in available:
            counted = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT %s) AS first_rows").format(sql.Identifier(extending.rewrites))
            (rows,) = conn.execute(counted, (SMALL_ROWS + 1,)).fetchone() or (0,)
            if rows <= SMALL_ROWS or rewrite:
                yield name
            else:
                log.warning("migration_left_out", migration=name, reason="would rewrite a large table", table=extending.rewrites)


def _apply(conn: psycopg.Connection[Any], name: str, text: str, checksum: str) -> None:
    """Raises DependencyUnavailable: somebody held a lock that the file needs, each time."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if name.endswith("_concurrently"):
                for statement in filter(str.strip, text.split(";")):
                    conn.execute(statement)
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                if not name.endswith("_concurrently"):
                    conn.execute(text)
                conn.execute("INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)", (name, checksum))
            return
        except psycopg.errors.LockNotAvailable as error:
            log.warning("migration_waits", migration=name, attempt=attempt)
            if attempt == ATTEMPTS:
                raise DependencyUnavailable("a migration got no lock on its table", migration=name) from error
            time.sleep(PAUSE_S)

"""How the schema spreads over the nodes of a Citus cluster, and the command that spreads it.

A person's rows stand together, those of a conversation, of a post, of a claim, of a moderated target: tables of one group are
co-located, so statements that join them on their key stay on one shard. Small tables that everything joins are on every
node. What no key divides, or what has triggers (which Citus does not run on distributed tables), stays on the coordinator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
import structlog
from psycopg import sql

from cluster.connections.postgres import translated
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings
from writers.connections import Connection, open_rows

log = structlog.get_logger(__name__)

Group = Literal["people", "conversations", "posts", "claims", "targets", "webhooks"]


@dataclass(frozen=True, slots=True)
class Distributed:
    """Rows lie on the shard of this column's value, with those of the group's other tables."""

    key: str
    group: Group


@dataclass(frozen=True, slots=True)
class Everywhere:
    """A reference table: few rows, on every node."""


@dataclass(frozen=True, slots=True)
class Coordinator:
    """A plain table of the coordinator."""

    reason: str


_LOG: Final = Coordinator("a few rows a partition of the log, written by every commit")
_LOCKED: Final = Coordinator("several partitions change one row, under row locks that Citus does not take across shards")
_TRIGGERS: Final = Coordinator("its trigger guards whole statements, and Citus runs none on distributed tables")

TABLES: Final[Mapping[str, Distributed | Everywhere | Coordinator]] = {
    "users": Distributed("id", "people"),
    "blocks": Distributed("user_id", "people"),
    "notifications": Distributed("user_id", "people"),
    "swipes": Distributed("swiper_id", "people"),
    "matches": Distributed("member_id", "people"),
    "cards_served": Distributed("viewer_id", "people"),
    "cards_seen": Distributed("viewer_id", "people"),
    "provider_facts": Distributed("owner_id", "people"),
    "media": Distributed("owner_id", "people"),
    "albums": Distributed("owner_id", "people"),
    "posts": Distributed("creator_id", "people"),
    "follows": Distributed("user_id", "people"),
    "subscription_tiers": Distributed("creator_id", "people"),
    "subscriptions": Distributed("subscriber_id", "people"),
    "subscription_requests": Distributed("subscriber_id", "people"),
    "consents": Distributed("person_id", "people"),
    "assessments": Distributed("user_id", "people"),
    "erasures": Distributed("user_id", "people"),
    "exports": Distributed("user_id", "people"),
    "transactions": Distributed("owner_id", "people"),
    "tips": Distributed("from_user_id", "people"),
    "post_purchases": Distributed("buyer_id", "people"),
    "payouts": Distributed("creator_id", "people"),
    "conversations": Distributed("id", "conversations"),
    "messages": Distributed("conversation_id", "conversations"),
    "read_marks": Distributed("conversation_id", "conversations"),
    "post_counts": Distributed("post_id", "posts"),
    "post_likes": Distributed("post_id", "posts"),
    "comments": Distributed("post_id", "posts"),
    "credentials": Distributed("email_hash", "claims"),
    "mails": Distributed("email_hash", "claims"),
    "identities": Distributed("identity_hash", "claims"),
    "sessions": Distributed("family_id", "claims"),
    "idempotency_keys": Distributed("owner", "claims"),
    "moderation_cases": Distributed("target_id", "targets"),
    "reports": Distributed("target_id", "targets"),
    "decisions": Distributed("target_id", "targets"),
    "appeals": Distributed("target_id", "targets"),
    "media_hashes": Everywhere(),
    "large_creators": Everywhere(),
    "ranking_configurations": Everywhere(),
    "like_bursts": _LOCKED,
    "device_tokens": _LOCKED,
    "promo_redemptions": _LOCKED,
    "promo_codes": Coordinator("its redemptions are counted in one statement with their rows, which are there"),
    "webhook_events": Distributed("object_id", "webhooks"),
    "writer_positions": _LOG,
    "shard_epochs": _LOG,
    "topic_generations": _LOG,
    "dead_letters": Coordinator("exceptional, and listed by its own sequence"),
    "schema_migrations": Coordinator("read when the platform starts"),
    "audit_log": _TRIGGERS,
    "ledger_entries": _TRIGGERS,
}

ALL_TABLES: Final = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
"""


def steps() -> list[tuple[str, str]]:
    """(table, the call that spreads it): groups one after another, reference tables last."""
    first: dict[str, str] = {}
    made: list[tuple[str, str]] = []
    for table, placed in TABLES.items():
        if isinstance(placed, Distributed):
            beside = first.setdefault(placed.group, table)
            made.append((table, _call("create_distributed_table", table, placed.key, beside if beside != table else "none")))
    made += [
        (table, f"SELECT create_reference_table('{table}')") for table, placed in TABLES.items() if isinstance(placed, Everywhere)
    ]
    return made


def _call(function: str, table: str, key: str, beside: str) -> str:
    return f"SELECT {function}('{table}', '{key}', colocate_with => '{beside}')"


def distribute(settings: Settings) -> list[str]:
    """Spreads every table that is not spread yet, rows included; the names of those.

    To be run on the coordinator, once migrations are applied and again after later ones, while writers stand still: a table
    is locked while its rows move. Raises ConfigurationError: no Citus, or a table that ``TABLES`` does not place.
    """
    with open_rows(settings, "distribute") as conn, translated():
        _available(conn)
        unplaced = sorted({name for (name,) in conn.execute(ALL_TABLES)} ^ TABLES.keys())
        if unplaced:
            raise ConfigurationError("tables and their places differ", tables=unplaced)
        known = {str(name) for (name,) in conn.execute("SELECT logicalrelid::text FROM pg_dist_partition")}
        done: list[str] = []
        for table, statement in steps():
            if table in known:
                continue
            conn.execute(sql.SQL(statement))
            log.info("table_distributed", table=table)
            done.append(table)
    return done


def _available(conn: Connection) -> None:
    row: Any = conn.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'").fetchone()
    if not row or not row[0]:
        raise ConfigurationError("this PostgreSQL server has no Citus", setting="DATABASE_URL")
    try:
        conn.execute("CREATE EXTENSION IF NOT EXISTS citus")
    except psycopg.Error as error:
        raise ConfigurationError("Citus could not be enabled; is it in shared_preload_libraries?") from error

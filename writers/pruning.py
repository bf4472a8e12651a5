"""Forgetting what has served its time: request keys after a day, dead letters after 30, shown cards, revocations nobody can use,
files that nobody can get back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import redis
import structlog
from redis.exceptions import RedisError

from cluster.connections.postgres import translated
from cluster.connections.redis import apply, sync_client
from configs.contracts.albums import media_key
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.read_model import REVOKED
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.days import keep_days
from writers.erased_media import remove_left
from writers.exporting import forget_due
from writers.looks import keep_looking
from writers.projections.operations import erased_again
from writers.sinks.erasures import sweep
from writers.withheld import end_withheld

log = structlog.get_logger(__name__)

EVERY_S: Final = 600.0
ROWS_A_STATEMENT: Final = 10_000
MEDIA_A_STATEMENT: Final = 1_000
REVOKED_FOR_S: Final = 7_200
"""Access tokens live 15 minutes at most; replicas look back a minute more."""

KEYS: Final = """
DELETE FROM idempotency_keys WHERE (owner, key) IN (
    SELECT owner, key FROM idempotency_keys WHERE created_at < now() - interval '25 hours' LIMIT %s
)
"""
"""An hour more than the shards remember, so that no clock's drift shortens the promised day."""
MAILS: Final = """
DELETE FROM mails WHERE (email_hash, id) IN (
    SELECT email_hash, id FROM mails WHERE requested_at < now() - interval '30 days' LIMIT %s
)
"""
LETTERS: Final = """
DELETE FROM dead_letters WHERE (topic, generation, partition, record_offset) IN (
    SELECT topic, generation, partition, record_offset FROM dead_letters
    WHERE failed_at < now() - interval '30 days' LIMIT %s
)
"""
"""The stated retention: they hold personal data. Waiting ones show in the status for as long."""
DEVICES: Final = """
DELETE FROM device_tokens WHERE id IN (
    SELECT id FROM device_tokens WHERE removed_at < now() - interval '30 days' LIMIT %s
)
"""
"""As long as dead letters wait, whose replay may bring an older registration."""


ABANDONED: Final = """
SELECT owner_id, id FROM media WHERE state = 'pending' AND created_at < now() - interval '7 days' ORDER BY created_at LIMIT %s
"""
"""Uploads that nobody completed: shards forget them after two days, the store their files."""
FORGET_MEDIA: Final = """
DELETE FROM media USING unnest(%s::uuid[], %s::uuid[]) AS due (owner, name)
WHERE owner_id = owner AND id = name AND state = 'pending'
"""


def prune(settings: Settings) -> dict[str, int]:
    """Deletes what is due; returns how many of each kind went. Raises DependencyUnavailable: whatever is left waits."""
    with open_rows(settings, "pruning") as conn, translated():
        removed = {
            "idempotency_keys": _delete(conn, KEYS), "dead_letters": _delete(conn, LETTERS),
            "devices": _delete(conn, DEVICES),
            "mails": _delete(conn, MAILS),
            "erased_media": remove_left(settings, conn),
            "exports": forget_due(settings, conn),
            "withheld": end_withheld(settings, conn),
            "impressions": keep_days(conn, settings.ranking.impressions_days, datetime.now(UTC)),
        }
    try:
        with sync_client(settings) as client:
            before = int((time.time() - REVOKED_FOR_S) * 1_000)
            removed["erased_late"] = _swept(settings, client)
            removed["abandoned_uploads"] = _forget_abandoned(settings, client)
            removed["revoked"] = int(client.zremrangebyscore(REVOKED, "-inf", before))
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
    return removed


def _forget_abandoned(settings: Settings, client: redis.Redis) -> int:
    """Their records leave Redis first: a row that is left names what is there still."""
    removed = 0
    with open_rows(settings, "pruning") as conn, translated():
        while due := conn.execute(ABANDONED, (MEDIA_A_STATEMENT,)).fetchall():
            client.unlink(*(media_key(str(media_id)) for _, media_id in due))
            removed += conn.execute(FORGET_MEDIA, ([owner for owner, _ in due], [media for _, media in due])).rowcount
    return removed


def _swept(settings: Settings, client: redis.Redis) -> int:
    """The rows commit last: what did not reach Redis is found again."""
    with open_rows(settings, "pruning") as conn, translated(), conn.transaction(), conn.cursor() as cur:
        changed = sweep(cur)
        if changed:
            apply(client, erased_again(conn, sorted(changed)))
        return changed.total()


def _delete(conn: Connection, statement: str) -> int:
    """In statements of bounded size, so that no writer waits long for a lock."""
    removed = 0
    while True:
        count = conn.execute(statement, (ROWS_A_STATEMENT,)).rowcount
        removed += count
        if count < ROWS_A_STATEMENT:
            return removed


def keep_pruning(settings: Settings, stopping: threading.Event, *, fatal: Callable[[str], None]) -> None:
    """Prunes now and then until ``stopping``. ``fatal`` is told of a fault that no waiting mends."""

    def look() -> None:
        removed = prune(settings)
        if any(removed.values()):
            log.info("pruned", **removed)

    keep_looking("pruning", look, EVERY_S, stopping, fatal=fatal)

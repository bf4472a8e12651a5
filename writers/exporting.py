"""A person's own data as one file: everything that rows hold of them, written by one thread, kept for a day.

The file is an object of the media store under a name that only its signed link tells. Who asks while a file is there
gets that one; how long it is there the table ``exports`` says, which pruning empties.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import Full, Queue
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from cluster.connections.media.store import media_store
from cluster.connections.postgres import translated
from cluster.connections.redis import apply, sync_client
from configs.contracts.changes import rfc3339
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.exports import Export, put_export
from configs.contracts.ids import new_id
from configs.settings import Settings
from writers.connections import Connection, open_rows
from writers.loads.reader import open_recent

log = structlog.get_logger(__name__)

WAITING: Final = 256
"""People whose file is being made or waits; past it they ask again."""
ROWS_A_READ: Final = 1_000
STATEMENT_TIMEOUT_MS: Final = 120_000

SECTIONS: Final[Mapping[str, str]] = {
    "account": (
        "SELECT email, claimed_at, verified_at, permission_role, status, coalesce(security -> 'totp', 'null') <> 'null' AS codes_on "
        "FROM credentials WHERE user_id = %(user)s AND email <> ''"  # further rows are claims on the address that is used now, or was
    ),
    "passkeys": (
        "SELECT held ->> 'name' AS name, held ->> 'addedAt' AS added_at "
        "FROM credentials, jsonb_array_elements(security -> 'passkeys') AS held WHERE user_id = %(user)s"
    ),
    "profile": (
        "SELECT role, display_name, bio, gender, birth_date, latitude, longitude, preferences, verification_status, "
        "last_active_at, created_at FROM users WHERE id = %(user)s"
    ),
    "signInProviders": "SELECT issuer, subject FROM identities WHERE user_id = %(user)s",
    "sessions": "SELECT signed_in_at, rotated_at, expires_at, revoked_at, client FROM sessions WHERE user_id = %(user)s",
    "devices": "SELECT platform, registered_at, removed_at FROM device_tokens WHERE user_id = %(user)s",
    "blocks": "SELECT blocked_id, active, changed_at FROM blocks WHERE user_id = %(user)s",
    "swipes": "SELECT swiped_id, action, created_at FROM swipes WHERE swiper_id = %(user)s",
    # That a match ended, not why; and no strangers, who are rows only because one of the two blocked the other.
    "matches": (
        "SELECT match_id, other_id, CASE status WHEN 'active' THEN status ELSE 'ended' END AS status, matched_at, ended_at "
        "FROM matches WHERE member_id = %(user)s AND generation > 0"
    ),
    "messagesSent": (
        "SELECT conversation_id, seq, content, post_id, attachments::text[], sent_at FROM messages WHERE sender_id = %(user)s "
        "AND conversation_id IN (SELECT match_id FROM matches WHERE member_id = %(user)s) ORDER BY conversation_id, seq"
    ),
    "notifications": "SELECT kind, title, body, data, created_at, read_at FROM notifications WHERE user_id = %(user)s",
    "mails": (
        "SELECT template, requested_at FROM mails WHERE user_id = %(user)s "
        "AND email_hash IN (SELECT email_hash FROM credentials WHERE user_id = %(user)s)"
    ),
    "reportsMade": "SELECT target_type, target_id, category, body, created_at, status FROM reports WHERE reporter_id = %(user)s",
    # About the person, and about what they posted.
    "decisions": (
        "SELECT target_type, target_id, action, category, statement, decided_at FROM decisions "
        "WHERE target_id = %(user)s OR subject_id = %(user)s"
    ),
    "appeals": (
        "SELECT target_id, decision_id, body, appealed_at, outcome, statement, decided_at FROM appeals WHERE appellant_id = %(user)s"
    ),
    "ageChecks": "SELECT provider, method, status, changed_at FROM assessments WHERE user_id = %(user)s",
    "consentsGiven": "SELECT creator_id, given, changed_at FROM consents WHERE person_id = %(user)s",
    "media": "SELECT id, kind, state, review, created_at FROM media WHERE owner_id = %(user)s",
    "posts": (
        "SELECT id, content_type, caption, media_ids::text[], depicted::text[], visibility, recipient_id, state, created_at, "
        "published_at FROM posts "
        "WHERE creator_id = %(user)s"
    ),
    "comments": "SELECT post_id, text, commented_at, deleted_at FROM comments WHERE author_id = %(user)s",
    "likes": "SELECT post_id, liked, changed_at FROM post_likes WHERE user_id = %(user)s AND liked",
    "follows": "SELECT creator_id, active, changed_at FROM follows WHERE user_id = %(user)s",
    # Not why renewal ended: a creator may have blocked them.
    "subscriptions": (
        "SELECT id, creator_id, tier_id, state -> 'terms' ->> 'tierName' AS tier_name, status, requested_at, current_period_start, "
        "current_period_end, entitled_until, cancel_at_period_end, cancelled_at FROM subscriptions WHERE subscriber_id = %(user)s"
    ),
    "tiers": (
        "SELECT id, name, description, currency, price_monthly, price_yearly, benefits, archived, created_at "
        "FROM subscription_tiers WHERE creator_id = %(user)s"
    ),
    "promoCodes": "SELECT id, code, percent, months, most, expires_at, created_at, redeemed FROM promo_codes WHERE creator_id = %(user)s",
    "tipsGiven": (
        "SELECT id, to_user_id, amount_minor, currency, message, status, requested_at FROM tips WHERE from_user_id = %(user)s"
    ),
    "tipsReceived": (
        "SELECT id, from_user_id, amount_minor, currency, status, requested_at FROM tips "
        "WHERE to_user_id = %(user)s AND provider_payment_id IS NOT NULL"
    ),
    "postsBought": (
        "SELECT id, post_id, creator_id, amount_minor, currency, status, requested_at FROM post_purchases WHERE buyer_id = %(user)s"
    ),
    "postsSold": (
        "SELECT id, post_id, buyer_id, amount_minor, currency, status, requested_at FROM post_purchases "
        "WHERE creator_id = %(user)s AND provider_payment_id IS NOT NULL"
    ),
    "payouts": (
        "SELECT id, amount_minor, currency, livemode, status, requested_at FROM payouts WHERE creator_id = %(user)s"
    ),
    "moneyMoved": (
        "SELECT transactions.id, kind, transactions.owner_id, payee_id, transactions.amount_minor, transactions.currency, "
        "occurred_at, transactions.livemode, (SELECT sum(amount_minor) FROM ledger_entries "
        "WHERE ledger_entries.owner_id = transactions.owner_id AND transaction_id = transactions.id AND party_id = %(user)s "
        "AND account = 'creator') AS balance_change FROM transactions WHERE owner_id = %(user)s OR payee_id = %(user)s"
    ),
}
"""Section -> what rows say of the person; of other people only ids. No hashes, tokens or keys. Of media their ids, by which
``GET /media/{id}`` gives its owner the files for as long as the account stands: links to them would end before the file does."""


def archive(conn: Connection, user_id: str) -> Iterator[str]:
    """The person's data as the text of one JSON object, of one snapshot, in pieces of bounded size."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield json.dumps({"userId": user_id, "exportedAt": rfc3339(datetime.now(UTC))})[:-1]
        for section, statement in SECTIONS.items():
            yield f",\n{json.dumps(section)}: ["
            first = True
            with conn.cursor(name="export") as rows:
                rows.itersize = ROWS_A_READ
                rows.execute(f"SELECT to_jsonb(t)::text FROM ({statement}) AS t", {"user": user_id})  # noqa: S608 - constants
                for (row,) in rows:
                    yield row if first else ",\n" + row
                    first = False
            yield "]"
        yield "}\n"


class Exports:
    """Makes files one after the other. ``ask`` may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: Queue[str | None] = Queue(WAITING)
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._thread: threading.Thread | None = None

    def ask(self, user_ids: Sequence[str]) -> list[str]:
        """Has files made that are not there; the people whose file is there. Raises DependencyUnavailable."""
        ready = self._ready(user_ids)
        with self._lock:
            for user_id in user_ids:
                if user_id in ready or user_id in self._asked:
                    continue
                try:
                    self._queue.put_nowait(user_id)
                except Full as error:
                    raise DependencyUnavailable("too many exports wait", waiting=WAITING) from error
                self._asked.add(user_id)
            if self._asked and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="exports", daemon=True)
                self._thread.start()
        return ready

    def _ready(self, user_ids: Sequence[str]) -> list[str]:
        """Tells the read model of the files that are there."""
        with open_rows(self._settings, "exports") as conn, translated(), sync_client(self._settings) as client:
            rows = conn.execute(
                "SELECT user_id::text, key, bytes, made_at FROM exports WHERE user_id = ANY(%s::uuid[]) "
                "AND bytes > 0 AND made_at > now() - interval '1 day' AND NOT EXISTS "
                "(SELECT 1 FROM erasures WHERE erasures.user_id = exports.user_id) ORDER BY made_at", (list(user_ids),),
            ).fetchall()
            operations = [put_export(user, Export(key, size, rfc3339(made_at))) for user, key, size, made_at in rows]
            try:
                apply(client, operations)
            except (RedisError, OSError) as error:
                raise DependencyUnavailable("Redis does not answer", kind=type(error).__name__) from error
        return sorted({row[0] for row in rows})

    def _run(self) -> None:
        while (user_id := self._queue.get()) is not None:
            try:
                self._make(user_id)
            except PlatformError as error:
                # Whoever asked asks again, and it is made then.
                log.warning("export_failed", reason=error.message)
            except Exception:  # a full disk, say: it fails this file, and no other person's after it
                log.exception("export_failed")
            finally:
                with self._lock:
                    self._asked.discard(user_id)

    def _make(self, user_id: str) -> None:
        key = f"exports/{new_id()}.json.gz"
        with tempfile.TemporaryDirectory() as scratch, open_rows(self._settings, "export") as conn, translated():
            path = Path(scratch) / "export.json.gz"
            with open_recent(self._settings, "export") as rows, gzip.open(path, "wt", encoding="utf-8") as out:
                rows.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
                for piece in archive(rows, user_id):
                    out.write(piece)
            # The row first: pruning finds every object that may be there.
            conn.execute(
                "INSERT INTO exports (user_id, key, bytes, made_at) VALUES (%s, %s, 0, now() - interval '1 day')",
                (user_id, key),
            )
            media_store(self._settings).put(key, path, "application/gzip")
            conn.execute(
                "UPDATE exports SET bytes = %s, made_at = now() WHERE user_id = %s AND key = %s",
                (path.stat().st_size, user_id, key),
            )
        log.info("exported")

    def close(self) -> None:
        """Ends the thread after the file that it makes."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(10.0)


DUE: Final = """
SELECT user_id, key FROM exports WHERE made_at < now() - interval '1 day' - interval '10 minutes'
    OR user_id IN (SELECT user_id FROM erasures) LIMIT 1000
"""


def forget_due(settings: Settings, conn: Connection) -> int:
    """Deletes files that are a day old, or an erased person's; returns how many. Raises DependencyUnavailable."""
    due: list[tuple[Any, str]] = conn.execute(DUE).fetchall()
    if due:
        media_store(settings).delete([key for _, key in due])
        with conn.cursor() as cur:
            cur.executemany("DELETE FROM exports WHERE user_id = %s AND key = %s", due)
    return len(due)

"""What rows and Redis say of those who might be pushed something: a query a table and one round trip, for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis
import structlog
from redis.exceptions import RedisError

from configs.contracts.acknowledged import acknowledged_key
from configs.contracts.notifying import DEVICES_A_PERSON
from configs.contracts.realtime import delivered_key
from writers.connections import Connection
from writers.loads.blocks import blocked
from writers.loads.notifying import lapsed_sessions, wishes_of
from writers.push.deciding import Facts, Occasion
from writers.push.provider import Target

log = structlog.get_logger(__name__)

NAMES: Final = "SELECT id::text, display_name FROM users WHERE id = ANY(%s::uuid[]) AND display_name IS NOT NULL"
READ: Final = """
SELECT id::text FROM notifications JOIN unnest(%s::uuid[], %s::uuid[]) AS told (owner, name)
     ON user_id = owner AND id = name
WHERE read_at IS NOT NULL
"""
STANDING: Final = """
SELECT id::text FROM messages JOIN unnest(%s::uuid[], %s::bigint[]) AS sent (conversation, number)
     ON conversation_id = conversation AND seq = number
"""
MARKS: Final = """
SELECT conversation_id::text, reader_id::text, seq FROM read_marks
JOIN unnest(%s::uuid[], %s::uuid[]) AS place (conversation, reader) ON conversation_id = conversation AND reader_id = reader
"""
DEVICES: Final = """
SELECT newest.* FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT family_id::text, id::text, user_id::text, platform, token, public_key, auth_secret, registration::text, registered_at
    FROM device_tokens WHERE user_id = person.id AND removed_at IS NULL ORDER BY registered_at DESC, id LIMIT %s
) AS newest
"""


def facts_of(conn: Connection, client: redis.Redis, occasions: Sequence[Occasion]) -> Facts:
    """Everything that decides about the occasions."""
    told = [(one.user_id, one.notification_id) for one in occasions if one.notification_id is not None]
    sent = [one for one in occasions if one.conversation_id is not None]
    about = {(one.user_id, one.other_id) for one in occasions if one.other_id is not None}
    delivered, acknowledged = _heard(client, told, sent)
    return Facts(
        wishes=wishes_of(conn, {one.user_id for one in occasions}),
        names=dict(conn.execute(NAMES, ([other for _, other in about],)).fetchall()),
        blocked=blocked(conn, about),
        read=frozenset(
            name for (name,) in conn.execute(READ, ([user for user, _ in told], [name for _, name in told]))
        ) if told else frozenset(),
        standing=frozenset(
            name for (name,) in conn.execute(STANDING, ([one.conversation_id for one in sent], [one.seq for one in sent]))
        ) if sent else frozenset(),
        read_up_to={
            (conversation, reader): seq for conversation, reader, seq in conn.execute(
                MARKS, ([one.conversation_id for one in sent], [one.user_id for one in sent])
            )
        } if sent else {},
        delivered_up_to=delivered,
        acknowledged=acknowledged,
    )


def _heard(
    client: redis.Redis, told: Sequence[tuple[str, str | None]], sent: Sequence[Occasion]
) -> tuple[dict[tuple[str, str], int], frozenset[tuple[str, str]]]:
    """What connected devices acknowledged; nothing while Redis is away, since a needless push does less harm than none."""
    pipeline: Any = client.pipeline(transaction=False)
    for one in sent:
        pipeline.hget(delivered_key(one.user_id), one.conversation_id)
    for user_id, notification_id in told:
        pipeline.zscore(acknowledged_key(user_id), notification_id)
    try:
        replies = pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("acknowledgements_unknown", kind=type(error).__name__)
        return {}, frozenset()
    delivered = {
        (str(one.conversation_id), one.user_id): int(seq) for one, seq in zip(sent, replies, strict=False) if seq is not None
    }
    return delivered, frozenset(
        (user_id, str(name)) for (user_id, name), score in zip(told, replies[len(sent):], strict=True) if score is not None
    )


def devices_of(conn: Connection, user_ids: Iterable[str], platforms: frozenset[str]) -> dict[str, list[Target]]:
    """Person -> their newest ten devices, those of the platforms whose session has neither ended nor expired."""
    found: dict[str, list[Target]] = {}
    rows = conn.execute(DEVICES, (sorted(set(user_ids)), DEVICES_A_PERSON)).fetchall()
    families = {family_id for family_id, *_ in rows if family_id is not None}
    lapsed = lapsed_sessions(conn, families) if families else set()
    for family_id, device_id, user_id, platform, *rest in rows:
        if platform in platforms and family_id not in lapsed:
            found.setdefault(user_id, []).append(Target(device_id, user_id, platform, *rest))
    return found

"""Calling user shards."""

from __future__ import annotations

from typing import cast

from actors.sharding.client import ActorPool
from actors.users.commands import SERVICE, IdempotencyConflict, LimitReached, Record, Recorded, RecordPayload


class UsersClient:
    """User shards by person. A call may raise ShardUnavailable or LogUnavailable: it may have taken effect.

    Sending it again is safe with an Idempotency-Key; without one the same fact may stand in the log twice, which
    only reports and notifications show.
    """

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def record(
        self,
        user_id: str,
        payload: RecordPayload,
        *,
        topic_key: str | None = None,
        scope: str,
        idempotency_key: str | None,
        body_digest: str | None,
        traceparent: str | None = None,
    ) -> Recorded | IdempotencyConflict | LimitReached:
        """Records one fact, durable in the log before the answer; empty report and notification ids are filled in."""
        command = Record(
            user_id=user_id,
            payload=payload,
            topic_key=topic_key,
            scope=scope,
            idempotency_key=idempotency_key,
            body_digest=body_digest,
        )
        answer = await self._pool.ask(
            SERVICE, self._pool.shard_of(user_id), "record", command, traceparent=traceparent
        )
        return cast(Recorded | IdempotencyConflict | LimitReached, answer)

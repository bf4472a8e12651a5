"""Recording one account fact: the shard's answer as the route's, then the read model's share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from actors.users.commands import IdempotencyConflict, LimitReached, Recorded, RecordPayload
from configs.contracts import changes
from configs.contracts.events import LocationChanged, PreferencesChanged, ProfileChanged
from serve_apps.dependencies import Dependencies
from serve_apps.problems import Refused

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Finishes work even when the client has gone: what follows an acknowledged event must not be cut off."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise


async def recorded(
    dependencies: Dependencies, user_id: str, payload: RecordPayload, *, scope: str, idempotency_key: str | None,
    body_digest: str | None = None,
) -> Recorded:
    """The durable fact, written through and known to the card shards; a replay names the first request's event.

    Raises Refused: another body under the same key, or the limit of such changes is reached. DependencyUnavailable.
    """
    answer = await dependencies.users.record(
        user_id, payload, scope=scope, idempotency_key=idempotency_key, body_digest=body_digest
    )
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, LimitReached):
        raise Refused("too_many_requests", retry_after_s=answer.retry_after_s)
    if answer.payload is not None:
        written = dependencies.write_through.apply(*changes.recorded(answer.payload, answer.version))
        if isinstance(answer.payload, LocationChanged | PreferencesChanged | ProfileChanged):
            await asyncio.gather(written, dependencies.cards.note(answer.payload, answer.version))
        else:
            await written
    return answer

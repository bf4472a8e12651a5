"""Calling the swipe shards: the swiper's shard for swipes, the pair's authority for its end."""

from __future__ import annotations

from typing import cast

from actors.sharding.client import ActorPool
from actors.swipes.commands import (
    Delivery,
    EndPair,
    IdempotencyConflict,
    LastSwipe,
    LimitReached,
    PairEnded,
    Seen,
    SeenKeys,
    SeenSet,
    Swipe,
    SwipeAnswer,
    Swiped,
    Undo,
    Undone,
    UndoRefused,
    Verdict,
)
from configs.contracts.ids import pair

SERVICE = "swipes"


class SwipesClient:
    """Every method raises ShardUnavailable or LogUnavailable: it may have taken effect; repeat it with its key."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def swipe(
        self, command: Swipe, *, traceparent: str | None = None
    ) -> SwipeAnswer | LimitReached | IdempotencyConflict:
        """Records the swipe durably, once; IdempotencyConflict: its key already named another swipe."""
        return cast(
            SwipeAnswer | LimitReached | IdempotencyConflict,
            await self._pool.ask(SERVICE, self._shard(command.swiper_id), "swipe", command, traceparent=traceparent),
        )

    async def last(self, swiper_id: str, idempotency_key: str | None) -> Swiped:
        """Whom the person's next undo under this key concerns."""
        return cast(
            Swiped, await self._pool.ask(SERVICE, self._shard(swiper_id), "last", LastSwipe(swiper_id, idempotency_key))
        )

    async def undo(self, command: Undo, *, traceparent: str | None = None) -> Undone | UndoRefused:
        """Withdraws the last swipe once per key; answered after the pair's authority has recorded it."""
        return cast(
            Undone | UndoRefused,
            await self._pool.ask(SERVICE, self._shard(command.swiper_id), "undo", command, traceparent=traceparent),
        )

    async def end(self, command: EndPair, *, traceparent: str | None = None) -> PairEnded:
        """Ends the pair's match for both; repeating it changes nothing."""
        low, _ = pair(command.user_id, command.other_id)
        return cast(
            PairEnded, await self._pool.ask(SERVICE, self._shard(low), "end", command, traceparent=traceparent)
        )

    async def judge(self, one_id: str, other_id: str) -> Verdict:
        """The pair as its authority sees it now: two likes without a match are matched, an undone one's match ends."""
        low, high = pair(one_id, other_id)
        return cast(Verdict, await self._pool.ask(SERVICE, self._shard(low), "deliver", Delivery(high, low, 0, 0)))

    async def seen(self, viewer_id: str, keys: bytes) -> bytes:
        """For each ``key64`` (little-endian uint64) 1 when the viewer has swiped that person (and not undone it) or
        their pair has ended, else 0."""
        return cast(
            bytes, await self._pool.ask(SERVICE, self._shard(viewer_id), "seen", Seen(viewer_id, keys))
        )

    async def seen_set(self, viewer_id: str, since: int = 0) -> SeenKeys:
        """Everybody for whom ``seen`` is true; with the token of an earlier answer only what has changed, if possible."""
        return cast(
            SeenKeys, await self._pool.ask(SERVICE, self._shard(viewer_id), "seen_set", SeenSet(viewer_id, since))
        )

    def _shard(self, user_id: str) -> int:
        return self._pool.shard_of(user_id)

"""Calling subscription shards."""

from __future__ import annotations

from typing import Any, cast

from actors.sharding.client import ActorPool
from actors.subscriptions.commands import (
    SERVICE,
    Abandon,
    AlreadySubscribed,
    AnswerBillRefund,
    Cancel,
    Change,
    ChangeMethod,
    Find,
    IdempotencyConflict,
    NotPossible,
    NotRefundable,
    Observe,
    Observed,
    RefundBill,
    Resume,
    Subscribe,
    SubscriptionStands,
    Unknown,
)


class SubscriptionsClient:
    """Subscription shards by subscriber. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def subscribe(self, command: Subscribe) -> SubscriptionStands | AlreadySubscribed | IdempotencyConflict:
        return cast(SubscriptionStands | AlreadySubscribed | IdempotencyConflict, await self._ask(command))

    async def ask(
        self, command: Find | Change | ChangeMethod | Cancel | Resume | Abandon
    ) -> SubscriptionStands | Unknown | NotPossible | IdempotencyConflict:
        return cast(SubscriptionStands | Unknown | NotPossible | IdempotencyConflict, await self._ask(command))

    async def refund(self, command: RefundBill) -> SubscriptionStands | Unknown | NotRefundable | IdempotencyConflict:
        return cast(SubscriptionStands | Unknown | NotRefundable | IdempotencyConflict, await self._ask(command))

    async def refunded(self, command: AnswerBillRefund) -> SubscriptionStands | Unknown:
        return cast(SubscriptionStands | Unknown, await self._ask(command))

    async def observe(self, command: Observe) -> Observed:
        return cast(Observed, await self._ask(command))

    async def _ask(self, command: Any) -> Any:
        return await self._pool.ask(SERVICE, self._pool.shard_of(command.subscriber_id), "record", command)

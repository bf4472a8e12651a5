"""Calling payment shards."""

from __future__ import annotations

from typing import cast

from actors.payments.commands import (
    SERVICE,
    Abandon,
    AlreadyBought,
    AnswerRefund,
    Find,
    IdempotencyConflict,
    NotRefundable,
    Observe,
    PaymentStands,
    RequestPayment,
    RequestRefund,
    Unknown,
)
from actors.payments.payouts import (
    AnswerPayout,
    FindPayout,
    NoPayout,
    NotAvailable,
    NotRecordable,
    PayoutAnswer,
    PayoutCommand,
    PayoutStands,
    RecordPayout,
    RequestPayout,
)
from actors.payments.state import PaymentAnswer, PaymentCommand
from actors.sharding.client import ActorPool


class PaymentsClient:
    """Payment shards by payer, of payouts by creator. Every call may raise ShardUnavailable or LogUnavailable: it may have taken effect."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    async def request(self, command: RequestPayment) -> PaymentStands | AlreadyBought | IdempotencyConflict:
        return cast(PaymentStands | AlreadyBought | IdempotencyConflict, await self._ask(command))

    async def find(self, command: Find) -> PaymentStands | Unknown | IdempotencyConflict:
        return cast(PaymentStands | Unknown | IdempotencyConflict, await self._ask(command))

    async def refund(self, command: RequestRefund) -> PaymentStands | Unknown | NotRefundable | IdempotencyConflict:
        return cast(PaymentStands | Unknown | NotRefundable | IdempotencyConflict, await self._ask(command))

    async def tell(self, command: Observe | Abandon | AnswerRefund) -> PaymentStands | Unknown:
        return cast(PaymentStands | Unknown, await self._ask(command))

    async def request_payout(self, command: RequestPayout) -> PayoutStands | NotAvailable | IdempotencyConflict:
        return cast(PayoutStands | NotAvailable | IdempotencyConflict, await self._of_creator(command))

    async def find_payout(self, command: FindPayout) -> PayoutStands | NoPayout | IdempotencyConflict:
        return cast(PayoutStands | NoPayout | IdempotencyConflict, await self._of_creator(command))

    async def answer_payout(self, command: AnswerPayout) -> PayoutStands | NoPayout:
        return cast(PayoutStands | NoPayout, await self._of_creator(command))

    async def record_payout(self, command: RecordPayout) -> PayoutStands | NoPayout | NotRecordable:
        return cast(PayoutStands | NoPayout | NotRecordable, await self._of_creator(command))

    async def _of_creator(self, command: PayoutCommand) -> PayoutAnswer:
        answer: PayoutAnswer = await self._pool.ask(SERVICE, self._pool.shard_of(command.creator_id), "record", command)
        return answer

    async def _ask(self, command: PaymentCommand) -> PaymentAnswer:
        answer: PaymentAnswer = await self._pool.ask(SERVICE, self._pool.shard_of(command.payer_id), "record", command)
        return answer

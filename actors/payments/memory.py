"""Payments of payers and payouts of creators in one memory: both stand on payment.completed, each under its person's key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from actors.payments.payouts import PayoutAnswer, PayoutCommand, PayoutMemory
from actors.payments.state import PaymentAnswer, PaymentCommand, PaymentMemory
from actors.sharding.memory import Decision
from configs.contracts.events import Event

MoneyCommand = PaymentCommand | PayoutCommand
MoneyAnswer = PaymentAnswer | PayoutAnswer


class MoneyMemory:
    """Hands each command, event and row to the memory that it belongs to."""

    def __init__(self) -> None:
        self.payments = PaymentMemory()
        self.payouts = PayoutMemory()

    def needs(self, command: MoneyCommand) -> Sequence[str]:
        if isinstance(command, PayoutCommand):
            return self.payouts.needs(command)
        return self.payments.needs(command)

    def known(self, key: str) -> bool:
        return self.payouts.known(key) if key.endswith("/payouts") else self.payments.known(key)

    def load(self, key: str, row: object | None) -> None:
        if key.endswith("/payouts"):
            self.payouts.load(key, row)
        else:
            self.payments.load(key, row)

    def conflict_key(self, command: MoneyCommand) -> str:
        if isinstance(command, PayoutCommand):
            return self.payouts.conflict_key(command)
        return self.payments.conflict_key(command)

    def decide(self, command: MoneyCommand, now: datetime) -> Decision[Any]:
        if isinstance(command, PayoutCommand):
            return self.payouts.decide(command, now)
        return self.payments.decide(command, now)

    def apply(self, event: Event, version: int) -> None:
        self.payments.apply(event, version)
        self.payouts.apply(event, version)

    def entries(self) -> int:
        return self.payments.entries() + self.payouts.entries()

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """Payments first: there are many more."""
        gone = self.payments.evict(max(0, limit - self.payouts.entries()), committed)
        return gone + self.payouts.evict(max(0, limit - self.payments.entries()), committed)

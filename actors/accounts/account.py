"""What an account shard remembers of one address."""

from __future__ import annotations

from typing import Final

from actors.folded import Folded
from actors.idempotency import Requests
from configs.contracts.accounts import AccountRow, after
from configs.contracts.events import AccountRegistered

KEPT_REGISTRATIONS: Final = 4


class Account(Folded[AccountRow]):
    """One address: its facts, and the requests that registered it."""

    __slots__ = ("registrations", "requests")

    def __init__(self) -> None:
        super().__init__(after)
        self.requests: Requests | None = None
        self.registrations: dict[str, tuple[int, str | None]] = {}
        """Person -> (version, family) of the registrations that this memory has seen; rows do not tell the family."""

    def registered(self, payload: AccountRegistered, version: int) -> None:
        self.registrations.setdefault(payload.user_id, (version, payload.family_id))
        while len(self.registrations) > KEPT_REGISTRATIONS:
            del self.registrations[next(iter(self.registrations))]

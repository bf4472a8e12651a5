"""Tickets that open a realtime socket: short-lived, single use, known only to the memory of one session shard.

The shard of the token family is the one place that knows a ticket, and taking it out of a dict is the one step that
spends it: no other process, and no promoted Redis replica, can spend it again. Nothing is durable, since forgetting is
harmless: a shard that restarts, or replaces another, knows none of the tickets before, and the client asks for a new one.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import UUID

from configs.contracts.errors import ShardUnavailable

TICKET_TTL_S: Final = 30
UNSPENT_TICKETS: Final = 100_000
"""In one actor, about 40 MB; past it no ticket is issued until some have expired."""
TICKETS_OF_FAMILY: Final = 8
"""Unspent at once; a further one replaces the oldest."""
_SECRET_BYTES: Final = 26
"""With the family 42 bytes, which base64 writes without padding."""


@dataclass(frozen=True, slots=True)
class IssueTicket:
    """A ticket for the bearer of a verified access token that expires at ``expires_at`` (Unix seconds).

    ``sessions_from``: as in the token, so that a socket ends with all sessions of its person.
    """

    family_id: str
    user_id: str
    permission_role: str
    expires_at: float
    sessions_from: int = 0


@dataclass(frozen=True, slots=True)
class SpendTicket:
    """Use a ticket up."""

    ticket: str


@dataclass(frozen=True, slots=True)
class TicketInvalid:
    """The family is revoked; or the ticket is unknown, spent, expired or forgotten."""


TicketAnswer = str | TicketInvalid
"""To ``IssueTicket``: the ticket."""
SpendAnswer = IssueTicket | TicketInvalid
"""To ``SpendTicket``: what the ticket was issued for."""


def family_of_ticket(ticket: str) -> str | None:
    """The token family whose shard may know the ticket; None for a text that is no ticket."""
    try:
        raw = base64.urlsafe_b64decode(ticket.encode())
    except (binascii.Error, ValueError):
        return None
    return str(UUID(bytes=raw[:16])) if len(raw) == 16 + _SECRET_BYTES else None


class Tickets:
    """The unspent tickets of one actor, oldest first."""

    def __init__(self, *, revoked: Callable[[str], bool], clock: Callable[[], float] = monotonic) -> None:
        """``revoked``: whether the shard knows that a family is revoked."""
        self._revoked = revoked
        self._clock = clock
        self._unspent: dict[str, tuple[float, IssueTicket]] = {}
        self._of_family: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._unspent)

    def issue(self, command: IssueTicket) -> TicketAnswer | ShardUnavailable:
        """A new ticket; ShardUnavailable when too many are unspent."""
        if self._revoked(command.family_id):
            return TicketInvalid()
        now = self._clock()
        self._expire(now)
        if len(self._unspent) >= UNSPENT_TICKETS:
            return ShardUnavailable("too many tickets are unspent", unspent=len(self._unspent))
        mine = self._of_family.setdefault(command.family_id, [])
        if len(mine) >= TICKETS_OF_FAMILY:
            del self._unspent[mine.pop(0)]
        ticket = base64.urlsafe_b64encode(UUID(command.family_id).bytes + secrets.token_bytes(_SECRET_BYTES)).decode()
        mine.append(ticket)
        self._unspent[ticket] = (now + TICKET_TTL_S, command)
        return ticket

    def spend(self, command: SpendTicket) -> SpendAnswer:
        """What the ticket was issued for; it is gone afterwards."""
        self._expire(self._clock())
        found = self._unspent.pop(command.ticket, None)
        if found is None:
            return TicketInvalid()
        self._forget(found[1].family_id, command.ticket)
        return TicketInvalid() if self._revoked(found[1].family_id) else found[1]

    def _expire(self, now: float) -> None:
        """All live equally long, so those that have expired stand first."""
        while self._unspent:
            ticket = next(iter(self._unspent))
            ends, issued = self._unspent[ticket]
            if ends > now:
                return
            del self._unspent[ticket]
            self._forget(issued.family_id, ticket)

    def _forget(self, family_id: str, ticket: str) -> None:
        mine = self._of_family[family_id]
        mine.remove(ticket)
        if not mine:
            del self._of_family[family_id]

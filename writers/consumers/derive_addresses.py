"""What follows from a change of an account's address, in both addresses' logs.

A claim is followed by the change, and the change by the end of every claim that does not count: the former address's, or the
new one's where the account asked for another change, or was erased, meanwhile. Nothing hangs on the process that began it.
"""

from __future__ import annotations

from collections.abc import Iterator

from configs.contracts import topics
from configs.contracts.accounts import Security, address_changed_id
from configs.contracts.events import AddressChanged, AddressClaim, AddressClaimed, AddressReleased, Event
from configs.contracts.ids import derived_id
from configs.contracts.topics import Topic


def changed(event: Event, payload: AddressClaimed, security: Security) -> Iterator[tuple[Topic, Event]]:
    """The change that a claim is for. ``security`` is of the address's row; another claim that came first has no change."""
    token_id = payload.move.token_id
    if security.home == payload.home and security.claim is not None and security.claim.token_id == token_id:
        yield topics.AUTH_ACCOUNTS, Event(
            address_changed_id(token_id), event.occurred_at, payload.home,
            AddressChanged(user_id=payload.user_id, email_hash=payload.home, move=payload.move),
        )


def given_up(event: Event, payload: AddressChanged, security: Security | None) -> Iterator[tuple[Topic, Event]]:
    """The end of the claims that do not count. ``security`` is of the account's row; None: somebody else has its key."""
    move = payload.move
    new = None if move.address_hash == payload.email_hash else AddressClaim(
        address_hash=move.address_hash, token_id=move.token_id
    )
    counts = None if security is None else security.claim
    for claim in (new, move.former_claim):
        if claim is not None and claim != counts:
            yield released(event, payload.user_id, claim)


def released(event: Event, user_id: str, claim: AddressClaim) -> tuple[Topic, Event]:
    return topics.AUTH_ACCOUNTS, Event(
        derived_id(event.event_id, f"released:{claim.address_hash}"), event.occurred_at, claim.address_hash,
        AddressReleased(user_id=user_id, email_hash=claim.address_hash, token_id=claim.token_id),
    )

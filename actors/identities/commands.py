"""What an identity shard is asked, and what it answers. An identity is somebody's account at a provider."""

from __future__ import annotations

from dataclasses import dataclass

from configs.contracts.events import ProviderIdentity

SERVICE = "identities"


@dataclass(frozen=True, slots=True, kw_only=True)
class FindIdentity:
    """Whose is the identity of a token whose nonce was not used yet? Appends nothing."""

    identity_hash: str
    identity: ProviderIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class UseIdentity:
    """Use up the nonce of a token of a known identity."""

    identity_hash: str
    identity: ProviderIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimIdentity:
    """Give an identity to an account, unless it has one, and use up the token's nonce.

    ``parent_event_id``: the event of the account that linked it, from which the claim is derived. ``replaces``: somebody
    erased (AccountGone), who does not count as having it; erased is for good, so the claim may come as late as it likes.
    """

    identity_hash: str
    identity: ProviderIdentity
    user_id: str
    email_hash: str
    parent_event_id: str
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Identified:
    """The account of the identity."""

    user_id: str
    email_hash: str


@dataclass(frozen=True, slots=True)
class NonceUsed:
    """The token was used before, or too many were used lately; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class IdentityUnknown:
    """The identity has no account; nothing was recorded."""

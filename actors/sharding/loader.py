"""The writers' loader as shards and routes call it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from configs.contracts.accounts import IdentityRow
from configs.contracts.albums import Album
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.loading import (
    LOADER_ACTOR,
    NAMESPACE,
    AccountRow,
    ConversationRow,
    IdempotencyRow,
    PeopleRows,
    Positions,
    PostRecord,
    SessionRow,
    SubscriptionRequestRow,
    SwipeRows,
)
from configs.contracts.moderation import CaseRow
from configs.contracts.payouts import Funds, Payouts
from configs.contracts.purchases import Payment
from configs.contracts.ranking import RankingConfiguration
from configs.contracts.subscribers import Subscriber
from configs.contracts.tiers import Offer, Shop

DEADLINE_S = 10.0
"""Longest wait for one loader call; a page of 50,000 people takes about 0.3 s."""


class LoaderClient:
    """``RowLoader`` over the named Ray actor; found again after it was replaced."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._handle: Any = None

    async def _call(self, method: str, *args: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(ray.get_actor, LOADER_ACTOR, NAMESPACE)
            return await asyncio.wait_for(self._handle.call.remote(method, *args), self._deadline_s)
        except PlatformError as error:
            raise DependencyUnavailable(error.message, **error.details) from error
        except (RayError, ValueError, TimeoutError) as error:
            self._handle = None
            cause = getattr(error, "cause", None)
            if isinstance(cause, PlatformError):
                raise DependencyUnavailable(cause.message, **cause.details) from error
            raise DependencyUnavailable("loader does not answer", method=method, kind=type(error).__name__) from error

    async def positions(self, topics: Sequence[str]) -> Positions:
        return await self._call("positions", list(topics))  # type: ignore[no-any-return]

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return await self._call("claim_epochs", kind, list(shards))  # type: ignore[no-any-return]

    async def epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        return await self._call("epochs", kind, list(shards))  # type: ignore[no-any-return]

    async def swipes(self, user_ids: Sequence[str]) -> Mapping[str, SwipeRows]:
        return await self._call("swipes", list(user_ids))  # type: ignore[no-any-return]

    async def accounts(self, email_hashes: Sequence[str]) -> Mapping[str, AccountRow]:
        return await self._call("accounts", list(email_hashes))  # type: ignore[no-any-return]

    async def sessions(self, family_ids: Sequence[str]) -> Mapping[str, SessionRow]:
        return await self._call("sessions", list(family_ids))  # type: ignore[no-any-return]

    async def identities(self, hashes: Sequence[str]) -> Mapping[str, IdentityRow]:
        return await self._call("identities", list(hashes))  # type: ignore[no-any-return]

    async def albums(self, owner_ids: Sequence[str]) -> Mapping[str, Album]:
        return await self._call("albums", list(owner_ids))  # type: ignore[no-any-return]

    async def idempotency(self, owner_ids: Sequence[str]) -> Mapping[str, Sequence[IdempotencyRow]]:
        return await self._call("idempotency", list(owner_ids))  # type: ignore[no-any-return]

    async def shops(self, creator_ids: Sequence[str]) -> Mapping[str, Shop]:
        return await self._call("shops", list(creator_ids))  # type: ignore[no-any-return]

    async def offers(self, places: Sequence[str]) -> Mapping[str, Offer]:
        return await self._call("offers", list(places))  # type: ignore[no-any-return]

    async def warm_tiers(self, tier_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_tiers", list(tier_ids))  # type: ignore[no-any-return]

    async def subscribers(self, subscriber_ids: Sequence[str]) -> Mapping[str, Subscriber]:
        return await self._call("subscribers", list(subscriber_ids))  # type: ignore[no-any-return]

    async def payments(self, places: Sequence[str]) -> Mapping[str, Payment | tuple[Payment, ...] | Payouts]:
        return await self._call("payments", list(places))  # type: ignore[no-any-return]

    async def funds(self, creator_ids: Sequence[str]) -> Mapping[str, Funds]:
        return await self._call("funds", list(creator_ids))  # type: ignore[no-any-return]

    async def subscription_requests(self, places: Sequence[str]) -> Mapping[str, SubscriptionRequestRow]:
        return await self._call("subscription_requests", list(places))  # type: ignore[no-any-return]

    async def conversations(self, conversation_ids: Sequence[str]) -> Mapping[str, ConversationRow]:
        return await self._call("conversations", list(conversation_ids))  # type: ignore[no-any-return]

    async def ordinals(self, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
        return await self._call("ordinals", list(places))  # type: ignore[no-any-return]

    async def warm_media(self, media_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_media", list(media_ids))  # type: ignore[no-any-return]

    async def older_requests(self, places: Sequence[tuple[str, int]]) -> Sequence[tuple[int, bytes]]:
        return await self._call("older_requests", list(places))  # type: ignore[no-any-return]

    async def sent(self, places: Sequence[tuple[str, str]]) -> Sequence[tuple[int, bytes]]:
        return await self._call("sent", list(places))  # type: ignore[no-any-return]

    async def warm_conversations(self, conversation_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_conversations", list(conversation_ids))  # type: ignore[no-any-return]

    async def warm_messages(self, pages: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_messages", list(pages))  # type: ignore[no-any-return]

    async def posts(self, names: Sequence[str]) -> Mapping[str, PostRecord]:
        return await self._call("posts", list(names))  # type: ignore[no-any-return]

    async def warm_posts(self, post_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_posts", list(post_ids))  # type: ignore[no-any-return]

    async def warm_homes(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_homes", list(user_ids))  # type: ignore[no-any-return]

    async def people(self, page: str | None, limit: int) -> PeopleRows:
        return await self._call("people", page, limit)  # type: ignore[no-any-return]

    async def ranking(self) -> RankingConfiguration:
        return await self._call("ranking")  # type: ignore[no-any-return]

    async def warm_people(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_people", list(user_ids))  # type: ignore[no-any-return]

    async def warm_addresses(self, email_hashes: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_addresses", list(email_hashes))  # type: ignore[no-any-return]

    async def cases(self, target_ids: Sequence[str]) -> Mapping[str, CaseRow]:
        return await self._call("cases", list(target_ids))  # type: ignore[no-any-return]

    async def addresses(self, user_ids: Sequence[str]) -> Mapping[str, str]:
        return await self._call("addresses", list(user_ids))  # type: ignore[no-any-return]

    async def warm_moderation(self, pages: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_moderation", list(pages))  # type: ignore[no-any-return]

    async def warm_exports(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_exports", list(user_ids))  # type: ignore[no-any-return]

    async def warm_money(self, pages: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_money", list(pages))  # type: ignore[no-any-return]

    async def warm_sessions(self, user_ids: Sequence[str]) -> Sequence[str]:
        return await self._call("warm_sessions", list(user_ids))  # type: ignore[no-any-return]

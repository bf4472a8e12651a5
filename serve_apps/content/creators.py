"""Routes of creators' pages and of following them."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from configs.contracts import content
from configs.contracts.events import Followed, Unfollowed
from configs.contracts.home import drop_home
from configs.contracts.read_model import UserRecord, listing_keys
from serve_apps.content.models import CreatorIdPath, CreatorPage, Following, Posts
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, Refused, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/content", tags=["content"])

FOLLOWS_A_MINUTE: Final = Rate("follows", 60, 60)
ACTIVE: Final = b'"active":true'


@router.get(
    "/creators/{id}", operation_id="getCreator", response_model=CreatorPage, responses=errors(*SIGNED_IN, "not_found")
)
async def creator(creator_id: CreatorIdPath, person: Person, dependencies: Deps) -> CreatorPage:
    """A creator's page."""
    record = await _visible(dependencies, person.user_id, creator_id)
    posts, followed = await dependencies.reads.read(
        ("ZCARD", listing_keys("post", creator_id)[0]), ("HGET", listing_keys("follow", person.user_id)[1], creator_id)
    )
    return CreatorPage(
        creator=dependencies.rendering.creator(record), bio=record.bio, post_count=posts,
        following=followed is not None and ACTIVE in followed,
    )


@router.get(
    "/creators/{id}/posts", operation_id="listCreatorPosts", response_model=Posts,
    responses=errors(*SIGNED_IN, "not_found", "cursor_invalid"),
)
async def posts(
    creator_id: CreatorIdPath, person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None
) -> Posts:
    """A creator's posts, newest first, locked ones as you may see them."""
    await _visible(dependencies, person.user_id, creator_id)
    page = await dependencies.listings.page("post", creator_id, limit, cursor)
    seen = await dependencies.contents.page(person.user_id, [(post_id, creator_id) for post_id, _ in page.entries])
    return Posts(
        posts=[dependencies.rendering.view(item) for item in seen if item.record.listed], next_cursor=page.next_cursor
    )


@router.post(
    "/creators/{id}/follow", operation_id="follow", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "self_target", "follow_limit_reached", "idempotency_conflict"),
)
async def follow(
    creator_id: CreatorIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Has a creator's posts in your feed. Free; it opens nothing."""
    if creator_id == person.user_id:
        raise Refused("self_target")
    await dependencies.limits.take((FOLLOWS_A_MINUTE, person.user_id))
    record = await _visible(dependencies, person.user_id, creator_id)
    if record.role != "sugar_baby":
        raise Refused("not_found")
    (count,) = await dependencies.reads.read(("ZCARD", listing_keys("follow", person.user_id)[0]))
    if count >= content.FOLLOWS:
        raise Refused("follow_limit_reached")
    payload = Followed(user_id=person.user_id, creator_id=creator_id)
    await to_the_end(_recorded(dependencies, payload, "follow", idempotency_key))
    return Success()


@router.delete(
    "/creators/{id}/follow", operation_id="unfollow", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "idempotency_conflict"),
)
async def unfollow(
    creator_id: CreatorIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Ends following a creator, also one who is not visible to you any more."""
    await dependencies.limits.take((FOLLOWS_A_MINUTE, person.user_id))
    (known,) = await dependencies.reads.read(("HGET", listing_keys("follow", person.user_id)[1], creator_id))
    if known is None:
        raise Refused("not_found")
    payload = Unfollowed(user_id=person.user_id, creator_id=creator_id)
    await to_the_end(_recorded(dependencies, payload, "unfollow", idempotency_key))
    return Success()


@router.get("/following", operation_id="listFollowing", response_model=Following, responses=errors(*SIGNED_IN, "cursor_invalid"))
async def following(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Following:
    """Creators whom you follow, newest first, without those whom you do not see any more."""
    page = await dependencies.listings.page("follow", person.user_id, limit, cursor)
    people = await dependencies.people.unblocked(person.user_id, [creator_id for creator_id, _ in page.entries])
    return Following(
        creators=[dependencies.rendering.creator(people[name]) for name, _ in page.entries if name in people],
        next_cursor=page.next_cursor,
    )


async def _visible(dependencies: Dependencies, viewer_id: str, creator_id: str) -> UserRecord:
    """Raises Refused: there is no such person, or either blocks the other."""
    record = await dependencies.people.visible(viewer_id, creator_id)
    if record is None:
        raise Refused("not_found")
    return record


async def _recorded(dependencies: Dependencies, payload: Followed | Unfollowed, scope: str, key: str | None) -> None:
    answer = await recorded(
        dependencies, payload.user_id, payload, scope=scope, idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, payload.creator_id),
    )
    if answer.payload is not None and answer.at is not None:
        await dependencies.write_through.apply(
            content.followed(
                payload.user_id, payload.creator_id, version=answer.version, at=answer.at, active=isinstance(payload, Followed)
            ),
            drop_home(payload.user_id),
        )

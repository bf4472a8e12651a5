"""Routes of posts: creating, changing, publishing, taking away, looking at one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter

from actors.posts.commands import NoPost, PostRefused, RemovePost, WritePost, Written
from configs.contracts import content
from configs.contracts.adults import may_publish, unconsented
from configs.contracts.events import ContentType, PostAccess
from configs.contracts.ids import derived_id, new_id
from configs.contracts.read_model import MARKER, commerce_key, relation_key
from configs.contracts.selling import SHOP, read_shop
from serve_apps.content.models import AccessBody, CreatePost, PostIdPath, Posts, PostView, UpdatePost
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.users.adults import consents_of

router = APIRouter(prefix="/content", tags=["content"])

POSTS_AN_HOUR: Final = Rate("posts", 60, 3_600)
CHANGES_A_MINUTE: Final = Rate("post-changes", 60, 60)
FURTHEST: Final = timedelta(days=366)
"""How far ahead a post can be scheduled."""
WRITING: Final = (
    *SIGNED_IN, *WITH_BODY, "forbidden", "age_unverified", "consent_missing", "media_unknown", "media_not_ready", "tier_unknown",
    "post_incomplete", "currency_fixed",
)


@router.post(
    "/posts", operation_id="createPost", status_code=201, response_model=PostView,
    responses=errors(*WRITING, "idempotency_conflict", "not_found", "self_target"),
)
async def create(body: CreatePost, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> PostView:
    """Creates a post: a draft, scheduled, or published at once. An Idempotency-Key names it for good."""
    await _may_write(dependencies, person.user_id, publishes=body.state != "draft")
    await dependencies.limits.take((POSTS_AN_HOUR, person.user_id))
    _may_be_scheduled(body.scheduled_at)
    await _may_be_sent(dependencies, person.user_id, body.recipient_id)
    post_id = new_id() if idempotency_key is None else derived_id(f"{person.user_id} {idempotency_key}", "post")
    approved = await _checked_media(dependencies, person.user_id, body.media_ids, body.content_type)
    if body.state != "draft":
        await _consented(dependencies, person.user_id, body.depicted)
    command = WritePost(
        creator_id=person.user_id, post_id=post_id, create=True, content_type=body.content_type, caption=body.caption,
        media_ids=tuple(body.media_ids), depicted=tuple(body.depicted),
        access=await _access(dependencies, person.user_id, body.access),
        state=body.state, scheduled_at=body.scheduled_at, approved_media=approved,
        request_digest=body_digest(dependencies.seals.key, body),
        recipient_id=body.recipient_id,
    )
    return await to_the_end(_written(dependencies, command))


@router.get("/posts/{id}", operation_id="getPost", response_model=PostView, responses=errors(*SIGNED_IN, "not_found"))
async def get(post_id: PostIdPath, person: Person, dependencies: Deps) -> PostView:
    """A post as you may see it."""
    return dependencies.rendering.view(await dependencies.contents.one(person.user_id, post_id))


@router.put(
    "/posts/{id}", operation_id="updatePost", response_model=PostView,
    responses=errors(*WRITING, "not_found", "post_state", "post_sold"),
)
async def update(post_id: PostIdPath, body: UpdatePost, person: Person, dependencies: Deps) -> PostView:
    """Changes, schedules, publishes, unlists or lists one's post again; fields that are not sent stay as they are."""
    await dependencies.limits.take((CHANGES_A_MINUTE, person.user_id))
    record = await dependencies.contents.own(person.user_id, post_id)
    shown = record.state not in ("draft",) if body.state is None else body.state != "draft"
    await _may_write(dependencies, person.user_id, publishes=shown and body.state != "unlisted")
    _may_be_scheduled(body.scheduled_at)
    media = record.media_ids if body.media_ids is None else tuple(body.media_ids)
    kind = record.content_type if body.content_type is None else body.content_type
    approved = await _checked_media(dependencies, person.user_id, media, kind)
    if shown and body.state != "unlisted":
        await _consented(dependencies, person.user_id, record.depicted if body.depicted is None else body.depicted)
    command = WritePost(
        creator_id=person.user_id, post_id=post_id, content_type=body.content_type, caption=body.caption,
        media_ids=None if body.media_ids is None else tuple(body.media_ids),
        depicted=None if body.depicted is None else tuple(body.depicted),
        access=None if body.access is None else await _access(dependencies, person.user_id, body.access),
        state=body.state, scheduled_at=body.scheduled_at, approved_media=approved,
    )
    return await to_the_end(_written(dependencies, command))


@router.delete("/posts/{id}", operation_id="deletePost", response_model=Success, responses=errors(*SIGNED_IN, "not_found"))
async def delete(post_id: PostIdPath, person: Person, dependencies: Deps) -> Success:
    """Takes one's post away for good. One that was on sale is unlisted instead: who bought it keeps it."""
    await dependencies.contents.own(person.user_id, post_id)
    await to_the_end(_removed(dependencies, RemovePost(person.user_id, post_id)))
    return Success()


@router.get("/drafts", operation_id="listDrafts", response_model=Posts, responses=errors(*SIGNED_IN, "cursor_invalid"))
async def drafts(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Posts:
    """One's own posts that others do not find: drafts, scheduled and unlisted ones, newest first."""
    page = await dependencies.listings.page("draft", person.user_id, limit, cursor)
    seen = await dependencies.contents.page(person.user_id, [(post_id, person.user_id) for post_id, _ in page.entries])
    return Posts(posts=[dependencies.rendering.view(item) for item in seen], next_cursor=page.next_cursor)


async def _written(dependencies: Dependencies, command: WritePost) -> PostView:
    answer = await dependencies.posts.record(command)
    if isinstance(answer, PostRefused):
        raise Refused(answer.code)
    if isinstance(answer, NoPost):
        raise Refused("not_found")
    # Also when it was so already: whoever recorded it may not have written it through yet.
    await dependencies.write_through.apply(*content.changed(answer.record))
    return dependencies.rendering.view(await dependencies.contents.one(command.creator_id, command.post_id))


async def _removed(dependencies: Dependencies, command: RemovePost) -> None:
    answer = await dependencies.posts.record(command)
    if isinstance(answer, Written):
        await dependencies.write_through.apply(*content.changed(answer.record))


async def _may_write(dependencies: Dependencies, user_id: str, *, publishes: bool) -> None:
    """Raises Refused: the person is no creator, or may not publish."""
    creator = await dependencies.people.own_record(user_id)
    if creator.role != "sugar_baby":
        raise Refused("forbidden")
    if publishes and not may_publish(creator):
        raise Refused("age_unverified")


def _may_be_scheduled(at: datetime | None) -> None:
    if at is not None and not datetime.now(UTC) < at < datetime.now(UTC) + FURTHEST:
        raise Refused("invalid", fields=[{"field": "body.scheduledAt", "message": "not in the year to come"}])


async def _may_be_sent(dependencies: Dependencies, creator_id: str, recipient_id: str | None) -> None:
    """Raises Refused: the one who alone is to find the post is not there for its creator."""
    if recipient_id == creator_id:
        raise Refused("self_target")
    if recipient_id is not None and await dependencies.people.visible(creator_id, recipient_id) is None:
        raise Refused("not_found")


async def _checked_media(
    dependencies: Dependencies, owner_id: str, media_ids: Sequence[str], content_type: ContentType
) -> tuple[str, ...]:
    """Which of the media are approved. Raises Refused: one is not the person's, not of this kind, or was refused."""
    if not media_ids:
        return ()
    if content_type == "text":
        raise Refused("post_incomplete")
    records = await dependencies.media_records.of(media_ids)
    for media_id in media_ids:
        record = records.get(media_id)
        if record is None or record.owner_id != owner_id or record.kind != content_type:
            raise Refused("media_unknown")
        if record.state in ("rejected", "removed") or record.review == "rejected":
            raise Refused("media_unknown")
    return tuple(media_id for media_id, record in records.items() if record.published)


async def _consented(dependencies: Dependencies, creator_id: str, depicted: Sequence[str]) -> None:
    missing = unconsented(creator_id, depicted, await consents_of(dependencies, creator_id, tuple(depicted)))
    if missing:
        raise Refused("consent_missing", people=list(missing))


async def _access(dependencies: Dependencies, creator_id: str, access: AccessBody) -> PostAccess:
    """Who may see the post. Raises Refused: the tier is none that the creator sells, or the price in another currency than theirs."""
    if access.required_tier_id is None and access.price is None:
        return access.decided(0)
    shop, _ = await dependencies.people.sets(
        creator_id, ("HGET", commerce_key(creator_id), SHOP), ("HMGET", relation_key(creator_id), MARKER), marked=(1,)
    )
    sold = read_shop(shop)
    if access.required_tier_id is None:
        currency = None if sold is None else sold.currency
        if access.price is not None and currency not in (None, access.price.currency):
            raise Refused("currency_fixed", currency=currency)
        return access.decided(0)
    tier = None if sold is None else sold.tier(access.required_tier_id)
    if tier is None or not tier.for_sale:
        raise Refused("tier_unknown")
    return access.decided(tier.rank)



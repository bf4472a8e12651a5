"""Routes of likes and comments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from fastapi import APIRouter

from actors.users.commands import Recorded
from configs.contracts import changes, content
from configs.contracts.content import COMMENTS_SHOWN, CommentEntry, comments_keys, post_key, read_comment
from configs.contracts.events import CommentDeleted, ContentCommented, ContentLiked, ContentUnliked
from serve_apps.content.models import Comment, CommentBody, CommentIdPath, Comments, PostIdPath
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.limits import Rate
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/content", tags=["content"])

COMMENTS_A_MINUTE: Final = Rate("comments", 20, 60)
LIKES_A_MINUTE: Final = Rate("post-likes", 120, 60)
OPEN: Final = (*SIGNED_IN, "not_found", "payment_needed", "age_unverified")


@router.post(
    "/posts/{id}/like", operation_id="likePost", response_model=Success, responses=errors(*OPEN, "idempotency_conflict")
)
async def like(post_id: PostIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Success:
    """Likes a post that is open to you; liking it again changes nothing."""
    await dependencies.limits.take((LIKES_A_MINUTE, person.user_id))
    post = await dependencies.contents.open(person.user_id, post_id)
    payload = ContentLiked(post_id=post_id, creator_id=post.creator_id, user_id=person.user_id)
    await to_the_end(_reacted(dependencies, payload, "likePost", idempotency_key))
    return Success()


@router.delete(
    "/posts/{id}/like", operation_id="unlikePost", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "idempotency_conflict"),
)
async def unlike(post_id: PostIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Success:
    """Takes a like back, also from a post that is not open to you any more."""
    await dependencies.limits.take((LIKES_A_MINUTE, person.user_id))
    post = await dependencies.contents.record(post_id)
    if post is None or not (post.exists or post.creator_id == person.user_id):
        raise Refused("not_found")
    payload = ContentUnliked(post_id=post_id, creator_id=post.creator_id, user_id=person.user_id)
    await to_the_end(_reacted(dependencies, payload, "unlikePost", idempotency_key))
    return Success()


async def _reacted(dependencies: Dependencies, payload: ContentLiked | ContentUnliked, scope: str, key: str | None) -> None:
    answer = await recorded(
        dependencies, payload.user_id, payload, scope=scope, idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, payload.post_id),
    )
    if answer.payload is not None and answer.at is not None:
        await dependencies.write_through.apply(content.liked(
            payload.user_id, payload.post_id, version=answer.version, at=answer.at, active=isinstance(payload, ContentLiked)
        ))


@router.post(
    "/posts/{id}/comments", operation_id="createComment", status_code=201, response_model=Comment,
    responses=errors(*OPEN, *WITH_BODY, "idempotency_conflict"),
)
async def comment(
    post_id: PostIdPath, body: CommentBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Comment:
    """Comments on a post that is open to you."""
    if not body.text.strip():
        raise Refused("invalid", fields=[{"field": "body.text", "message": "blank"}])
    await dependencies.limits.take((COMMENTS_A_MINUTE, person.user_id))
    post = await dependencies.contents.open(person.user_id, post_id)
    author = await dependencies.people.own_record(person.user_id)
    payload = ContentCommented(
        comment_id="", post_id=post_id, creator_id=post.creator_id, user_id=person.user_id, text=body.text
    )
    answer = await to_the_end(_commented(dependencies, payload, idempotency_key))
    return Comment(
        comment_id=answer.event_id, user_id=person.user_id, display_name=author.display_name, text=body.text,
        commented_at=answer.at or datetime.now(UTC),
    )


async def _commented(dependencies: Dependencies, payload: ContentCommented, key: str | None) -> Recorded:
    answer = await recorded(
        dependencies, payload.user_id, payload, scope="createComment", idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, f"{payload.post_id} {payload.text}"),
    )
    if answer.payload is not None and answer.at is not None:
        entry = CommentEntry(answer.event_id, payload.user_id, payload.text, changes.rfc3339(answer.at))
        await dependencies.write_through.apply(
            content.put_comment(payload.post_id, entry, version=answer.version, deleted=False)
        )
    return answer


@router.get(
    "/posts/{id}/comments", operation_id="listComments", response_model=Comments, responses=errors(*OPEN, "cursor_invalid")
)
async def comments(
    post_id: PostIdPath, person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None
) -> Comments:
    """A post's newest comments, without those of people who block you or whom you block."""
    await dependencies.contents.open(person.user_id, post_id)
    order, entries = comments_keys(post_id)
    (ranked,) = await dependencies.reads.read(("ZRANGE", order, 0, COMMENTS_SHOWN - 1, "REV"))
    (stored,) = await dependencies.reads.read(("HMGET", entries, *ranked)) if ranked else ([],)
    # One that was deleted between the two reads is there without its text.
    found = [entry for entry in (read_comment(value) for value in stored if value is not None) if entry.text]
    start = 0
    if cursor is not None:
        after = dependencies.seals.open(b"comments", cursor)
        if after is None or after[:36].decode("latin-1") != post_id:
            raise Refused("cursor_invalid")
        mark = msgspec.msgpack.decode(after[36:], type=tuple[str, str])
        start = sum((entry.commented_at, entry.comment_id) >= mark for entry in found)
    page = found[start : start + limit]
    following = None
    if len(found) > start + limit:
        last = page[-1]
        following = dependencies.seals.seal(
            b"comments", post_id.encode() + msgspec.msgpack.encode((last.commented_at, last.comment_id))
        )
    people = await dependencies.people.unblocked(person.user_id, list(dict.fromkeys(entry.user_id for entry in page)))
    return Comments(
        comments=[
            Comment(
                comment_id=entry.comment_id, user_id=entry.user_id, display_name=people[entry.user_id].display_name,
                text=entry.text, commented_at=datetime.fromisoformat(entry.commented_at),
            )
            for entry in page if entry.user_id in people
        ],
        next_cursor=following,
    )


@router.delete(
    "/posts/{id}/comments/{commentId}", operation_id="deleteComment", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "forbidden", "idempotency_conflict"),
)
async def delete_comment(
    post_id: PostIdPath, comment_id: CommentIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Deletes one's own comment, or one on one's own post."""
    post = await dependencies.contents.record(post_id)
    order, entries = comments_keys(post_id)
    score, value, _ = await dependencies.reads.read(
        ("ZSCORE", order, comment_id), ("HGET", entries, comment_id), ("EXISTS", post_key(post_id))
    )
    if post is None or value is None or score is None:
        raise Refused("not_found")
    entry = read_comment(value)
    if person.user_id not in (entry.user_id, post.creator_id):
        if not (await dependencies.contents.one(person.user_id, post_id)).access == "open":
            raise Refused("not_found")
        raise Refused("forbidden")
    payload = CommentDeleted(
        comment_id=comment_id, post_id=post_id, creator_id=post.creator_id, user_id=person.user_id
    )
    await to_the_end(_deleted(dependencies, payload, entry, idempotency_key))
    return Success()


async def _deleted(dependencies: Dependencies, payload: CommentDeleted, entry: CommentEntry, key: str | None) -> None:
    answer = await recorded(
        dependencies, payload.user_id, payload, scope="deleteComment", idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, payload.comment_id),
    )
    if answer.payload is not None:
        await dependencies.write_through.apply(
            content.put_comment(payload.post_id, entry, version=answer.version, deleted=True)
        )

"""What becomes of a creator's posts: pure decisions, rebuilt from rows and the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from actors.entries import Entries
from actors.folded import Folded
from actors.posts.commands import NoPost, PostRefused, RemovePost, WantedState, WritePost, Written
from actors.sharding.memory import Append, Decision
from configs.contracts.content import PostRecord, PostState, incomplete, post_after
from configs.contracts.events import ContentPublished, ContentRemoved, ContentRestored, ContentUpdated, Event
from configs.contracts.ids import derived_id, new_id
from configs.contracts.topics import CONTENT_PUBLISHED

PostCommand = WritePost | RemovePost
PostAnswer = Written | NoPost | PostRefused

FOLLOWING: Final[Mapping[PostState, frozenset[WantedState]]] = {
    "draft": frozenset(("draft", "scheduled", "published")),
    "scheduled": frozenset(("draft", "scheduled", "published")),
    "published": frozenset(("published", "unlisted")),
    "unlisted": frozenset(("published", "unlisted")),
    "removed": frozenset(),
}
"""What may follow a state: nothing that was published becomes a draft again."""


def _post() -> Folded[PostRecord]:
    return Folded(post_after)


def name_of(creator_id: str, post_id: str) -> str:
    """The key in memory, of which the creator decides the partition."""
    return f"{creator_id}/{post_id}"


class PostMemory:
    """Posts in memory. Nothing is published whose media the caller has not seen approved."""

    def __init__(self) -> None:
        self._posts: Entries[Folded[PostRecord]] = Entries(_post)

    def needs(self, command: PostCommand) -> Sequence[str]:
        return (name_of(command.creator_id, command.post_id),)

    def known(self, key: str) -> bool:
        post = self._posts.get(key)
        return post is not None and post.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a ``PostRecord``; None: there is none."""
        self._posts.use(key).load(row if isinstance(row, PostRecord) else None)

    def conflict_key(self, command: PostCommand) -> str:
        return name_of(command.creator_id, command.post_id)

    def decide(self, command: PostCommand, now: datetime) -> Decision[PostAnswer]:
        post = self._posts.get(name_of(command.creator_id, command.post_id))
        row = None if post is None else post.row
        if isinstance(command, RemovePost):
            return self._remove(command, row, now)
        if command.create:
            if row is not None:
                same = row.request_digest == (command.request_digest or "")
                return _answer(Written(row, recorded=False) if same else PostRefused("idempotency_conflict"))
        elif row is None or row.state == "removed":
            return _answer(NoPost())
        return self._write(command, row, now)

    def _write(self, command: WritePost, row: PostRecord | None, now: datetime) -> Decision[PostAnswer]:
        state: PostState = "draft" if row is None else row.state
        if command.state is not None and command.state not in FOLLOWING[state]:
            return _answer(PostRefused("post_state"))
        media = command.media_ids if command.media_ids is not None else row.media_ids if row is not None else ()
        approved = set(media) <= set(command.approved_media)
        published = row is not None and row.published_at is not None
        kept = command.access is None or command.access.visibility == "ppv"
        # The words of a text are what its buyers paid for.
        told = row is None or row.content_type != "text" or command.caption in (None, row.caption)
        if row is not None and row.sold and not (kept and told and command.media_ids in (None, row.media_ids)):
            return _answer(PostRefused("post_sold"))
        publishes = command.state == "published" and not published
        if not approved and (publishes or (row is not None and published and media != row.media_ids)):
            return _answer(PostRefused("media_not_ready"))
        payload = _payload(command, publishes=publishes, approved=approved)
        event = Event(new_id(), now, command.creator_id, payload)
        after = post_after(row, event, 1 if row is None else row.version + 1)
        assert after is not None
        if after.state != "draft" and (missing := incomplete(after)):
            return _answer(PostRefused(missing))
        if row is not None and _same(row, after):
            return _answer(Written(row, recorded=False))
        return self._decided(event)

    def _remove(self, command: RemovePost, row: PostRecord | None, now: datetime) -> Decision[PostAnswer]:
        if row is None or row.state == "removed":
            return _answer(NoPost())
        if command.reason == "creator" and row.sold:
            if row.state == "unlisted":
                return _answer(Written(row, recorded=False))
            unlisted = ContentUpdated(post_id=row.post_id, creator_id=row.creator_id, state="unlisted")
            return self._decided(Event(new_id(), now, row.creator_id, unlisted))
        event_id = new_id() if command.decision_id is None else derived_id(command.decision_id, f"remove:{row.post_id}")
        removed = ContentRemoved(
            post_id=row.post_id, creator_id=row.creator_id, reason=command.reason, decision_id=command.decision_id
        )
        return self._decided(Event(event_id, now, row.creator_id, removed))

    def _decided(self, event: Event) -> Decision[PostAnswer]:
        """The answer is the post as it is then: what others appended before the event is in memory by now."""
        payload = event.payload
        assert isinstance(payload, ContentUpdated | ContentPublished | ContentRemoved)
        name = name_of(payload.creator_id, payload.post_id)

        def answer(versions: tuple[int, ...]) -> PostAnswer:
            post = self._posts.get(name)
            assert post is not None
            assert post.row is not None
            return Written(post.row, recorded=True)

        return Decision((Append(CONTENT_PUBLISHED, event.key, event),), answer)

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        if isinstance(payload, ContentUpdated | ContentPublished | ContentRemoved | ContentRestored):
            post = self._posts.use(name_of(payload.creator_id, payload.post_id))
            post.take(event, version)
            if post.loaded and isinstance(payload, ContentRemoved) and payload.reason == "account_deleted":
                post.forget_history()

    def entries(self) -> int:
        return len(self._posts)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._posts.evict(limit, lambda key, post: post.newest < committed(key.partition("/")[0]))


def _payload(command: WritePost, *, publishes: bool, approved: bool) -> ContentPublished | ContentUpdated:
    if publishes:
        return ContentPublished(
            post_id=command.post_id, creator_id=command.creator_id, content_type=command.content_type, caption=command.caption,
            media_ids=command.media_ids, depicted=command.depicted, access=command.access, request_digest=command.request_digest,
            recipient_id=command.recipient_id,
        )
    return ContentUpdated(
        post_id=command.post_id, creator_id=command.creator_id, content_type=command.content_type, caption=command.caption,
        media_ids=command.media_ids, depicted=command.depicted, access=command.access, request_digest=command.request_digest,
        state=command.state, scheduled_at=command.scheduled_at, approved=approved and command.media_ids is not None,
        recipient_id=command.recipient_id,
    )


def _same(before: PostRecord, after: PostRecord) -> bool:
    """Whether nothing changes but what the change would be called."""
    return msgspec.structs.replace(after, version=before.version, schedule_id=before.schedule_id) == before


def _answer(answer: PostAnswer) -> Decision[PostAnswer]:
    return Decision((), lambda versions: answer)

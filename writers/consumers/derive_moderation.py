"""What follows from moderators' decisions: the account's standing, the person's, the end of content, and what both sides are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from configs.contracts import topics
from configs.contracts.events import (
    Action,
    AppealDecided,
    CaseDecided,
    CommentDeleted,
    CommentRestored,
    ContentPublished,
    ContentRemoved,
    ContentRestored,
    ContentUpdated,
    Event,
    MediaRemoved,
    MediaRestored,
    MediaReviewed,
    NotificationSent,
    StandingChanged,
    StandingSet,
)
from configs.contracts.ids import derived_id
from configs.contracts.moderation import appeal_token, appealable, standing_id, standing_of
from configs.contracts.topics import Topic
from writers.connections import Connection
from writers.loads.moderation import addresses
from writers.records import Fact

TOLD: Final = 100
"""Reporters of one target who are told of its decision: the first ones."""
BLOCKED: Final = ("intimate_image", "child_abuse", "underage")
"""Categories of media whose hashes are blocked, so that nobody uploads it again."""
REPORTERS: Final = """
SELECT DISTINCT target_id::text, reporter_id::text FROM reports
WHERE target_id = ANY(%s::uuid[]) AND decision_id = ANY(%s::uuid[]) AND reporter_id IS NOT NULL
"""
COMMENTS: Final = """
SELECT DISTINCT target_id::text, post_id::text, creator_id::text
FROM reports JOIN comments ON post_id = context_id AND comments.id = target_id
WHERE target_id = ANY(%s::uuid[]) AND target_type = 'comment'
"""
SOLD: Final = """
SELECT shown.id::text, posts.id::text FROM unnest(%s::uuid[], %s::uuid[]) AS shown (owner, id)
JOIN posts ON posts.creator_id = shown.owner AND shown.id = ANY(posts.media_ids)
WHERE posts.sold AND (posts.state <> 'removed' OR posts.removed_by IS NOT NULL)
"""
TAKEN: Final = """
SELECT decision.id::text, posts.id::text FROM unnest(%s::uuid[], %s::uuid[]) AS decision (creator, id)
JOIN posts ON posts.creator_id = decision.creator
 AND (posts.removed_by = decision.id OR decision.id = ANY(posts.also_removed_by))
"""
SHOWING: Final = """
SELECT posts.id::text, posts.media_ids::text[] FROM unnest(%s::uuid[], %s::uuid[]) AS told (creator, id)
JOIN posts ON posts.creator_id = told.creator AND posts.id = told.id
WHERE posts.sold AND (posts.state <> 'removed' OR posts.removed_by IS NOT NULL)
"""
REMOVALS: Final = """
SELECT target_id::text, decisions.id::text, category FROM decisions
WHERE target_id = ANY(%s::uuid[]) AND target_type = 'media' AND action = 'remove' AND NOT EXISTS (
    SELECT FROM appeals WHERE appeals.target_id = decisions.target_id AND decision_id = decisions.id AND outcome = 'reversed'
)
ORDER BY target_id, number
"""
"""A decision about a media and a post that shows it stand in two topics: whichever is derived later finds the other in the rows."""
_WORDS: Final[Mapping[Action, str]] = {
    "dismiss": "no rule was broken", "warn": "a warning", "remove": "it was removed", "suspend": "the account is suspended",
    "ban": "the account is closed", "reinstate": "the account is active again",
}


@dataclass(frozen=True, slots=True)
class Sides:
    """What the rows say of the people whom decisions concern."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    """Person -> hash of their account's address."""
    reporters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Target -> who reported it before it was decided."""
    comments: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Comment that is to be removed, or brought back -> its post, and the post's creator."""
    sold: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Media that is to be removed -> posts that were on sale and show it."""
    taken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Decision about a media that is reversed -> posts that it took away."""
    removals: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """Post that was changed and is on sale -> (decision, category) of removals of what it shows."""


def sides_of(conn: Connection, facts: Sequence[Fact]) -> Sides:
    """What ``follows_decision`` and ``follows_post`` need of the rows for these facts."""
    payloads = [fact.event.payload for fact in facts if isinstance(fact.event.payload, CaseDecided | AppealDecided)]
    removals = _removals(conn, facts)
    if not payloads:
        return Sides(removals=removals)
    subjects = sorted({payload.subject_id for payload in payloads if payload.subject_id is not None})
    reporters: dict[str, list[str]] = {}
    names = ([payload.target_id for payload in payloads], [payload.decision_id for payload in payloads])
    for target_id, reporter_id in conn.execute(REPORTERS, names).fetchall():
        reporters.setdefault(target_id, []).append(reporter_id)
    concerned = [payload.target_id for payload in payloads if payload.target_type == "comment" and payload.action == "remove"]
    comments = conn.execute(COMMENTS, (concerned,)).fetchall() if concerned else []
    media = [payload for payload in payloads if payload.target_type == "media" and payload.action == "remove"]
    removed = [(payload.subject_id, payload.target_id) for payload in media if isinstance(payload, CaseDecided)]
    decisions = [(payload.subject_id, payload.decision_id) for payload in media if isinstance(payload, AppealDecided)]
    return Sides(
        addresses(conn, subjects), {target: sorted(found)[:TOLD] for target, found in reporters.items()},
        {target: (post, creator) for target, post, creator in comments},
        _posts(conn, SOLD, removed), _posts(conn, TAKEN, decisions), removals,
    )


def _removals(conn: Connection, facts: Sequence[Fact]) -> Mapping[str, Sequence[tuple[str, str]]]:
    """See ``Sides.removals``."""
    changed = [fact.event.payload for fact in facts if isinstance(fact.event.payload, ContentPublished | ContentUpdated)]
    asked = ([payload.creator_id for payload in changed], [payload.post_id for payload in changed])
    shown = dict(conn.execute(SHOWING, asked).fetchall()) if changed else {}
    media = sorted({media_id for media_ids in shown.values() for media_id in media_ids})
    decided: dict[str, list[tuple[str, str]]] = {}
    for media_id, decision_id, category in conn.execute(REMOVALS, (media,)) if media else ():
        decided.setdefault(media_id, []).append((decision_id, category))
    found = {post_id: [one for media_id in media_ids for one in decided.get(media_id, ())] for post_id, media_ids in shown.items()}
    return {post_id: removals for post_id, removals in found.items() if removals}


def _posts(conn: Connection, statement: str, asked: Sequence[tuple[str | None, str]]) -> Mapping[str, Sequence[str]]:
    """Asked for -> posts, of (creator, media or decision)."""
    found: dict[str, list[str]] = {}
    for name, post_id in conn.execute(statement, ([one for one, _ in asked], [name for _, name in asked])) if asked else ():
        found.setdefault(name, []).append(post_id)
    return found


def follows_decision(event: Event, sides: Sides, account_key: bytes) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of what follows; the same ids on every repetition."""
    payload = event.payload
    if not isinstance(payload, CaseDecided | AppealDecided):
        return
    yield from _standing(event, payload, sides)
    if isinstance(payload, CaseDecided):
        yield from _content(event, payload, sides)
    elif payload.outcome == "reversed" and payload.action == "remove" and payload.subject_id in sides.addresses:
        # Not of somebody whose account is gone.
        yield from _restored(event, payload, sides)
    yield from _told(event, sides, account_key)


def _standing(event: Event, payload: CaseDecided | AppealDecided, sides: Sides) -> Iterator[tuple[Topic, Event]]:
    status = standing_of(payload)
    if status is None or payload.subject_id is None:
        return
    facts: dict[str, Any] = {
        "user_id": payload.subject_id, "status": status, "number": payload.number, "cause_id": payload.decision_id
    }
    address = sides.addresses.get(payload.subject_id)
    if address is not None:
        yield topics.AUTH_ACCOUNTS, Event(
            standing_id(event.event_id), event.occurred_at, address, StandingSet(email_hash=address, **facts)
        )
    yield topics.USER_UPDATED, Event(
        derived_id(event.event_id, "shown"), event.occurred_at, payload.subject_id, StandingChanged(**facts)
    )


def _content(event: Event, payload: CaseDecided, sides: Sides) -> Iterator[tuple[Topic, Event]]:
    """What is decided about media, posts and comments happens in their own logs."""
    owner, target = payload.subject_id, payload.target_id
    if owner is None:
        return
    name = derived_id(event.event_id, "content")
    if payload.target_type == "media" and payload.action == "remove":
        reason, block = _why(payload.category), payload.category in BLOCKED
        yield topics.MEDIA_UPLOADED, Event(name, event.occurred_at, owner, MediaRemoved(
            media_id=target, owner_id=owner, reason=reason, block=block, decision_id=payload.decision_id,
        ))
        for post_id in sides.sold.get(target, ()):
            yield _taken_away(event, payload.decision_id, payload.category, owner, post_id)
    elif payload.target_type == "media" and payload.action == "dismiss":
        yield topics.MEDIA_UPLOADED, Event(name, event.occurred_at, owner, MediaReviewed(
            media_id=target, owner_id=owner, verdict="approved", decision_id=payload.decision_id,
        ))
    elif payload.target_type == "post" and payload.action == "remove":
        yield topics.CONTENT_PUBLISHED, Event(name, event.occurred_at, owner, ContentRemoved(
            post_id=target, creator_id=owner, reason="moderation", decision_id=payload.decision_id,
        ))
    elif payload.target_type == "comment" and payload.action == "remove" and target in sides.comments:
        post_id, creator_id = sides.comments[target]
        yield topics.CONTENT_COMMENTED, Event(name, event.occurred_at, post_id, CommentDeleted(
            comment_id=target, post_id=post_id, creator_id=creator_id, user_id=owner, decision_id=payload.decision_id,
        ))


def follows_post(event: Event, sides: Sides) -> Iterator[tuple[Topic, Event]]:
    """The removal of a post on sale of whose media one was being removed while it was published or changed."""
    payload: ContentPublished | ContentUpdated = event.payload
    for decision_id, category in sides.removals.get(payload.post_id, ()):
        yield _taken_away(event, decision_id, category, payload.creator_id, payload.post_id)


def _taken_away(cause: Event, decision_id: str, category: str, owner: str, post_id: str) -> tuple[Topic, Event]:
    """A post goes with what it shows, so that whoever bought it gets their money back. What is blocked comes back by no reversal,
    nor do its posts. A decision's event has the decision's id."""
    return topics.CONTENT_PUBLISHED, Event(_of_post(decision_id, post_id), cause.occurred_at, owner, ContentRemoved(
        post_id=post_id, creator_id=owner, reason=_why(category), decision_id=None if category in BLOCKED else decision_id,
    ))


def _why(category: str) -> Literal["intimate_image", "moderation"]:
    return "intimate_image" if category == "intimate_image" else "moderation"


def _of_post(event_id: str, post_id: str) -> str:
    """The id of what happens to one of the posts that show a media that is decided about, by that decision's event."""
    return derived_id(event_id, f"content:{post_id}")


def _restored(event: Event, payload: AppealDecided, sides: Sides) -> Iterator[tuple[Topic, Event]]:
    """What a removal took away comes back, where nothing else took it away; what is blocked stays gone."""
    owner, target, decision_id = payload.subject_id, payload.target_id, payload.decision_id
    name = derived_id(event.event_id, "content")
    if payload.target_type == "post":
        yield topics.CONTENT_PUBLISHED, Event(
            name, event.occurred_at, owner, ContentRestored(post_id=target, creator_id=owner, decision_id=decision_id)
        )
    elif payload.target_type == "media":
        yield topics.MEDIA_UPLOADED, Event(
            name, event.occurred_at, owner, MediaRestored(media_id=target, owner_id=owner, decision_id=decision_id)
        )
        for post_id in sides.taken.get(decision_id, ()):
            yield topics.CONTENT_PUBLISHED, Event(_of_post(event.event_id, post_id), event.occurred_at, owner, ContentRestored(
                post_id=post_id, creator_id=owner, decision_id=decision_id,
            ))
    elif payload.target_type == "comment" and target in sides.comments:
        post_id, creator_id = sides.comments[target]
        yield topics.CONTENT_COMMENTED, Event(name, event.occurred_at, post_id, CommentRestored(
            comment_id=target, post_id=post_id, creator_id=creator_id, decision_id=decision_id,
        ))


def _told(event: Event, sides: Sides, account_key: bytes) -> Iterator[tuple[Topic, Event]]:
    """Both sides get the statement of reasons; the subject also what to appeal with."""
    payload = event.payload
    subject, appeal = payload.subject_id, isinstance(payload, AppealDecided)
    outcome = f"Your appeal was decided: {payload.outcome}" if appeal else f"A decision was made: {_WORDS[payload.action]}"
    data = {"decisionId": payload.decision_id, "targetType": payload.target_type, "targetId": payload.target_id}
    if subject is not None and (appeal or payload.action != "dismiss"):
        more = {}
        if isinstance(payload, CaseDecided) and appealable(payload.action):
            more = {"appealToken": appeal_token(account_key, payload.decision_id, payload.target_id, subject)}
        yield _notification(event, subject, outcome, payload.statement, data | more)
    for reporter in sides.reporters.get(payload.target_id, ()):
        if reporter != subject:
            word = _WORDS[payload.action] if not appeal else f"on appeal the decision was {payload.outcome}"
            yield _notification(event, reporter, f"What you reported was looked at: {word}", payload.statement, data)


def _notification(event: Event, user_id: str, title: str, body: str, data: dict[str, str]) -> tuple[Topic, Event]:
    name = derived_id(event.event_id, f"told:{user_id}")
    return topics.NOTIFICATION_SEND, Event(name, event.occurred_at, user_id, NotificationSent(
        notification_id=name, user_id=user_id, kind="system", title=title, body=body, data=data,
    ))

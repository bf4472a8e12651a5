"""The operations that a batch of committed events means for the read model, a function for each topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from configs.contracts import changes, content, topics
from configs.contracts.albums import put_photos
from configs.contracts.conversations import PAGE_MESSAGES, head_key, open_conversation, page_key, page_name, window_key
from configs.contracts.events import (
    AccountRegistered,
    AddressChanged,
    AddressClaimed,
    Matched,
    NotificationRead,
    NotificationSent,
    NotificationsRead,
    PasswordSet,
    PhotosArranged,
    RoleGranted,
    SessionRevoked,
    SessionsEnded,
    StandingSet,
    UserCreated,
    UserErased,
)
from configs.contracts.home import drop_home
from configs.contracts.ids import match_id
from configs.contracts.loading import ACTION_CODES
from configs.contracts.purchases import Payment, payment_of, payment_place, post_place
from configs.contracts.read_model import (
    LikeEntry,
    NotificationEntry,
    Operation,
    ended_member,
    put_credential,
    put_entry,
    put_notification,
    put_ranking,
)
from configs.contracts.selling import bought, put_shop, subscribed
from configs.contracts.subscriptions import subscription_of
from configs.contracts.telling import is_news, match_ended, match_told, notification_told
from writers.loads.content import comments_of, counts_of, follows_of, likes_of, post_operations
from writers.loads.content import posts as posts_of
from writers.loads.media import media_operations, photos
from writers.loads.messages import conversation_operations, stored_messages
from writers.loads.payments import payments as loaded_payments
from writers.loads.people import load_credentials
from writers.loads.ranking import present
from writers.loads.read_model import people_operations
from writers.loads.subscriptions import subscribers
from writers.loads.tiers import shops
from writers.records import Fact

ACTION_NAMES = {code: name for name, code in ACTION_CODES.items()}
LIKE_CODES = (ACTION_CODES["like"], ACTION_CODES["super_like"])

LIKED = """
SELECT swiper_id::text, swiped_id::text, action, created_at, version
FROM swipes JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (one, other) ON swiper_id = one AND swiped_id = other
WHERE ever_liked
"""
MATCHED = """
SELECT member_id::text, other_id::text, status, generation, matched_at, version
FROM matches JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (low, high) ON member_id = low AND other_id = high
"""
NOTIFIED = """
SELECT user_id::text, id::text, kind, title, body, data, created_at, read_at IS NOT NULL, version
FROM notifications JOIN unnest(%s::uuid[], %s::uuid[]) AS named (owner, name) ON user_id = owner AND id = name
"""
ENDS = "SELECT sessions_from FROM credentials WHERE email_hash = ANY(%s::uuid[])"
CONVERSATIONS_OF = """
SELECT DISTINCT id::text FROM matches JOIN conversations ON id = match_id WHERE member_id = ANY(%(people)s::uuid[])
"""
POSTS_OF = """
SELECT id::text FROM posts WHERE creator_id = ANY(%(people)s::uuid[])
UNION SELECT post_id::text FROM comments WHERE author_id = ANY(%(people)s::uuid[])
"""
"""Posts that a person made or wrote below; they are written anew from rows, which hold neither text any more."""
ERASED = "SELECT user_id::text FROM erasures WHERE user_id = ANY(%s::uuid[])"
HEARD = "SELECT conversation_id::text, max(sent_at) FROM messages WHERE conversation_id = ANY(%s::uuid[]) GROUP BY 1"
LAST_NUMBERS = "SELECT conversation_id::text, max(seq) FROM messages WHERE conversation_id = ANY(%s::uuid[]) GROUP BY 1"
READ_AT_ONCE = """
SELECT user_id::text, id::text, kind, title, body, data, created_at, TRUE, notifications.version
FROM notifications JOIN unnest(%s::uuid[], %s::bigint[]) AS named (owner, at)
     ON user_id = owner AND notifications.version = at AND read_at IS NOT NULL
"""


@dataclass(slots=True)
class Changes:
    """What to apply: versioned operations, and members for the sorted set of revocations (member -> Unix ms)."""

    operations: list[Operation] = field(default_factory=list)
    revoked: dict[str, int] = field(default_factory=dict)
    told: list[tuple[str, bytes]] = field(default_factory=list)
    """(channel, frame) for sockets, after the operations; one may be told twice."""


Project = Callable[[psycopg.Connection[Any], Sequence[Fact], Changes], None]


def accounts(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Credentials, from the rows: of two claims on one address the row holds the one that counts."""
    found = load_credentials(conn, sorted({record.event.payload.email_hash for record in records}))
    for email_hash, (credential, version) in found.items():
        into.operations.append(put_credential(email_hash, credential, version))
    # A standing that is carried out twice ends sessions once: those that began since stand.
    ends = {row[0] for row in conn.execute(ENDS, (sorted(found),)).fetchall()}
    for record in records:
        payload = record.event.payload
        if isinstance(payload, AccountRegistered | AddressClaimed) and payload.displaces is not None:
            member = ended_member(payload.displaces, record.version, None)
            into.revoked[member] = _milliseconds(record.event.occurred_at)
        if isinstance(payload, RoleGranted) or (
            isinstance(payload, StandingSet) and payload.status != "active" and record.version in ends
        ):
            into.revoked[ended_member(payload.user_id, record.version, None)] = _milliseconds(record.event.occurred_at)
        if isinstance(payload, AddressChanged) and record.version in ends:
            member = ended_member(payload.user_id, record.version, payload.move.kept_family_id)
            into.revoked[member] = _milliseconds(record.event.occurred_at)
        if isinstance(payload, PasswordSet | SessionsEnded):
            member = ended_member(payload.user_id, record.version, payload.kept_family_id)
            into.revoked[member] = _milliseconds(record.event.occurred_at)


def sessions(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    for record in records:
        if isinstance(record.event.payload, SessionRevoked):
            into.revoked[record.event.payload.family_id] = int(record.event.occurred_at.timestamp() * 1_000)


def created(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Everything that rows hold of a new person. Mostly that is who they are; but a rebuild that found no row of theirs yet
    passed over a match whose position it took for projected."""
    made = [record.event.payload.user_id for record in records if isinstance(record.event.payload, UserCreated)]
    into.operations += people_operations(conn, made)[1]


def updated(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    for record in records:
        into.operations += changes.recorded(record.event.payload, record.version)
    erased = [record.event.payload.user_id for record in records if isinstance(record.event.payload, UserErased)]
    if erased:
        into.operations += shared_with(conn, erased)


def shared_with(conn: psycopg.Connection[Any], people: Sequence[str]) -> list[Operation]:
    """What others read of these people's words, anew as the rows have it now: conversations, posts, comments below posts."""
    names = [name for (name,) in conn.execute(POSTS_OF, {"people": list(people)}).fetchall()]
    return [
        *_conversations_without(conn, people),
        *(Operation("forget", (content.post_key(name), *content.comments_keys(name)), ()) for name in names),
        *post_operations(conn, names)[1],
    ]


def erased_again(conn: psycopg.Connection[Any], people: Sequence[str]) -> list[Operation]:
    """What takes out of the read model what came there of erased people after their erasure, once the rows hold it no more."""
    return [step for person in people for step in changes.erased(person)] + shared_with(conn, people)


def _conversations_without(conn: psycopg.Connection[Any], people: Sequence[str]) -> Sequence[Operation]:
    """The conversations of these people as the rows have them now, without what the people wrote."""
    names = [row[0] for row in conn.execute(CONVERSATIONS_OF, {"people": list(people)}).fetchall()]
    pages = (
        page_key(page_name(name, page)) for name, last in conn.execute(LAST_NUMBERS, (names,)).fetchall()
        for page in range(last // PAGE_MESSAGES + 1)
    )
    forgotten = [Operation("forget", (key,), ()) for name in names for key in (head_key(name), window_key(name))]
    return [*forgotten, *(Operation("forget", (key,), ()) for key in pages), *conversation_operations(conn, names)[1]]


def swipes(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Likes received, from the rows: a pass is worth a word only where a like stood before.

    Whom the receiver has answered is left out when the list is read.
    """
    pairs = {(record.event.payload.swiper_id, record.event.payload.swiped_id) for record in records}
    for swiper, swiped, action, created_at, version in conn.execute(
        LIKED, ([swiper for swiper, _ in pairs], [swiped for _, swiped in pairs])
    ):
        stands = action in LIKE_CODES
        entry = LikeEntry(
            liker_id=swiper, action=ACTION_NAMES[action] if stands else "", liked_at=changes.rfc3339(created_at)
        )
        into.operations.append(put_entry(
            "like", swiped, swiper, entry, version=version, at_ms=_milliseconds(created_at) if stands else None
        ))


def matches(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """From the rows: a match that was recorded twice, or ended before, is theirs to tell."""
    pairs = {(record.event.payload.low_id, record.event.payload.high_id) for record in records}
    begun, ended = set(), set()
    for record in records:
        payload = record.event.payload
        if isinstance(payload, Matched):
            begun.add((payload.low_id, payload.high_id))
        elif payload.generation and payload.reason != "blocked" and is_news(record.event.occurred_at):
            # A block is the conversation shard's to tell: it knows whether there was still something to end.
            ended.add((payload.low_id, payload.high_id))
    found = conn.execute(MATCHED, ([low for low, _ in pairs], [high for _, high in pairs])).fetchall()
    again = [match_id(low, high) for low, high, status, generation, *_ in found if status == "active" and generation > 1]
    heard = dict(conn.execute(HEARD, (again,)).fetchall()) if again else {}
    for low, high, status, generation, matched_at, version in found:
        if status != "active":
            into.operations += changes.ended(low, high, generation=generation, reason=status, version=version)
            if (low, high) in ended:
                into.told += (match_ended(low, high), match_ended(high, low))
            if matched_at is not None:
                into.operations.append(open_conversation(match_id(low, high)))
            continue
        into.operations += changes.matched(
            low, high, matched_at=matched_at, generation=generation, version=version, heard_at=heard.get(match_id(low, high))
        )
        if (low, high) in begun and is_news(matched_at):
            into.told += (match_told(low, high, matched_at), match_told(high, low, matched_at))


def messages(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Those that rows hold: a message of a replaced shard that does not count is nowhere."""
    for conversation, recipient, message in stored_messages(conn, records):
        into.operations += changes.message_sent(conversation, recipient, message)


def marks(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """As they were recorded: of several the highest counts, in Redis too."""
    for record in records:
        payload = record.event.payload
        into.operations += changes.message_read(
            payload.conversation_id, payload.reader_id, payload.other_id, seq=payload.seq, ordinal=payload.ordinal
        )


def notifications(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """From the rows: one that was derived twice must not become unread again."""
    sent = {
        (record.event.payload.user_id, record.event.payload.notification_id)
        for record in records if isinstance(record.event.payload, NotificationSent)
    }
    all_read = [record for record in records if isinstance(record.event.payload, NotificationsRead)]
    names = {
        (record.event.payload.user_id, record.event.payload.notification_id) for record in records
        if isinstance(record.event.payload, NotificationSent | NotificationRead)
    }
    rows = conn.execute(NOTIFIED, ([user for user, _ in names], [ident for _, ident in names])).fetchall() if names else []
    if all_read:
        users = [record.event.payload.user_id for record in all_read]
        rows += conn.execute(READ_AT_ONCE, (users, [record.version for record in all_read])).fetchall()
    for user_id, ident, kind, title, body, data, created_at, read, version in rows:
        entry = NotificationEntry(
            notification_id=ident, kind=kind, title=title, body=body, data=data, created_at=changes.rfc3339(created_at),
            read=read,
        )
        into.operations.append(put_notification(user_id, entry, version=version, at_ms=_milliseconds(created_at)))
        if (user_id, ident) in sent and not read and is_news(created_at):
            into.told.append(notification_told(user_id, entry))


def tiers(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Shops, from the rows, which count each redemption once; of an erased creator nothing, as in a rebuilt read model."""
    creators = sorted({record.event.payload.creator_id for record in records})
    gone = {name for (name,) in conn.execute(ERASED, (creators,)).fetchall()}
    found = shops(conn, [name for name in creators if name not in gone])
    into.operations += (step for shop in found.values() for step in put_shop(shop))


def subscriptions(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """From the rows, whatever order the reports came in."""
    named: dict[str, set[str]] = {}
    for record in records:
        name = subscription_of(record.event)
        if name is not None:
            named.setdefault(record.event.key, set()).add(name)
    for subscriber_id, subscriber in subscribers(conn, sorted(named)).items():
        into.operations += subscribed(subscriber_id, subscriber, sorted(named[subscriber_id]))


def payments(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Which posts are bought, from the rows, whatever order the reports came in."""
    named = {
        (record.event.key, name) for record in records if (name := payment_of(record.event)) is not None
    }
    posts = [
        post_place(payment.asked.payer_id, payment.asked.post_id)
        for payment in loaded_payments(conn, [payment_place(*place) for place in sorted(named)]).values()
        if isinstance(payment, Payment) and payment.asked.post_id is not None
    ]
    for held in loaded_payments(conn, posts).values():
        if isinstance(held, tuple):
            into.operations.append(bought(held))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000)


def nothing(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Reports, decisions, devices, impressions and mails are not in the read model."""


def media(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """From the rows: records of media, and the photos that their owners show."""
    payloads = [record.event.payload for record in records]
    into.operations += media_operations(
        conn, {payload.media_id for payload in payloads if not isinstance(payload, PhotosArranged)}
    )[1]
    for owner, (shown, version) in photos(conn, [UUID(owner) for owner in {payload.owner_id for payload in payloads}]).items():
        into.operations.append(put_photos(owner, shown, version))


def ranking(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """From the rows: of two configurations with one number the first counts."""
    into.operations.append(put_ranking(present(conn)))


def posts(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """From the rows, which hold what a post's events add up to."""
    names = {f"{record.event.payload.creator_id}/{record.event.payload.post_id}" for record in records}
    for post in posts_of(conn, sorted(names)).values():
        into.operations += content.changed(post)


def likes(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """What a person likes, and the count of the rows."""
    pairs = {(record.event.payload.post_id, record.event.payload.user_id) for record in records}
    for post_id, user_id, stands, at, version in likes_of(conn, pairs):
        into.operations.append(content.liked(user_id, post_id, version=version, at=at, active=stands))
    for post_id, (count, _, version, _) in counts_of(conn, {post for post, _ in pairs}).items():
        into.operations.append(content.put_count(post_id, "likes", count, version))


def comments(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Comments as rows hold them, and their count."""
    names = {(record.event.payload.post_id, record.event.payload.comment_id) for record in records}
    for post_id, comment_id, author_id, text, at, deleted, version in comments_of(conn, names):
        entry = content.CommentEntry(comment_id, author_id, text, changes.rfc3339(at))
        into.operations.append(content.put_comment(post_id, entry, version=version, deleted=deleted))
    for post_id, (_, count, _, version) in counts_of(conn, {post for post, _ in names}).items():
        into.operations.append(content.put_count(post_id, "comments", count, version))


def follows(conn: psycopg.Connection[Any], records: Sequence[Fact], into: Changes) -> None:
    """Whom a person follows; their feed is made anew when it is read next."""
    pairs = {(record.event.payload.user_id, record.event.payload.creator_id) for record in records}
    for user_id, creator_id, stands, at, version in follows_of(conn, pairs):
        into.operations.append(content.followed(user_id, creator_id, version=version, at=at, active=stands))
        into.operations.append(drop_home(user_id))


PROJECTIONS: Mapping[str, Project] = {
    topics.AUTH_ACCOUNTS.name: accounts,
    topics.AUTH_IDENTITIES.name: nothing,
    topics.AUTH_SESSIONS.name: sessions,
    topics.USER_CREATED.name: created,
    topics.USER_UPDATED.name: updated,
    topics.USER_REPORTED.name: nothing,
    topics.MATCHING_SWIPE.name: swipes,
    topics.MATCHING_CARDS_SERVED.name: nothing,
    topics.MATCHING_MATCHED.name: matches,
    topics.MESSAGING_MESSAGE_SENT.name: messages,
    topics.MESSAGING_MESSAGE_READ.name: marks,
    topics.NOTIFICATION_SEND.name: notifications,
    topics.NOTIFICATION_DEVICES.name: nothing,
    topics.NOTIFICATION_MAIL.name: nothing,
    topics.MEDIA_UPLOADED.name: media,
    topics.PAYMENT_WEBHOOKS.name: nothing,
    topics.PAYMENT_COMPLETED.name: payments,
    topics.TIER_CHANGED.name: tiers,
    topics.SUBSCRIPTION_CREATED.name: subscriptions,
    topics.MODERATION_DECIDED.name: nothing,
    topics.RANKING_CONFIGURED.name: ranking,
    topics.CONTENT_PUBLISHED.name: posts,
    topics.CONTENT_LIKED.name: likes,
    topics.CONTENT_COMMENTED.name: comments,
    topics.CONTENT_FOLLOWED.name: follows,
}


def changes_of(conn: psycopg.Connection[Any], stored: Mapping[str, Sequence[Fact]]) -> Changes:
    """Everything that a batch changes in the read model."""
    into = Changes()
    for topic, records in stored.items():
        PROJECTIONS[topic](conn, records, into)
    return into

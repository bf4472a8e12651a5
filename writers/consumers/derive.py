"""The consumer ``derive``: the events that follow from others, under ids that a repetition makes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.connections.kafka import Record
from configs.contracts import topics
from configs.contracts.events import (
    TOPIC_OF,
    ContentPublished,
    ContentRemoved,
    ContentUpdated,
    DeviceRegistered,
    Event,
    Followed,
    Matched,
    PaymentObserved,
    PaymentRequested,
    SessionRevoked,
    SessionStarted,
    SubscriptionObserved,
    SubscriptionRequested,
    Unmatched,
    UserBlocked,
    encode,
)
from configs.contracts.ids import derived_id, match_id, pair, partition_of
from configs.contracts.subscriptions import Subscription
from configs.contracts.topics import Topic
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers import audience, subscriptions
from writers.consumers.audience import Registration, Wishes
from writers.consumers.derive_accounts import Holders, follows_account, follows_session, holders_of, outlived
from writers.consumers.derive_commerce import Commerce, commerce_of, notices
from writers.consumers.derive_moderation import Sides, follows_decision, follows_post, sides_of
from writers.consumers.derive_refunds import Buyers, buyers_of, refunds
from writers.consumers.deriving import Appending, wait_for_rows
from writers.dead_letters import without_dead
from writers.loads.blocks import unended
from writers.loads.notifying import devices_of_sessions, ended_sessions, too_many_devices, wishes_of
from writers.loads.subscriptions import apart, renewing_of, running_twice
from writers.positions import Ownership, advance
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

TOPICS = (
    topics.AUTH_ACCOUNTS, topics.AUTH_SESSIONS, topics.MATCHING_MATCHED, topics.NOTIFICATION_DEVICES,
    topics.MODERATION_DECIDED, topics.USER_UPDATED, topics.SUBSCRIPTION_CREATED, topics.CONTENT_PUBLISHED, topics.PAYMENT_COMPLETED,
)


class Derive:
    """Account → person, first session, mails, ended sessions; match → a notification for each side; a device too many, or
    of a session that has ended → its removal; a decision → the person's standing, and what both sides are told; a checkout →
    the creator is followed; a second subscription to one creator → its end; a block → the end of the pair's match; a block, or the
    end of an account → the end of renewal; a post that the moderation takes away → refunds for those who bought it; a sale, a
    post → a notification."""

    consumer = "derive"

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._keys = Keys.of(settings)
        self._appending = Appending(settings, f"{name}-derived")

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        wait_for_rows(conn, owned, records)
        decoded, _ = decode_all(without_dead(conn, records, owned.generations), owned.generations)
        known = known_of(conn, [fact for _, fact in decoded])
        # One event may follow from many of a batch: each registration of a thousand makes the same devices too many.
        made: dict[tuple[str, str], Record] = {}
        for record, fact in decoded:
            for topic, event in follows(fact.event, fact.version, known, self._keys):
                made.setdefault((topic.name, event.event_id), Record(
                    topic.name, partition_of(event.key, self._settings.log.partitions), event.key, encode(event),
                    tuple((name, value) for name, value in record.headers if value is not None),
                ))
        self._appending.append(list(made.values()))
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, owned, before, next_offsets(records))

    def close(self) -> None:
        self._appending.close()


class Keys(NamedTuple):
    """What tokens are made with: those of sessions, and those that appeal."""

    refresh: bytes
    account: bytes

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        keys = (settings.auth.refresh_key, settings.auth.account_key)
        return cls(*(bytes.fromhex(key.get_secret_value()) for key in keys))


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows say that decides what follows."""

    holders: Holders
    wishes: Wishes
    too_many: Mapping[str, tuple[Registration, ...]]
    """Person -> devices beyond the limit."""
    sides: Sides = field(default_factory=Sides)
    renewing: tuple[subscriptions.Renewing, ...] = ()
    """Subscriptions that go on, of and to everybody whose account ended or who blocked or was blocked."""
    apart: frozenset[tuple[str, str]] = frozenset()
    """Of those who subscribe and whom they subscribe to: who has blocked the other, or is gone."""
    together: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Generation of the match of every pair of whom one has blocked the other, and which that has not ended yet."""
    twice: Mapping[tuple[str, str], Sequence[Subscription]] = field(default_factory=dict)
    """(subscriber, creator) -> the subscriptions that run, of those that have two."""
    buyers: Buyers = field(default_factory=Buyers)
    commerce: Commerce = field(default_factory=Commerce)
    of_sessions: Mapping[str, tuple[Registration, ...]] = field(default_factory=dict)
    """Ended session -> devices that it had registered. A registration and the end of its session are in two topics: which
    of them is derived later finds the other in the rows."""
    outlived: frozenset[str] = frozenset()
    """Sessions that began although their account had ended all from before."""


def known_of(conn: Connection, facts: Sequence[Fact]) -> Known:
    """What decides about these facts."""
    payloads = [fact.event.payload for fact in facts]
    matched = {user for payload in payloads if isinstance(payload, Matched) for user in (payload.low_id, payload.high_id)}
    owners = {payload.user_id for payload in payloads if isinstance(payload, DeviceRegistered)}
    registering = {payload.family_id for payload in payloads if isinstance(payload, DeviceRegistered) and payload.family_id}
    ended = {payload.family_id for payload in payloads if isinstance(payload, SessionRevoked)}
    if registering:
        ended |= ended_sessions(conn, registering)
    pairs, gone = subscriptions.pairs_and_ended(payloads)
    parted = apart(conn, subscriptions.subscribing(payloads))
    return Known(
        holders_of(conn, facts),
        wishes_of(conn, matched),
        too_many_devices(conn, owners) if owners else {},
        sides_of(conn, facts),
        renewing_of(conn, [*pairs, *parted], gone),
        parted,
        unended(conn, pairs),
        running_twice(conn, subscriptions.reported(payloads)),
        buyers_of(conn, facts),
        commerce_of(conn, facts),
        devices_of_sessions(conn, ended) if ended else {},
        outlived(conn, facts),
    )


def follows(event: Event, version: int, known: Known, keys: Keys) -> Iterator[tuple[Topic, Event]]:
    """(topic, event) of everything that follows from an event; the same ids and times on every repetition."""
    payload = event.payload
    for cancelled in subscriptions.stopped(event, known.renewing, known.apart):
        yield topics.SUBSCRIPTION_CREATED, cancelled
    for undone in subscriptions.second(event, known.twice):
        yield topics.SUBSCRIPTION_CREATED, undone
    if isinstance(payload, ContentPublished | ContentUpdated):
        yield from follows_post(event, known.sides)
    if TOPIC_OF[type(payload)] is topics.AUTH_ACCOUNTS:
        yield from follows_account(event, version, known.holders, keys.refresh)
    elif TOPIC_OF[type(payload)] is topics.MODERATION_DECIDED:
        yield from follows_decision(event, known.sides, keys.account)
    elif isinstance(payload, UserBlocked):
        yield from unmatched(event, known.together)
    elif isinstance(payload, Matched):
        for told in audience.match(event, known.wishes):
            yield topics.NOTIFICATION_SEND, told
    elif isinstance(payload, ContentPublished | PaymentObserved | SubscriptionObserved):
        yield from notices(event, version, known.commerce)
        yield from refunds(event, known.buyers)
    elif isinstance(payload, ContentRemoved | PaymentRequested):
        yield from refunds(event, known.buyers)
    elif isinstance(payload, SubscriptionRequested):
        followed = Followed(user_id=payload.subscriber_id, creator_id=payload.creator_id)
        yield topics.CONTENT_FOLLOWED, Event(
            derived_id(event.event_id, "follow"), event.occurred_at, payload.subscriber_id, followed
        )
    elif isinstance(payload, DeviceRegistered):
        for removed in audience.crowded_out(event, known.too_many):
            yield topics.NOTIFICATION_DEVICES, removed
        for removed in audience.signed_out(event, known.of_sessions.get(payload.family_id or "", ())):
            yield topics.NOTIFICATION_DEVICES, removed
    elif isinstance(payload, SessionStarted):
        yield from follows_session(event, known.outlived)
    elif isinstance(payload, SessionRevoked):
        for removed in audience.signed_out(event, known.of_sessions.get(payload.family_id, ())):
            yield topics.NOTIFICATION_DEVICES, removed


def unmatched(event: Event, together: Mapping[tuple[str, str], int]) -> Iterator[tuple[Topic, Event]]:
    """The end of a pair of whom one blocks the other, under the id that their authority gives it.

    The route has the authority end the pair before it answers. But a replica may die between the two, and whoever asked may
    never ask again.
    """
    payload = event.payload
    low, high = pair(payload.user_id, payload.blocked_id)
    generation = together.get((low, high))
    if generation is not None:
        match = match_id(low, high)
        yield topics.MATCHING_MATCHED, Event(derived_id(match, f"blocked:{generation}"), event.occurred_at, match, Unmatched(
            match_id=match, low_id=low, high_id=high, generation=generation, ended_by=payload.user_id, reason="blocked",
        ))

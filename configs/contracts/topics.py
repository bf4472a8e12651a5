"""Every topic, its key, its retention and whether it is compacted. The partition of a key is ``ids.partition_of``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY_MS = 86_400_000
DEAD_LETTER_SUFFIX = ".dead"
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS
DEAD_LETTER_PARTITIONS = 1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``restricted`` payloads (password hashes, addresses) are never logged or listed.

    ``cleanup``: "delete" drops what is older than ``retention_ms``. None is compacted ("compact"): records are events, of
    which a later one says nothing about what an earlier one of its key said.
    """

    name: str
    key: str
    retention_ms: int = 7 * DAY_MS
    cleanup: Literal["delete", "compact"] = "delete"
    restricted: bool = False

    @property
    def dead_letters(self) -> str:
        return self.name + DEAD_LETTER_SUFFIX


AUTH_ACCOUNTS = Topic("auth.accounts", "md5 of the normalised address", restricted=True)
AUTH_IDENTITIES = Topic("auth.identities", "md5 of issuer and subject", restricted=True)
AUTH_SESSIONS = Topic("auth.sessions", "token family", restricted=True)
USER_CREATED = Topic("user.created", "user")
USER_UPDATED = Topic("user.updated", "user")
USER_REPORTED = Topic("user.reported", "reported user or object")
MATCHING_SWIPE = Topic("matching.swipe", "swiper")
MATCHING_CARDS_SERVED = Topic("matching.cards_served", "viewer")
MATCHING_MATCHED = Topic("matching.matched", "match")
MESSAGING_MESSAGE_SENT = Topic("messaging.message_sent", "conversation", restricted=True)
MESSAGING_MESSAGE_READ = Topic("messaging.message_read", "conversation")
NOTIFICATION_SEND = Topic("notification.send", "recipient")
NOTIFICATION_DEVICES = Topic("notification.devices", "device: the hash of its push token", restricted=True)
NOTIFICATION_MAIL = Topic("notification.mail", "md5 of the recipient's normalised address", restricted=True)
PAYMENT_WEBHOOKS = Topic("payment.webhooks", "the provider's object", restricted=True)
PAYMENT_COMPLETED = Topic("payment.completed", "payer; of payouts and accounts the creator")
TIER_CHANGED = Topic("tier.changed", "creator")
SUBSCRIPTION_CREATED = Topic("subscription.created", "subscriber")
MEDIA_UPLOADED = Topic("media.uploaded", "owner")
MODERATION_DECIDED = Topic("moderation.decided", "target: a person, or an object", restricted=True)
RANKING_CONFIGURED = Topic("ranking.configured", "the word ranking")
CONTENT_PUBLISHED = Topic("content.published", "creator", restricted=True)
CONTENT_LIKED = Topic("content.liked", "post")
CONTENT_COMMENTED = Topic("content.commented", "post", restricted=True)
CONTENT_FOLLOWED = Topic("content.followed", "follower")

TOPICS = (
    AUTH_ACCOUNTS,
    AUTH_IDENTITIES,
    AUTH_SESSIONS,
    USER_CREATED,
    USER_UPDATED,
    USER_REPORTED,
    MATCHING_SWIPE,
    MATCHING_CARDS_SERVED,
    MATCHING_MATCHED,
    MESSAGING_MESSAGE_SENT,
    MESSAGING_MESSAGE_READ,
    NOTIFICATION_SEND,
    NOTIFICATION_DEVICES,
    NOTIFICATION_MAIL,
    PAYMENT_WEBHOOKS,
    PAYMENT_COMPLETED,
    TIER_CHANGED,
    SUBSCRIPTION_CREATED,
    MEDIA_UPLOADED,
    MODERATION_DECIDED,
    RANKING_CONFIGURED,
    CONTENT_PUBLISHED,
    CONTENT_LIKED,
    CONTENT_COMMENTED,
    CONTENT_FOLLOWED,
)
BY_NAME = {topic.name: topic for topic in TOPICS}

"""Every sink, and which of them store an event."""

from __future__ import annotations

from configs.contracts.events import Payload
from writers.sinks import (
    accounts,
    adults,
    audit,
    blocks,
    comments,
    devices,
    erasures,
    follows,
    idempotency,
    identities,
    impressions,
    ledger,
    mails,
    matches,
    media,
    messages,
    moderation,
    notifications,
    payments,
    payouts,
    post_likes,
    posts,
    provider_facts,
    ranking,
    reports,
    sessions,
    subscriptions,
    swipes,
    tiers,
    users,
)
from writers.sinks.base import Sink

SINKS: tuple[Sink, ...] = (
    accounts.SINK,
    identities.SINK,
    sessions.SINK,
    users.SINK,
    blocks.SINK,
    reports.SINK,
    moderation.SINK,
    adults.SINK,
    audit.SINK,
    swipes.SINK,
    matches.SINK,
    messages.SINK,
    notifications.SINK,
    devices.SINK,
    mails.SINK,
    media.SINK,
    impressions.SINK,
    ranking.SINK,
    posts.SINK,
    post_likes.SINK,
    comments.SINK,
    follows.SINK,
    provider_facts.SINK,
    ledger.SINK,
    payments.SINK,
    payouts.SINK,
    tiers.SINK,
    subscriptions.SINK,
    idempotency.SINK,
    erasures.SINK,
)
"""In the order in which a commit writes. An event may have several."""


def sinks_of(payload: type[Payload], sinks: tuple[Sink, ...] = SINKS) -> tuple[Sink, ...]:
    return tuple(sink for sink in sinks if payload in sink.events)

"""Subscriptions by subscriber and by creator, and the requests about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from configs.contracts.loading import SubscriptionRequestRow
from configs.contracts.subscribers import Subscriber
from configs.contracts.subscriptions import Subscription
from writers.connections import Connection
from writers.consumers.subscriptions import Renewing
from writers.loads.blocks import blocked
from writers.sinks.subscriptions import read_subscription

KEPT: Final = 1_000
"""Subscriptions of one person that shards and lists know: all that did not end, and the newest of the others."""

OF_SUBSCRIBERS: Final = """
SELECT person.id::text, newest.state::text
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT state FROM subscriptions WHERE subscriber_id = person.id
    ORDER BY (status <> 'expired') DESC, requested_at DESC LIMIT %s
) AS newest
"""
OF_CREATORS: Final = """
SELECT person.id::text, newest.state::text
FROM unnest(%s::uuid[]) AS person (id), LATERAL (
    SELECT state FROM subscriptions WHERE creator_id = person.id AND status IN ('trialing', 'active', 'past_due')
    ORDER BY requested_at DESC LIMIT %s
) AS newest
"""
BETWEEN: Final = """
SELECT subscriber_id::text, creator_id::text, id::text
FROM subscriptions JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (one, other) ON subscriber_id = one AND creator_id = other
WHERE status <> 'expired' AND NOT cancel_at_period_end
"""
RUNNING: Final = """
SELECT state::text FROM subscriptions JOIN unnest(%s::uuid[], %s::uuid[]) AS pair (subscriber, creator)
     ON subscriber_id = subscriber AND creator_id = creator
WHERE status <> 'expired' AND status <> 'incomplete'
"""
WITH: Final = """
SELECT subscriber_id::text, creator_id::text, id::text FROM subscriptions
WHERE subscriber_id = ANY(%(ids)s::uuid[]) AND status <> 'expired' AND NOT cancel_at_period_end
UNION
SELECT subscriber_id::text, creator_id::text, id::text FROM subscriptions
WHERE creator_id = ANY(%(ids)s::uuid[]) AND status IN ('trialing', 'active', 'past_due') AND NOT cancel_at_period_end
"""
GONE: Final = "SELECT id::text FROM users WHERE id = ANY(%s::uuid[]) AND status IN ('banned', 'deleted')"
ERASED: Final = "SELECT user_id::text FROM erasures WHERE user_id = ANY(%s::uuid[])"
REQUESTS: Final = """
SELECT subscriber_id::text, id::text, subscription_id::text, body_digest, upgrade, version
FROM subscription_requests JOIN unnest(%s::uuid[], %s::uuid[]) AS named (subscriber, name)
     ON subscriber_id = subscriber AND id = name
"""


def subscribers(conn: Connection, subscriber_ids: Sequence[str]) -> Mapping[str, Subscriber]:
    """Only people who ever asked for a subscription."""
    found: dict[str, dict[str, Subscription]] = {}
    for subscriber, state in conn.execute(OF_SUBSCRIBERS, ([UUID(text) for text in subscriber_ids], KEPT)).fetchall():
        item = read_subscription(state)
        found.setdefault(subscriber, {})[item.subscription_id] = item
    return {
        subscriber: Subscriber(items, max(item.version for item in items.values())) for subscriber, items in found.items()
    }


def of_creators(conn: Connection, creator_ids: Sequence[str], limit: int) -> Mapping[str, Sequence[Subscription]]:
    """The newest subscriptions to each creator that have not ended."""
    found: dict[str, list[Subscription]] = {}
    for creator, state in conn.execute(OF_CREATORS, ([UUID(text) for text in creator_ids], limit)).fetchall():
        found.setdefault(creator, []).append(read_subscription(state))
    return found


def renewing_of(conn: Connection, pairs: Sequence[tuple[str, str]], ended: Sequence[str]) -> tuple[Renewing, ...]:
    """What goes on between each pair of people, and all that is of or to those whose account ended."""
    found: list[Renewing] = []
    if pairs:
        both = [*pairs, *((other, one) for one, other in pairs)]
        found += (Renewing(*row) for row in conn.execute(BETWEEN, ([one for one, _ in both], [other for _, other in both])))
    if ended:
        found += (Renewing(*row) for row in conn.execute(WITH, {"ids": list(ended)}))
    return tuple(dict.fromkeys(found))


def running_twice(conn: Connection, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Subscription]]:
    """By (subscriber, creator) the subscriptions that run, where that is more than one."""
    found: dict[tuple[str, str], list[Subscription]] = {}
    once = list(dict.fromkeys(pairs))
    rows = conn.execute(RUNNING, ([one for one, _ in once], [other for _, other in once])).fetchall() if once else ()
    for (state,) in rows:
        item = read_subscription(state)
        found.setdefault((item.subscriber_id, item.creator_id), []).append(item)
    return {pair: items for pair, items in found.items() if len(items) > 1}


def apart(conn: Connection, pairs: Sequence[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of the pairs one of whom has blocked the other, or is gone."""
    if not pairs:
        return frozenset()
    strangers = blocked(conn, pairs)
    people = list({person for pair in pairs for person in pair})
    gone = {row[0] for statement in (GONE, ERASED) for row in conn.execute(statement, (people,)).fetchall()}
    return frozenset(pair for pair in pairs if pair in strangers or gone & set(pair))


def requests(conn: Connection, places: Sequence[str]) -> Mapping[str, SubscriptionRequestRow]:
    """By ``subscriber/request``; only those that were recorded."""
    named = [place.split("/", 1) for place in places]
    if not named:
        return {}
    rows = conn.execute(REQUESTS, ([subscriber for subscriber, _ in named], [name for _, name in named])).fetchall()
    return {
        f"{subscriber}/{name}": SubscriptionRequestRow(subscription_id, body_digest, upgrade, version)
        for subscriber, name, subscription_id, body_digest, upgrade, version in rows
    }

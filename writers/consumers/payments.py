"""The consumer ``payments``: what webhooks prove, as facts on the topics of those whom it concerns.

A webhook is a reason to look. Its object is looked up at the provider once a batch, whatever its webhooks say and in
whatever order they come, and what is true of it is appended under ids derived from the newest of them. Where nothing can
be looked up each report is itself the fact: all of them are applied, in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

import structlog

from cluster.connections.kafka import Record
from cluster.connections.payments import Providers
from configs.contracts import topics
from configs.contracts.errors import DependencyUnavailable, PlatformError
from configs.contracts.events import Event, PaymentObserved, SubscriptionObserved, WebhookReceived, encode
from configs.contracts.ids import derived_id, partition_of
from configs.contracts.payment_facts import AnyFact, SubscriptionFact, SubscriptionState, owner_of
from configs.contracts.payments import ProviderMisconfigured, ProviderUnavailable, Report, webhook_id
from configs.contracts.topics import Topic
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers.deriving import Appending, wait_for_rows
from writers.dead_letters import without_dead
from writers.positions import Ownership, advance
from writers.records import Fact, LogRecord, Place, decode_all, next_offsets

log = structlog.get_logger(__name__)

TOPICS = (topics.PAYMENT_WEBHOOKS,)
AT_ONCE: Final = 16
"""Look-ups at one time; Stripe takes 100 a second of an account."""
BATCH: Final = 256
"""Webhooks between two commits."""

APPLIED = """
SELECT provider, provider_event_id FROM webhook_events
WHERE object_id = ANY(%s) AND provider_event_id = ANY(%s) AND applied_at IS NOT NULL
"""
APPLY = """
UPDATE webhook_events SET applied_at = now() FROM unnest(%s::text[], %s::text[], %s::text[]) AS batch (object_id, provider, id)
WHERE webhook_events.object_id = batch.object_id AND webhook_events.provider = batch.provider
  AND webhook_events.provider_event_id = batch.id AND applied_at IS NULL
"""
T = TypeVar("T")


class Payments:
    """Applies each webhook once; killed before its commit, it looks and appends again under the same ids."""

    consumer = "payments"

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._appending = Appending(settings, f"{name}-payments")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._providers = Providers(settings)
        self.figures = Counter(dict.fromkeys(("applied", "repeated", "of_no_concern", "refused"), 0))
        """applied, repeated, of_no_concern, refused (the provider knows no such object, or not with our rights)."""

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        """Raises DependencyUnavailable also when only one provider is away: what the others told is applied before."""
        wait_for_rows(conn, owned, records)
        reached = dict(before)
        away: dict[str, ProviderUnavailable] = {}
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            decoded, _ = decode_all(without_dead(conn, batch, owned.generations), owned.generations)
            webhooks = [fact for _, fact in decoded if isinstance(fact.event.payload, WebhookReceived)]
            for name, events in self._unapplied(conn, webhooks).items():
                if name in away:
                    continue
                try:
                    self._appending.append(self._run(self._looked_up(name, events)))
                except ProviderUnavailable as error:
                    away[name] = error
            payloads = [fact.event.payload for fact in webhooks if fact.event.payload.provider not in away]
            with conn.transaction(), conn.cursor() as cur:
                if not away:
                    advance(cur, owned, reached, next_offsets(batch))
                cur.execute(APPLY, (
                    [payload.object_id for payload in payloads], [payload.provider for payload in payloads],
                    [payload.provider_event_id for payload in payloads],
                ))
            reached.update(next_offsets(batch))
        if away:
            raise next(iter(away.values()))

    def _unapplied(self, conn: Connection, webhooks: Sequence[Fact]) -> dict[str, list[Event]]:
        """The webhooks that were not applied, once each and in the order in which they came, by provider.

        First the providers that are asked nothing, so that they wait for no other.
        """
        if not webhooks:
            return {}
        payloads = [fact.event.payload for fact in webhooks]
        rows = conn.execute(APPLIED, (
            [payload.object_id for payload in payloads], [payload.provider_event_id for payload in payloads],
        )).fetchall()
        applied = {(provider, event_id) for provider, event_id in rows}
        found: dict[str, list[Event]] = {}
        for fact in webhooks:
            payload = fact.event.payload
            if (payload.provider, payload.provider_event_id) in applied:
                self.figures["repeated"] += 1
                continue
            applied.add((payload.provider, payload.provider_event_id))
            found.setdefault(payload.provider, []).append(fact.event)
        return {name: found[name] for name in sorted(found, key=lambda name: self._run(self._looks_up(name)))}

    def _run(self, work: Coroutine[None, None, T]) -> T:
        self._loop = self._loop or asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    async def _looks_up(self, name: str) -> bool:
        """Whether a provider is asked; one without keys here is not."""
        return name in self._providers.names and (await self._providers.named(name)).capabilities.looks_up

    async def _looked_up(self, name: str, webhooks: Sequence[Event]) -> list[Record]:
        """The records of all facts of one provider. Raises ProviderUnavailable: come again."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(event: Event) -> list[Record]:
            async with gate:
                return self._records(event, await self._facts(event.payload))

        asked = newest(webhooks) if await self._looks_up(name) else webhooks
        found = await asyncio.gather(*(one(event) for event in asked))
        return [record for records in found for record in records]

    async def _facts(self, webhook: WebhookReceived) -> Sequence[AnyFact]:
        if webhook.provider not in self._providers.names:
            self.figures["refused"] += 1
            return ()
        provider = await self._providers.named(webhook.provider)
        try:
            facts = await provider.facts(Report(
                provider=webhook.provider, event_id=webhook.provider_event_id, object_id=webhook.object_id, kind=webhook.kind,
                livemode=webhook.livemode, created_at=webhook.created_at, body=webhook.body,
            ))
        except (DependencyUnavailable, ProviderMisconfigured) as error:
            raise ProviderUnavailable("a payment provider does not answer", provider=webhook.provider) from error
        except PlatformError as error:
            log.warning("webhook_refused", provider=webhook.provider, kind=webhook.kind, reason=str(error))
            self.figures["refused"] += 1
            return ()
        self.figures["applied" if facts else "of_no_concern"] += 1
        return facts

    def _records(self, webhook: Event, facts: Sequence[AnyFact]) -> list[Record]:
        """A subscription's state for its shard, money for the ledger; money of a subscription for both."""
        made = []
        for fact in facts:
            owner_id = owner_of(fact)
            if not is_id(owner_id):
                log.warning("fact_without_owner", kind=fact.kind, object=fact.object_id)
                continue
            event_id = derived_id(webhook.event_id, f"{fact.kind}:{fact.object_id}")
            if isinstance(fact, SubscriptionState):
                made.append(self._record(topics.SUBSCRIPTION_CREATED, event_id, webhook, SubscriptionObserved(owner_id=owner_id, fact=fact)))
                continue
            made.append(self._record(topics.PAYMENT_COMPLETED, event_id, webhook, PaymentObserved(owner_id=owner_id, fact=fact)))
            if isinstance(fact, SubscriptionFact) and fact.subscription_id is not None:
                made.append(self._record(
                    topics.SUBSCRIPTION_CREATED, derived_id(event_id, "subscription"), webhook,
                    SubscriptionObserved(owner_id=owner_id, fact=fact),
                ))
        return made

    def _record(self, topic: Topic, event_id: str, webhook: Event, payload: PaymentObserved | SubscriptionObserved) -> Record:
        event = Event(event_id, webhook.occurred_at, payload.owner_id, payload)
        return Record(topic.name, partition_of(event.key, self._settings.log.partitions), event.key, encode(event))

    def close(self) -> None:
        self._appending.close()
        if self._loop is not None:
            self._loop.run_until_complete(self._providers.close())
            self._loop.close()
            self._loop = None


def newest(webhooks: Sequence[Event]) -> list[Event]:
    """The newest webhook of each object."""
    found: dict[str, Event] = {}
    for event in webhooks:
        held = found.get(event.payload.object_id)
        if held is None or held.payload.created_at <= event.payload.created_at:
            found[event.payload.object_id] = event
    return list(found.values())


def is_id(text: str) -> bool:
    """Whether metadata holds an id of ours: anybody with the provider's console can write something else there."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def received(report: Report, at: datetime, partitions: int) -> Record:
    """A report as the route would have kept it."""
    event = Event(
        webhook_id(report.provider, report.event_id), at.astimezone(UTC), report.object_id,
        WebhookReceived(
            provider=report.provider, provider_event_id=report.event_id, object_id=report.object_id, kind=report.kind,
            livemode=report.livemode, created_at=report.created_at, body=report.body,
        ),
    )
    return Record(topics.PAYMENT_WEBHOOKS.name, partition_of(event.key, partitions), event.key, encode(event))

"""The consumers ``push_<provider>``: notifications and messages to devices, after those connected had their chance.

Each provider has its own position, so that one that is away delays no other. Sent first, then the position moves: a
consumer that was killed between the two sends again, under the same ids (docs/design.md says what providers make of it).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import redis

from cluster.connections.kafka import Record
from cluster.connections.redis import sync_client
from configs.contracts import topics
from configs.contracts.errors import ConfigurationError, DependencyUnavailable
from configs.contracts.events import DeviceRemoved, Event, encode
from configs.contracts.ids import derived_id, partition_of
from configs.settings import Settings
from writers.connections import Connection
from writers.consumers.deriving import Appending, wait_for_rows
from writers.dead_letters import without_dead
from writers.positions import Ownership, advance
from writers.push.deciding import Occasion, message, newest, occasion, skipped
from writers.push.delivering import Delivery, Push, Stopping
from writers.push.facts import devices_of, facts_of
from writers.push.provider import Outcome, Provider
from writers.records import LogRecord, Place, decode_all, next_offsets

TOPICS = (topics.NOTIFICATION_SEND, topics.MESSAGING_MESSAGE_SENT)
REAL: Final = ("fcm", "apns", "webpush")


def consumers_of(settings: Settings) -> tuple[str, ...]:
    """The providers that run: those with keys, and for the other platforms the outbox where it is on."""
    configured = settings.push.providers
    return (*configured, "outbox") if settings.push.outbox and len(configured) < len(REAL) else configured


def provider_of(settings: Settings, name: str) -> Provider:
    """The provider, with its libraries imported only now. Raises ConfigurationError: its keys cannot be used."""
    if name == "fcm":
        from writers.push.fcm import Fcm

        return Fcm(settings.push)
    if name == "apns":
        from writers.push.apns import Apns

        return Apns(settings.push)
    if name == "webpush":
        from writers.push.webpush import WebPush

        return WebPush(settings.push)
    from writers.push.outbox import Outbox

    return Outbox(settings, frozenset(REAL) - set(settings.push.providers))


class PushConsumer:
    """Pushes what its provider's devices should show; belongs to one thread."""

    def __init__(self, settings: Settings, name: str, provider: str, stopping: threading.Event) -> None:
        self.consumer = f"push_{provider}"
        self._settings = settings
        self._provider_name = provider
        self._stopping = stopping
        self._appending = Appending(settings, f"{name}-{self.consumer}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._provider: Provider | None = None
        self._delivery: Delivery | None = None
        self._redis: redis.Redis | None = None
        self._problem = ""
        self.skips: Counter[str] = Counter()

    def handle(
        self, conn: Connection, owned: Ownership, before: Mapping[Place, int], records: Sequence[LogRecord]
    ) -> None:
        wait_for_rows(conn, owned, records)
        decoded, _ = decode_all(without_dead(conn, records, owned.generations), owned.generations)
        found = newest([one for _, fact in decoded if (one := occasion(fact.event)) is not None])
        if found:
            self._push(conn, found)
        with conn.transaction(), conn.cursor() as cur:
            advance(cur, owned, before, next_offsets(records))

    def _push(self, conn: Connection, occasions: Sequence[Occasion]) -> None:
        """Raises DependencyUnavailable: the process ends before everything is decided."""
        delivery = self._opened()
        assert self._redis is not None
        assert self._provider is not None
        assert self._loop is not None
        devices = devices_of(conn, {one.user_id for one in occasions}, self._provider.platforms)
        reachable = [one for one in occasions if one.user_id in devices]
        self.skips["no_device"] += len(occasions) - len(reachable)
        if not reachable:
            return
        self._wait_for_devices(reachable)
        # Read anew: a device may have moved to another account meanwhile.
        devices = devices_of(conn, devices, self._provider.platforms)
        reachable = [one for one in reachable if one.user_id in devices]
        facts, now = facts_of(conn, self._redis, reachable), datetime.now(UTC)
        pushes: list[Push] = []
        for one in reachable:
            reason = skipped(one, facts, now)
            if reason is not None:
                self.skips[reason] += 1
                continue
            shown = message(one, facts)
            pushes += [Push(target, shown) for target in devices[one.user_id]]
        try:
            gone = self._loop.run_until_complete(delivery.deliver(pushes))
        except Stopping as error:
            raise DependencyUnavailable("the writer ends", consumer=self.consumer) from error
        self._remove(gone)

    def _wait_for_devices(self, occasions: Sequence[Occasion]) -> None:
        """Gives connected devices their time to acknowledge."""
        age_s = min((datetime.now(UTC) - one.at).total_seconds() for one in occasions)
        if self._stopping.wait(min(self._settings.push.delay_s, max(0.0, self._settings.push.delay_s - age_s))):
            raise DependencyUnavailable("the writer ends", consumer=self.consumer)

    def _opened(self) -> Delivery:
        if self._delivery is None:
            self._loop = asyncio.new_event_loop()
            self._redis = sync_client(self._settings)
            try:
                self._provider = self._loop.run_until_complete(self._made())
            except ConfigurationError as error:
                self._problem = error.message
                self.close()
                raise DependencyUnavailable("push cannot be configured", consumer=self.consumer) from error
            self._problem = ""
            self._delivery = Delivery(self._provider, self._stopping.is_set)
        return self._delivery

    async def _made(self) -> Provider:
        return provider_of(self._settings, self._provider_name)

    def _remove(self, gone: Sequence[tuple[Push, Outcome]]) -> None:
        """Devices that their provider no longer knows; not when they registered again after it noticed."""
        events = [
            Event(
                derived_id(target.registration, "unregistered"), datetime.now(UTC), target.device_id,
                DeviceRemoved(
                    device_id=target.device_id, user_id=target.user_id, reason="unregistered", registration=target.registration
                ),
            )
            for target, since in {push.target: outcome.since for push, outcome in gone}.items()
            if since is None or since >= target.registered_at
        ]
        self._appending.append([
            Record(
                topics.NOTIFICATION_DEVICES.name, partition_of(event.key, self._settings.log.partitions), event.key,
                encode(event),
            )
            for event in events
        ])

    def close(self) -> None:
        self._appending.close()
        if self._loop is not None:
            if self._provider is not None:
                self._loop.run_until_complete(self._provider.close())
            self._loop.close()
        if self._redis is not None:
            self._redis.close()
        self._loop = self._provider = self._delivery = self._redis = None

    def describe(self) -> dict[str, Any]:
        """Figures for status and metrics; ``refused`` names why the platform's keys cannot be used."""
        delivery = self._delivery
        return {
            "delivered": dict(delivery.counts) if delivery is not None else {}, "skipped": dict(self.skips),
            "refused": self._problem or (delivery.stopped if delivery is not None else ""),
        }

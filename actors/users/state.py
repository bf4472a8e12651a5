"""What a person stated once: pure decisions on account changes, reports and notifications.

The memory holds what decides: remembered requests and the times of recent location changes. Facts themselves
(profile, blocks, notifications) need no memory; the log orders them and rows and read model hold them.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from actors.entries import Entries
from actors.idempotency import Remembered, Requests, request_key
from actors.sharding.memory import Append, Decision
from actors.users.commands import IdempotencyConflict, LimitReached, Record, Recorded, RecordPayload
from configs.contracts.events import (
    TOPIC_OF,
    CommentDeleted,
    ContentCommented,
    ContentLiked,
    ContentUnliked,
    DeviceRegistered,
    DeviceRemoved,
    Event,
    LocationChanged,
    NotificationSent,
    UserReported,
    WasActive,
)
from configs.contracts.ids import new_id

UserAnswer = Recorded | IdempotencyConflict | LimitReached
Place = tuple[str, str]
"""(topic, record key): names the partition in which a version counts."""

HOUR = timedelta(hours=1)


def owner_of(payload: RecordPayload) -> str:
    """The person whose shard recorded this."""
    return payload.reporter_id if isinstance(payload, UserReported) else payload.user_id


class Person:
    """One person's requests, and (version, time) of their location changes in the last hour, oldest first."""

    __slots__ = ("loaded", "moves", "requests")

    def __init__(self) -> None:
        self.loaded = False
        self.requests: Requests | None = None
        self.moves: list[tuple[int, datetime]] = []


class UserMemory:
    """People in memory. Only those with an Idempotency-Key or a location change take room.

    ``location_changes_an_hour`` is a sliding limit kept in memory only: a restart restores the changes that stand in
    the replayed tail of the log, an evicted person begins anew.
    """

    def __init__(self, *, location_changes_an_hour: int, owns: Callable[[str], bool] = lambda user_id: True) -> None:
        self._people: Entries[Person] = Entries(Person)
        self._moves_limit = location_changes_an_hour
        self._owns = owns
        self._unsettled: dict[str, dict[Place, int]] = {}

    def needs(self, command: Record) -> Sequence[str]:
        return () if _request_of(command) is None else (command.user_id,)

    def known(self, key: str) -> bool:
        person = self._people.get(key)
        return person is not None and person.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a sequence of ``IdempotencyRow``; None: there are none."""
        person = self._people.use(key)
        person.loaded = True
        if isinstance(row, Sequence) and row:
            person.requests = person.requests or Requests()
            person.requests.merge(row)

    def conflict_key(self, command: Record) -> str:
        return command.user_id

    def decide(self, command: Record, now: datetime) -> Decision[UserAnswer]:
        person = self._people.get(command.user_id) or Person()
        request = _request_of(command)
        found = person.requests.find(request, now) if request is not None and person.requests is not None else None
        if found is not None:
            same = found.body_digest == (command.body_digest or "")
            repeated = Recorded(found.event_id, 0, replayed=True, payload=None, at=found.at) if same else IdempotencyConflict()
            return Decision((), lambda versions: repeated)
        payload = command.payload
        if isinstance(payload, LocationChanged):
            wait_s = self._wait_s(person, now)
            if wait_s:
                return Decision((), lambda versions: LimitReached(wait_s))
        event_id = new_id()
        recorded = _completed(payload, event_id, request, command.body_digest)
        key = command.topic_key or _key_of(payload)
        return Decision(
            (Append(TOPIC_OF[type(payload)], key, Event(event_id, now, key, recorded)),),
            lambda versions: Recorded(event_id, versions[0], replayed=False, payload=recorded, at=now),
        )

    def _wait_s(self, person: Person, now: datetime) -> int:
        """Seconds until the next location change is allowed; 0 when it is."""
        recent = [at for _, at in person.moves if now - at < HOUR]
        if len(recent) < self._moves_limit:
            return 0
        return max(1, math.ceil((recent[-self._moves_limit] + HOUR - now).total_seconds()))

    def apply(self, event: Event, version: int) -> None:
        payload = event.payload
        topic = TOPIC_OF.get(type(payload))
        if topic is None or not isinstance(payload, RecordPayload):
            return
        owner = owner_of(payload)
        if not self._owns(owner):
            return
        if isinstance(payload, LocationChanged):
            self._moved(self._people.use(owner), version, event.occurred_at)
        key = None if isinstance(payload, WasActive) else payload.idempotency_key
        if isinstance(payload, WasActive) or key is None:
            return
        person = self._people.use(owner)
        person.requests = person.requests or Requests()
        person.requests.remember(key, Remembered(payload.body_digest or "", event.event_id, event.occurred_at))
        places = self._unsettled.setdefault(owner, {})
        place = (topic.name, event.key)
        places[place] = max(places.get(place, 0), version)

    def _moved(self, person: Person, version: int, at: datetime) -> None:
        if any(held == version for held, _ in person.moves):
            return
        insort(person.moves, (version, at))
        del person.moves[: -self._moves_limit]

    def entries(self) -> int:
        return len(self._people)

    def settle(self, committed: Callable[[str, str], int]) -> None:
        """Takes note of what the rows hold: ``committed(topic, key)`` is the version up to which, exclusive."""
        for owner, places in list(self._unsettled.items()):
            left = {place: version for place, version in places.items() if version >= committed(*place)}
            if left:
                self._unsettled[owner] = left
            else:
                del self._unsettled[owner]

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        """As ``Memory.evict``; a person's events stand in several topics, so ``settle`` says what rows hold."""
        return self._people.evict(limit, lambda key, person: key not in self._unsettled)


def _key_of(payload: RecordPayload) -> str:
    """The record's key: whose facts must stay in order."""
    if isinstance(payload, UserReported):
        return payload.target_id
    if isinstance(payload, DeviceRegistered | DeviceRemoved):
        return payload.device_id
    if isinstance(payload, ContentLiked | ContentUnliked | ContentCommented | CommentDeleted):
        return payload.post_id
    return payload.user_id


def _request_of(command: Record) -> str | None:
    """What the command is remembered by. Activity carries no key: reporting it twice changes nothing."""
    if command.idempotency_key is None or isinstance(command.payload, WasActive):
        return None
    return request_key(command.scope, command.idempotency_key)


def _completed(payload: RecordPayload, event_id: str, request: str | None, body_digest: str | None) -> RecordPayload:
    """The payload as it is recorded: with its request, and the ids shown to clients, which are the event's."""
    if isinstance(payload, WasActive):
        return payload
    changes: dict[str, Any] = {
        "idempotency_key": request, "body_digest": None if request is None else body_digest
    }
    if isinstance(payload, UserReported) and not payload.report_id:
        changes["report_id"] = event_id
    if isinstance(payload, NotificationSent) and not payload.notification_id:
        changes["notification_id"] = event_id
    if isinstance(payload, ContentCommented) and not payload.comment_id:
        changes["comment_id"] = event_id
    return msgspec.structs.replace(payload, **changes)

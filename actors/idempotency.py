"""What an owner was already asked for: the newest 64 requests of the last 24 hours, by Idempotency-Key.

An owner is an address (accounts) or a person (users). The memory is rebuilt from the loader's rows and from the
``idempotency_key`` of the owner's events; both hold ``request_key(scope, key)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.contracts.loading import IdempotencyRow

REMEMBERED = 64
"""Requests of one owner; the loader returns as many."""
LIFETIME = timedelta(hours=24)
"""SPEC section 2: how long a key names its first request (money routes, which keep it for good, come with tables)."""


@dataclass(frozen=True, slots=True)
class IdempotencyConflict:
    """The key already names a request with another body; nothing was recorded."""


def request_key(scope: str, key: str) -> str:
    """The text under which a request is remembered: the route's scope and the client's key."""
    return f"{scope} {key}"


@dataclass(frozen=True, slots=True)
class Remembered:
    """One request that was recorded: the digest of its body and the event that answered it."""

    body_digest: str
    event_id: str
    at: datetime


class Requests:
    """One owner's remembered requests, oldest first. Merging rows and events in any order gives the same memory."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[str, Remembered] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: str, now: datetime) -> Remembered | None:
        """The request that the key names, if it is younger than 24 hours."""
        found = self._by_key.get(key)
        return found if found is not None and now - found.at < LIFETIME else None

    def remember(self, key: str, request: Remembered) -> None:
        """Keeps the request under its key; of two under one key the newer stays."""
        held = self._by_key.get(key)
        if held is not None and (held.at, held.event_id) >= (request.at, request.event_id):
            return
        newest = next(reversed(self._by_key.values()), None)
        self._by_key.pop(key, None)
        self._by_key[key] = request
        if newest is not None and (newest.at, newest.event_id) > (request.at, request.event_id):
            self._by_key = dict(sorted(self._by_key.items(), key=lambda item: (item[1].at, item[1].event_id)))
        while len(self._by_key) > REMEMBERED:
            del self._by_key[next(iter(self._by_key))]

    def merge(self, rows: Sequence[IdempotencyRow]) -> None:
        """Adds what the rows remember."""
        for row in rows:
            self.remember(row.key, Remembered(row.body_digest, row.event_id, row.at))

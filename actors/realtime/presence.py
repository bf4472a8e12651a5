"""Who is connected anywhere, how long ago they were last active, and delivered marks: in Redis only, never durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Any, Final, Protocol

import msgspec

from configs.contracts import realtime as keys
from configs.contracts.acknowledged import acknowledge
from configs.contracts.people import Bucket, activity_bucket
from configs.contracts.read_model import read_record, record_key

Command = tuple[str | bytes | int, ...]
_ENTRIES: Final = msgspec.json.Decoder(keys.GatewayEntry)


class Lane(Protocol):
    """What is needed of ``cluster.connections.reading.Reads``."""

    def raw(self, *commands: Command) -> Awaitable[list[Any]]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One person's presence as others see it."""

    online: bool
    bucket: Bucket


@dataclass(frozen=True, slots=True)
class Attached:
    """What attaching a device found: whether it is the person's first, and whose sockets are over the bound."""

    first: bool
    over: tuple[str, ...]


def _connected(devices: Sequence[bytes], lives: Set[str]) -> bool:
    """Whether one of these devices belongs to a gateway that lives."""
    return any(keys.life_of(device.decode()) in lives for device in devices)


class Presences:
    """Every method raises DependencyUnavailable when Redis does not answer."""

    def __init__(self, lane: Lane, *, clock: Callable[[], float] = time) -> None:
        self._lane = lane
        self._clock = clock
        self._living: frozenset[str] = frozenset()

    def note_gateways(self, gateways: Sequence[bytes]) -> bool:
        """Takes in what all gateways say of themselves; whether one that lived before does so no longer."""
        lived, self._living = self._living, self._lives(gateways)
        return not lived <= self._living

    def _lives(self, gateways: Sequence[bytes]) -> frozenset[str]:
        """The lives in a reply to HGETALL of ``GATEWAYS`` that go on."""
        since = self._now_ms() - keys.GATEWAY_LIFE_MS
        return frozenset(entry.life for value in gateways[1::2] if (entry := _ENTRIES.decode(value)).at_ms > since)

    async def attach(self, user_id: str, connection_id: str) -> Attached:
        """Adds a device of a person; the bound of devices holds over all gateways."""
        ((before, over),) = await self._lane.raw((
            "EVAL", keys.ATTACH_LUA, 2, keys.devices_key(user_id), keys.seen_key(user_id),
            connection_id, self._now_ms(), keys.DEVICE_TTL_MS, keys.DEVICES, keys.SEEN_TTL_S,
        ))
        return Attached(not _connected(before, self._living), tuple(name.decode() for name in over))

    async def detach(self, user_id: str, connection_id: str) -> bool:
        """Takes a device out; whether it was the person's last anywhere."""
        (left,) = await self._lane.raw((
            "EVAL", keys.DETACH_LUA, 2, keys.devices_key(user_id), keys.seen_key(user_id),
            connection_id, self._now_ms(), keys.DEVICE_TTL_MS, keys.SEEN_TTL_S,
        ))
        return not _connected(left, self._living)

    async def refresh(self, devices: Sequence[tuple[str, str]]) -> None:
        """Says of many (person, device) at once that they are still connected.

        One that was over the bound and missed the word that closes it is told again.
        """
        now = self._now_ms()
        if not devices:
            return
        found = await self._lane.raw(*(
            ("EVAL", keys.REFRESH_LUA, 2, keys.devices_key(user_id), keys.seen_key(user_id),
             connection_id, now, keys.DEVICE_TTL_MS, keys.SEEN_TTL_S, keys.DEVICES)
            for user_id, connection_id in devices
        ))
        over = [
            keys.close_devices(user_id, map(bytes.decode, gone))
            for (user_id, _), gone in zip(devices, found, strict=True) if gone
        ]
        if over:
            await self.tell(*over)

    async def look(self, user_ids: Sequence[str]) -> list[Seen]:
        """The presence of each person, in order."""
        now_ms = self._now_ms()
        commands: list[Command] = [("HGETALL", keys.GATEWAYS)]
        for user_id in user_ids:
            commands += (
                ("ZRANGEBYSCORE", keys.devices_key(user_id), now_ms - keys.DEVICE_TTL_MS, "+inf"),
                ("GET", keys.seen_key(user_id)), ("GET", record_key(user_id)),
            )
        if not user_ids:
            return []
        gateways, *replies = await self._lane.raw(*commands)
        lives = self._lives(gateways)
        return [
            self._seen(now_ms, lives, *replies[start : start + 3]) for start in range(0, len(replies), 3)
        ]

    def _seen(self, now_ms: int, lives: Set[str], devices: Sequence[bytes], seen: bytes | None, record: bytes | None) -> Seen:
        if _connected(devices, lives):
            return Seen(online=True, bucket="now")
        last_ms = float(seen) if seen else 0.0
        if record is not None and (active := read_record(record).last_active_at) is not None:
            last_ms = max(last_ms, datetime.fromisoformat(active).timestamp() * 1_000)
        return Seen(online=False, bucket=activity_bucket((now_ms - last_ms) / 1_000 if last_ms else None))

    async def delivered(self, user_id: str, conversation_id: str, seq: int) -> bool:
        """Moves a person's delivered mark forward; whether it moved."""
        (moved,) = await self._lane.raw((
            "EVAL", keys.FORWARD_LUA, 1, keys.delivered_key(user_id), conversation_id, seq, keys.DELIVERED_TTL_S,
        ))
        return bool(moved)

    async def acknowledged(self, user_id: str, notification_id: str) -> None:
        """Notes that a device of the person shows a notification."""
        await self._lane.raw(*acknowledge(user_id, notification_id, self._now_ms()))

    async def tell(self, *publications: tuple[str, bytes]) -> None:
        """Publishes (channel, payload) to every gateway that hears the channel."""
        await self._lane.raw(*(("SPUBLISH", channel, payload) for channel, payload in publications))

    def _now_ms(self) -> int:
        return int(self._clock() * 1_000)


CHANGED: Final = b"changed"
"""Payload on a presence channel: look again."""

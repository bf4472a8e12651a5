"""What a gateway says about itself and its devices in Redis, so that clients find it and people count as online."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from time import time
from typing import Final

import msgspec
import structlog

from actors.realtime.presence import Presences
from cluster.connections.reading import Reads
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.realtime import DEVICE_TTL_MS, GATEWAYS, GatewayEntry

log = structlog.get_logger(__name__)

REFRESH_SHARES: Final = DEVICE_TTL_MS // 3_000
"""Devices are refreshed in so many shares, one a second: each three times before it would count as gone."""


class Standing:
    """Writes the gateway's entry and refreshes devices; what Redis does not take is written a second later."""

    def __init__(self, name: str, url: str, reads: Reads, presences: Presences) -> None:
        self.life = f"{name}.{secrets.token_hex(4)}"
        self._name = name
        self._url = url
        self._reads = reads
        self._presences = presences

    async def say(
        self, sockets: int, *, draining: bool, devices: Sequence[tuple[str, str]] = (), figures: dict[str, int] | None = None
    ) -> bool:
        """The gateway lives, with so many sockets; these (person, device) are still connected.

        Whether another gateway has died since the last call.
        """
        entry = GatewayEntry(
            url=self._url, sockets=sockets, draining=draining, at_ms=int(time() * 1_000), life=self.life,
            figures=figures or {},
        )
        try:
            _, found = await self._reads.raw(
                ("HSET", GATEWAYS, self._name, msgspec.json.encode(entry)), ("HGETALL", GATEWAYS)
            )
            await self._presences.refresh(devices)
        except DependencyUnavailable as error:
            log.warning("gateway_not_announced", reason=error.message)
            return False
        return self._presences.note_gateways(found)

    async def leave(self) -> None:
        """The gateway takes no more sockets."""
        try:
            await self._reads.raw(("HDEL", GATEWAYS, self._name))
        except DependencyUnavailable:
            log.warning("gateway_not_announced", reason="leaving")

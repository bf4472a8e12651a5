"""What an impression shard is asked."""

from __future__ import annotations

from typing import Final

import msgspec

from configs.contracts.events import CardsSeen, CardsServed

SERVICE: Final = "impressions"


class Shown(msgspec.Struct, frozen=True, gc=False):
    """One fact about cards that were served or seen; ``event_id`` names it, so appending it again changes nothing."""

    event_id: str
    occurred_at_us: int
    """Unix microseconds."""
    payload: CardsServed | CardsSeen


class Append(msgspec.Struct, frozen=True, gc=False):
    """Facts of viewers whose shards one actor hosts."""

    facts: tuple[Shown, ...]

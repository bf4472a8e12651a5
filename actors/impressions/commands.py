"""What an impression shard is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from configs.contracts.events import CardsSeen, CardsServed, Event, encode

SERVICE: Final = "impressions"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Shown(msgspec.Struct, frozen=True, gc=False):
    """One fact about cards that were served or seen. Its id names it, so appending it again changes nothing.

    ``value``: the event as it stands in the log, written by who makes it: unpacking and writing its tuples of texts would
    cost the shard more than all the rest.
    """

    viewer_id: str
    value: bytes

    @classmethod
    def of(cls, event_id: str, occurred_at_us: int, payload: CardsServed | CardsSeen) -> Shown:
        """``occurred_at_us``: Unix microseconds."""
        viewer_id = payload.viewer_id
        return cls(viewer_id, encode(Event(event_id, _EPOCH + timedelta(microseconds=occurred_at_us), viewer_id, payload)))


class Append(msgspec.Struct, frozen=True, gc=False):
    """Facts of viewers whose shards one actor hosts."""

    facts: tuple[Shown, ...]

"""What a webhook shard is asked."""

from __future__ import annotations

from typing import Final

import msgspec

SERVICE: Final = "webhooks"


class Keep(msgspec.Struct, frozen=True, gc=False):
    """A webhook whose signature was good, as it came; times in Unix microseconds."""

    provider: str
    provider_event_id: str
    object_id: str
    kind: str
    livemode: bool
    created_at_us: int
    received_at_us: int
    body: str

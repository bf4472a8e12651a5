"""What connected devices have acknowledged, so that nothing they show already is pushed: gateways write, push reads.

Messages: the delivered mark of the conversation (``realtime.delivered_key``). Notifications: ``ack:{u}``, a sorted set
of notification ids by the time (ms) of the acknowledgement. None of it lasts; losing it costs a needless push.
"""

from __future__ import annotations

from typing import Final

KEPT: Final = 64
"""Acknowledgements of one person that are kept, the newest."""
TTL_S: Final = 3_600
"""As long as a push is worth sending."""

Command = tuple[str | bytes | int, ...]


def acknowledged_key(user_id: str) -> str:
    return f"ack:{{{user_id}}}"


def acknowledge(user_id: str, notification_id: str, at_ms: int) -> tuple[Command, ...]:
    """The Redis commands by which a gateway notes that a device shows a notification."""
    key = acknowledged_key(user_id)
    return (
        ("ZADD", key, at_ms, notification_id), ("ZREMRANGEBYRANK", key, 0, -KEPT - 1), ("EXPIRE", key, TTL_S),
    )

"""What a push provider is to this platform: one message to one device, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

LONGEST_WAIT_S: Final = 300.0
"""A provider that asks for more is asked again after so long: pushes are worth an hour at most."""
PAYLOAD_BYTES: Final = 4_096
"""APNs' limit, and FCM's for a message."""

What = Literal["sent", "unregistered", "rejected", "too_large", "wait", "credentials"]


@dataclass(frozen=True, slots=True)
class Target:
    """One device; its token is a secret of its owner and is never logged."""

    device_id: str
    user_id: str
    platform: str
    token: str = field(repr=False)
    public_key: str | None = field(repr=False)
    auth_secret: str | None = field(repr=False)
    registration: str
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """What a device shows. ``push_id`` is the same on every repetition; of one ``collapse`` a device keeps the last."""

    push_id: str
    collapse: str
    title: str
    body: str | None
    data: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message. ``wait``: again after ``retry_after_s`` (None: the provider names no time).

    ``unregistered``: the device can never be reached by this token, known to the provider since ``since`` (None: now).
    ``credentials``: the platform's own keys are refused, so nothing can be sent to anybody.
    """

    what: What
    reason: str = ""
    retry_after_s: float | None = None
    since: datetime | None = None


SENT: Final = Outcome("sent")


class Provider(Protocol):
    """A way to devices of some platforms. Belongs to one event loop."""

    name: str
    platforms: frozenset[str]

    async def send(self, target: Target, message: Message) -> Outcome:
        """Never raises for what a provider or network does: that is an outcome."""
        ...

    async def close(self) -> None: ...


def cut(message: Message, encoded_bytes: int, limit: int) -> Message | None:
    """The message shortened so that it may fit: the body gives way first, then the data; None: nothing is left to cut."""
    over = encoded_bytes - limit
    if message.body:
        keep = len(message.body.encode()) - over - len("…".encode())
        body = message.body.encode()[: max(0, keep)].decode(errors="ignore")
        return Message(message.push_id, message.collapse, message.title, body + "…" if body else None, message.data, message.expires_at)
    if message.data:
        return Message(message.push_id, message.collapse, message.title, None, {}, message.expires_at)
    if len(message.title) > 40:
        return Message(message.push_id, message.collapse, message.title[:39] + "…", None, {}, message.expires_at)
    return None


def fitted(message: Message, encode: Callable[[Message], bytes], limit: int = PAYLOAD_BYTES) -> tuple[Message, bytes]:
    """The message, cut until its encoding fits, and the encoding."""
    while len(payload := encode(message)) > limit:
        shorter = cut(message, len(payload), limit)
        if shorter is None:
            break
        message = shorter
    return message, payload

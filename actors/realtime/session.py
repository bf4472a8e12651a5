"""One socket's decisions, apart from all I/O: who it speaks for, how much it may send, when it must end."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from configs.contracts import frames
from configs.contracts.access_tokens import Identity
from configs.contracts.frames import (
    NOT_AUTHENTICATED_IN_TIME,
    POLICY,
    UNAUTHENTICATED,
    Authenticate,
    ClientFrames,
    CloseCode,
    Error,
    FrameRefused,
    MarkDelivered,
    Send,
    Typing,
    Watch,
)
from configs.settings import Realtime

REFUSALS_AT_ONCE: Final = 30
REFUSALS_A_SECOND: Final = 1.0
"""Refused frames that a socket may cause, at once and from then on, before it is closed."""
TYPING_EVERY_S: Final = 2.0
WATCH_EVERY_S: Final = 2.0
WATCHES_AT_ONCE: Final = 5
REMEMBERED: Final = 64
"""Conversations of which a socket remembers what it reported last."""


class Allowance:
    """At most ``a_second`` in the long run and ``at_once`` together (generic cell rate algorithm, ITU-T I.371)."""

    __slots__ = ("_burst_s", "_due", "_every_s")

    def __init__(self, a_second: float, at_once: int) -> None:
        self._every_s = 1.0 / a_second
        self._burst_s = at_once / a_second
        self._due = 0.0

    def take(self, now: float) -> float:
        """0.0 when one was taken, else the seconds to wait."""
        due = max(self._due, now) + self._every_s
        wait = due - now - self._burst_s
        if wait > 1e-9:
            return wait
        self._due = due
        return 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """The frame is not carried out: what to answer, and whether the socket ends."""

    answer: Error | None
    close: CloseCode | None = None


class Session:
    """The state of one socket. Times are seconds of one clock, ``expires_at`` Unix seconds."""

    __slots__ = (
        "_authenticate_by", "_delivered", "_frames", "_refusals", "_typed", "_watches", "connection_id", "expires_at", "family_id",
        "permission_role", "sessions_from", "user_id",
    )

    def __init__(self, connection_id: str, settings: Realtime, now: float) -> None:
        self.connection_id = connection_id
        self.user_id = ""
        self.family_id = ""
        self.permission_role = ""
        self.sessions_from = 0
        self.expires_at = 0.0
        self._authenticate_by = now + settings.authenticate_s
        self._frames = Allowance(settings.frames_a_second, 2 * settings.frames_a_second)
        self._refusals = Allowance(REFUSALS_A_SECOND, REFUSALS_AT_ONCE)
        self._watches = Allowance(1 / WATCH_EVERY_S, WATCHES_AT_ONCE)
        self._typed: OrderedDict[str, float] = OrderedDict()
        self._delivered: OrderedDict[str, int] = OrderedDict()

    @property
    def open(self) -> bool:
        """Whether the socket speaks for somebody."""
        return bool(self.user_id)

    def received(self, text: str, now: float) -> ClientFrames | Refusal | None:
        """The frame to carry out, its refusal, or None when nothing is to be done."""
        wait_s = self._frames.take(now)
        if wait_s:
            return self._refused("too_many_requests", now, retry_after_ms=int(wait_s * 1_000) + 1)
        try:
            frame = frames.read_client(text)
        except FrameRefused as error:
            return self._refused(error.message, now)
        if isinstance(frame, Authenticate):
            if (frame.ticket is None) == (frame.access_token is None) or (self.open and frame.ticket is not None):
                return self._refused("invalid", now, ref=frame.ref)
            return frame
        if not self.open:
            return Refusal(frames.error("unauthenticated", ref=frame.ref), UNAUTHENTICATED)
        if isinstance(frame, Send) and not frames.sayable(frame.content, frame.attachments):
            return self._refused("invalid", now, ref=frame.ref, client_message_id=frame.client_message_id)
        if isinstance(frame, Watch) and (wait_s := self._watches.take(now)):
            return self._refused("too_many_requests", now, ref=frame.ref, retry_after_ms=int(wait_s * 1_000) + 1)
        if isinstance(frame, Typing):
            return frame if self._may_type(frame.conversation_id, now) else None
        if isinstance(frame, MarkDelivered):
            return frame if self._is_news(frame) else None
        return frame

    def refused(self, answer: Error, now: float) -> Refusal:
        """Counts a refusal that was decided elsewhere; too many end the socket."""
        return Refusal(answer, None if not self._refusals.take(now) else POLICY)

    def _refused(
        self, code: str, now: float, *, ref: str | None = None, client_message_id: str | None = None,
        retry_after_ms: int | None = None,
    ) -> Refusal:
        answer = frames.error(code, ref=ref, client_message_id=client_message_id, retry_after_ms=retry_after_ms)
        return self.refused(answer, now)

    def _may_type(self, conversation_id: str, now: float) -> bool:
        if now < self._typed.get(conversation_id, 0.0):
            return False
        _remember(self._typed, conversation_id, now + TYPING_EVERY_S)
        return True

    def _is_news(self, frame: MarkDelivered) -> bool:
        return frame.seq > self._delivered.get(frame.conversation_id, 0)

    def reported(self, frame: MarkDelivered) -> None:
        """A delivered mark was carried out: the same or an older one need not be again."""
        _remember(self._delivered, frame.conversation_id, frame.seq)

    def authenticated(self, identity: Identity) -> bool:
        """Whether the socket speaks for this person from now on; an open one changes its session, never its person."""
        if self.open and identity.user_id != self.user_id:
            return False
        self.user_id, self.family_id = identity.user_id, identity.family_id
        self.permission_role, self.expires_at = identity.permission_role, identity.expires_at
        self.sessions_from = identity.sessions_from
        return True

    def overdue(self, now: float, unix_now: float) -> CloseCode | None:
        """Why the socket must end now, if it must."""
        if not self.open:
            return NOT_AUTHENTICATED_IN_TIME if now >= self._authenticate_by else None
        return UNAUTHENTICATED if unix_now >= self.expires_at else None


def _remember(memory: OrderedDict[str, float] | OrderedDict[str, int], key: str, value: float) -> None:
    memory[key] = value  # type: ignore[assignment]
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)

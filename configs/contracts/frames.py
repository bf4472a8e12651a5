"""Every frame of the realtime socket: one JSON object with a ``type``; documented in docs/asyncapi.json.

Frames are only ever added and fields only added with defaults; clients ignore what they do not know, the gateway
refuses it. Order and completeness are the log's: a client that sees a gap in ``seq``, or a ``resync`` frame, asks
``GET /messaging/sync``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from configs.contracts.errors import PlatformError
from configs.contracts.texts import CONTROL

TEXT_LIMIT: Final = 5_000
FRAME_BYTES: Final = 65_536
"""A text of 5,000 characters has at most 60,000 bytes when every character is escaped as two surrogates."""
WATCHED_LIMIT: Final = 50
ATTACHMENTS_LIMIT: Final = 4

_Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$(?!\\n)")]
"""Python's ``$`` also stands before a last line feed; ``(?!\\n)`` says the same in every dialect."""
ConversationId = _Uuid
NotificationId = _Uuid
MediaId = _Uuid
Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
ClientMessageId = Annotated[str, msgspec.Meta(pattern="^[\\x21-\\x7e]{1,64}$(?!\\n)")]
Token = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]


class ClientFrame(
    msgspec.Struct, frozen=True, rename="camel", tag_field="type", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """Base of what clients send. ``ref``, when there is one, is repeated in an error that answers the frame."""

    ref: Annotated[str, msgspec.Meta(pattern="^[\\x20-\\x7e]{0,64}$(?!\\n)")] | None = None


class Authenticate(ClientFrame, frozen=True, kw_only=True, tag="authenticate"):
    """The first frame when the URL brought no ticket; later: a fresh access token prolongs the socket.

    Exactly one of both. A ticket works once, within 30 seconds, before the socket speaks for anybody.
    """

    ticket: Token | None = None
    access_token: Token | None = None


class Send(ClientFrame, frozen=True, kw_only=True, tag="send"):
    """A message. Answered by ``ack`` once it is durable; the same ``clientMessageId`` again gets the first answer.

    ``attachments``: ids of one's own media, each once; with some the text may be empty.
    """

    conversation_id: ConversationId
    client_message_id: ClientMessageId
    content: Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)]
    attachments: Annotated[tuple[MediaId, ...], msgspec.Meta(max_length=ATTACHMENTS_LIMIT)] = ()


class MarkDelivered(ClientFrame, frozen=True, kw_only=True, tag="delivered"):
    """This device holds everything in the conversation up to ``seq``. Moves forward only; not durable."""

    conversation_id: ConversationId
    seq: Sequence


class MarkRead(ClientFrame, frozen=True, kw_only=True, tag="read"):
    """The person has read everything in the conversation up to ``seq``. Moves forward only; durable."""

    conversation_id: ConversationId
    seq: Sequence


class Acknowledge(ClientFrame, frozen=True, kw_only=True, tag="notification"):
    """This device shows the notification, so it need not be pushed. Not durable, and not the same as having read it."""

    notification_id: NotificationId


class Typing(ClientFrame, frozen=True, kw_only=True, tag="typing"):
    """The person is writing; shown for a few seconds. At most one in two seconds is passed on."""

    conversation_id: ConversationId


class Watch(ClientFrame, frozen=True, kw_only=True, tag="presence"):
    """Whose presence to tell: answered by one ``presence`` frame each, and another when one changes.

    Replaces the list before. Conversations in which one has no part are passed over in silence.
    """

    conversation_ids: Annotated[tuple[ConversationId, ...], msgspec.Meta(max_length=WATCHED_LIMIT)]


class Ping(ClientFrame, frozen=True, kw_only=True, tag="ping"):
    """Answered by ``pong``, for clients that cannot see protocol pings."""


ClientFrames = Authenticate | Send | MarkDelivered | MarkRead | Acknowledge | Typing | Watch | Ping
CLIENT_FRAMES: Final[tuple[type[ClientFrame], ...]] = (
    Authenticate, Send, MarkDelivered, MarkRead, Acknowledge, Typing, Watch, Ping,
)


class ServerFrame(msgspec.Struct, frozen=True, rename="camel", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """Base of what the gateway sends."""


class Ready(ServerFrame, frozen=True, kw_only=True, tag="ready"):
    """The socket speaks for a person until ``expiresAt``; from here on nothing is missed. Now is the time to sync.

    And once more after ``syncAgainMs``: what was said just before may be in no list yet.
    """

    user_id: str
    connection_id: str
    expires_at: str
    ping_interval_s: int
    sync_again_ms: int = 0


class Ack(ServerFrame, frozen=True, kw_only=True, tag="ack"):
    """The message is durable and has its place: ``seq`` in its conversation."""

    client_message_id: str
    conversation_id: str
    message_id: str
    seq: int
    sent_at: str


class Message(ServerFrame, frozen=True, kw_only=True, tag="message"):
    """A durable message, told to every device of both members, the sender's too (known by ``clientMessageId``).

    ``postId``: a pay-per-view post for the recipient, who asks for it, and buys it, as for any other.
    ``attachments`` are ids; ``GET /messaging/conversations/{id}/messages`` has their URLs once they may be seen.
    """

    conversation_id: str
    message_id: str
    seq: int
    sender_id: str
    content: str
    sent_at: str
    client_message_id: str | None = None
    post_id: str | None = None
    attachments: tuple[str, ...] = ()


class Delivered(ServerFrame, frozen=True, kw_only=True, tag="delivered"):
    """A device of ``userId`` holds everything up to ``seq``."""

    conversation_id: str
    user_id: str
    seq: int


class Read(ServerFrame, frozen=True, kw_only=True, tag="read"):
    """``userId`` has read everything up to ``seq``; told to both members' devices."""

    conversation_id: str
    user_id: str
    seq: int


class TypingTold(ServerFrame, frozen=True, kw_only=True, tag="typing"):
    """``userId`` is writing."""

    conversation_id: str
    user_id: str


class Presence(ServerFrame, frozen=True, kw_only=True, tag="presence"):
    """Whether the other member has a device connected, and how long ago they were last active, coarsely.

    ``lastSeq``: of the conversation's newest message when this was told. A client that holds less missed some: it asks for
    them, again if they are in no list yet.
    """

    conversation_id: str
    user_id: str
    online: bool
    last_active_bucket: Literal["now", "today", "week", "older"]
    last_seq: int = 0


class MatchTold(ServerFrame, frozen=True, kw_only=True, tag="match"):
    """A match began or ended; ``userId`` is the other person. Why it ended is not told."""

    match_id: str
    conversation_id: str
    user_id: str
    status: Literal["active", "ended"]
    matched_at: str | None = None


class Notification(ServerFrame, frozen=True, kw_only=True, tag="notification"):
    """An entry of the notification list; a device that shows it answers with ``notification``. May come twice."""

    notification_id: str
    kind: str
    title: str
    body: str | None = None
    data: dict[str, str] = {}
    created_at: str


class Resync(ServerFrame, frozen=True, kw_only=True, tag="resync"):
    """Something may have been missed: ask ``GET /messaging/sync``, after ``afterMs`` when many are told at once."""

    reason: Literal["gap", "unavailable"]
    after_ms: int = 0


class Reconnect(ServerFrame, frozen=True, kw_only=True, tag="reconnect"):
    """The gateway is leaving: get a new ticket and connect after so many milliseconds. Close code 1012 follows."""

    after_ms: int


class Pong(ServerFrame, frozen=True, kw_only=True, tag="pong"):
    """The answer to ``ping``."""


class Error(ServerFrame, frozen=True, kw_only=True, tag="error"):
    """A frame was refused; nothing changed unless the code says so. ``code`` is one of ``ERRORS`` and stable."""

    code: str
    title: str
    retry_after_ms: int | None = None
    client_message_id: str | None = None
    ref: str | None = None


ServerFrames = (
    Ready | Ack | Message | Delivered | Read | TypingTold | Presence | MatchTold | Notification | Resync | Reconnect
    | Pong | Error
)
SERVER_FRAMES: Final[tuple[type[ServerFrame], ...]] = (
    Ready, Ack, Message, Delivered, Read, TypingTold, Presence, MatchTold, Notification, Resync, Reconnect, Pong, Error,
)

ERRORS: Final[dict[str, str]] = {
    "malformed_frame": "The frame is not a JSON object.",
    "unknown_type": "There is no such frame type.",
    "invalid": "The frame has invalid or unknown fields.",
    "unauthenticated": "The ticket or token is not valid.",
    "not_found": "There is no such conversation, or you have no part in it.",
    "conflict": "The clientMessageId was used with another text or other attachments.",
    "media_unknown": "An attachment is no media of yours, or was rejected or removed.",
    "too_many_requests": "Too many frames; wait.",
    "dependency_unavailable": "A server that is needed does not answer; it may have taken effect, send it again.",
}
"""Codes of error frames. The same client message sent again is safe."""


@dataclass(frozen=True, slots=True)
class CloseCode:
    """Why the gateway closes a socket, and what a client does then."""

    code: int
    title: str
    client: str


UNSUPPORTED_DATA: Final = CloseCode(1003, "binary frame", "send text frames; reconnect")
POLICY: Final = CloseCode(1008, "too many refused frames", "do not repeat what was refused; reconnect after a minute")
TOO_BIG: Final = CloseCode(1009, "frame too large", "reconnect; do not send it again")
NOT_ANSWERING: Final = CloseCode(1011, "pings were not answered", "reconnect")
RESTARTING: Final = CloseCode(1012, "the gateway is leaving", "reconnect after the delay of the reconnect frame")
TRY_LATER: Final = CloseCode(1013, "too slow, or the gateway is full", "reconnect after a random delay, then sync")
UNAUTHENTICATED: Final = CloseCode(4401, "no valid ticket or token, or expired or revoked", "get a new ticket, or sign in")
NOT_AUTHENTICATED_IN_TIME: Final = CloseCode(4408, "nobody signed in on the socket in time", "authenticate at once")
TOO_MANY_DEVICES: Final = CloseCode(4429, "the person's newest ten devices stay", "do not reconnect by itself")

CLOSE_CODES: Final = (
    UNSUPPORTED_DATA, POLICY, TOO_BIG, NOT_ANSWERING, RESTARTING, TRY_LATER, UNAUTHENTICATED, NOT_AUTHENTICATED_IN_TIME,
    TOO_MANY_DEVICES,
)

def sayable(content: str, attachments: tuple[str, ...]) -> bool:
    """Whether this is a message: a text that is not blank, or none and attachments; each of those once."""
    said = bool(content.strip()) or (not content and bool(attachments))
    return said and not CONTROL.search(content) and len(set(attachments)) == len(attachments)


_CLIENT: Final[msgspec.json.Decoder[ClientFrames]] = msgspec.json.Decoder(ClientFrames)
_SERVER: Final[msgspec.json.Decoder[ServerFrames]] = msgspec.json.Decoder(ServerFrames)
_ENCODER: Final = msgspec.json.Encoder()
_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in CLIENT_FRAMES)


class _Typed(msgspec.Struct):
    type: str


_KINDS: Final = msgspec.json.Decoder(_Typed)


class FrameRefused(PlatformError):
    """The text is no frame; ``message`` is a code of ``ERRORS``."""


def encode(frame: ServerFrame | ClientFrame) -> bytes:
    """The frame's JSON text."""
    return _ENCODER.encode(frame)


def read_client(text: str | bytes) -> ClientFrames:
    """The frame that a client sent. Raises FrameRefused, which repeats nothing of it."""
    try:
        return _CLIENT.decode(text)
    except msgspec.ValidationError as error:
        try:
            kind = _KINDS.decode(text).type
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # A JSON value that is no object, or an object without a type.
            raise FrameRefused("invalid") from error
        raise FrameRefused("invalid" if kind in _TYPES else "unknown_type") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameRefused("malformed_frame") from error


def read_server(text: str | bytes) -> ServerFrames:
    """The frame that a gateway sent, for clients in this repository. Raises FrameRefused: a type of the future."""
    try:
        return _SERVER.decode(text)
    except msgspec.MsgspecError as error:
        raise FrameRefused("unknown_type") from error


def error(code: str, *, ref: str | None = None, client_message_id: str | None = None, retry_after_ms: int | None = None) -> Error:
    """The error frame of a code."""
    return Error(
        code=code, title=ERRORS[code], ref=ref, client_message_id=client_message_id, retry_after_ms=retry_after_ms
    )

"""The route that sends a message."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from actors.messages.commands import AttachmentUnknown, ContentConflict, NoConversation, SendMessage, TooManyMessages
from configs.contracts import changes
from configs.contracts.changes import rfc3339
from configs.contracts.conversations import MessageEntry, StoredMessage
from configs.contracts.frames import ATTACHMENTS_LIMIT, TEXT_LIMIT, ClientMessageId, sayable
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN
from serve_apps.hot import HotRequest, HotRoute, refused
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused
from serve_apps.recording import to_the_end


class SendMessageBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """``clientMessageId`` names the message, so that sending it again gets the first answer. ``attachments``: one's own
    media, each once; with some the text may be empty."""

    conversation_id: Annotated[str, msgspec.Meta(pattern=UUID_PATTERN, max_length=36)]
    content: Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)]
    client_message_id: ClientMessageId
    post_id: Annotated[str, msgspec.Meta(
        pattern=UUID_PATTERN, max_length=36, description="a pay-per-view post of yours whose `recipientId` is the other one",
    )] | None = None
    attachments: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=UUID_PATTERN, max_length=36)], ...],
        msgspec.Meta(max_length=ATTACHMENTS_LIMIT),
    ] = ()


class SentMessage(msgspec.Struct, frozen=True, rename="camel"):
    """The message is durable; ``seq`` is its place in the conversation, from 1 and without gaps."""

    message_id: str
    conversation_id: str
    seq: int
    sent_at: str
    client_message_id: str


_BODIES: Final = msgspec.json.Decoder(SendMessageBody)
_ENCODER: Final = msgspec.json.Encoder()


async def send(dependencies: Dependencies, request: HotRequest) -> bytes:
    """Records a message, durable before the answer."""
    try:
        body = _BODIES.decode(request.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(error, "body") if isinstance(error, msgspec.MsgspecError) else Refused("malformed_body") from error
    if not sayable(body.content, body.attachments):
        raise Refused("invalid", fields=[{
            "field": "body.content", "message": "blank, or holds control characters, or an attachment is named twice",
        }])
    sender_id = request.person.user_id
    if body.post_id is not None:
        await _for_recipient(dependencies, sender_id, body.conversation_id, body.post_id)
    answer = await dependencies.conversations.send(
        SendMessage(
            body.conversation_id, sender_id, body.client_message_id, body.content, body.attachments, post_id=body.post_id
        )
    )
    if isinstance(answer, NoConversation):
        raise Refused("not_found")
    if isinstance(answer, ContentConflict):
        raise Refused("content_conflict")
    if isinstance(answer, AttachmentUnknown):
        raise Refused("media_unknown")
    if isinstance(answer, TooManyMessages):
        raise Refused("too_many_requests", retry_after_s=answer.retry_after_s)
    sent_at = rfc3339(answer.sent_at)
    if answer.recorded:
        entry = MessageEntry(
            answer.message_id, answer.seq, sender_id, answer.ordinal, body.client_message_id, body.content, sent_at,
            body.post_id, body.attachments,
        )
        await to_the_end(dependencies.write_through.apply(*changes.message_sent(
            body.conversation_id, answer.recipient_id, StoredMessage(entry, answer.epoch, answer.version)
        )))
    return _ENCODER.encode(
        SentMessage(answer.message_id, body.conversation_id, answer.seq, sent_at, body.client_message_id)
    )


async def _for_recipient(dependencies: Dependencies, sender_id: str, conversation_id: str, post_id: str) -> None:
    """Raises Refused: the post is not the sender's and for the other one alone, or was never published.

    One that was taken away since is no reason: a request that is repeated gets its first answer.
    """
    entry = await dependencies.reading.entry(sender_id, conversation_id)
    record = await dependencies.contents.record(post_id)
    if record is None or record.creator_id != sender_id or record.recipient_id != entry.other_id:
        raise Refused("not_found")
    if record.published_at is None:
        raise Refused("post_state")


SEND: Final = HotRoute(
    method="POST", path="/messaging/send", operation_id="sendMessage", tag="messaging",
    summary="Send a message in a conversation.", handler=send, answer=SentMessage, body=SendMessageBody,
    codes=(*SIGNED_IN, *WITH_BODY, "not_found", "content_conflict", "post_state", "media_unknown"),
    examples={
        "conversationId": "2c8f4c1a-7a56-5f0d-8a8e-3d2b6f5a9c10", "content": "Hello", "clientMessageId": "device-1:42",
    },
)

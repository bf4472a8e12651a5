"""Routes of conversations; sending is in ``send.py``, catching up in ``sync.py``."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from fastapi import APIRouter

from actors.messages.commands import NoConversation, SeqUnknown
from configs.contracts import changes
from configs.contracts.read_model import MatchEntry
from serve_apps.dependencies import Dependencies
from serve_apps.fields import ConversationIdPath
from serve_apps.identity import Deps, Person
from serve_apps.messaging.attachments import attached
from serve_apps.messaging.models import Conversation, Conversations, Messages, ReadBody, ReadUpTo
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end
from serve_apps.views import Message, summary

router = APIRouter(prefix="/messaging", tags=["messaging"])

_ENTRIES: Final = msgspec.json.Decoder(MatchEntry)
_USE: Final = b"messages"


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of messages ended: who reads which conversation, and the last number shown."""

    reader_id: str
    conversation_id: str
    seq: int


_PLACES: Final = msgspec.msgpack.Decoder(_Place)


@router.get(
    "/conversations", operation_id="listConversations", response_model=Conversations,
    responses=errors(*SIGNED_IN, "cursor_invalid"),
)
async def list_conversations(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Conversations:
    """One conversation for each match, the one with the newest message (or match) first; those of ended matches are gone."""
    page = await dependencies.listings.page("conv", person.user_id, limit, cursor)
    entries = [_ENTRIES.decode(value) for _, value in page.entries]
    others = await dependencies.people.unblocked(person.user_id, [entry.other_id for entry in entries])
    shown = [entry for entry in entries if entry.status == "active" and entry.other_id in others]
    heads = await dependencies.reading.heads(person.user_id, shown)
    return Conversations(
        conversations=[
            Conversation(
                conversation_id=entry.match_id, match_id=entry.match_id,
                user=summary(others[entry.other_id], dependencies.media_urls),
                started_at=datetime.fromisoformat(entry.matched_at),
                last_message=None if (last := heads[entry.match_id].last) is None else Message.of(last),
                unread_count=heads[entry.match_id].unread, read_seq=heads[entry.match_id].read_seq,
                other_read_seq=heads[entry.match_id].other_read_seq,
            )
            for entry in shown
        ],
        next_cursor=page.next_cursor,
    )


@router.get(
    "/conversations/{id}/messages", operation_id="listMessages", response_model=Messages,
    responses=errors(*SIGNED_IN, "not_found", "cursor_invalid"),
)
async def list_messages(
    conversation_id: ConversationIdPath, person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None
) -> Messages:
    """The messages of a conversation in which the person takes part, newest first."""
    before = None if cursor is None else _before(dependencies, person.user_id, conversation_id, cursor)
    entry = await dependencies.reading.entry(person.user_id, conversation_id)
    head = (await dependencies.reading.heads(person.user_id, (entry,)))[conversation_id]
    newest = head.last_seq if before is None else min(before - 1, head.last_seq)
    oldest = max(1, newest - limit + 1)
    found = await dependencies.reading.messages(conversation_id, head.last_seq, range(newest, oldest - 1, -1))
    following = None
    if found and oldest > 1:
        place = msgspec.msgpack.encode(_Place(person.user_id, conversation_id, oldest))
        following = dependencies.seals.seal(_USE, place)
    media = await attached(dependencies, person.user_id, found)
    return Messages(
        messages=[Message.of(message, media) for message in found], read_seq=head.read_seq, other_read_seq=head.other_read_seq,
        next_cursor=following,
    )


def _before(dependencies: Dependencies, reader_id: str, conversation_id: str, cursor: str) -> int:
    body = dependencies.seals.open(_USE, cursor)
    if body is None:
        raise Refused("cursor_invalid")
    place = _PLACES.decode(body)
    if (place.reader_id, place.conversation_id) != (reader_id, conversation_id):
        raise Refused("cursor_invalid")
    return place.seq


@router.post(
    "/conversations/{id}/read", operation_id="markConversationRead", response_model=ReadUpTo,
    responses=errors(*SIGNED_IN, *WITH_BODY, "not_found"),
)
async def mark_read(conversation_id: ConversationIdPath, body: ReadBody, person: Person, dependencies: Deps) -> ReadUpTo:
    """Marks everything up to a message as read. Marks only move forward; within a second of the last one the answer
    waits for the second's end."""
    return await to_the_end(_read(dependencies, conversation_id, person.user_id, body.seq))


async def _read(dependencies: Dependencies, conversation_id: str, reader_id: str, seq: int) -> ReadUpTo:
    answer = await dependencies.conversations.read(conversation_id, reader_id, seq)
    if isinstance(answer, NoConversation):
        raise Refused("not_found")
    if isinstance(answer, SeqUnknown):
        raise Refused("invalid", fields=[{"field": "body.seq", "message": "there is no such message yet"}])
    if answer.recorded:
        await dependencies.write_through.apply(*changes.message_read(
            conversation_id, reader_id, answer.other_id, seq=answer.seq, ordinal=answer.ordinal
        ))
    return ReadUpTo(read_seq=answer.seq)

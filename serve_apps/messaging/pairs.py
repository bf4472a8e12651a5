"""What a match's beginning and end mean for its conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from actors.messages.commands import EndConversation, HasMessages, NoteMatch
from configs.contracts import changes
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import MatchEnd
from configs.contracts.ids import match_id, pair
from serve_apps.dependencies import Dependencies
from serve_apps.problems import Refused

log = structlog.get_logger(__name__)

OPENING_S: Final = 0.5
"""Longest wait for the conversation of a new match to be open; past it the log's tail opens it."""


async def opened(dependencies: Dependencies, one: str, other: str, *, generation: int, version: int) -> None:
    """Opens the conversation of a match that somebody is told of now, so that their first message finds it."""
    low, high = pair(one, other)
    try:
        async with asyncio.timeout(OPENING_S):
            await dependencies.conversations.note_match(NoteMatch(match_id(one, other), low, high, generation, version))
    except (DependencyUnavailable, TimeoutError) as error:
        log.warning("conversation_opens_by_the_log", reason=type(error).__name__)


async def ended(
    dependencies: Dependencies, one: str, other: str, *, generation: int, reason: MatchEnd, version: int
) -> None:
    """Returns once the conversation accepts no message any more; then the pair leaves both lists.

    Raises ShardUnavailable: the end is durable, but a message may still be accepted; ask again.
    """
    await dependencies.conversations.end(EndConversation(match_id(one, other), generation, reason, version))
    if version:
        await dependencies.write_through.apply(*changes.ended(
            one, other, generation=generation, reason=reason, version=version
        ))


@asynccontextmanager
async def without_messages(dependencies: Dependencies, one: str, other: str) -> AsyncIterator[datetime]:
    """Keeps messages out of a pair's conversation while an undo is carried out; gives the time until which it may begin.

    Raises Refused: there are messages. When the body was refused they are accepted again; when it failed otherwise the
    undo may be durable, and the hold runs out by itself or ends with the match.
    """
    conversation = match_id(one, other)
    # Half of the hold is for what follows once the undo is durable, and for clocks that differ.
    until = datetime.now(UTC) + timedelta(seconds=dependencies.settings.limits.undo_hold_s / 2)
    if isinstance(await dependencies.conversations.hold(conversation), HasMessages):
        raise Refused("undo_has_messages")
    try:
        yield until
    except Refused:
        await dependencies.conversations.release(conversation)
        raise

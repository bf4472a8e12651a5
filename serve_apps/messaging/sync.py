"""What a person missed since a position: messages, read marks, matches and their ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query

from actors.messages.commands import Member
from configs.contracts.conversations import FEED_TTL_S, feed_key
from configs.contracts.errors import ReadModelUnknown
from configs.contracts.read_model import GENERATION, MatchEntry
from serve_apps.dependencies import Dependencies
from serve_apps.fields import CURSOR_PATTERN
from serve_apps.identity import Deps, Person
from serve_apps.matching.models import match_of
from serve_apps.messaging.attachments import attached
from serve_apps.messaging.models import Missed, MissedMessage, MissedRead
from serve_apps.messaging.reading import GAP_POLL_S, GAP_S, Head
from serve_apps.problems import SIGNED_IN, Refused, errors

router = APIRouter(prefix="/messaging", tags=["messaging"])

_USE: Final = b"sync"

Since = Annotated[str | None, Query(pattern=CURSOR_PATTERN, description="`position` of the last answer; none: where to begin")]
Changes = Annotated[int, Query(ge=1, le=100, description="how many changes at most")]


class _Position(msgspec.Struct, frozen=True, array_like=True):
    """Whose, when issued (Unix s), in which life of the read model and of the person's feed, after which change."""

    reader_id: str
    at_s: int
    life: bytes
    feed: bytes
    place: int


_POSITIONS: Final = msgspec.msgpack.Decoder(_Position)


@router.get(
    "/sync", operation_id="syncMessaging", response_model=Missed,
    responses=errors(*SIGNED_IN, "cursor_invalid", "resync"),
)
async def sync(person: Person, dependencies: Deps, since: Since = None, limit: Changes = 100) -> Missed:
    """Everything that has changed since a position. Without one: the present position, to be taken before the lists are
    loaded. 410: too much was missed, or the position is too old; take a new one and load the lists."""
    user_id = person.user_id
    after = None if since is None else _opened(dependencies, user_id, since)
    key = feed_key(user_id)
    life, first, newest = await dependencies.reads.read(
        ("GET", GENERATION), ("ZRANGE", key, 0, 1, "WITHSCORES"), ("ZRANGE", key, -1, -1, "WITHSCORES")
    )
    feed = first[0] if first else b""
    place = int(float(newest[1])) if newest else 0
    if after is None:
        return _answer(dependencies, _Position(user_id, int(time.time()), life, feed, place), more=False)
    if after.life != life or time.time() - after.at_s > FEED_TTL_S:
        raise Refused("resync")
    # Another feed began after the position was issued: all of it was missed.
    begin = after.place if after.feed == feed else 0
    lowest = int(float(first[3])) if len(first) == 4 else place + 1
    if begin > place or begin < lowest - 1:
        raise Refused("resync")
    (found,) = await dependencies.reads.read(
        ("ZRANGE", key, f"({begin}", "+inf", "BYSCORE", "LIMIT", 0, limit + 1, "WITHSCORES")
    )
    changed = [found[index].decode() for index in range(0, len(found), 2)][:limit]
    reached = int(float(found[2 * len(changed) - 1])) if changed else begin
    position = _Position(user_id, int(time.time()), life, feed, reached)
    return await _told(dependencies, user_id, changed, position, more=len(found) > 2 * limit)


def _opened(dependencies: Dependencies, user_id: str, since: str) -> _Position:
    body = dependencies.seals.open(_USE, since)
    if body is None:
        raise Refused("cursor_invalid")
    position = _POSITIONS.decode(body)
    if position.reader_id != user_id:
        raise Refused("cursor_invalid")
    return position


def _answer(dependencies: Dependencies, position: _Position, *, more: bool, **found: Any) -> Missed:
    empty: dict[str, Any] = {"messages": [], "reads": [], "matches": [], "ended_match_ids": []}
    return Missed(position=dependencies.seals.seal(_USE, msgspec.msgpack.encode(position)), more=more, **(empty | found))


async def _told(
    dependencies: Dependencies, user_id: str, changed: Sequence[str], position: _Position, *, more: bool
) -> Missed:
    """The changes as they stand now; those of conversations that have ended since are left out."""
    parts = [change.split(":") for change in changed]
    active = await dependencies.reading.entries(user_id, list(dict.fromkeys(part[1] for part in parts)))
    wanted: dict[str, list[int]] = {}
    marks: dict[tuple[str, str], int] = {}
    matches: dict[str, None] = {}
    for kind, name, *rest in parts:
        if kind == "x":
            if rest[0] != "0":  # written once for the block of somebody who was never matched
                matches[name] = None
        elif name in active and kind == "m":
            wanted.setdefault(name, []).append(int(rest[0]))
        elif name in active:
            marks[(name, rest[0])] = max(int(rest[1]), marks.get((name, rest[0]), 0))
    heads = await dependencies.reading.heads(
        user_id, [active[name] for name in dict.fromkeys((*wanted, *matches)) if name in active]
    )
    behind = [active[name] for name, seqs in wanted.items() if max(seqs) > heads[name].last_seq]
    if behind:
        heads |= await _arrived(dependencies, user_id, behind, {name: max(seqs) for name, seqs in wanted.items()})
    others = await dependencies.people.unblocked(
        user_id, [active[name].other_id for name in matches if name in active]
    )
    found = [
        (name, message)
        for name, seqs in wanted.items()
        for message in await dependencies.reading.messages(
            name, heads[name].last_seq, sorted(seq for seq in seqs if seq <= heads[name].last_seq)
        )
    ]
    media = await attached(dependencies, user_id, (message for _, message in found))
    messages = [MissedMessage.of(message, media, conversation_id=name) for name, message in found]
    return _answer(
        dependencies, position, more=more, messages=messages,
        reads=[MissedRead(conversation_id=name, user_id=reader, seq=seq) for (name, reader), seq in marks.items()],
        matches=[
            match_of(active[name], others[active[name].other_id], heads[name], dependencies.media_urls)
            for name in matches if name in active and active[name].other_id in others
        ],
        ended_match_ids=[name for name in matches if name not in active],
    )


async def _arrived(
    dependencies: Dependencies, user_id: str, behind: Sequence[MatchEntry], told: Mapping[str, int]
) -> dict[str, Head]:
    """The heads of conversations that were behind the person's changes, once they have these messages or it is known that
    no such messages count: those of a shard that was replaced.

    The changes are on the person's node of the read model, messages on that of their conversation. Raises ReadModelUnknown:
    a message that counts is still not there; its change must not be passed by.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + GAP_S
    heads: dict[str, Head] = {}
    while behind and loop.time() < end:
        await asyncio.sleep(GAP_POLL_S)
        heads |= await dependencies.reading.heads(user_id, behind)
        behind = [entry for entry in behind if told[entry.match_id] > heads[entry.match_id].last_seq]
    known = await asyncio.gather(*(dependencies.conversations.look(entry.match_id, user_id) for entry in behind))
    for entry, member in zip(behind, known, strict=True):
        if isinstance(member, Member) and member.last_seq > heads[entry.match_id].last_seq:
            raise ReadModelUnknown("messages are not written yet")
    return heads

"""Routes of blocking: who is blocked sees and meets the other nowhere."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from actors.swipes.commands import EndPair
from configs.contracts.events import UserBlocked, UserUnblocked
from configs.contracts.read_model import MARKER, read_versioned, relation_key
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, UserIdPath, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.messaging.pairs import ended
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import SIGNED_IN, Refused, errors
from serve_apps.recording import recorded, to_the_end
from serve_apps.users.models import Blocked, Blocks

router = APIRouter(prefix="/users", tags=["users"])

SCAN_COUNT: Final = 1_000
SCANS: Final = 50
"""Fields looked at for one list at most: 50,000 relations."""


@router.post(
    "/{userId}/block", operation_id="block", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "self_target", "idempotency_conflict"),
)
async def block(user_id: UserIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Success:
    """Blocks a person, which ends a match with them; answered once both are recorded."""
    if user_id == person.user_id:
        raise Refused("self_target")
    blocks, blocked = await dependencies.people.relation(person.user_id, user_id)
    if not blocks:
        record = (await dependencies.people.records((user_id,))).get(user_id)
        if blocked or record is None or not record.exists:
            raise Refused("not_found")
    await to_the_end(_blocked(dependencies, person.user_id, user_id, idempotency_key))
    return Success()


async def _blocked(dependencies: Dependencies, user_id: str, other_id: str, key: str | None) -> None:
    """Records the block, then the end of the pair at its authority, then that of its conversation; a repeated request does both again, to no effect."""
    await recorded(
        dependencies, user_id, UserBlocked(user_id=user_id, blocked_id=other_id), scope="block", idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, other_id),
    )
    found = await dependencies.swipes.end(EndPair(user_id, other_id, "blocked"))
    await ended(dependencies, user_id, other_id, generation=found.generation, reason="blocked", version=found.version)


@router.delete(
    "/{userId}/block", operation_id="unblock", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "idempotency_conflict"),
)
async def unblock(user_id: UserIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Success:
    """Lifts a block. It restores nothing: an ended match stays ended."""
    if not await _ever_blocked(dependencies, person.user_id, user_id):
        raise Refused("not_found")
    await to_the_end(recorded(
        dependencies, person.user_id, UserUnblocked(user_id=person.user_id, blocked_id=user_id), scope="unblock",
        idempotency_key=idempotency_key, body_digest=body_digest(dependencies.seals.key, user_id),
    ))
    return Success()


async def _ever_blocked(dependencies: Dependencies, user_id: str, other_id: str) -> bool:
    ((_, field),) = await dependencies.people.sets(
        user_id, ("HMGET", relation_key(user_id), MARKER, f"b:{other_id}"), marked=(0,)
    )
    return field is not None


@router.get("/me/blocks", operation_id="listBlocks", response_model=Blocks, responses=errors(*SIGNED_IN, "cursor_invalid"))
async def list_blocks(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Blocks:
    """Whom the person blocks, newest first."""
    after = None
    if cursor is not None:
        opened = dependencies.seals.open(b"blocks", cursor)
        if opened is None or opened[:36].decode("latin-1") != person.user_id:
            raise Refused("cursor_invalid")
        after = opened[36:].decode("latin-1")
    found = await _blocks(dependencies, person.user_id)
    ranked = sorted((f"{version:016x}{other}" for other, version in found.items()), reverse=True)
    if after is not None:
        ranked = [item for item in ranked if item < after]
    following = None
    if len(ranked) > limit:
        following = dependencies.seals.seal(b"blocks", (person.user_id + ranked[limit - 1]).encode())
    return Blocks(blocks=[Blocked(user_id=item[16:]) for item in ranked[:limit]], next_cursor=following)


async def _blocks(dependencies: Dependencies, user_id: str) -> dict[str, int]:
    """Person -> version of the block, for everybody blocked now."""
    key = relation_key(user_id)
    await dependencies.people.sets(user_id, ("HMGET", key, MARKER), marked=(0,))
    found: dict[str, int] = {}
    cursor: bytes | str = "0"
    for _ in range(SCANS):
        ((cursor, fields),) = await dependencies.reads.read(("HSCAN", key, cursor, "MATCH", "b:*", "COUNT", SCAN_COUNT))
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            version, state = read_versioned(value)
            if state == b"1":
                found[name[2:].decode()] = version
        if cursor in (b"0", "0"):
            break
    return found

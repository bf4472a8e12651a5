"""Routes by which a person takes their data along, and leaves for good."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Literal

from fastapi import APIRouter, Response

from actors.accounts.answers import NotSignedIn
from actors.accounts.commands import SetStanding
from configs.contracts import changes
from configs.contracts.access_tokens import Identity
from configs.contracts.exports import export_key, read_export
from configs.contracts.ids import derived_id
from configs.contracts.moderation import ERASED_NUMBER
from serve_apps.auth.sessions import all_ended
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, Success, Time
from serve_apps.identity import Deps, RecentSignIn
from serve_apps.problems import SIGNED_IN, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/users", tags=["users"])


class ExportLink(Answer):
    """``url`` reads the file (JSON, gzip) until ``expiresAt``; ask again for another link, for a day."""

    status: Literal["pending", "ready"]
    url: str | None = None
    expires_at: Time | None = None
    bytes: int | None = None
    made_at: str | None = None


_PENDING: Final[dict[int | str, dict[str, Any]]] = {202: {
    "model": ExportLink, "description": "The file is being made; ask again in some seconds.",
}}


@router.get(
    "/me/export", operation_id="exportMe", response_model=ExportLink,
    responses=errors(*SIGNED_IN, "sign_in_again") | _PENDING,
)
async def export_me(person: RecentSignIn, dependencies: Deps) -> ExportLink | Response:
    """Everything that is held of the person, as a file: 202 while it is made, then a link to it.

    A file is made at most once a day; of other people it holds only ids. Pictures and videos are in it by their ids: `getMedia`
    gives their files, as they are kept, to their owner.
    """
    ready = await dependencies.loader.warm_exports((person.user_id,))
    (value,) = await dependencies.reads.read(("GET", export_key(person.user_id)))
    if person.user_id not in ready or value is None:
        pending = ExportLink(status="pending").model_dump_json(by_alias=True)
        return Response(pending, status_code=202, media_type="application/json", headers={"Retry-After": "2"})
    made = read_export(value)
    url, expires_s = dependencies.media_urls.stored(made.key)
    return ExportLink(
        status="ready", url=url, expires_at=datetime.fromtimestamp(expires_s, UTC), bytes=made.bytes, made_at=made.made_at,
    )


@router.delete("/me", operation_id="eraseMe", response_model=Success, responses=errors(*SIGNED_IN, "sign_in_again"))
async def erase_me(person: RecentSignIn, dependencies: Deps) -> Success:
    """Erases the account and what belongs to it, for good; the address can be registered anew.

    Signed out everywhere and shown nowhere within 5 seconds, erased from every store within minutes. Kept, without name or
    address: ids of others' matches and swipes, evidence of reports, proof of age and of consents, and money
    movements, without what was written with them.
    """
    await to_the_end(_erased(dependencies, person))
    return Success()


async def _erased(dependencies: Dependencies, person: Identity) -> None:
    cause_id = derived_id(person.user_id, "erasure")
    answer = await dependencies.accounts.set_standing(SetStanding(
        email_hash=person.email_hash, user_id=person.user_id, status="deleted", number=ERASED_NUMBER, cause_id=cause_id,
        event_id=derived_id(cause_id, "standing"), family_id=person.family_id, sessions_from=person.sessions_from,
    ))
    if isinstance(answer, NotSignedIn):
        raise Refused("sign_in_again")
    await asyncio.gather(
        all_ended(dependencies, answer, None), dependencies.write_through.apply(*changes.erased(person.user_id)),
    )

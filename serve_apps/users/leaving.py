"""The route by which a person leaves for good."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from actors.accounts.commands import NotSignedIn, SetStanding
from configs.contracts import changes
from configs.contracts.ids import derived_id
from configs.contracts.moderation import ERASED_NUMBER
from serve_apps.auth.sessions import all_ended
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Success
from serve_apps.identity import Deps, RecentSignIn
from serve_apps.problems import SIGNED_IN, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/users", tags=["users"])


@router.delete("/me", operation_id="eraseMe", response_model=Success, responses=errors(*SIGNED_IN, "sign_in_again"))
async def erase_me(person: RecentSignIn, dependencies: Deps) -> Success:
    """Erases the account and what belongs to it, for good; the address can be registered anew.

    Signed out everywhere and shown nowhere within 5 seconds, erased from every store within minutes. Kept, without name or
    address: ids of others' matches and swipes, evidence of reports, proof of age and of consents, and money movements.
    """
    await to_the_end(_erased(dependencies, person.user_id, person.email_hash))
    return Success()


async def _erased(dependencies: Dependencies, user_id: str, email_hash: str) -> None:
    cause_id = derived_id(user_id, "erasure")
    answer = await dependencies.accounts.set_standing(SetStanding(
        email_hash=email_hash, user_id=user_id, status="deleted", number=ERASED_NUMBER, cause_id=cause_id,
        event_id=derived_id(cause_id, "standing"),
    ))
    if isinstance(answer, NotSignedIn):
        raise Refused("sign_in_again")
    await asyncio.gather(
        all_ended(dependencies, answer, None), dependencies.write_through.apply(*changes.erased(user_id)),
    )

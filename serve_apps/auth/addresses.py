"""Routes that change the address with which a person signs in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Request

from actors.accounts.answers import AccountChanged, AddressTaken, Changing, NotSignedIn, TokenInvalid
from actors.accounts.commands import ChangeAddress, ClaimAddress, FindChange, RequestAddressChange
from actors.idempotency import IdempotencyConflict
from configs.contracts.access_tokens import Identity
from configs.contracts.events import AddressMove
from configs.contracts.ids import email_hash
from configs.contracts.read_model import Credential, ended_member, put_credential
from serve_apps.auth.models import Accepted, ChangeEmailBody, ConfirmEmailBody
from serve_apps.auth.passwords import HOUR_S, presented, written
from serve_apps.auth.sessions import all_ended, client_of
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person, RecentSignIn
from serve_apps.limits import Rate
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/auth/email/change", tags=["auth"])

PURPOSE: Final = "change"


@router.post(
    "", operation_id="changeEmail", status_code=202, response_model=Accepted,
    responses=errors(*SIGNED_IN, *WITH_BODY, "sign_in_again", "idempotency_conflict"),
)
async def change(
    body: ChangeEmailBody, request: Request, person: RecentSignIn, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Accepted:
    """Has a token mailed to another address, to sign in with that one from now on; answered alike for every address.

    Nothing changes until the token is presented, within an hour. A newer request replaces an older one; another password,
    and the end of all sessions, take it back.
    """
    limits, new_hash = dependencies.settings.limits, email_hash(body.email)
    if not person.email_hash:
        raise Refused("sign_in_again")
    account = Rate("mail-account", limits.mails_per_account_an_hour, HOUR_S)
    await dependencies.limits.take(
        (account, new_hash), (Rate("change-email", limits.mails_per_account_an_hour, HOUR_S), person.email_hash),
        (Rate("mail-address", limits.mails_per_address_an_hour, HOUR_S), client_of(dependencies, request)),
    )
    answer = await to_the_end(dependencies.accounts.request_change(RequestAddressChange(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id,
        sessions_from=person.sessions_from, address=body.email, new_hash=new_hash,
        expires_at=datetime.now(UTC) + timedelta(seconds=dependencies.settings.auth.reset_ttl_s),
        idempotency_key=idempotency_key, body_digest=body_digest(dependencies.seals.key, body),
    )))
    if isinstance(answer, IdempotencyConflict):
        raise Refused("idempotency_conflict")
    if isinstance(answer, NotSignedIn):
        raise Refused("sign_in_again")
    return Accepted()


@router.post(
    "/confirm", operation_id="confirmEmailChange", response_model=Success,
    responses=errors(*SIGNED_IN, *WITH_BODY, "sign_in_again", "token_invalid", "address_taken"),
)
async def confirm(body: ConfirmEmailBody, request: Request, person: Person, dependencies: Deps) -> Success:
    """Signs in with another address from now on, by the token that was mailed there, in a session of the account.

    The former address signs in no more and is told; every other session has ended within 5 seconds. Presenting the token
    again is answered alike.
    """
    account, token_id = await presented(dependencies, request, PURPOSE, body.token)
    if account != person.email_hash:
        raise Refused("token_invalid")
    await to_the_end(_confirmed(dependencies, person, token_id))
    return Success()


async def _confirmed(dependencies: Dependencies, person: Identity, token_id: str) -> None:
    """Claims the new address, which the log follows with the change, and makes that change at once."""
    found = await dependencies.accounts.find_change(FindChange(
        email_hash=person.email_hash, user_id=person.user_id, family_id=person.family_id,
        sessions_from=person.sessions_from, token_id=token_id,
    ))
    if isinstance(found, NotSignedIn):
        raise Refused("sign_in_again")
    if isinstance(found, TokenInvalid):
        raise Refused("token_invalid")
    assert isinstance(found, Changing)
    if found.move is not None:
        await _moved(dependencies, person, found.move)


async def _moved(dependencies: Dependencies, person: Identity, move: AddressMove) -> None:
    if move.address_hash != person.email_hash:
        await _claimed(dependencies, person, move)
    changed = await dependencies.accounts.change_address(
        ChangeAddress(email_hash=person.email_hash, user_id=person.user_id, move=move)
    )
    if not isinstance(changed, AccountChanged):
        raise Refused("token_invalid")
    await written(dependencies, person.email_hash, changed)
    if changed.version:
        await all_ended(dependencies, changed, move.kept_family_id)


async def _claimed(dependencies: Dependencies, person: Identity, move: AddressMove) -> None:
    claimed = await dependencies.accounts.claim(ClaimAddress(
        email_hash=move.address_hash, user_id=person.user_id, home=person.email_hash, move=move
    ))
    if isinstance(claimed, AddressTaken):
        raise Refused("address_taken")
    credential = Credential(
        user_id=person.user_id, password_hash=None, verified=True, home=person.email_hash, address_hash=move.address_hash
    )
    await dependencies.write_through.apply(put_credential(move.address_hash, credential, claimed.version))
    if claimed.displaced is not None:
        dependencies.revocations.add_all(claimed.displaced, claimed.version, None)
        await dependencies.write_through.revoke(
            ended_member(claimed.displaced, claimed.version, None), dependencies.now_ms()
        )

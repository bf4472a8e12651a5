"""Who counts as an adult whose age was assured, and what only such people may see, publish and be paid for.

A birth date at registration is a statement; an assurance is the result of an age-assurance service (the document that
it looked at is never ours). The status is ``UserRecord.verification``; ``verified`` is what others see of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from configs.contracts.events import Verification
from configs.contracts.read_model import UserRecord

__all__ = [
    "AGE_UNVERIFIED", "CONSENT_MISSING", "DEPICTED", "Consent", "ConsentState", "Verification", "is_assured_adult",
    "may_be_paid", "may_publish", "may_see_explicit", "unconsented",
]

AGE_UNVERIFIED: Final = "age_unverified"
"""Problem code where one of these functions says no."""
CONSENT_MISSING: Final = "consent_missing"
"""Problem code where ``unconsented`` names somebody."""
DEPICTED: Final = 20
"""People whom one post or media may show."""
ConsentState = Literal["given", "withdrawn"]


def is_assured_adult(person: UserRecord) -> bool:
    """Whether an age-assurance service has found the person to be an adult, and the account is active."""
    return person.exists and person.verification == "verified"


def may_see_explicit(viewer: UserRecord) -> bool:
    """Whether explicit content may be shown; its owner sees it like everybody else."""
    return is_assured_adult(viewer)


def may_publish(creator: UserRecord) -> bool:
    """Whether the person may publish anything as a creator; drafts need no assurance."""
    return is_assured_adult(creator)


def may_be_paid(creator: UserRecord) -> bool:
    """Whether money may go to the person: tiers, prices, tips, payouts."""
    return is_assured_adult(creator)


class Consent(msgspec.Struct, frozen=True, rename="camel"):
    """One person's word that a creator may publish pictures of them; both are assured adults when it is given."""

    creator_id: str
    person_id: str
    state: ConsentState


def unconsented(creator_id: str, depicted: Iterable[str], consents: Mapping[str, Consent]) -> tuple[str, ...]:
    """Who among the people depicted (their ids) has given the creator no consent that stands; nobody needs their own.

    ``consents``: the creator's, by person.
    """
    missing = []
    for person_id in dict.fromkeys(depicted):
        consent = consents.get(person_id)
        if person_id != creator_id and (consent is None or consent.creator_id != creator_id or consent.state != "given"):
            missing.append(person_id)
    return tuple(missing)

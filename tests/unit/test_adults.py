"""Only an assured, active adult publishes, is paid or sees what is explicit; nobody is depicted without consent."""

from __future__ import annotations

import pytest

from configs.contracts.adults import Consent, ConsentState, may_be_paid, may_publish, may_see_explicit, unconsented
from configs.contracts.read_model import UserRecord

CREATOR, FRIEND = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"


@pytest.mark.parametrize(("verification", "status", "role", "allowed"), [
    ("verified", "active", "sugar_baby", True),
    ("unverified", "active", "sugar_baby", False),
    ("pending", "active", "sugar_baby", False),
    ("failed", "active", "sugar_baby", False),
    ("verified", "suspended", "sugar_baby", False),
    ("verified", "banned", "sugar_baby", False),
    ("verified", "deleted", "sugar_baby", False),
    ("verified", "active", None, False),
])
def test_only_an_assured_and_active_adult_may(verification: str, status: str, role: str | None, allowed: bool) -> None:
    person = UserRecord(user_id=CREATOR, role=role, status=status, verified=True, verification=verification)  # type: ignore[arg-type]
    assert (may_see_explicit(person), may_publish(person), may_be_paid(person)) == (allowed,) * 3


def consent(state: ConsentState, creator: str = CREATOR) -> Consent:
    return Consent(creator, FRIEND, state)


def test_everybody_depicted_needs_a_consent_that_stands_except_the_creator() -> None:
    assert unconsented(CREATOR, [CREATOR, FRIEND], {FRIEND: consent("given")}) == ()
    assert unconsented(CREATOR, [CREATOR], {}) == ()
    assert unconsented(CREATOR, [FRIEND, FRIEND], {}) == (FRIEND,)
    assert unconsented(CREATOR, [FRIEND], {FRIEND: consent("withdrawn")}) == (FRIEND,)
    assert unconsented(CREATOR, [FRIEND], {FRIEND: consent("given", creator=FRIEND)}) == (FRIEND,), "given to somebody else"

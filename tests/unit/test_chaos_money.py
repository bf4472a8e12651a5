"""The checker of money finds what is lost, paid twice, booked wrongly or kept from who paid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.launch.chaos.history import Operation
from cluster.launch.chaos.money import Money, Payment, contradictions

ANN, BOB = "ann", "bob"


def asked(kind: str, what: str, amount: int, at_s: float, outcome: Any = "ok", person: str = ANN, status: str = "completed") -> Operation:
    told = {"id": f"id of {what}", "status": status} if outcome == "ok" else {}
    return Operation(person, kind, at_s, at_s + 1, outcome, {"what": what, "amount": amount} | told)


OPERATIONS = [
    asked("tip", "t1", 150, 1), asked("tip", "t2", 200, 3, "unknown"), asked("buy", "p1", 500, 5), asked("buy", "p1", 500, 7, "refused"),
    Operation(ANN, "open", 9, 10, "ok", {"what": "p1", "access": "open"}), Operation(BOB, "open", 9, 10, "ok", {"what": "p1", "access": "purchase"}),
]
T1 = Payment("tip", ANN, "id of t1", "t1", 150, "completed", "pi_1")
P1 = Payment("buy", ANN, "id of p1", "p1", 500, "completed", "pi_2")
HELD = Money(
    payments=[T1, P1], charged=[(ANN, "pi_1", 150), (ANN, "pi_2", 500)], processor={"pi_1": (ANN, 150), "pi_2": (ANN, 500)},
)


def test_books_that_agree_contradict_nothing() -> None:
    assert contradictions(OPERATIONS, HELD) == []


def test_a_tip_that_was_never_answered_may_have_been_given_or_not() -> None:
    given = Payment("tip", ANN, "id of t2", "t2", 200, "completed", "pi_3")
    held = Money([*HELD.payments, given], [*HELD.charged, (ANN, "pi_3", 200)], (), {**HELD.processor, "pi_3": (ANN, 200)})
    assert contradictions(OPERATIONS, held) == []
    assert contradictions(OPERATIONS, replace(HELD, payments=[*HELD.payments, replace(given, status="pending", provider_id=None)])) == []


@pytest.mark.parametrize(("held", "what"), [
    (replace(HELD, payments=[P1]), "is in no row"),
    (replace(HELD, payments=[replace(T1, amount_minor=151), P1]), "told ('t1', 150)"),
    (replace(HELD, payments=[replace(T1, status="pending"), P1]), "told completed, rows have pending"),
    (replace(HELD, payments=[T1, replace(T1, ident="again", provider_id="pi_9"), P1]), "paid for 2 times"),
    (replace(HELD, payments=[T1, P1, replace(P1, ident="again", status="pending")]), "paid for 2 times"),
    (replace(HELD, payments=[T1, P1, replace(T1, payer=BOB)]), "asked for by nobody"),
    (replace(HELD, charged=HELD.charged[:1]), "pi_2: the processor has"),
    (replace(HELD, charged=[*HELD.charged, HELD.charged[0]]), "pi_1: the processor has"),
    (replace(HELD, processor={**HELD.processor, "pi_3": (ANN, 200)}), "pi_3: the processor has"),
    (replace(HELD, processor={**HELD.processor, "pi_1": (ANN, 149)}), "pi_1: the processor has"),
    (replace(HELD, unbalanced=["x"]), "sum to zero"),
])
def test_what_is_lost_or_paid_twice_or_booked_wrongly_is_found(held: Money, what: str) -> None:
    assert any(what in problem for problem in contradictions(OPERATIONS, held))


def test_a_post_that_does_not_open_to_who_paid_is_found() -> None:
    closed = Operation(ANN, "open", 11, 12, "ok", {"what": "p1", "access": "purchase"})
    assert len(contradictions([*OPERATIONS, closed], HELD)) == 1
    assert contradictions([*OPERATIONS, replace(closed, asked_s=5.5)], HELD) == [], "it was asked before the answer"

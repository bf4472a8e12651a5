"""Invariants of money: what payers were told, rows, ledger and the processor's own charges agree, each payment once. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cluster.launch.chaos.history import Operation

PAID: Final = ("completed", "refunded", "disputed")
STANDS: Final = ("pending", "completed", "disputed")


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of tips or post_purchases. ``what``: a tip's message, or the post."""

    kind: str
    payer: str
    ident: str
    what: str
    amount_minor: int
    status: str
    provider_id: str | None


@dataclass(frozen=True, slots=True)
class Money:
    """What rows and the processor hold of the run's payers."""

    payments: Sequence[Payment] = ()
    charged: Sequence[tuple[str, str, int]] = ()
    """(payer, the processor's payment, minor units) of each charge in the ledger."""
    unbalanced: Sequence[str] = ()
    """Transactions whose entries do not sum to zero."""
    processor: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """The processor's payment -> (payer, minor units), of what it charged."""


def contradictions(operations: Sequence[Operation], held: Money) -> list[str]:
    """Every invariant that does not hold, in words; empty: all do."""
    return [*_told(operations, held), *_once(operations, held), *_books(held), *_opened(operations)]


def _told(operations: Sequence[Operation], held: Money) -> Iterator[str]:
    """What was acknowledged is there under the id that was told; what was told completed is."""
    rows = {row.ident: row for row in held.payments}
    for one in operations:
        if one.kind not in ("tip", "buy") or one.outcome != "ok":
            continue
        row, told = rows.get(one.about["id"]), (one.about["what"], one.about["amount"])
        if row is None:
            yield f"{one.kind} {one.about['id']} of {one.person} is in no row"
        elif (row.payer, row.what, row.amount_minor) != (one.person, *told):
            yield f"{one.kind} {one.about['id']} of {one.person}: told {told}, rows have {(row.payer, row.what, row.amount_minor)}"
        elif one.about["status"] == "completed" and row.status not in PAID:
            yield f"{one.kind} {one.about['id']} of {one.person}: told completed, rows have {row.status}"


def _once(operations: Sequence[Operation], held: Money) -> Iterator[str]:
    """A tip is given once and by somebody who asked; of one post a person has one purchase that stands."""
    asked = {(one.person, one.about["what"]) for one in operations if one.kind in ("tip", "buy") and one.outcome != "refused"}
    tips = Counter((row.payer, row.what) for row in held.payments if row.kind == "tip")
    bought = Counter((row.payer, row.what) for row in held.payments if row.kind == "buy" and row.status in STANDS)
    for name, count in (*tips.items(), *bought.items()):
        if count != 1:
            yield f"{name[1]} of {name[0]} was paid for {count} times"
        if name not in asked:
            yield f"{name[1]} of {name[0]} was asked for by nobody"


def _books(held: Money) -> Iterator[str]:
    """The processor's charges, the paid rows and the ledger's charges are the same payments, each once, with the same amounts."""
    processor = {name: (payer, amount) for name, (payer, amount) in held.processor.items()}
    paid: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in held.payments:
        if row.status in PAID:
            paid[row.provider_id or f"{row.ident} without a payment"].append((row.payer, row.amount_minor))
    booked: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for payer, name, amount in held.charged:
        booked[name].append((payer, amount))
    for name in sorted({*processor, *paid, *booked}):
        found = [processor[name]] if name in processor else []
        if not found == paid[name] == booked[name]:
            yield f"{name}: the processor has {found}, rows {paid[name]}, the ledger {booked[name]}"
    for name in held.unbalanced:
        yield f"transaction {name} does not sum to zero"


def _opened(operations: Sequence[Operation]) -> Iterator[str]:
    """A post that one was told to have bought is open to every request that begins later."""
    bought = {
        (one.person, one.about["what"]): one.answered_s for one in operations
        if one.kind == "buy" and one.outcome == "ok" and one.about["status"] == "completed"
    }
    for one in operations:
        since = bought.get((one.person, one.about.get("what", "")))
        if one.kind == "open" and one.outcome == "ok" and since is not None and one.asked_s > since and one.about["access"] != "open":
            yield f"{one.person} bought {one.about['what']} at {since} s and found it {one.about['access']} at {one.asked_s} s"

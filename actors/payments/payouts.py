"""What creators asked to have paid out, once each and never more than they have: pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from actors.entries import Entries
from actors.folded import Folded
from actors.idempotency import IdempotencyConflict
from actors.sharding.memory import Append, Decision
from configs.contracts.events import (
    Event,
    PaymentObserved,
    PayoutAnswered,
    PayoutOutcome,
    PayoutRecorded,
    PayoutRequested,
)
from configs.contracts.ids import derived_id
from configs.contracts.payment_facts import PayoutFailed, PayoutPaid
from configs.contracts.payouts import Funds, Payout, Payouts, PayoutStatus, payout_of, payouts_after, payouts_place
from configs.contracts.topics import PAYMENT_COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPayout:
    """``payout_id`` is derived from creator and Idempotency-Key. ``funds``: what the service read of the rows just now.

    Without ``account_id`` staff pays it (``RecordPayout``).
    """

    creator_id: str
    payout_id: str
    body_digest: str
    amount_minor: int
    currency: str
    provider: str
    account_id: str
    livemode: bool
    funds: Funds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindPayout:
    """What became of a payout; NoPayout: it was never recorded. Without ``body_digest``: whatever its body was."""

    creator_id: str
    payout_id: str
    body_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPayout:
    """The provider has begun a payout (``object_id``), or refused it (None)."""

    creator_id: str
    payout_id: str
    object_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPayout:
    """What became of a payout that staff makes; saying the same again changes nothing. See ``PayoutRecorded``."""

    creator_id: str
    payout_id: str
    outcome: PayoutOutcome
    reference: str
    recorded_by: str


@dataclass(frozen=True, slots=True)
class PayoutStands:
    """The request is durable; the payout as it is now."""

    payout: Payout


@dataclass(frozen=True, slots=True)
class NotAvailable:
    """Less may be paid out; nothing was recorded. ``elsewhere_minor``: what lies at other processors than this one."""

    available_minor: int
    elsewhere_minor: int = 0


@dataclass(frozen=True, slots=True)
class NoPayout:
    """The creator has no such payout."""


@dataclass(frozen=True, slots=True)
class NotRecordable:
    """The payout is not staff's to make, or is past that; nothing was recorded."""

    payout: Payout


Told = tuple[str, PayoutRequested | PayoutAnswered | PayoutRecorded | PaymentObserved]
"""(event id, payload) to append."""
PayoutCommand = RequestPayout | FindPayout | AnswerPayout | RecordPayout
PayoutAnswer = PayoutStands | NotAvailable | NoPayout | NotRecordable | IdempotencyConflict
RECORDED: Final[dict[PayoutOutcome, tuple[PayoutStatus, PayoutStatus]]] = {
    "paid": ("pending", "paid"), "refused": ("pending", "refused"), "returned": ("paid", "failed"),
}
"""Outcome -> (status before it, status after it)."""


def _payouts() -> Folded[Payouts]:
    return Folded(payouts_after)


class PayoutMemory:
    """Payouts by creator. All that are on their way together are never more than the creator's available balance."""

    def __init__(self) -> None:
        self._creators: Entries[Folded[Payouts]] = Entries(_payouts)

    def needs(self, command: PayoutCommand) -> Sequence[str]:
        return (payouts_place(command.creator_id),)

    def known(self, key: str) -> bool:
        held = self._creators.get(key)
        return held is not None and held.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a creator's ``Payouts``; None: there are none."""
        self._creators.use(key).load(row if isinstance(row, Payouts) else None)

    def conflict_key(self, command: PayoutCommand) -> str:
        return command.creator_id

    def decide(self, command: PayoutCommand, now: datetime) -> Decision[PayoutAnswer]:
        held = self._creators.get(payouts_place(command.creator_id))
        payouts = Payouts() if held is None or held.row is None else held.row
        known = payouts.get(command.payout_id)
        if isinstance(command, RequestPayout | FindPayout) and known is not None and command.body_digest is not None:
            return _answer(PayoutStands(known) if known.asked.body_digest == command.body_digest else IdempotencyConflict())
        if isinstance(command, RequestPayout):
            return self._request(command, payouts, now)
        if known is None:
            return _answer(NoPayout())
        if isinstance(command, RecordPayout):
            return self._by_hand(command, known, payouts, now)
        if isinstance(command, FindPayout) or known.answered:
            return _answer(PayoutStands(known))
        return self._recorded(((derived_id(command.payout_id, "answered"), PayoutAnswered(
            payout_id=command.payout_id, creator_id=command.creator_id, object_id=command.object_id,
        )),), payouts, now)

    def _by_hand(self, command: RecordPayout, known: Payout, payouts: Payouts, now: datetime) -> Decision[PayoutAnswer]:
        before, after = RECORDED[command.outcome]
        if not known.by_hand or known.status not in (before, after):
            return _answer(NotRecordable(known))
        if known.status == after and known.recorded == command.outcome:
            return _answer(PayoutStands(known))
        told: list[Told] = []
        # The money first: whoever sees it recorded finds it in the ledger. Of an append that was cut in two the money may
        # stand alone; saying it again then adds the record.
        fact = _money(known, command.outcome, now) if known.status == before else None
        if fact is not None:
            told.append((fact.event_id, PaymentObserved(owner_id=command.creator_id, fact=fact)))
        told.append((derived_id(command.payout_id, f"recorded {command.outcome}"), PayoutRecorded(
            payout_id=command.payout_id, creator_id=command.creator_id, outcome=command.outcome, reference=command.reference,
            recorded_by=command.recorded_by,
        )))
        return self._recorded(told, payouts, now)

    def _request(self, command: RequestPayout, payouts: Payouts, now: datetime) -> Decision[PayoutAnswer]:
        left, in_all, funds = 0, 0, command.funds
        if funds is not None:
            left = funds.left(payouts.items, command.currency, livemode=command.livemode, provider=command.provider)
            in_all = funds.left(payouts.items, command.currency, livemode=command.livemode)
        if not 0 < command.amount_minor <= left:
            return _answer(NotAvailable(left, in_all - left))
        return self._recorded(((command.payout_id, PayoutRequested(
            payout_id=command.payout_id, creator_id=command.creator_id, amount_minor=command.amount_minor,
            currency=command.currency, provider=command.provider, account_id=command.account_id, livemode=command.livemode,
            body_digest=command.body_digest,
        )),), payouts, now)

    def apply(self, event: Event, version: int) -> None:
        if payout_of(event) is not None:
            self._creators.use(payouts_place(event.key)).take(event, version)

    def entries(self) -> int:
        return len(self._creators)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._creators.evict(limit, lambda key, held: held.newest < committed(key[:36]))

    def _recorded(self, told: Sequence[Told], before: Payouts, now: datetime) -> Decision[PayoutAnswer]:
        appends = tuple(
            Append(PAYMENT_COMPLETED, creator_id, Event(event_id, now, creator_id, payload))
            for event_id, payload in told
            for creator_id in (payload.owner_id if isinstance(payload, PaymentObserved) else payload.creator_id,)
        )

        def answer(versions: tuple[int, ...]) -> PayoutAnswer:
            after: Payouts | None = before
            for append, version in zip(appends, versions, strict=True):
                after = payouts_after(after, append.event, version)
            name = payout_of(appends[-1].event)
            payout = None if after is None or name is None else after.get(name)
            assert payout is not None
            return PayoutStands(payout)

        return Decision(appends, answer)


def _money(payout: Payout, outcome: PayoutOutcome, now: datetime) -> PayoutPaid | PayoutFailed | None:
    """What a transfer by hand moves; it is named by the payout, since several may have one reference."""
    asked = payout.asked
    if outcome == "refused":
        return None
    event_id = derived_id(asked.payout_id, f"by hand {outcome}")
    if outcome == "paid":
        return PayoutPaid(
            provider=asked.provider, livemode=asked.livemode, event_id=event_id, object_id=asked.payout_id, as_of=now,
            account_id="", creator_id=asked.creator_id, amount_minor=asked.amount_minor, currency=asked.currency, arrives_at=now,
            request_id=asked.payout_id,
        )
    return PayoutFailed(
        provider=asked.provider, livemode=asked.livemode, event_id=event_id, object_id=asked.payout_id, as_of=now, account_id="",
        creator_id=asked.creator_id, amount_minor=asked.amount_minor, currency=asked.currency, code="returned",
        request_id=asked.payout_id,
    )


def _answer(answer: PayoutAnswer) -> Decision[PayoutAnswer]:
    return Decision((), lambda versions: answer)

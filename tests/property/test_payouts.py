"""Whatever look at the rows a payout is decided by: all that is on its way or paid is never more than was earned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from actors.payments.payouts import (
    RECORDED,
    AnswerPayout,
    NotAvailable,
    PayoutAnswer,
    PayoutCommand,
    PayoutMemory,
    PayoutStands,
    RecordPayout,
    RequestPayout,
)
from configs.contracts.events import Event, PaymentObserved
from configs.contracts.ids import new_id
from configs.contracts.ledger import transactions_of
from configs.contracts.payment_facts import PayoutFailed, PayoutPaid
from configs.contracts.payouts import Funds, Payout, Payouts, payouts_after, payouts_place

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EARNED = {"stripe": 100, "hosted_form": 70}
STEPS = st.lists(st.tuples(
    st.sampled_from(["request", "answer", "refuse", "paid", "failed", "book", "restart"]), st.integers(1, 120), st.integers(0, 3),
), max_size=40)


class Creator:
    """A creator whose rows are behind their log, and whose shard may read an older look at the rows than the newest."""

    def __init__(self) -> None:
        self.id = new_id()
        self.memory = PayoutMemory()
        self.memory.load(payouts_place(self.id), None)
        self.log: list[Event] = []
        self.looks = [self.funds({})]

    @staticmethod
    def funds(booked: Mapping[str, Payout]) -> Funds:
        """As rows have it with these payouts booked; as much was earned in test mode as in earnest."""
        gone = Counter[tuple[str, bool]]()
        for item in booked.values():
            gone[item.asked.provider, item.asked.livemode] += 0 if item.failed else item.asked.amount_minor
        return Funds({
            (provider, "USD", livemode): (earned - gone[provider, livemode], 0)
            for provider, earned in EARNED.items() for livemode in (False, True)
        }, frozenset(booked))

    def append(self, event: Event) -> None:
        self.log.append(event)
        self.memory.apply(event, len(self.log))

    def rows(self) -> Payouts | None:
        held: Payouts | None = None
        for version, event in enumerate(self.log, 1):
            held = payouts_after(held, event, version)
        return held

    def look(self) -> None:
        """The rows reach the log's end: paid payouts are booked, failed ones are back."""
        held = self.rows() or Payouts()
        self.looks.append(self.funds({item.asked.payout_id: item for item in held.items if item.paid or item.failed}))

    def nothing_is_paid_twice(self) -> None:
        """Of no processor more than was earned there."""
        for provider, earned in EARNED.items():
            standing = [item.asked for item in (self.rows() or Payouts()).items if item.takes and item.asked.provider == provider]
            assert sum(item.amount_minor for item in standing) <= earned

    def decide(self, command: PayoutCommand) -> PayoutAnswer:
        decision = self.memory.decide(command, NOW)
        answer = decision.answer(tuple(range(len(self.log) + 1, len(self.log) + 1 + len(decision.appends))))
        for append in decision.appends:
            self.append(append.event)
        return answer


@given(STEPS)
def test_no_interleaving_pays_out_more_than_was_earned(steps: list[tuple[str, int, int]]) -> None:
    creator = Creator()
    for step, amount, at in steps:
        held = creator.rows() or Payouts()
        chosen = held.items[at % len(held.items)] if held.items else None
        if step == "request":
            creator.decide(RequestPayout(
                creator_id=creator.id, payout_id=new_id(), body_digest="", amount_minor=amount, currency="USD",
                provider="hosted_form" if amount % 3 == 0 else "stripe", account_id="acct_1", livemode=False, funds=creator.looks[-1 - at % len(creator.looks)],
            ))
        elif step == "book":
            creator.look()
        elif step == "restart":
            creator.memory = PayoutMemory()
            creator.memory.load(payouts_place(creator.id), creator.rows())
        elif chosen is not None and step in ("answer", "refuse"):
            creator.decide(AnswerPayout(
                creator_id=creator.id, payout_id=chosen.asked.payout_id, object_id="acct_1/po_1" if step == "answer" else None
            ))
        elif chosen is not None and chosen.object_id is not None:
            kind = {
                "provider": chosen.asked.provider, "livemode": False, "event_id": new_id(), "object_id": chosen.asked.payout_id, "as_of": NOW,
                "account_id": "acct_1", "creator_id": creator.id, "amount_minor": chosen.asked.amount_minor, "currency": "USD",
                "request_id": chosen.asked.payout_id,
            }
            fact = PayoutPaid(**kind, arrives_at=NOW) if step == "paid" else PayoutFailed(**kind, code="closed")
            creator.append(Event(new_id(), NOW, creator.id, PaymentObserved(owner_id=creator.id, fact=fact)))
        creator.nothing_is_paid_twice()


def test_what_lies_at_another_processor_is_told_and_what_is_lacking_there_taken_off() -> None:
    def answer(amount: int, elsewhere: int) -> PayoutAnswer:
        funds = Funds({("stripe", "USD", False): (50, 9), ("hosted_form", "USD", False): (elsewhere, 0), ("hosted_form", "EUR", False): (99, 0)}, frozenset())
        return Creator().decide(RequestPayout(
            creator_id=new_id(), payout_id=new_id(), body_digest="", amount_minor=amount, currency="USD", provider="stripe",
            account_id="acct_1", livemode=False, funds=funds,
        ))

    assert isinstance(answer(50, 30), PayoutStands)
    assert answer(51, 30) == NotAvailable(50, 30)
    assert isinstance(answer(20, -30), PayoutStands)
    assert answer(21, -30) == NotAvailable(20)


def test_a_repeated_request_is_the_one_that_was_recorded_and_another_body_a_conflict() -> None:
    creator, payout_id = Creator(), new_id()
    asked = RequestPayout(
        creator_id=creator.id, payout_id=payout_id, body_digest="a", amount_minor=60, currency="USD", provider="stripe",
        account_id="acct_1", livemode=False, funds=creator.looks[-1],
    )
    creator.decide(asked)
    creator.decide(asked)
    assert len(creator.log) == 1
    again = creator.memory.decide(asked, NOW).answer(())
    assert isinstance(again, PayoutStands)
    other = RequestPayout(**{name: getattr(asked, name) for name in asked.__slots__} | {"body_digest": "b"})
    assert not isinstance(creator.memory.decide(other, NOW).answer(()), PayoutStands)


@given(st.lists(st.tuples(st.sampled_from(("request", "paid", "refused", "returned", "restart", "book")), st.integers(1, 60),
                          st.integers(0, 5)), max_size=40))
def test_what_staff_pays_is_booked_once_and_nothing_else_is(steps: list[tuple[str, int, int]]) -> None:
    creator = Creator()
    for step, amount, at in steps:
        held = creator.rows() or Payouts()
        chosen = held.items[at % len(held.items)] if held.items else None
        if step == "request":
            creator.decide(RequestPayout(
                creator_id=creator.id, payout_id=new_id(), body_digest="", amount_minor=amount, currency="USD", provider="hosted_form",
                account_id="", livemode=True, funds=creator.looks[-1],
            ))
        elif step == "book":
            creator.look()
        elif step == "restart":
            creator.memory = PayoutMemory()
            creator.memory.load(payouts_place(creator.id), creator.rows())
        elif chosen is not None and (outcome := step) in RECORDED:
            command = RecordPayout(
                creator_id=creator.id, payout_id=chosen.asked.payout_id, outcome=outcome, reference="T", recorded_by="service:test",  # type: ignore[arg-type]
            )
            before, after = RECORDED[outcome]  # type: ignore[index]
            answer, length = creator.decide(command), len(creator.log)
            assert isinstance(answer, PayoutStands) == (chosen.status in (before, after))
            assert creator.decide(command) == answer
            assert len(creator.log) == length, "said again it changes nothing"
        items = (creator.rows() or Payouts()).items
        creator.nothing_is_paid_twice()
        facts = [event.payload.fact for event in creator.log if isinstance(event.payload, PaymentObserved)]
        entries = [
            entry for item in items for made in transactions_of([fact for fact in facts if fact.object_id == item.asked.payout_id])
            for entry in made.entries
        ]
        assert sum(entry.amount_minor for entry in entries) == 0
        paid = sum(entry.amount_minor for entry in entries if entry.account == "paid_out")
        assert paid == sum(item.asked.amount_minor for item in items if item.status == "paid")


def test_money_that_stands_without_its_record_is_booked_once_and_recorded_when_it_is_said_again() -> None:
    creator, payout_id = Creator(), new_id()
    creator.decide(RequestPayout(
        creator_id=creator.id, payout_id=payout_id, body_digest="", amount_minor=60, currency="USD", provider="hosted_form",
        account_id="", livemode=False, funds=creator.looks[-1],
    ))
    for outcome in ("paid", "returned"):
        command = RecordPayout(
            creator_id=creator.id, payout_id=payout_id, outcome=outcome, reference="T", recorded_by="service:test",  # type: ignore[arg-type]
        )
        money, record = creator.memory.decide(command, NOW).appends
        assert isinstance(money.event.payload, PaymentObserved)
        creator.append(money.event)  # and the actor dies
        (rest,) = creator.memory.decide(command, NOW).appends
        assert rest.event == record.event
        creator.decide(command)
        assert not creator.memory.decide(command, NOW).appends
    (payout,) = (creator.rows() or Payouts()).items
    assert (payout.status, payout.answered, payout.object_id) == ("failed", True, "T")
